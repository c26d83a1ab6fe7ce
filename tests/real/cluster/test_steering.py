"""Seeing and controlling another machine: clients of its Kingpin, and the commands for all machines."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

import mob
from tests.docs.blocks import block
from tests.patience import patient
from tests.real.cluster.machines import Nats, Node, Nodes, nodes_in, wait_gone
from tests.real.test_dashboard import TOKEN, Site, can_ask
from tests.running import apps_in, free_port, freeze, mob_command, wait_until
from tests.terminals import terminal

BACK = """
import os
import mob

def foo(x=0): return x + 1
def where(): return mob.me().node
def say(text): print(text, flush=True)
def die(): os._exit(7)
"""
UNSET = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
ROLES = '.role("back", "./back.py", workers=2)'


@pytest.fixture(scope="module")
def two(nats: Nats, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    with nodes_in(tmp_path_factory.mktemp("steer")) as nodes:
        a, b = nodes.start(nats, ROLES, back=BACK)
        yield a, b


def run(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The `mob` command, as a person on that machine would run it; the app's name is given."""
    clean = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    clean["XDG_STATE_HOME"] = str(node.directory / f"state-{node.node}")
    command = [sys.executable, "-m", "mob", arguments[0], "-a", node.name, *arguments[1:]]
    return subprocess.run(command, cwd=node.directory, env=clean, capture_output=True, text=True, timeout=patient(60))


def done(node: Node, *arguments: str) -> str:
    """Return the output of a command that succeeds."""
    shown = run(node, *arguments)
    assert (shown.returncode, shown.stderr) == (0, "")
    return shown.stdout


def failed(node: Node, *arguments: str, status: int = 1) -> str:
    """Return the errors of a command that fails."""
    shown = run(node, *arguments)
    assert shown.returncode == status, shown
    assert "Traceback" not in shown.stderr
    return shown.stderr


# ------------------------------------------------------------------------------------------------------------ clients


def test_a_client_of_another_machine_shows_and_steers_what_is_there(two: tuple[Node, Node]) -> None:
    a, b = two
    with mob.connect(a.name, node="b") as there:
        assert (there.node, there.kingpin_pid) == ("b", b.process.pid)
        pids = {row.pid for row in there.overview() if row.role == "back"}
        assert pids == set(b.pids("back")) == {each.pid for each in there.members(here=True) if each.role == "back"}
        assert {each.pid for each in there.metrics().mobsters} >= pids
        assert set(there.stacks("back")) == pids
        assert there.history().now > 0
        assert there.scale("back", 3) == "back: 3 workers wanted, 2 ready."
        wait_until(lambda: len(b.pids("back")) == 3, "b has three")
        assert len(a.pids("back")) == 2
        there.scale("back", 2)
        wait_until(lambda: len(b.pids("back")) == 2, "b has two again")
        before = b.pids("back")
        assert there.reload("back").startswith("reloaded 2 workers")
        wait_until(lambda: not set(before) & set(b.pids("back")), "b has new ones")
    assert repr(there) == f"<Client of {a.name!r} on 'b', closed>"


def test_calls_of_such_a_client_go_to_all_machines(two: tuple[Node, Node]) -> None:
    a, _ = two
    with mob.connect(a.name, node="b") as there:
        assert there.require("back").foo(1).result(patient(10)) == 2
        assert set(there.all("back").call.where().result(patient(10)).values()) == {"a", "b"}


def test_lines_and_crashes_of_another_machine(two: tuple[Node, Node]) -> None:
    a, b = two
    pid, app = b.pids("back")[0], a.name.partition("@")[0]
    with a.client.at("b") as there:
        a.client.pid(f"b:{pid}").call.say("a word from b").result(patient(10))
        wait_until(lambda: any(line.text == "a word from b" for line in there.logs("back", last=50)), "it was kept")
        with pytest.raises(mob.Lost, match=f"see `mob crashes {app} --node b`"):
            a.client.pid(f"b:{pid}").call.die().result(patient(10))
        crash = wait_until(lambda: there.crashes(1), "the report is there")[0]
        assert (crash.pid, crash.role) == (pid, "back")
        assert f"pid {pid}" in mob_command(a.directory, "crashes", app, "--node", "b").stdout
        wait_until(lambda: len(b.pids("back")) == 2, "another has come")


