"""Many callers of few workers: all get their turns, whatever happens, and nothing is left of those that are gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mob.core.dispatch import Route
from mob.core.invitations import Invitations
from tests.simulation.clock import Violation
from tests.simulation.crowd import Crowd

Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("exports", ["add", "work", "add crash look"])
def test_all_get_about_the_same(seed: int, exports: str) -> None:
    crowd = Crowd(seed, callers=16, workers=2, exports=exports)
    crowd.begin(ahead=5)
    crowd.run(8.0)
    shares = crowd.shares()
    assert shares[-1] <= 1.3 * shares[0]
    crowd.finish()


def test_tasks_hold_up_no_other_calls_and_are_not_held_up() -> None:
    crowd = Crowd(1, callers=40, workers=2, exports="add work")
    crowd.begin(ahead=5)
    crowd.run(8.0)
    for export in ("add", "work"):
        shares = crowd.shares(export)
        assert shares[0] > 10
        assert shares[-1] <= 1.5 * shares[0]
    crowd.finish()


def test_who_makes_one_call_at_a_time_does_not_overtake_those_who_make_many() -> None:
    for export in ("add", "work"):
        crowd = Crowd(1, callers=16, workers=1, exports=export)
        for number, client in enumerate(crowd.clients):
            for _ in range(20 if number % 2 else 1):
                crowd.call(client, export)
        crowd.run(8.0)
        few = [crowd.done[client.uid] for client in crowd.clients[::2]]
        many = [crowd.done[client.uid] for client in crowd.clients[1::2]]
        assert sum(few) < 2.5 * sum(many)
        assert min(few) > 20
        crowd.finish()


@pytest.mark.parametrize("callers", [100, 300])
def test_anything_happens_to_a_crowd(callers: int) -> None:
    crowd = Crowd(callers, callers, workers=3, exports="add work look fetch count")
    clock, kingpin = crowd.clock, crowd.kingpin
    crowd.begin(ahead=6)
    for _ in range(8):
        crowd.run(0.5)
        workers = [mobster for mobster in kingpin.mobsters.values() if mobster.is_ready and mobster.is_alive]
        match int(clock.luck() * 7):
            case 0 if workers:
                kingpin.kill(clock.pick(workers))
            case 1 if workers:
                clock.pick(workers).sigterm()
            case 2:
                kingpin.scale("back", clock.pick([1, 2, 5]))
            case 3:
                kingpin.reload([])
            case 4 if workers:
                clock.pick(workers).hang(0.3, False)
            case 5 | 6:
                crowd.break_links()
            case _:
                pass
        for client in crowd.clients[:: clock.pick([3, 7, 20])]:
            client.block(clock.between(0.001, 0.5))
        for call in [call for client in crowd.clients[::11] for call in list(client.mine.values())[:2]]:
            call.caller.cancel(call)
    crowd.kill_half()
    crowd.run(1.0)
    crowd.finish()
    assert kingpin.ledger.outcomes["value"] > 5 * callers


def test_a_thousand_callers_half_of_which_die_at_once() -> None:
    crowd = Crowd(1, callers=1000, exports="add")
    crowd.begin(ahead=3)
    crowd.run(3.0)
    crowd.kill_half()
    done = crowd.done.copy()
    crowd.run(3.0)
    assert all(crowd.done[client.uid] > done[client.uid] for client in crowd.clients)
    crowd.finish()


# --- rules that are broken on purpose ---------------------------------------------------------------------------------


def the_last_comes_first(patch: pytest.MonkeyPatch) -> None:
    def put_last(self: Any, waiting: Any) -> None:
        once(self, waiting)
        waiting.order = -waiting.order

    once = Invitations._put_last
    patch.setattr(Invitations, "_put_last", put_last)


def the_dead_keep_their_places(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Invitations, "handle_lost", lambda self, uid: None)


def nothing_is_said_again_on_a_new_link(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Any, now: float) -> list[Any]:
        known = [(line, dict(line.asked)) for line in self._lines.values()]
        asks = once(self, now)
        for line, asked in known:
            line.asked.update(asked)
        told = {(line.number, uid) for line, asked in known for uid in asked}
        return [ask for ask in asks if (ask.line, ask.worker.uid) not in told]

    once = Route._settle
    patch.setattr(Route, "_settle", settle)
    patch.setattr(Route, "replace_worker", lambda self, worker: [])


BROKEN: list[tuple[Patch, str]] = [
    (the_last_comes_first, "no call is overtaken for ever"),
    (the_dead_keep_their_places, "nothing leaks"),
    (nothing_is_said_again_on_a_new_link, "no call is overtaken for ever"),
]


@pytest.mark.parametrize(("broken", "caught"), BROKEN, ids=[broken.__name__ for broken, _ in BROKEN])
def test_a_broken_rule_is_caught(monkeypatch: pytest.MonkeyPatch, broken: Patch, caught: str) -> None:
    broken(monkeypatch)
    with pytest.raises(Violation, match=caught):
        live(Crowd(2, callers=30, workers=2, exports="add look"))


def live(crowd: Crowd) -> None:
    crowd.begin(ahead=5)
    for _ in range(6):
        crowd.run(1.0)
        crowd.break_links()
    crowd.kill_half()
    crowd.run(1.0)
    crowd.finish()


def test_and_without_it_all_is_well() -> None:
    live(Crowd(1, callers=30, workers=2, exports="add look"))
