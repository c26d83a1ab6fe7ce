"""Repeated messages: the first at once, then one summary a second and kind, and nothing is due when nothing came."""

from __future__ import annotations

import gc
import weakref

from mob.core.repeats import EVERY, KINDS, Repeats, Summary


def test_the_first_of_a_kind_is_said_at_once_and_nothing_is_due() -> None:
    repeats = Repeats[str]()
    assert repeats.admit("a", "first of a", 0.0)
    assert repeats.admit("b", "first of b", 0.1)
    assert repeats.next_at is None
    assert repeats.take_due(100.0) == []


def test_those_that_follow_are_one_summary_a_second() -> None:
    repeats = Repeats[int]()
    said = [number for number in range(1000) if repeats.admit("a", number, number / 1000)]
    assert said == [0]
    assert repeats.next_at == EVERY
    assert repeats.take_due(0.999) == []
    assert repeats.take_due(1.0) == [Summary(999, 999, 1.0)]
    assert repeats.next_at is None
    assert not repeats.admit("a", 1000, 1.5)  # a line was written half a second ago
    assert repeats.next_at == 1.0 + EVERY
    assert repeats.take_due(2.0) == [Summary(1000, 1, 1.0)]


def test_a_kind_that_was_quiet_begins_again() -> None:
    repeats = Repeats[str]()
    assert repeats.admit("a", "one", 0.0)
    assert repeats.admit("a", "two", EVERY)


def test_a_summary_that_is_late_is_not_overtaken_by_another_first() -> None:
    repeats = Repeats[str]()
    assert repeats.admit("a", "one", 0.0)
    assert not repeats.admit("a", "two", 0.5)
    assert not repeats.admit("a", "three", 5.0)
    assert repeats.take_due(5.0) == [Summary("three", 2, 5.0)]


def test_at_the_end_nothing_is_kept_back() -> None:
    repeats = Repeats[str]()
    for name in ("a", "a", "b", "c", "c"):
        repeats.admit(name, name, 0.0)
    assert [summary.example for summary in repeats.take_all(0.1)] == ["a", "c"]
    assert repeats.take_all(0.2) == []


def test_kinds_without_end_are_summed_up_too() -> None:
    repeats = Repeats[int]()
    said = [number for number in range(10 * KINDS) if repeats.admit(number, number, 0.0)]
    assert said == list(range(KINDS + 1))
    assert repeats.take_due(1.0) == [Summary(10 * KINDS - 1, 9 * KINDS - 1, 1.0)]
    assert repeats.admit("new", -1, 2.5)  # the old ones were quiet, and are forgotten
    assert repr(repeats) == "<Repeats: 1 kinds, 0 to be summed up>"


class Example:
    """An object whose release can be observed."""


def test_nothing_is_kept_of_what_was_said() -> None:
    repeats = Repeats[Example]()
    kept: list[weakref.ref[Example]] = []
    for number in range(5):  # the first is said at once, the others in one summary
        example = Example()
        kept.append(weakref.ref(example))
        assert repeats.admit("a", example, 0.0) is (number == 0)
        del example
    gc.collect()
    assert [each() is None for each in kept] == [True, True, True, True, False]
    assert [summary.count for summary in repeats.take_due(EVERY)] == [4]
    gc.collect()
    assert kept[-1]() is None


def test_many_new_kinds_do_not_each_look_through_all_of_them() -> None:
    repeats = Repeats[int]()
    assert all(repeats.admit(kind, kind, 0.0) for kind in range(KINDS))
    looks = Counting(repeats)
    assert sum(repeats.admit(KINDS + kind, kind, 0.05 + kind * 1e-6) for kind in range(5000)) == 1  # as others
    assert looks.count == 1
    assert repeats.admit("new", 1, 1.5)  # all of before are quiet
    assert looks.count == 2


class Counting:
    """Counts the searches through all kinds."""

    def __init__(self, repeats: Repeats[int]) -> None:
        self.count = 0
        self._look = repeats._forget_quiet
        repeats._forget_quiet = self.look  # type: ignore[method-assign]

    def look(self, now: float) -> None:
        self.count += 1
        self._look(now)