def test_the_example_of_the_manual(two: tuple[Node, Node]) -> None:
    a, b = two
    text = block("docs/cluster.md", "tests/real/cluster/test_steering.py::test_the_example_of_the_manual")
    exec(text.replace("myapp", a.name).replace("hamburg", "b"), {"mob": mob})
    wait_until(lambda: len(b.pids("back")) == 8, "b has eight")
    assert len(a.pids("back")) == 2
    done(a, "scale", "back=2", "--node", "b")


def test_machines_are_listed(two: tuple[Node, Node]) -> None:
    a, b = two
    here, there = a.client.nodes()
    assert (here.name, here.is_here, here.number, here.why_not) == ("a", True, a.number, "")
    assert (there.name, there.is_here, there.number, there.why_not) == ("b", False, b.number, "")
    assert dict(here.places)["back"] == dict(there.places)["back"] == 2


def test_a_machine_that_is_not_there(two: tuple[Node, Node]) -> None:
    a, _ = two
    with pytest.raises(mob.UnknownTarget, match=r"there is no machine 'bb' in the cluster of .*Did you mean 'b'\?"):
        mob.connect(a.name, node="bb")
    with pytest.raises(mob.MobError, match="'a' is this machine"):
        a.client.at("a")


# ----------------------------------------------------------------------------------------------------------- commands


def test_ps_shows_all_machines(two: tuple[Node, Node]) -> None:
    a, b = two
    shown = done(a, "ps")
    assert f"machine a · Kingpin {a.process.pid}" in shown
    assert f"machine b · Kingpin {b.process.pid}" in shown
    rows = json.loads(done(a, "ps", "--json"))
    assert {(row["node"], row["pid"]) for row in rows if row["role"] == "back"} == {
        (node.node, pid) for node in two for pid in node.pids("back")
    }
    assert {row["node"] for row in json.loads(done(a, "ps", "--json", "--node", "b"))} == {"b"}
    assert "Did you mean 'b'?" in failed(a, "ps", "--node", "bb")


def test_a_reload_goes_over_all_machines_and_stops_at_the_first_that_fails(two: tuple[Node, Node]) -> None:
    a, b = two
    before = a.pids("back") + b.pids("back")
    shown = done(a, "reload")
    assert [line.partition(":")[0] for line in shown.splitlines()] == ["a", "b"]
    wait_until(lambda: not set(before) & {*a.pids("back"), *b.pids("back")}, "all are new")
    wait_until(lambda: len(a.seen(b, "back")) == 2, "a knows them")
    told = failed(b, "reload", "fornt")
    assert "fornt" in told
    assert "Not tried on: a." in told


def test_scale_and_restart_are_for_this_machine_unless_another_is_named(two: tuple[Node, Node]) -> None:
    a, b = two
    assert done(a, "scale", "back=3", "--node", "b") == "b: back: 3 workers wanted, 2 ready.\nb: back: 3 ready.\n"
    wait_until(lambda: (len(a.pids("back")), len(b.pids("back"))) == (2, 3), "only b is larger")
    assert "b: back: 2 ready." in done(a, "scale", "back=2", "--node", "all")
    wait_until(lambda: (len(a.pids("back")), len(b.pids("back"))) == (2, 2), "both have two")
    here, there = a.pids("back"), b.pids("back")
    done(a, "restart", "back")
    wait_until(lambda: not set(here) & set(a.pids("back")) and len(a.pids("back")) == 2, "those of a are new")
    assert b.pids("back") == there
    assert "restarting 1 worker" in done(a, "restart", str(there[0]), "--node", "b")
    wait_until(lambda: there[0] not in b.pids("back") and len(b.pids("back")) == 2, "that one is new")
    assert "a pid belongs to one machine" in failed(a, "restart", str(there[0]), "--node", "all", status=2)


