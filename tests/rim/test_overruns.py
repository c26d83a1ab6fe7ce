"""The entries on the board for calls with a limit: their contents and their owners."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import pytest

from mob.rim.overruns import DEADLINE, ENTRIES, SIZE, Overruns
from mob.wire.messages import Overrun

CALL = Overrun(deadline=12.5, caller=3, number=44, mark=99, limit=2.5)


@pytest.fixture
def overruns() -> Iterator[Overruns]:
    made = Overruns(memoryview(array("Q", bytes(SIZE))))
    yield made
    made.close()


def test_what_a_mobster_writes_is_read_until_it_ends(overruns: Overruns) -> None:
    assert overruns.first(7) is None
    overruns.put(7, CALL)
    assert overruns.first(7) == CALL
    assert repr(overruns) == "<Overruns, 1 calls watched>"
    overruns.put(7, None)
    assert overruns.first(7) is None


def test_when_the_kingpin_was_told_to_look(overruns: Overruns) -> None:
    assert overruns.announced(7) == 0.0
    overruns.put(7, CALL)
    overruns.announce(7, 12.5)
    overruns.put(7, None)
    assert overruns.announced(7) == 12.5


def test_an_entry_is_that_of_the_younger_one(overruns: Overruns) -> None:
    overruns.put(7, CALL)
    overruns.announce(7, 12.5)
    overruns.put(7 + ENTRIES, None)
    assert (overruns.first(7), overruns.announced(7)) == (None, 0.0)
    assert overruns.announced(7 + ENTRIES) == 0.0


def test_a_call_that_is_half_written_is_none(overruns: Overruns) -> None:
    overruns.put(7, CALL)
    overruns._entry(7)[DEADLINE] = 0
    assert overruns.first(7) is None
