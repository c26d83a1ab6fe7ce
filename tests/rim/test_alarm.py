"""An alarm at a time of day."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterator

import pytest

from mob.core.timer_state import Instant
from mob.rim.alarm import Alarm, instant
from mob.rim.reactor import Reactor
from tests.patience import PATIENCE

Rung = list[float]


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor(asyncio.new_event_loop())
    yield reactor
    reactor.loop.close()
    reactor.close()


def run_until(reactor: Reactor, question: Callable[[], bool]) -> None:
    async def wait() -> None:
        async with asyncio.timeout(PATIENCE):
            while not question():
                await asyncio.sleep(0.001)

    reactor.claim()
    reactor.loop.run_until_complete(wait())


def alarm_on(reactor: Reactor) -> tuple[Alarm, Rung]:
    rung: Rung = []
    return Alarm(reactor, lambda: rung.append(time.time())), rung


def test_it_rings_once_and_not_before_its_time(reactor: Reactor) -> None:
    alarm, rung = alarm_on(reactor)
    later, has_rung = alarm_on(reactor)
    when = time.time() + 0.05
    alarm.set(when, instant())
    later.set(when + 0.1, instant())
    assert repr(alarm) == f"<Alarm at {when:.3f}>"
    run_until(reactor, lambda: bool(has_rung))
    assert len(rung) == 1
    assert rung[0] >= when
    alarm.close()
    later.close()


def test_what_was_set_last_counts(reactor: Reactor) -> None:
    alarm, rung = alarm_on(reactor)
    later, has_rung = alarm_on(reactor)
    when = time.time() + 0.02
    alarm.set(when, instant())
    alarm.set(math.inf, instant())
    later.set(when + 0.05, instant())
    run_until(reactor, lambda: bool(has_rung))
    assert (rung, repr(alarm)) == ([], "<Alarm, not set>")
    alarm.set(1.0, instant())  # long ago
    run_until(reactor, lambda: len(rung) == 1)
    alarm.close()
    later.close()


def test_a_clock_that_was_set_since_it_was_reckoned_rings_at_once(reactor: Reactor) -> None:
    alarm, rung = alarm_on(reactor)
    wall, boot, awake = instant()
    alarm.set(time.time() + 3600, Instant(wall - 60, boot, awake))
    alarm.set(time.time() + 3600, Instant(wall - 60, boot, awake))
    run_until(reactor, lambda: bool(rung))
    assert len(rung) == 1
    alarm.set(time.time() + 3600, Instant(wall - 60, boot, awake))
    alarm.close()
    with pytest.raises(AssertionError):
        run_until_or_fail(reactor, rung)


def run_until_or_fail(reactor: Reactor, rung: Rung) -> None:
    """Run a few turns of the loop; the alarm must not ring again."""
    turns = iter(range(50))
    run_until(reactor, lambda: len(rung) > 1 or next(turns, None) is None)
    assert len(rung) > 1


def test_nothing_is_left_open(reactor: Reactor) -> None:
    before = os.listdir("/proc/self/fd")
    alarm, _ = alarm_on(reactor)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    alarm.close()
    alarm.close()
    assert os.listdir("/proc/self/fd") == before


def test_moments_are_of_this_machine() -> None:
    now = instant()
    assert abs(now.wall - time.time()) < PATIENCE
    assert now.boot > now.awake - 1 > 0
