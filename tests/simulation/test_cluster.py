"""Some machines, seeded faults, and then quiet: all rosters agree."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mob.core import decisions as d
from mob.core.membership import BEAT, GATHER, NODE_TIMEOUT, ROLL_CALL_RETRY, Membership
from mob.core.pairing import MakeLink, Pair, Pairing
from mob.core.states import PAIR, PairState
from mob.plan import GATEWAY
from mob.wire import messages as m
from tests.simulation.clock import Violation, claim
from tests.simulation.cluster import REACH, Machines
from tests.simulation.turmoil import QUIET, act, play

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("loss", [0.0, 0.1], ids=["whole", "lossy"])
@pytest.mark.parametrize("seed", range(25))
def test_after_a_quiet_time_all_links_are_whole(seed: int, loss: float) -> None:
    play(seed, loss)


def two_with_links(seed: int) -> Machines:
    machines = Machines(seed, gateways=2)
    machines.join_many(2)
    machines.want_links(20)
    machines.run(1.0)
    claim(not machines.complaint(), "whoever wants a link has one", machines.complaint())
    return machines


@pytest.mark.parametrize("seed", range(10))
def test_a_dead_gateway_costs_each_link_once(seed: int) -> None:
    machines = two_with_links(seed)
    node = machines.nodes[0]
    before = len(machines.letters.talks)
    node.replace(next(member for member in node.own() if member.uid in node.afar.stations))
    machines.run(NODE_TIMEOUT)
    assert machines.complaint() == ""
    wanted = sum(len(each.afar.wishes) for each in machines.nodes)
    assert len(machines.letters.talks) - before <= 2 * wanted  # two ends of each


def duel(seed: int) -> None:
    """All members of two machines want one another at the same moment, while one does not know a gateway of the other:
    the two ask over different ones."""
    machines = Machines(seed, gateways=2)
    machines.join_many(2)
    machines.run(0.4)  # between two beats
    one, other = machines.nodes
    own, others = ([each for each in node.own() if each.uid not in node.afar.stations] for node in (one, other))
    newest = one.launch(GATEWAY, 2, "ready")
    one.afar.stations[newest.uid].connect("")
    machines.run(GATHER / 10)
    for each in own:
        for partner in others:
            one.afar.want(each.uid, partner.uid)
            other.afar.want(partner.uid, each.uid)
    machines.run(NODE_TIMEOUT / 2)
    claim(not machines.complaint(is_waiting=True), "two that want each other soon have a link", machines.complaint())
    claim(len(machines.letters.talks) == 2 * len(own) * len(others), "two that want each other have one link")
    machines.run(QUIET)
    claim(not machines.complaint(), "nothing is left", machines.complaint())


@pytest.mark.parametrize("seed", range(10))
def test_two_that_want_each_other_get_one_link(seed: int) -> None:
    duel(seed)


def talk_to_the_dead(seed: int) -> None:
    """Members ask for others in the moment in which those die: what they would say on a link to them would be lost."""
    machines = two_with_links(seed)
    one, other = machines.nodes
    dying = [member for member in other.own() if member.uid not in other.afar.stations]
    for member in dying:
        other.crew.roster.remove(member.uid)  # the others are told a moment later
        for own in one.own():
            one.afar.want(own.uid, member.uid)
    machines.run(0.005)
    for member in dying:
        other.carry_out([d.Announce(m.MemberGone(member.uid, "was killed"))])
    machines.run(NODE_TIMEOUT)
    claim(not one.afar.unmet, "no link is given to a member before its other end is", one.afar.unmet)


@pytest.mark.parametrize("seed", range(5))
def test_a_member_gets_no_link_to_one_that_has_died(seed: int) -> None:
    talk_to_the_dead(seed)


@pytest.mark.parametrize("loss", [0.0, 0.2], ids=["whole", "lossy"])
@pytest.mark.parametrize("seed", range(25))
def test_after_a_quiet_time_all_rosters_agree(seed: int, loss: float) -> None:
    machines = Machines(seed, loss)
    machines.join_many(4, within=1.0)
    for _ in range(60):
        act(machines)
        machines.run(machines.clock.between(0, 0.5))
    machines.letters.loss, machines.letters.sides = 0.0, {}
    machines.run(9.0)  # who stands still goes on, who is cut is connected
    machines.run(QUIET)
    assert machines.disagreement() == ""


def test_nothing_is_lost_by_a_short_cut() -> None:
    machines = Machines(1)
    machines.join_many(4)
    node = machines.nodes[0]
    node.connect(REACH)
    machines.nodes[1].replace(machines.nodes[1].own()[0])
    machines.run(1.0)
    node.connect()
    machines.run(BEAT + ROLL_CALL_RETRY + 0.5)
    assert machines.disagreement() == ""
    assert not any("silent" in text for each in machines.nodes for text in each.told)


def test_an_upgrade_is_seen_by_nobody() -> None:
    machines = Machines(1)
    machines.join_many(3)
    node = machines.nodes[0]
    others = machines.nodes[1:]
    before = [list(each.told) for each in others]
    for _ in range(3):
        node.upgrade()
        node.replace(node.own()[0])
        machines.run(0.2)
        assert machines.disagreement() == ""
    assert [each.told for each in others] == before


def test_two_versions_are_two_clusters_and_each_says_so_once() -> None:
    machines = Machines(1)
    for number in range(6):
        machines.join(newer_by=number % 2)
    machines.run(QUIET)
    assert machines.disagreement() == ""
    nodes = machines.nodes
    assert [len(node.membership.neighbours) for node in nodes] == [2] * 6
    for node in nodes:
        not_admitted = [text for text in node.told if "not admitted" in text]
        assert len(not_admitted) == 3
        assert all(f"uses version {m.PROTOCOL + 1 - 2 * node.newer_by} of" in text for text in not_admitted)
    before = sum(node.traffic.sent for node in nodes)
    machines.run(10.0)
    assert sum(node.traffic.sent for node in nodes) - before == 6 * 10, "strangers are not written to"


def test_a_rolling_update_leads_from_one_cluster_to_the_other() -> None:
    machines = Machines(1)
    machines.join_many(4)
    for node in machines.nodes:
        node.leave()
        machines.join(node.name, newer_by=1)
        machines.run(NODE_TIMEOUT)
        assert machines.disagreement() == ""
        assert all(each.membership.namesake_at is None for each in machines.nodes)
    assert [len(node.membership.neighbours) for node in machines.nodes] == [3] * 4


def test_a_quiet_cluster_says_its_beats_and_nothing_else() -> None:
    machines = Machines(1)
    machines.join_many(10, within=0.5)
    machines.run(3.0)
    before = sum(node.traffic.sent for node in machines.nodes)
    machines.run(10.0)
    assert sum(node.traffic.sent for node in machines.nodes) - before == 10 * 10


def test_who_joins_a_large_cluster_costs_one_letter_and_gets_one_from_each() -> None:
    machines = Machines(1)
    machines.join_many(30, within=0.5)
    machines.run(2.0)
    sent = {node.number: node.traffic.sent for node in machines.nodes}
    came = machines.join()
    machines.run(0.05)
    assert machines.disagreement() == ""
    assert came.traffic.sent == 1
    assert all(node.traffic.sent - sent[node.number] <= 2 for node in machines.nodes if node is not came)


def test_many_that_join_at_once_tell_each_pair_once() -> None:
    machines = Machines(1)
    machines.join_many(40, within=0.5)
    received = sum(node.traffic.received for node in machines.nodes)
    assert machines.disagreement() == ""
    assert received < 40 * 39 * 3.2  # everything once, and a beat or two


# --- rules that are broken on purpose ---------------------------------------------------------------------------------

Patch = pytest.MonkeyPatch


def a_link_is_given_at_once(patch: Patch) -> None:
    def try_(self: Any, pair: Pair) -> list[Any]:
        steps = once(self, pair)
        return [
            more
            for step in steps
            for more in (step, *(self.handle_taken(step.number) if isinstance(step, MakeLink) else ()))
        ]

    once = Pairing._try
    patch.setattr(Pairing, "_try", try_)


def what_never_came_to_be_is_forgotten(patch: Patch) -> None:
    patch.setitem(PAIR, (PairState.OFFERED, "ended"), PairState.APART)  # type: ignore[arg-type]


def nothing_is_tried_again(patch: Patch) -> None:
    patch.setattr(Pairing, "handle_news", Pairing.handle_wake)


def an_early_arrival_is_forgotten(patch: Patch) -> None:
    def answer_all(self: Any, pair: Pair, now: float) -> list[Any]:
        steps = once(self, pair, now)
        pair.arrivals.clear()
        return steps

    once = Pairing._answer_all
    patch.setattr(Pairing, "_answer_all", answer_all)


def an_upgrade_forgets_who_waits(patch: Patch) -> None:
    patch.setattr(Pairing, "arrivals", lambda self: [])


def one_offer_answers_all(patch: Patch) -> None:
    def answer(self: Any, pair: Pair, arrival: Any, now: float) -> list[Any]:
        for link in pair.links:
            link.is_answer = False
        return once(self, pair, arrival, now)

    once = Pairing._answer
    patch.setattr(Pairing, "_answer", answer)


def both_give_way(patch: Patch) -> None:
    patch.setattr(Pair, "gives_way", True)


def neither_gives_way(patch: Patch) -> None:
    patch.setattr(Pair, "gives_way", False)


def a_dead_gateway_keeps_its_links(patch: Patch) -> None:
    patch.setattr(Pairing, "handle_gateway_gone", lambda self, gateway, now: self.handle_news(now))


def what_was_missed_is_not_asked_for(patch: Patch) -> None:
    def handle_letter(self: Any, data: bytes, now: float) -> list[Any]:
        return [each for each in once(self, data, now) if not isinstance(getattr(each, "words", None), missed)]

    once, missed = Membership.handle_letter, m.WantEverything
    patch.setattr(Membership, "handle_letter", handle_letter)


FIRST: dict[object, int] = {an_upgrade_forgets_who_waits: 115, one_offer_answers_all: 43}
"""Seeds from which on a fault shows soon."""
BROKEN: list[tuple[Callable[[Patch], None], Callable[[int], None], str]] = [
    (a_link_is_given_at_once, talk_to_the_dead, "whoever wants a link has one"),
    (what_never_came_to_be_is_forgotten, play, "whoever wants a link has one"),
    (nothing_is_tried_again, play, "whoever wants a link has one"),
    (an_early_arrival_is_forgotten, play, "whoever wants a link has one"),
    (an_upgrade_forgets_who_waits, play, "whoever wants a link has one"),
    (one_offer_answers_all, play, "whoever wants a link has one"),
    (both_give_way, duel, "two that want each other have one link"),
    (neither_gives_way, duel, "two that want each other soon have a link"),
    (a_dead_gateway_keeps_its_links, play, "whoever wants a link has one"),
    (what_was_missed_is_not_asked_for, play, "all rosters agree"),
]


@pytest.mark.parametrize(("broken", "run", "caught"), BROKEN, ids=[broken.__name__ for broken, *_ in BROKEN])
def test_a_broken_rule_is_caught(
    monkeypatch: Patch, broken: Callable[[Patch], None], run: Callable[[int], None], caught: str
) -> None:
    broken(monkeypatch)
    with pytest.raises(Violation, match=caught):
        run_many(run, FIRST.get(broken, 0))


def run_many(run: Callable[[int], None], first: int) -> None:
    for seed in range(first, first + 300):
        run(seed)


def test_the_bench_runs() -> None:
    command = [sys.executable, "-m", "bench.cluster_simulation", "--quick"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "| a machine has vanished | 3.0 s | 3.0 s |" in ran.stdout
