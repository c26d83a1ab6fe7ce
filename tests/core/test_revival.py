"""The pause between a death and the successor."""

from __future__ import annotations

import pytest

from mob.core.revival import FIRST_PAUSE, GROWTH, HEALTHY_AFTER, LONGEST_PAUSE, Revival, pause_between

Death = tuple[bool, float, bool]  # was it ready, for how long did it live, was it asked to end

EARLY, SOON, HEALTHY = (False, 1.0, False), (True, 1.0, False), (True, 30.0, False)
ASKED, ASKED_HEALTHY, ASKED_EARLY = (True, 1.0, True), (True, 30.0, True), (False, 1.0, True)
ALMOST = (True, 29.99, False)
SLOW_BOOT = (False, 3600.0, False)  # an hour that brought nothing is not health

TABLE: list[tuple[str, list[Death], list[float]]] = [
    ("the first death of one that was ready", [SOON], [0.0]),
    ("deaths soon after it was ready", [SOON] * 5, [0.0, 0.1, 0.15, 0.225, 0.3375]),
    ("never ready", [EARLY] * 4, [0.1, 0.15, 0.225, 0.3375]),
    ("never ready, slowly", [SLOW_BOOT] * 3, [0.1, 0.15, 0.225]),
    ("ready in between, but not for long", [EARLY, SOON, EARLY], [0.1, 0.1, 0.225]),
    ("health starts again", [SOON, SOON, HEALTHY, SOON], [0.0, 0.1, 0.0, 0.1]),
    ("almost healthy is not healthy", [SOON, ALMOST, ALMOST], [0.0, 0.1, 0.15]),
    ("always healthy", [HEALTHY] * 4, [0.0] * 4),
    ("asked to end", [ASKED] * 3, [0.0] * 3),
    ("asked to end before it was ready", [ASKED_EARLY, EARLY], [0.0, 0.1]),
    ("asked to end: no failure, no health either", [SOON, ASKED, SOON], [0.0, 0.0, 0.1]),
    ("asked to end after health", [SOON, SOON, ASKED_HEALTHY, SOON], [0.0, 0.1, 0.0, 0.0]),
]


@pytest.mark.parametrize(("deaths", "pauses"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_pauses(deaths: list[Death], pauses: list[float]) -> None:
    revival = Revival()
    assert [revival.pause_after(*death) for death in deaths] == pytest.approx(pauses)
    assert revival.restarts == len(deaths)


def test_the_pause_grows_up_to_a_bound_and_stays_there() -> None:
    revival = Revival()
    pauses = [revival.pause_after(False, 0.0) for _ in range(2000)]
    assert pauses[0] == FIRST_PAUSE
    assert pauses[1:] == pytest.approx([min(LONGEST_PAUSE, pause * GROWTH) for pause in pauses[:-1]])
    assert pauses[-1] == LONGEST_PAUSE
    assert revival.pause_after(True, HEALTHY_AFTER) == 0.0


@pytest.mark.parametrize(("growths", "pause"), [(0, 1.0), (1, 2.0), (4, 16.0), (5, 30.0), (10**6, 30.0)])
def test_a_pause_grows_to_the_longest_however_often_it_grows(growths: int, pause: float) -> None:
    assert pause_between(growths, 1.0, 2.0, 30.0) == pause


def test_it_can_be_looked_at() -> None:
    revival = Revival()
    revival.pause_after(True, 1.0)
    revival.pause_after(True, 1.0, asked=True)
    assert repr(revival) == "<Revival 1 failures in a row, 2 restarts>"
