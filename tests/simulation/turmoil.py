"""Machines under fire: what may happen to them, and what must hold when that is over."""

from __future__ import annotations

from mob.core.membership import BEAT, NODE_TIMEOUT, ROLL_CALL_RETRY
from tests.simulation.clock import claim
from tests.simulation.cluster import REACH, Machines, Node

QUIET = 2 * NODE_TIMEOUT + 2 * (BEAT + ROLL_CALL_RETRY)


def act(machines: Machines) -> None:
    """Something happens."""
    clock, nodes = machines.clock, machines.nodes
    node: Node = clock.pick(nodes)
    match int(clock.luck() * 12):
        case 0 if len(nodes) < 9:
            machines.join(clock.pick(["", "", "twin"]), newer_by=clock.pick([0, 0, 0, 1]))
        case 1 if len(nodes) > 2:
            node.leave()
        case 2 if len(nodes) > 2:
            node.vanish()
        case 3:
            node.upgrade()
        case 4:
            node.pause(clock.between(0, 8))
        case 5:
            machines.letters.sides = {each.number: int(clock.luck() * 3) for each in nodes}
        case 6:
            machines.letters.sides = {}
        case 7:
            node.connect(REACH)
            clock.after(clock.between(0, 8), lambda: node.has_ended or node.connect())
        case _ if node.own():
            node.replace(clock.pick(node.own()))
        case _:
            node.launch("back", 9)


def play(seed: int, loss: float = 0.0) -> None:
    """Members of several machines talk to one another under fire; then all who want a link have one, and nothing is
    left of any other."""
    machines = Machines(seed, loss, gateways=2)
    machines.join_many(3, within=1.0)
    for _ in range(60):
        act(machines)
        machines.want_links(4)
        machines.run(machines.clock.between(0, 0.5))
    machines.letters.loss, machines.letters.sides = 0.0, {}
    machines.run(9.0 + QUIET)
    claim(not machines.disagreement(), "all rosters agree", machines.disagreement())
    machines.want_links(40)
    machines.run(QUIET)
    claim(not machines.complaint(), "whoever wants a link has one", machines.complaint())
