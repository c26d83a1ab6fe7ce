"""What the Kingpin's mind decides: tables of single decisions, and whole lives of random events."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mob.core import decisions as d
from mob.core.crew import EARLY
from mob.core.decisions import Admit, Announce, Decision, Launch, Tell
from mob.core.revival import SHORTAGE_PAUSE
from mob.core.states import MobsterState
from mob.wire import messages as m
from mob.wire.messages import Beat, ExportInfo, Member, RoleInfo, Row, Running
from tests.core.world import FOO, GRACE, KILLED, RING_EARLY, Fake, World, changes, info, plan, started


def of(kind: type[Any], decisions: list[Decision]) -> list[Any]:
    return [decision for decision in decisions if isinstance(decision, kind)]


# --- launching --------------------------------------------------------------------------------------------------------


def test_each_slot_gets_its_first_process() -> None:
    decisions = World(plan("back*2", "front")).start()
    assert of(Launch, decisions) == [Launch(1, "back", 0, 1), Launch(2, "back", 1, 1), Launch(3, "front", 0, 1)]
    first = Member(1, 0, "back", 0, 1, "launching")
    assert decisions[:3] == [
        Launch(1, "back", 0, 1),
        Admit(1, (RoleInfo("back", workers=2), RoleInfo("front")), (first,)),
        Announce(m.MemberIs(first)),
    ]
    welcome = of(Admit, decisions)[-1]
    assert [member.uid for member in welcome.members] == [1, 2, 3]


def test_what_the_system_cannot_give_is_tried_again_soon_and_told_once() -> None:
    world = World(plan("back"))
    world.start()
    why = "could not be launched: no memory"
    decisions = world.supervisor.handle_not_launched(1, why, world.now)
    told = f"back.0 {why}. Retrying every {SHORTAGE_PAUSE:g} s."
    assert decisions == [Announce(m.MemberGone(1, why)), Tell(told, "crash"), d.WakeAt(world.now + SHORTAGE_PAUSE)]
    assert world.supervisor.handle_not_launched(1, why, world.now) == []  # it is no longer known
    (again,) = of(Launch, world.supervisor.handle_wake(world.now + SHORTAGE_PAUSE))
    decisions = world.supervisor.handle_not_launched(again.uid, why, world.now)
    assert decisions == [Announce(m.MemberGone(again.uid, why)), d.WakeAt(world.now + SHORTAGE_PAUSE)]


def test_a_successor_that_the_system_cannot_give_ends_like_any_other() -> None:
    world = started("back")
    (launch,) = of(Launch, world.supervisor.handle_reload(["back"], (99, 1), world.now))
    decisions = world.supervisor.handle_not_launched(launch.uid, "could not be launched", world.now)
    assert changes(m.MemberGone, decisions) == [m.MemberGone(launch.uid, "could not be launched")]
    assert [member.uid for member in world.supervisor.roster] == [1]


@pytest.mark.parametrize(
    ("events", "states"),
    [
        (["forked", "ready"], ["booting", "ready"]),
        (["ready", "forked"], ["ready", "ready"]),  # it was faster than the fork server's report
        (["forked", "draining", "ready"], ["booting", "draining", "draining"]),
        (["draining", "forked"], ["draining", "draining"]),
    ],
)
def test_the_members_hear_of_every_change(events: list[str], states: list[str]) -> None:
    world = World(plan("back"))
    world.start()
    announced = [changes(m.MemberIs, getattr(world, event)(1)) for event in events]
    roster = world.supervisor.roster
    said = [each[0].member.state for each in announced if each]
    assert said == states[: len(said)]
    member = roster.get(1)
    assert member is not None
    assert (member.state, member.pid) == (states[-1], 101)


def test_what_a_role_exports_is_announced_when_it_changes() -> None:
    world = started("back*2", ready=False)
    assert changes(m.RoleIs, world.ready(1)) == [m.RoleIs(info("back", workers=2))]
    assert changes(m.RoleIs, world.ready(2)) == []
    more = (*FOO, ExportInfo("bar", "()", ""))
    assert world.supervisor.handle_ready(1, 101, more, True, 0.0) == [
        Announce(m.RoleIs(RoleInfo("back", more, True, workers=2)))
    ]


def test_whether_a_role_hears_messages_is_announced_when_it_changes() -> None:
    world = started("back*2", ready=False)
    told = [changes(m.RoleIs, world.supervisor.handle_ready(1, 101, FOO, True, 0.0, hears)) for hears in (False, True)]
    assert [[each.role.hears for each in announced] for announced in told] == [[False], [True]]
    assert world.supervisor.handle_ready(1, 101, FOO, True, 0.0, True) == []


def test_nobody_minds_a_word_about_a_process_that_has_gone() -> None:
    world = started("back")
    supervisor = world.supervisor
    world.exits_with(1)
    assert supervisor.handle_forked(1, 101) == []
    assert supervisor.handle_beat(1, Beat(), 0.0) == []
    assert supervisor.handle_ready(1, 101, FOO, True, 0.0) == []
    assert supervisor.handle_boot_failed(1, "x") == []
    assert supervisor.handle_draining(1, 0.0) == []
    assert supervisor.handle_exited(1, KILLED, 0.0) == []
    assert supervisor.handle_want_role(1, "back") == []
    assert supervisor.handle_want_member(1, 2) == []
    assert supervisor.handle_client_left(1, "closed") == []


# --- reviving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lives", "pauses"),
    [
        (["ready 1"], [0.0]),
        (["ready 1"] * 4, [0.0, 0.1, 0.15, 0.225]),
        (["boot"] * 3, [0.1, 0.15, 0.225]),
        (["ready 1", "ready 1", "ready 31", "ready 1"], [0.0, 0.1, 0.0, 0.1]),
        (["told"] * 3, [0.0, 0.0, 0.0]),
        (["boot", "told", "boot"], [0.1, 0.0, 0.15]),
        (["boot"] * 20, [min(15.0, 0.1 * 1.5**n) for n in range(20)]),
    ],
)
def test_a_successor_comes_at_once_or_after_a_pause(lives: list[str], pauses: list[float]) -> None:
    world = World(plan("back"))
    assert pauses_before_successors(world, lives) == pytest.approx(pauses)
    assert world.launches["back", 0] == len(lives) + 1


@pytest.mark.parametrize(
    ("lives", "pauses"),
    [
        (["ready 1"] * 4, [0.0] * 4),  # the deeds of a task say nothing about the role
        (["boot"] * 3, [0.1, 0.15, 0.225]),
        (["boot", "ready 1", "boot"], [0.1, 0.0, 0.15]),
    ],
)
def test_a_successor_comes_at_once_to_a_pool_that_was_ready(lives: list[str], pauses: list[float]) -> None:
    world = World(plan("back", options={"pool": True}))
    assert pauses_before_successors(world, lives) == pytest.approx(pauses)


def pauses_before_successors(world: World, lives: list[str]) -> list[float]:
    world.start()
    seen: list[float] = []
    for life in lives:
        (uid,) = world.mobsters
        world.forked(uid)
        match life.split():
            case ["ready", seconds]:
                world.ready(uid)
                world.pass_time(float(seconds))
            case ["told"]:
                world.draining(uid)
            case _:
                world.boot_failed(uid, "SyntaxError: x")
        died = world.now
        world.timers.clear()
        world.exits_with(uid)
        if not world.mobsters:
            world.wake()
        seen.append(world.now - died)
    return seen


def test_a_successor_inherits_the_index_and_is_announced() -> None:
    world = started("back*2")
    decisions = world.exits_with(2)
    assert decisions[:2] == [
        Announce(m.MemberGone(2, KILLED)),
        Tell(f"back.1 (pid 102) {KILLED}; restarting it.", "exit"),
    ]
    assert of(Launch, decisions) == [Launch(3, "back", 1, 2)]
    assert changes(m.MemberIs, decisions) == [m.MemberIs(Member(3, 0, "back", 1, 2, "launching"))]


@pytest.mark.parametrize("early", [0.0, RING_EARLY])
def test_a_timer_that_rings_a_moment_early_is_not_lost(early: float) -> None:
    world = started("back", ready=False)
    world.exits_with(1)
    assert of(Launch, world.wake(early)) == [Launch(2, "back", 0, 2)]


def test_a_timer_that_rings_for_nothing_changes_nothing() -> None:
    world = started("back", ready=False)
    world.exits_with(1)
    assert world.supervisor.handle_wake(world.now) == []
    world.wake()
    assert world.supervisor.handle_wake(world.now) == []


TRACEBACK = "Traceback (most recent call last):\n  x = 1 +\nSyntaxError: invalid syntax\n"
INDENTED = TRACEBACK.rstrip().replace("\n", "\n    ")
TOLD: list[tuple[list[str], str]] = [
    (["ready"], "back.0 (pid 101) was killed by SIGKILL; restarting it."),
    (["ready", "ready"], "back.0 (pid 102) was killed by SIGKILL; restarting it in 0.1 s."),
    (["boot"], "back.0 (pid 101) was killed by SIGKILL before it was ready; restarting it in 0.1 s."),
    (["slow", "ready"], "back.0 (pid 102) was killed by SIGKILL; restarting it in 0.1 s."),
    (["told"], "back.0 (pid 101) stopped as requested; restarting it."),
    (["report"], f"back.0 (pid 101) could not import 'back'; next try in 0.1 s. Its error:\n    {INDENTED}"),
    (
        ["report", "report"],
        (
            "back.0 (pid 102) could not import 'back'; next try in 0.2 s. "
            "Same error as before: SyntaxError: invalid syntax"
        ),
    ),
    (["blank report"], "back.0 (pid 101) was killed by SIGKILL before it was ready; restarting it in 0.1 s."),
]


@pytest.mark.parametrize(("lives", "text"), TOLD)
def test_what_the_terminal_is_told_of_an_exit(lives: list[str], text: str) -> None:
    world = World(plan("back"))
    world.start()
    for life in lives:
        if not world.mobsters:
            world.wake()
        (uid,) = world.mobsters
        world.forked(uid)
        match life:
            case "ready":
                world.ready(uid)
            case "slow":  # what counts is how long it was ready
                world.pass_time(60.0)
                world.ready(uid)
            case "told":
                world.draining(uid)
            case "report":
                world.boot_failed(uid, TRACEBACK)
            case "blank report":
                world.boot_failed(uid, " \n")
            case _:
                pass
        world.exits_with(uid)
    assert world.told[-1] == text


def test_a_role_is_failing_while_none_of_its_workers_gets_ready() -> None:
    world = started("back*2", "front", ready=False)
    world.ready(1)
    world.boot_failed(2, TRACEBACK)
    world.exits_with(2)
    assert world.failing == {"back": ""}  # the other one serves
    world.boot_failed(3, TRACEBACK)
    world.exits_with(3, "exited with status 1")
    assert world.failing["front"] == "front.0: SyntaxError: invalid syntax"
    world.pass_time(1.0)
    (front,) = [mobster.uid for mobster in world.mobsters.values() if mobster.role == "front"]
    world.exits_with(front, "exited with status 3")
    assert world.failing["front"] == "front.0: exited with status 3"
    world.pass_time(1.0)
    (front,) = [mobster.uid for mobster in world.mobsters.values() if mobster.role == "front"]
    world.ready(front)
    assert world.failing["front"] == ""


def test_launches_that_the_fork_server_took_with_it_are_made_again() -> None:
    world = World(plan("back*3"))
    world.start()
    world.forked(1)
    world.ready(2)  # it reports its pid itself
    world.fork_server_gone()
    assert set(world.mobsters) == {1, 2}
    assert world.told == ["back.2 was lost with the fork server before it was ready; restarting it in 0.1 s."]
    world.pass_time(0.2)
    assert world.launches == {("back", 0): 1, ("back", 1): 1, ("back", 2): 2}


# --- members and links ------------------------------------------------------------------------------------------------


def test_a_client_is_welcomed_and_announced() -> None:
    world = started("back")
    uid = world.supervisor.next_uid()
    client = Member(uid, 77, "", 0, 0, "ready")
    welcome, announce = world.supervisor.handle_client_joined(uid, 77)
    assert isinstance(welcome, Admit)
    assert [member.uid for member in welcome.members] == [1, uid]
    assert announce == Announce(m.MemberIs(client))
    assert world.supervisor.handle_client_left(uid, "closed") == [Announce(m.MemberGone(uid, "closed"))]
    assert world.supervisor.handle_client_left(uid, "closed") == []


def test_no_uid_is_given_twice() -> None:
    world = started("back*2")
    given = [world.supervisor.next_uid()]
    world.exits_with(1)
    given += [*world.mobsters, world.supervisor.next_uid()]
    assert len(set(given)) == len(given)


@pytest.mark.parametrize(
    ("uid", "role", "pairs"),
    [(3, "back", [(1, 3), (2, 3)]), (1, "*", [(1, 1), (1, 2), (1, 3)]), (3, "nobody", []), (99, "back", [])],
)
def test_a_wish_for_a_role(uid: int, role: str, pairs: list[tuple[int, int]]) -> None:
    world = started("back*2", "front")
    assert world.supervisor.handle_want_role(uid, role) == [d.Introduce(*pair) for pair in pairs]


def test_a_successor_is_introduced_to_those_who_want_its_role() -> None:
    world = started("back", "front")
    world.carry_out(world.supervisor.handle_want_role(2, "back"))
    assert of(d.Introduce, world.exits_with(1)) == [d.Introduce(2, 3)]


def test_a_pair_is_introduced_again_only_if_its_link_has_broken() -> None:
    supervisor = started("back", "front").supervisor
    assert supervisor.handle_want_member(2, 1) == [d.Introduce(1, 2)]
    assert supervisor.handle_want_member(1, 2) == []
    assert supervisor.handle_want_member(1, 2, again=True) == [d.Introduce(1, 2)]
    assert supervisor.handle_want_member(1, 99, again=True) == []


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_roles_are_asked_in_reverse_order_each_when_the_later_ones_are_gone() -> None:
    world = started("db", "back*2", "front")
    assert world.stop() == [
        Tell("stopping.", "stop"),
        d.WakeAt(1002.0),
        d.WakeAt(1030.0),
        Announce(m.MemberIs(Member(4, 104, "front", 0, 1, "draining"))),
        d.Retire(4, 24.0),
        d.WakeAt(1024.0),
    ]
    world.now += 4
    assert of(d.Retire, world.exits_with(4)) == [d.Retire(2, 23.0), d.Retire(3, 23.0)]
    assert of(d.Retire, world.exits_with(3)) == []
    assert of(d.Retire, world.exits_with(2)) == [d.Retire(1, 26.0)]
    assert world.exits_with(1) == [Announce(m.MemberGone(1, KILLED)), d.Finish(0)]
    assert world.supervisor.finished


@pytest.mark.parametrize(
    ("roles", "grace", "passed", "left"),
    [
        (1, 30.0, 0.0, 30.0),
        (3, 30.0, 0.0, 24.0),  # each later role keeps a tenth of the grace period
        (10, 30.0, 0.0, 3.0),
        (15, 30.0, 0.0, 2.0),  # with many roles no more than its share
        (100, 30.0, 0.0, 0.3),
        (2, 30.0, 28.0, 1.0),
        (2, 0.0, 0.0, 0.0),
    ],
)
def test_how_the_grace_time_is_divided(roles: int, grace: float, passed: float, left: float) -> None:
    world = started(*(f"r{n}" for n in range(roles + 1)), grace=grace)
    world.stop()
    world.now += passed
    (last,) = [uid for uid, mobster in world.mobsters.items() if mobster.role == f"r{roles}"]
    (ask,) = of(d.Retire, world.exits_with(last))
    assert ask.grace == pytest.approx(left)


@pytest.mark.parametrize("empty", [["front"], ["back"], ["db"], ["db", "front"], ["db", "back", "front"]])
def test_a_role_of_which_nobody_is_there_is_passed_over(empty: list[str]) -> None:
    world = started("db", "back", "front", ready=False)
    for uid in [uid for uid, mobster in world.mobsters.items() if mobster.role in empty]:
        world.exits_with(uid)  # none was ready: their successors are not there yet
    world.stop()
    asked = [mobster for mobster in world.mobsters.values() if mobster.asked_grace is not None]
    left = [role for role in ("db", "back", "front") if role not in empty]
    assert [mobster.role for mobster in asked] == left[-1:]
    assert world.statuses == ([] if left else [0])


def test_what_outlasts_its_time_is_killed_and_told_once() -> None:
    world = started("back", "front*2")
    world.stop()
    world.pass_time(26.9)
    assert world.told == ["stopping.", *["waiting for front.0; front.1; press Ctrl-C again to stop at once."] * 3]
    world.now += 0.1
    kills = world.wake()
    text = "killing front.0 (pid 102), front.1 (pid 103): still running after its grace period."
    assert kills == [Tell(text), d.Kill(2), d.Kill(3)]
    assert world.supervisor.handle_wake(world.now + 1) == []
    world.reap()
    assert world.mobsters[1].asked_grace == pytest.approx(3.0)
    world.exits_with(1)
    assert world.statuses == [0]


def test_a_stop_that_lasts_says_who_is_waited_for_and_what_that_does() -> None:
    world = started("back", "slow*7")
    world.supervisor.handle_beat(2, Beat(running=(Running("slow.slow", 10.5, "front.0"),)), world.now)
    world.stop()
    world.now += 1.0
    world.supervisor.handle_beat(3, Beat(running=tuple(Running(f"slow.f{n}", 3.0, "x") for n in range(7))), world.now)
    world.pass_time(1.0)
    doing = ", ".join(f"slow.f{n} for 4 s" for n in range(5))
    waits = f"waiting for slow.0: slow.slow for 12 s; slow.1: {doing}, 2 more calls; slow.2; slow.3; slow.4; 2 more"
    assert world.told == ["stopping.", f"{waits}; press Ctrl-C again to stop at once."]
    world.stop()
    world.pass_time(20.0)
    assert world.told[2:] == ["stopping at once."]


def test_a_role_whose_turn_does_not_come_is_killed_at_the_end() -> None:
    world = started("back", "front", grace=2.0)
    world.stop()
    world.wake()
    assert world.mobsters[2].is_killed  # but it does not exit: it hangs in the kernel
    assert of(d.Kill, world.wake()) == [d.Kill(1)]


def test_one_that_was_told_by_others_has_the_grace_time_too() -> None:
    world = started("back*2")
    world.draining(1)
    world.pass_time(29.9)
    assert not world.mobsters[1].is_killed
    world.pass_time(0.2)
    assert world.told[-2:] == [
        "killing back.0 (pid 101): still running after its grace period.",
        "back.0 (pid 101) stopped as requested; restarting it.",
    ]
    assert world.launches["back", 0] == 2


def test_one_that_ends_by_itself_is_judged_by_its_exit_status() -> None:
    world = started("back")
    world.carry_out(world.supervisor.handle_draining(1, world.now, by_itself=True))
    assert world.supervisor.processes[1].state == "draining"
    world.carry_out(world.supervisor.handle_exited(1, "exited with status 3", world.now, 3))
    assert world.told[-1] == "back.0 (pid 101) exited with status 3; restarting it."


def test_one_that_hangs_since_others_told_it_to_end_does_not_hold_up_a_stop() -> None:
    world = started("back")
    world.draining(1)
    world.now += 10
    assert of(d.Retire, world.stop()) == [d.Retire(1, 30.0)]
    world.pass_time(20.1)  # the time it was given first counts
    assert world.statuses == [0]


def test_asked_twice_it_stops_at_once() -> None:
    world = started("back", "front")
    world.stop()
    assert world.stop() == [Tell("stopping at once.", "stop"), d.Kill(1), d.Kill(2)]
    world.reap()
    assert world.statuses == [0]
    world.stop()
    assert world.statuses == [0]


@pytest.mark.parametrize("times", [1, 2])
def test_a_stop_does_not_wait_for_what_has_no_process(times: int) -> None:
    world = World(plan("back", "front"))
    world.start()
    world.forked(1)
    for _ in range(times):
        world.stop()
    assert set(world.mobsters) == {1}
    world.reap()
    if times == 1:
        world.exits_with(1)
    assert world.statuses == [0]


def test_what_is_to_be_killed_and_was_never_forked_is_forgotten() -> None:
    world = started("back*2")
    world.carry_out(world.supervisor.handle_scale("back", 3, (0, 0), world.now))
    world.carry_out(world.supervisor.handle_scale("back", 2, (0, 0), world.now))
    assert set(world.mobsters) == {1, 2, 3}
    world.pass_time(world.supervisor.plan.grace + 1)
    assert set(world.mobsters) == {1, 2}
    assert world.supervisor.handle_forked(3, 103) == []
    assert [row.state for row in world.supervisor.rows(world.now)] == ["ready", "ready"]


def test_launches_that_were_held_for_the_next_fork_server_are_not_lost() -> None:
    world = World(plan("back*2"))
    world.start()
    world.carry_out(world.supervisor.handle_fork_server_gone(world.now, held=[2]))
    assert set(world.mobsters) == {2}


def test_nothing_is_launched_while_stopping() -> None:
    world = started("back*2", ready=False)
    world.exits_with(1)
    world.stop()
    assert world.exits_with(2) == [Announce(m.MemberGone(2, KILLED)), d.Finish(0)]
    world.pass_time(60.0)
    assert sum(world.launches.values()) == 2


def test_after_the_end_nothing_happens_any_more() -> None:
    world = started("back")
    world.stop()
    world.exits_with(1)
    assert world.supervisor.handle_exited(1, KILLED, world.now) == []
    assert world.supervisor.handle_fork_server_gone(world.now) == []
    world.pass_time(60.0)
    assert world.statuses == [0]


def test_a_fork_server_that_dies_in_a_stop_does_not_hold_it_up() -> None:
    world = World(plan("back"))
    world.start()
    world.stop()
    world.fork_server_gone()
    assert world.statuses == [0]


# --- showing ----------------------------------------------------------------------------------------------------------


def test_the_table_of_the_processes() -> None:
    world = started("back*2", "front")
    world.carry_out(world.supervisor.handle_beat(1, Beat(calls=7), world.now))
    world.now += 5
    world.exits_with(2)
    world.boot_failed(4, TRACEBACK.rstrip() + ".\n")
    world.exits_with(4)
    world.now += 0.05
    assert world.supervisor.rows(world.now) == [
        Row("back", 0, 101, "ready", pytest.approx(5.05), 0, 7, ""),  # pyright: ignore[reportArgumentType]
        Row("back", 1, 0, "failing", 0.0, 2, 0, "SyntaxError: invalid syntax; next try in 0.1 s"),
        Row("front", 0, 103, "ready", pytest.approx(5.05), 0, 0, ""),  # pyright: ignore[reportArgumentType]
    ]
    world.stop()
    assert [row.state for row in world.supervisor.rows(world.now)] == ["ready", "empty", "draining"]


def test_it_can_be_looked_at() -> None:
    world = started("back*2")
    supervisor = world.supervisor
    assert repr(supervisor) == "<Supervisor of 'app': 2 processes in 2 slots>"
    assert repr(supervisor.processes[2]) == "<Process 2 back.1 (pid 102) ready>"
    assert repr(supervisor.slots["back", 1]) == "<Slot back.1 filled>"


# --- whole lives ------------------------------------------------------------------------------------------------------

which = st.integers(0, 99)
"""Pick one of what is possible at the moment."""


class WholeLives(RuleBasedStateMachine):
    """Anything may happen at any moment; most checks are those of the world."""

    @initialize(
        workers=st.lists(st.integers(1, 2), min_size=1, max_size=3),
        grace=st.sampled_from([0.0, 1.0, GRACE]),
    )
    def begin(self, workers: list[int], grace: float) -> None:
        names = ("db", "back", "front")
        self.world = World(plan(*(f"{names[i]}*{count}" for i, count in enumerate(workers)), grace=grace))
        self.world.start()

    @property
    def mobsters(self) -> list[Fake]:
        return list(self.world.mobsters.values())

    @property
    def unforked(self) -> list[int]:
        return [mobster.uid for mobster in self.mobsters if not mobster.is_forked]

    @property
    def members(self) -> list[int]:
        return [*self.world.mobsters, *self.world.clients]

    @precondition(lambda self: self.unforked)
    @rule(a=which, luck=which)
    def is_forked(self, a: int, luck: int) -> None:
        uid = self.unforked[a % len(self.unforked)]
        if luck < 90:
            self.world.forked(uid)
        else:  # the system has no more processes
            self.world.forked(uid, pid=0)
            self.world.exits_with(uid, "exited with status 71")

    @precondition(lambda self: self.mobsters)
    @rule(a=which)
    def is_ready(self, a: int) -> None:
        self.world.ready(self.mobsters[a % len(self.mobsters)].uid)

    @precondition(lambda self: self.mobsters)
    @rule(a=which)
    def is_told_by_others(self, a: int) -> None:
        mobster = self.mobsters[a % len(self.mobsters)]
        if not mobster.was_told:
            self.world.draining(mobster.uid)

    @precondition(lambda self: self.mobsters)
    @rule(a=which, report=st.sampled_from(["", TRACEBACK]))
    def exits(self, a: int, report: str) -> None:
        mobster = self.mobsters[a % len(self.mobsters)]
        if not mobster.is_forked and not mobster.pid:
            self.world.forked(mobster.uid)
        if report:
            self.world.boot_failed(mobster.uid, report)
        self.world.exits_with(mobster.uid)

    @rule()
    def fork_server_dies(self) -> None:
        self.world.fork_server_gone()

    @rule(seconds=st.sampled_from([0.01, 0.2, 5.0, 31.0]), early=st.floats(0, RING_EARLY))
    def time_passes(self, seconds: float, early: float) -> None:
        self.world.pass_time(seconds, early)

    @rule(leaves=st.booleans(), a=which)
    def client_comes_or_goes(self, leaves: bool, a: int) -> None:
        world = self.world
        if leaves and world.clients:
            uid = sorted(world.clients)[a % len(world.clients)]
            world.carry_out(world.supervisor.handle_client_left(uid, "closed"))
        else:
            uid = world.supervisor.next_uid()
            world.clients.add(uid)
            world.carry_out(world.supervisor.handle_client_joined(uid, 7))

    @precondition(lambda self: self.members)
    @rule(a=which, role=st.sampled_from(["db", "back", "front", "*", "nobody"]))
    def wants_a_role(self, a: int, role: str) -> None:
        self.world.carry_out(self.world.supervisor.handle_want_role(self.members[a % len(self.members)], role))

    @precondition(lambda self: self.members)
    @rule(a=which, b=which)
    def wants_a_member(self, a: int, b: int) -> None:
        uid, other = self.members[a % len(self.members)], self.members[b % len(self.members)]
        self.world.carry_out(self.world.supervisor.handle_want_member(uid, other))

    @rule(luck=which)
    def stops(self, luck: int) -> None:
        if luck >= 80:
            self.world.stop()

    @invariant()
    def every_exit_is_answered_by_one_launch(self) -> None:
        """Check that each slot has its process, or a timer for its successor."""
        world = self.world
        living = Counter(mobster.slot for mobster in self.mobsters)
        for slot in world.supervisor.slots:
            assert living[slot] <= 1
            assert world.launches[slot] == world.exits[slot] + living[slot]
            if world.stopped_at is None and not living[slot]:
                assert world.due[slot] >= world.now - EARLY
                assert world.due[slot] == pytest.approx(min(world.timers, key=lambda at: abs(at - world.due[slot])))

    @invariant()
    def nobody_stays_longer_than_allowed(self) -> None:
        for mobster in self.mobsters:
            if mobster.must_go_by is not None and self.world.now > mobster.must_go_by + EARLY:
                assert mobster.is_killed or not mobster.pid

    @invariant()
    def a_stop_finishes_once_when_all_are_gone(self) -> None:
        is_over = self.world.stopped_at is not None and not self.mobsters
        assert self.world.statuses == ([0] if is_over else [])
        assert self.world.supervisor.finished == is_over

    @invariant()
    def the_roster_is_who_is_there(self) -> None:
        roster = self.world.supervisor.roster
        assert sorted(member.uid for member in roster) == sorted(self.members)
        for mobster in self.mobsters:
            state = self.world.supervisor.processes[mobster.uid].state
            member = roster.get(mobster.uid)
            assert member is not None
            assert member.state == state
            if mobster.was_told or mobster.asked_grace is not None:
                assert state is MobsterState.DRAINING

    def teardown(self) -> None:
        """Check that a stop ends, whatever happened before, even if no process exits by itself."""
        world = self.world
        if world.stopped_at is None:
            world.stop()
        for uid in self.unforked:
            world.forked(uid)
        world.pass_time(world.supervisor.plan.grace + EARLY)
        assert self.mobsters == []
        self.a_stop_finishes_once_when_all_are_gone()


TestWholeLives: Any = WholeLives.TestCase
TestWholeLives.settings = settings(max_examples=50, stateful_step_count=40)
TestWholeLives.pytestmark = [pytest.mark.timeout(600)]  # finding the shortest way to a failure takes its time


def test_what_cannot_be_reloaded_or_restarted_is_answered() -> None:
    supervisor = started("back").supervisor
    assert supervisor.handle_reload(["nothing"], (9, 1), 0.0) == [d.Answer((9, 1), error="there is no role 'nothing'.")]
    for roles, pid in (([], 0), (["back"], 101)):
        (answer,) = supervisor.handle_restart(roles, pid, (9, 1), 0.0)
        assert isinstance(answer, d.Answer)
        assert answer.error.startswith("restart needs either roles or the pid")


def test_the_role_of_a_process_and_of_none() -> None:
    crew = started("back").supervisor.crew
    assert [crew.role_of(uid) for uid in (1, 99)] == ["back", ""]


def test_a_successor_that_gets_ready_in_a_stop_is_asked_to_end() -> None:
    world = started("back")
    world.carry_out(world.supervisor.handle_reload([], (9, 1), world.now))
    (successor,) = [uid for uid, mobster in world.mobsters.items() if mobster.ready_at is None]
    world.forked(successor)
    world.stop()
    world.ready(successor)
    assert world.supervisor.processes[successor].state is MobsterState.DRAINING
    for uid in list(world.mobsters):
        world.exits_with(uid)
    assert world.supervisor._stopping.is_over
    assert world.supervisor.handle_wake(world.now) == []