def test_logs_of_all_machines(two: tuple[Node, Node]) -> None:
    a, b = two
    for node in two:
        node.client.pid(node.pids("back")[0]).call.say(f"word of {node.node}").result(patient(10))
    for node in two:
        node.wait_for(f"word of {node.node}")
    shown = done(a, "logs", "back")
    assert f"a back.0 {a.pids('back')[0]} | word of a\n" in shown
    assert f"b back.0 {b.pids('back')[0]} | word of b\n" in shown
    objects = [json.loads(line) for line in done(a, "logs", "back", "--json").splitlines()]
    assert {"a", "b"} == {each["node"] for each in objects if each["message"].startswith("word of")}
    assert "word of a" not in done(a, "logs", "back", "--node", "b")


def test_logs_are_followed_on_all_machines(two: tuple[Node, Node]) -> None:
    a, b = two
    b.client.pid(b.pids("back")[0]).call.say("said before").result(patient(10))
    command = [sys.executable, "-m", "mob", "logs", "back", "-f", "-a", a.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        lines = iter(following.stdout.readline, "")
        assert any("said before" in line and line.startswith("b back.0") for line in lines)
        b.client.pid(b.pids("back")[0]).call.say("said later").result(patient(10))
        assert any("said later" in line for line in lines)
        following.send_signal(signal.SIGINT)
    assert following.returncode == 130


def test_metrics_stacks_and_crashes_of_another_machine(two: tuple[Node, Node]) -> None:
    a, b = two
    pid = b.pids("back")[0]
    assert "mob_calls_total" in done(a, "metrics", "--node", "b")
    assert f"pid {pid}" in done(a, "stacks", "back", "--node", "b")
    assert f"pid {pid}" not in done(a, "stacks", "back")
    done(a, "crashes", "--node", "b")


def test_top_shows_all_machines(two: tuple[Node, Node]) -> None:
    a, b = two
    shown = done(a, "top", "--once", "-d", "0.1")
    assert "machines 2" in shown
    for node in two:
        for pid in node.pids("back"):
            line = next(line.split() for line in shown.splitlines() if f" {pid} " in line)
            assert line[1:3] == [node.node, str(pid)]
    assert str(a.pids("back")[0]) not in done(a, "top", "--once", "-d", "0.1", "--node", "b")
    assert str(b.pids("back")[0]) in done(a, "top", "--once", "-d", "0.1", "--node", "b")


def test_the_keys_of_top_act_on_the_machine_of_their_line(two: tuple[Node, Node]) -> None:
    a, b = two
    env = {**{key: value for key, value in os.environ.items() if key not in UNSET}, "TERM": "xterm-256color"}
    with terminal([sys.executable, "-m", "mob", "top", "-a", a.name, "-d", "0.2"], env, (120, 30)) as window:
        window.wait_for("machines 2", str(b.pids("back")[0]))
        window.type(f"/{b.pids('back')[0]}\r")
        window.wait_without(str(a.pids("back")[0]))
        window.type("\x1b[H+")
        wait_until(lambda: len(b.pids("back")) == 3, "b has one more")
        assert len(a.pids("back")) == 2
        window.wait_for("back: 3 workers")
        window.type("-")
        wait_until(lambda: len(b.pids("back")) == 2, "and one less")
        window.type("q")


# ------------------------------------------------------------------------------------------------ what does not answer


def test_a_machine_that_stands_still_costs_its_answer_only(nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(nats, ROLES, back=BACK)
    there = a.client.at("b")
    freeze(b.process.pid)
    shown = run(a, "ps")
    assert f"machine a · Kingpin {a.process.pid}" in shown.stdout
    assert "b" not in a.nodes or "'b'" in shown.stderr
    wait_gone(a, "b")
    b.signal(signal.SIGCONT)
    wait_until(lambda: "b" in a.nodes, "b is there again")
    there.close()


def test_a_connection_ends_with_its_machine(nats: Nats, nodes: Nodes) -> None:
    a, b = nodes.start(nats, ROLES, back=BACK)
    there = a.client.at("b")
    b.kill()
    assert there.wait_stopped(patient(10))
    with pytest.raises(mob.AppNotRunning, match=r"the machine 'b' of .* ended or is out of reach"):
        there.overview()
    there.close()
    assert a.client.overview()


def test_ps_tells_why_the_others_cannot_be_reached(own_nats: Nats, nodes: Nodes) -> None:
    a, _ = nodes.start(own_nats, ROLES, back=BACK)
    own_nats.kill()
    wait_until(lambda: a.is_cut, "a is cut off")
    shown = run(a, "ps", "--json")
    assert {row["node"] for row in json.loads(shown.stdout)} == {"a"}
    assert f"The other machines cannot be reached: {a.is_cut}" in shown.stderr
    with pytest.raises(mob.MobError, match="cannot be reached"):
        a.client.at("b")
    looked = json.loads(run(a, "doctor", "--json").stdout)
    found = next(each for each in looked if each["check"] == f"cluster of {a.name}")
    assert (found["verdict"], a.is_cut in found["seen"]) == ("fail", True)


def test_the_dashboard_shows_all_machines_and_acts_on_the_right_one(nats: Nats, nodes: Nodes) -> None:
    site = Site(free_port())
    roles = f'{ROLES}.dashboard(port={site.port}, token="{TOKEN}")'
    a, b = nodes.start(nats, roles, placed={"a": {"back": 2, "dashboard": 1}, "b": {"back": 2}}, back=BACK)
    wait_until(lambda: can_ask(site), "the dashboard answers")
    events = site.events()
    shown = dict(site.next(events, "whole")["mobsters"]["put"])
    while len(shown) < 7:  # two gateways, four workers, one dashboard
        shown |= site.next(events, "tick")["mobsters"]["put"]
    by_pid = {each["pid"]: each for each in shown.values()}
    there = by_pid[b.pids("back")[0]]
    assert (there["role"], there["node"]) == ("b:back", "b")
    assert all(each["uid"] < 2**53 for each in shown.values())
    status, answer = site.act("stacks", {"uid": there["uid"]})
    assert (status, "thread" in answer["text"]) == (200, True), answer
    assert site.act("scale", {"role": "b:back", "change": 1}) == (200, {"text": "back: 3 workers wanted, 2 ready."})
    wait_until(lambda: len(b.pids("back")) == 3, "b has three")
    assert len(a.pids("back")) == 2
    assert site.act("restart", {"pid": there["pid"], "node": "b"})[0] == 200
    wait_until(lambda: there["pid"] not in b.pids("back"), "that one is new")
    assert site.act("reload", {"roles": ["c:back"]})[0] == 409
    head = site.next(events, "tick")["head"]
    assert [name for name, _ in head["machines"]] == ["a", "b"]
    b.stop()
    while len(site.next(events, "tick")["head"]["machines"]) > 1:
        pass
    events.close()  # type: ignore[attr-defined]


def test_stop_is_for_this_machine_unless_all_are_meant(nats: Nats, nodes: Nodes) -> None:
    a, b, c = nodes.start(nats, ROLES, ("a", "b", "c"), back=BACK)
    assert "has stopped" in done(a, "stop", "--node", "b")
    assert b.wait() == 0
    wait_gone(a, "b")
    shown = done(a, "stop", "--node", "all")
    assert [line.partition(":")[0] for line in shown.splitlines()] == ["c", "a"]
    assert (a.wait(), c.wait()) == (0, 0)


def test_without_a_cluster_there_is_no_other_machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    with apps_in(tmp_path_factory.mktemp("alone")) as apps:
        app = apps.start(ROLES, back=BACK)
        client = app.wait_ready()
        assert client.nodes() == []
        assert (client.node, client.cut) == ("", "")
        with pytest.raises(mob.UnknownTarget, match="is in no cluster of machines"):
            mob.connect(app.name, node="b")
