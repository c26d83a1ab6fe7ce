"""The counts of the calls that are served: each beat has only what is new."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from mob.core.latency import range_of
from mob.peer.serving.measure.laps import Laps
from mob.peer.serving.measure.tallies import LAP, MOST_KINDS, MOST_TALLIES, ExportTally, Tallies
from mob.peer.serving.serving import Serving

LONG = LAP * 10
SHORT = LAP / 50


def test_a_beat_tells_what_is_new_and_nothing_twice() -> None:
    tally = ExportTally()
    tally.begin(0.001)
    tally.end(0.01, 2)
    tally.failed["ValueError"] += 1
    told = tally.take("foo")
    assert told is not None
    assert (told.waited, told.ran, told.failed) == ({range_of(0.001): 1}, {range_of(0.01): 2}, {"ValueError": 1})
    assert told.ran_seconds == pytest.approx(0.02)
    assert tally.take("foo") is None
    tally.end(0.01)
    again = tally.take("foo")
    assert again is not None
    assert (again.waited, again.ran, again.failed) == ({}, {range_of(0.01): 1}, {})


def test_one_beat_does_not_tell_of_all_exports_if_they_are_many() -> None:
    tallies = Tallies()
    for number in range(MOST_TALLIES + 10):
        tallies.of(f"foo{number}").end(0.1)
    assert [len(tallies.take()) for _ in range(3)] == [MOST_TALLIES, 10, 0]


def test_kinds_of_errors_are_bounded() -> None:
    tallies = Tallies()
    for number in range(MOST_KINDS + 5):
        tallies.lose(f"back.foo{number}", type(f"Error{number}", (Exception,), {})())
    unserved = tallies.take_unserved()
    assert len(unserved) == MOST_KINDS + 1
    assert sum(unserved["other"].values()) == 5
    assert tallies.take_unserved() == {}


class Scene:
    """The laps of a process with two exports, and a clock."""

    def __init__(self) -> None:
        self.foo, self.bar = ExportTally(), ExportTally()
        exports = {"foo": SimpleNamespace(tally=self.foo), "bar": SimpleNamespace(tally=self.bar)}
        self.serving: Any = SimpleNamespace(
            tallies=Tallies(), exports=exports, begun_beside=0, learn=lambda export, seconds: None
        )
        self.laps = Laps(cast(Serving, self.serving))
        self.now = 10.0
        self.laps.begin(self.now)

    def call(self, target: str | int, seconds: float, arrived: float = 10.0) -> None:
        """Do what `inbox.work` does."""
        if target != self.laps.target:
            self.laps.turn_to(target, self.now, arrived)
        self.laps.count += 1
        before, self.now = self.now, self.now + seconds
        if self.now > self.laps.until:
            self.laps.close(before, self.now, arrived)

    def end(self) -> None:
        self.laps.turn_to(0, self.now, 10.0)


def test_each_call_is_counted_once_and_all_of_the_time() -> None:
    scene = Scene()
    for _ in range(120):
        scene.call("foo", SHORT)
    for _ in range(30):
        scene.call("bar", SHORT)
    scene.call("foo", SHORT)
    scene.end()
    assert (sum(scene.foo.ran), sum(scene.foo.waited), sum(scene.bar.ran)) == (121, 121, 30)
    assert scene.foo.ran_seconds == pytest.approx(121 * SHORT)
    assert scene.foo.ran[range_of(SHORT)] == 121
    assert scene.foo.waited_seconds == pytest.approx(sum(n * SHORT for n in (*range(120), 150)), rel=0.1)


def test_a_long_one_among_short_ones_is_seen() -> None:
    scene = Scene()
    for seconds in (SHORT, SHORT, LONG, SHORT, SHORT):
        scene.call("foo", seconds)
    scene.end()
    assert (scene.foo.ran[range_of(SHORT)], scene.foo.ran[range_of(LONG)]) == (4, 1)


def test_what_does_not_end_at_once_is_counted_by_others() -> None:
    scene = Scene()
    scene.call("foo", SHORT)
    scene.serving.begun_beside += 1
    scene.call("foo", SHORT)
    scene.end()
    assert sum(scene.foo.ran) == 1


def test_callbacks_and_unknown_exports_are_not_counted() -> None:
    scene = Scene()
    scene.call(7, SHORT)
    scene.call("none", SHORT)
    scene.call("foo", SHORT)
    scene.end()
    assert (sum(scene.foo.ran), scene.foo.ran_seconds) == (1, pytest.approx(SHORT))
