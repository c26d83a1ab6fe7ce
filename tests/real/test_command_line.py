"""The commands that show and steer a running app: what they print, when they end, and with which status."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

import mob
from mob.rim.addresses import address_of
from mob.wire import messages as m
from mob.wire.frames import frame
from tests.patience import patient
from tests.running import Apps, RunningApp, apps_in, mob_command, unmeasured, wait_until

MOB = (sys.executable, "-m", "mob")
BACK = "def add(a, b):\n    return a + b\n\ndef fail():\n    raise ValueError('no')\n"
DEAF = """
    import time
    import mob

    @mob.on("stop")
    def never_ends():
        print("asked to stop")
        time.sleep(1000)
    """


def done(app: RunningApp, *arguments: str) -> str:
    """What a command has printed that has succeeded."""
    shown = mob_command(app.directory, *arguments)
    assert (shown.returncode, shown.stderr) == (0, "")
    return shown.stdout


def failed(app: RunningApp, status: int, *arguments: str) -> str:
    """What a command has said that has failed with that status."""
    shown = mob_command(app.directory, *arguments)
    assert shown.returncode == status, shown
    assert "Traceback" not in shown.stderr
    return shown.stderr


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    with apps_in(tmp_path_factory.mktemp("line")) as apps:
        app = apps.start('.role("back", "./back.py", workers=2).role("front", "./front.py")', back=BACK, front="")
        app.wait_ready()
        yield app


@pytest.fixture
def client(app: RunningApp) -> Iterator[mob.Client]:
    with mob.connect(app.name) as client:
        wait_until(lambda: len(app.ready(client)) == 3, "all are there, in whatever state the test before left them")
        yield client


# ---------------------------------------------------------------------------------------------------- what is shown


def test_ps_for_programs(app: RunningApp, client: mob.Client) -> None:
    wait_until(lambda: all(each.memory for each in client.metrics().mobsters), "the first beats are there")
    shown = done(app, "ps", "-a", app.name, "--json")
    assert shown.count("\n") == 1
    rows: list[dict[str, Any]] = json.loads(shown)
    assert [(row["role"], row["index"], row["state"]) for row in rows] == [
        ("back", 0, "ready"),
        ("back", 1, "ready"),
        ("front", 0, "ready"),
    ]
    assert [row["pid"] for row in rows] == [member.pid for member in app.ready(client)]
    assert all(row["memory"] > 1_000_000 and row["cpu"] >= 0 and row["uptime"] > 0 for row in rows)
    names = ["uptime", "restarts", "calls", "cpu", "memory", "shared", "note", "node"]
    assert list(rows[0])[4:] == [*names, "hand", "waiting", "waiting_bytes", "app"]


def test_metrics_in_the_text_format_of_prometheus(app: RunningApp, client: mob.Client) -> None:
    shown = done(app, "metrics", "-a", app.name)
    samples = [sample for family in text_string_to_metric_families(shown) for sample in family.samples]
    ready = {each.labels["role"]: each.value for each in samples if each.name == "mob_role_workers_ready"}
    assert ready == {"back": 2, "front": 1}
    assert {each.labels["app"] for each in samples if each.name == "mob_kingpin_info"} == {app.name}


def test_metrics_for_programs(app: RunningApp, client: mob.Client) -> None:
    client.require("back").add(1, 2).result(patient(10))
    wait_until(lambda: client.metrics().exports, "the call is counted")
    read = json.loads(done(app, "metrics", "-a", app.name, "--json"))
    assert (read["app"], read["kingpin_pid"]) == (app.name, app.process.pid)
    assert [(role["name"], role["ready"]) for role in read["roles"]] == [("back", 2), ("front", 1)]
    assert [(each["role"], each["export"], sum(each["ran"])) for each in read["exports"]] == [("back", "add", 1)]
    assert {each["pid"] for each in read["mobsters"]} == {member.pid for member in app.ready(client)}


def test_crashes_for_programs(app: RunningApp, client: mob.Client) -> None:
    assert json.loads(done(app, "crashes", "t-has-never-run", "--json")) == []
    victim = app.ready(client, "front")[0].pid
    os.kill(victim, signal.SIGKILL)
    (report,) = wait_until(lambda: json.loads(done(app, "crashes", "-a", app.name, "--json")), "it is on record")
    assert (report["role"], report["index"], report["pid"]) == ("front", 0, victim)


@pytest.mark.parametrize("name", ["ps", "metrics", "crashes"])
def test_json_is_indented_for_a_person(apps: Apps, app: RunningApp, name: str) -> None:
    shown = apps.run("", [*MOB, name, "-a", app.name, "--json"], terminal=True)
    assert shown.wait() == 0
    assert shown.lines[0] in ("[", "{", "[]")


# ------------------------------------------------------------------------------------------------------ what is done


def test_scale_ends_when_the_workers_are_ready(app: RunningApp, client: mob.Client) -> None:
    assert done(app, "scale", "-a", app.name, "back=4", "front=+1").splitlines() == [
        "back: 4 workers wanted, 2 ready.",
        "front: 2 workers wanted, 1 ready.",
        "back: 4 ready, front: 2 ready.",
    ]
    wait_until(lambda: len(app.ready(client)) == 6, "this client has heard of them too")
    assert done(app, "scale", "-a", app.name, "back=2", "front=-1").endswith("back: 2 ready, front: 1 ready.\n")


def test_restart_ends_when_the_new_ones_are_ready(app: RunningApp, client: mob.Client) -> None:
    before = {member.pid for member in app.ready(client, "back")}
    assert done(app, "restart", "-a", app.name, "back") == "restarting 2 workers: back.\nback: 2 ready.\n"
    wait_until(
        lambda: before.isdisjoint(member.pid for member in app.ready(client, "back")), "this client has heard of it too"
    )


def test_restart_of_one_process(app: RunningApp, client: mob.Client) -> None:
    one, other = (member.pid for member in app.ready(client, "back"))
    shown = done(app, "restart", "-a", app.name, str(one))
    assert shown == f"restarting 1 worker: back.0 (pid {one}).\nback: 1 ready.\n"

    def replaced() -> bool:
        now = [member.pid for member in app.ready(client, "back")]
        return len(now) == 2 and now[0] != one and now[1] == other

    wait_until(replaced, "this client has heard of it too")


def test_a_person_sees_how_far_it_is(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back="import time; time.sleep(0.5)")
    app.wait_ready()
    shown = apps.run("", [*MOB, "restart", "-a", app.name, "back"], {"TERM": "xterm"}, terminal=True)
    shown.wait_for(r"back: 0 of 1 ready")
    assert shown.wait() == 0
    assert shown.lines[-1].endswith("back: 1 ready.")


def test_workers_that_do_not_come_up(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back="")
    app.wait_ready()
    apps.write(back="raise ValueError('no luck')")
    told = failed(app, 1, "restart", "-a", app.name, "back")
    assert told.startswith("Error: back: 0 of 1 ready. back.0: ValueError: no luck\n")
    assert told.endswith("\nmob keeps trying; `mob crashes` shows the reports.\n")
    assert done(app, "restart", "-a", app.name, "--no-wait", "back").startswith("restarting")
    apps.write(back="")
    assert done(app, "restart", "-a", app.name, "back").endswith("back: 1 ready.\n")


def test_workers_that_take_too_long(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back="")
    app.wait_ready()
    apps.write(back="import time; time.sleep(1000)")
    told = failed(app, 1, "scale", "-a", app.name, "back=3", "--timeout", "0.2")
    assert told.startswith(
        "Error: after 0.2 s (--timeout): back: 1 of 3 ready.\nback.1 is booting.\nback.2 is booting.\n"
    )


def test_workers_that_are_held_and_a_role_that_has_given_up(apps: Apps) -> None:
    roles = '.role("bad", "./bad.py", intensity=0).role("held", "./held.py", needs=("bad",)).role("good", "./held.py")'
    app = apps.start(roles, bad="raise ValueError('no luck')", held="")
    client = app.connect()
    wait_until(lambda: client.overview()[0].state == "failed", "the role has given up")
    told = failed(app, 1, "restart", "-a", app.name, "held", "--timeout", "0.2")
    assert "\nheld.0 is held: waits for bad.\n" in told
    told = failed(app, 1, "restart", "-a", app.name, "bad")
    assert told.endswith("bad.0 is failed: ValueError: no luck.\n`mob crashes` shows the reports.\n")


def test_stop_ends_with_the_app(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back="")
    app.wait_ready()
    assert done(app, "stop", "-a", app.name) == f"{app.name} has stopped.\n"
    assert app.wait() == 0
    assert "is running on this machine" in failed(app, 3, "ps", "-a", app.name)


def test_stop_of_an_app_that_does_not(apps: Apps) -> None:
    app = apps.start('.role("deaf", "./deaf.py")', deaf=DEAF)
    app.wait_ready()
    told = failed(app, 1, "stop", "-a", app.name, "--timeout", "0.2")
    assert told == f"Error: {app.name} is still stopping after 0.2 s (--timeout). `mob stop --now` kills it at once.\n"
    assert done(app, "stop", "-a", app.name, "--now") == f"{app.name} has stopped.\n"
    app.wait_gone()


def test_control_c_ends_a_command_that_waits(apps: Apps) -> None:
    app = apps.start('.role("deaf", "./deaf.py")', deaf=DEAF)
    app.wait_ready()
    command = apps.run("", [*MOB, "stop", "-a", app.name])
    app.wait_for("asked to stop")
    command.signal(signal.SIGINT)
    assert command.wait() == 130
    assert "Traceback" not in command.output


# --------------------------------------------------------------------------------------------- what was misspelled


def test_a_misspelled_command(app: RunningApp) -> None:
    assert failed(app, 2, "restrat").endswith("Error: there is no command 'restrat'. Did you mean 'restart'?\n")
    assert "No such option '--wacth'. Did you mean '--watch'?" in failed(app, 2, "run", "--wacth", "main.py")


@pytest.mark.parametrize(
    ("arguments", "status", "wanted"),
    [
        (("restart", "bakc"), 1, "this app has no role 'bakc'. Did you mean 'back'?"),
        (("reload", "bakc"), 1, "this app has no role 'bakc'. Did you mean 'back'?"),
        (("scale", "bakc=2"), 1, "this app has no role 'bakc'. Did you mean 'back'?"),
        (("scale", "back=0"), 1, "'back' cannot have 0 workers"),
        (("scale", "back"), 2, "'back' does not have the form ROLE=N, as in back=8 or back=+1."),
        (("scale", "back=+-1"), 2, "'back=+-1' does not have the form ROLE=N, as in back=8 or back=+1."),
        (("restart", "back", "1"), 2, "expected roles, or exactly one pid."),
        (("restart", "1"), 1, "no worker has pid 1"),
        (("crashes", "-n", "0"), 2, "0 is not in the range x>=1."),
        (("crashes", "other"), 2, "two apps given: 'other' and "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be(app: RunningApp, arguments: tuple[str, ...], status: int, wanted: str) -> None:
    assert wanted in failed(app, status, *arguments, "-a", app.name)


def test_an_app_that_does_not_answer(app: RunningApp) -> None:
    told = failed(app, 3, "reload", "-a", app.name[:-1])
    assert told == f"Error: no app named {app.name[:-1]!r} is running on this machine. Did you mean {app.name!r}?\n"


def test_help_tells_the_exit_statuses(app: RunningApp) -> None:
    shown = done(app, "--help")
    assert re.search(r"Exit status:\n +0 +done\n +1 .*\n +2 .*\n +3 .*\n +130 ", shown)


# ------------------------------------------------------------------------------------------------------- another user


def as_nobody(app: RunningApp, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as another user, which need not have access to these files: they are loaded already."""
    code = f"""
import os, runpy, sys
import mob.cli.main
for name in mob.cli.main.COMMANDS:
    mob.cli.main.main.get_command(None, name)
os.setgroups([])
os.setgid({pwd.getpwnam("nobody").pw_gid})
os.setuid({pwd.getpwnam("nobody").pw_uid})
sys.argv = ["mob", *{arguments!r}]
mob.cli.main.main()
"""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=unmeasured(), capture_output=True, text=True, timeout=patient(60))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another user")
def test_another_user_is_refused(app: RunningApp, client: mob.Client) -> None:
    shown = as_nobody(app, "stop", "-a", app.name)
    assert (shown.returncode, shown.stdout) == (3, "")
    assert shown.stderr == (
        f"Error: the app {app.name!r} belongs to the user with the id 0. Only that user and root may talk to it.\n"
    )
    assert len(app.ready(client)) == 3


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another user")
def test_another_user_is_told_whose_apps_there_are(app: RunningApp) -> None:
    shown = as_nobody(app, "ps")
    assert shown.returncode == 3
    assert shown.stderr.startswith("Error: no app of yours is running on this machine.")
    assert app.name in shown.stderr


