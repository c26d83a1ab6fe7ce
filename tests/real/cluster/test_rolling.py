"""Machines come and go under load: one joins, each gets new code in turn, and the books agree after any outage."""

from __future__ import annotations

from mob.cli.chaos.runner import ECHO, LOAD
from tests.patience import patient
from tests.real.cluster.books import ROLES, SOME, Books, failed, right
from tests.real.cluster.hosts import HostNats, HostNode, Network
from tests.running import wait_until

CODE = '.role("code", "./code.py")'
FILES = {"code": "def version(): return 1\n"}


def test_a_machine_joins_under_load_and_nobody_loses_a_call(network: Network) -> None:
    hub, *hosts = network.add("hub", "a", "b", "c")
    nats, books = HostNats(hub).start(), Books(network.directory)
    placed = [{LOAD: 1}, {ECHO: 1}, {ECHO: 2}]

    def launch(number: int) -> HostNode:
        return network.launch(hosts[number], [nats], ROLES, placed[number], files={}, **books.env)

    a, b = launch(0), launch(1)
    network.wait_together(a, b, roles={ECHO: 1, LOAD: 1})
    books.wait_for_calls()
    c = launch(2)
    network.wait_together(a, b, c, roles={ECHO: 3, LOAD: 1})
    started = sum(path.stat().st_size for path in books.directory.glob("started-*"))
    assert started
    books.wait_for_calls()
    wait_until(lambda: len(list(books.directory.glob("started-*"))) == 3, "all three are called")
    judgement = books.close(a.client)
    assert failed(judgement) == 0, books.notes("failures")
    assert right(judgement) > 2 * SOME


def test_a_rolling_upgrade_over_two_machines_costs_no_call(network: Network) -> None:
    hub, *_ = network.add("hub", "a", "b", "c")
    nats, books = HostNats(hub).start(), Books(network.directory)
    placed = {"a": {ECHO: 2, "code": 1}, "b": {ECHO: 2, "code": 1}, "c": {LOAD: 2}}

    def launch(name: str, version: int) -> HostNode:
        files = {"code": f"def version(): return {version}\n"}
        where = network.hosts[name]
        return network.launch(where, [nats], ROLES + CODE, placed[name], files=files, **books.env)

    nodes = {name: launch(name, 1) for name in "abc"}
    everything = {ECHO: 4, LOAD: 2, "code": 2}
    network.wait_together(*nodes.values(), roles=everything)
    for name in "ab":
        books.wait_for_calls()
        (nodes[name].directory / "code.py").write_text("def version(): return 2\n")
        nodes[name].client.reload(timeout=patient(60))
        network.wait_together(*nodes.values(), roles=everything)
        assert nodes[name].client.require("code").version().result(patient(5)) == 2
        books.wait_for_calls()
        nodes[name].client.close()
        assert nodes[name].stop() == 0
        books.wait_for_calls()  # the other one does it all
        nodes[name] = launch(name, 3)
        network.wait_together(*nodes.values(), roles=everything)
        assert nodes[name].client.require("code").version().result(patient(5)) == 3
    judgement = books.close(nodes["c"].client)
    assert failed(judgement) == 0, books.notes("failures")
    assert right(judgement) > 6 * SOME


def test_whatever_is_cut_or_killed_the_books_agree(network: Network) -> None:
    hub, *hosts = network.add("hub", "a", "b")
    nats, books = HostNats(hub).start(), Books(network.directory)
    placed = [{LOAD: 1, ECHO: 1}, {LOAD: 1, ECHO: 1}]
    a, b = (
        network.launch(host, [nats], ROLES, on, files={}, **books.env) for host, on in zip(hosts, placed, strict=True)
    )
    everything = {ECHO: 2, LOAD: 2}
    network.wait_together(a, b, roles=everything)
    books.wait_for_calls()
    hosts[1].cut()
    wait_until(lambda: b.is_cut and a.nodes == {"a"}, "b is alone")
    hosts[1].heal()
    network.wait_together(a, b, roles=everything)
    books.wait_for_calls()
    nats.kill()
    wait_until(lambda: b.is_cut and a.is_cut, "each is alone")
    nats.start()
    network.wait_together(a, b, roles=everything)
    books.wait_for_calls()
    judgement = books.close(a.client)
    assert right(judgement) > 3 * SOME