STRANGER = """
import contextlib, os, socket, sys
address, name, user = sys.argv[1].replace("@", "\\0"), sys.argv[2], int(sys.argv[3])
os.setgroups([])
os.setuid(user)
with socket.socket(socket.AF_UNIX) as desk:
    desk.bind(address)
    desk.listen()
    print("listens", flush=True)
    while True:
        visitor, _ = desk.accept()
        with visitor, contextlib.suppress(OSError):  # some only look who is there
            visitor.sendall(bytes.fromhex(sys.argv[4]))
"""
"""A desk of another user, which turns everybody away."""


def start_stranger(apps: Apps, name: str, user: int) -> RunningApp:
    """Another user's process that has taken the address of an app of `user`."""
    refusal = frame(m.encode([m.Refused("the stranger was asked.")])).hex()
    address = address_of(name, user).replace("\0", "@")
    nobody = pwd.getpwnam("nobody").pw_uid
    stranger = apps.run("", [sys.executable, "-c", STRANGER, address, name, str(nobody), refusal])
    stranger.wait_for("listens")
    return stranger


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another user")
def test_root_may_ask_the_app_of_another_user(apps: Apps, app: RunningApp) -> None:
    start_stranger(apps, "t-of-nobody", pwd.getpwnam("nobody").pw_uid)
    told = failed(app, 3, "ps", "-a", "t-of-nobody")
    assert told == "Error: cannot connect to the app 't-of-nobody': the stranger was asked.\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another user")
def test_who_has_only_taken_the_name_is_not_asked(apps: Apps, app: RunningApp) -> None:
    start_stranger(apps, "t-taken", 0)
    assert failed(app, 3, "ps", "-a", "t-taken").startswith("Error: no app named 't-taken' is running on this machine.")


# -------------------------------------------------------------------------------------------------------- completion


def completed(app: RunningApp, *words: str) -> list[str]:
    """What a shell offers for the last of these words."""
    env = {"_MOB_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    shown = mob_command(app.directory, **env)
    assert shown.stderr == ""
    return [line.partition(",")[2] for line in shown.stdout.splitlines() if line]


def test_what_a_shell_offers(app: RunningApp, client: mob.Client) -> None:
    pids = [str(member.pid) for member in app.ready(client)]
    assert app.name in completed(app, "mob", "ps", "-a", "t")
    assert app.name in completed(app, "mob", "crashes", "")
    assert completed(app, "mob", "reload", "-a", app.name, "b") == ["back"]
    assert completed(app, "mob", "restart", "-a", app.name, "") == ["back", "front", *pids]
    assert completed(app, "mob", "restart", "-a", app.name, pids[1]) == [pids[1]]
    assert completed(app, "mob", "scale", "-a", app.name, "") == ["back=", "front="]
    assert "restart" in completed(app, "mob", "re")


def test_a_shell_is_offered_nothing_rather_than_an_error(app: RunningApp) -> None:
    assert completed(app, "mob", "restart", "-a", "t-there-is-no-such-app", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(app: RunningApp, shell: str) -> None:
    script = done(app, "completion", shell)
    assert f"_MOB_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        checked = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, timeout=patient(30))
        assert (checked.returncode, checked.stderr) == (0, "")


def test_no_command_leaves_a_process_behind(app: RunningApp, client: mob.Client) -> None:
    kingpin = psutil.Process(app.process.pid)
    names = (app.name, f"guardian of pid {kingpin.pid}")
    children = [" ".join(child.cmdline()) for child in kingpin.children(recursive=True)]
    assert all(any(name in child for name in names) for child in children)
