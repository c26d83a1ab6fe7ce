"""How many connections of a shared queue a worker takes."""

from __future__ import annotations

import random

import pytest

from mob.core.balance import ConnectionLoad, room


def others(*connections: int) -> dict[int, ConnectionLoad]:
    return {uid: ConnectionLoad(each, 7) for uid, each in enumerate(connections, 2)}


@pytest.mark.parametrize(
    ("mine", "theirs", "waiting", "taken"),
    [
        (0, (), 8, 8),  # the only one takes all
        (0, (0,), 8, 4),
        (0, (0,), 1, 1),
        (1, (0,), 1, 0),
        (1, (1,), 1, 1),  # one worker has to have more
        (4, (3,), 1, 0),
        (3, (4,), 1, 1),
        (0, (100,), 8, 8),
        (100, (0,), 8, 0),
        (2, (1, 0), 1, 0),
        (1, (1, 1), 2, 1),
        (32, (32,), 0, 0),
        (501, (500,), 1, 1),  # a little more than its share, where it has many
    ],
)
def test_what_a_worker_takes(mine: int, theirs: tuple[int, ...], waiting: int, taken: int) -> None:
    assert room(mine, others(*theirs), {}, waiting) == taken


def test_one_that_has_let_its_chance_pass_is_not_counted_on_until_it_accepts_again() -> None:
    passed = {2: 7}
    assert room(4, {2: ConnectionLoad(0, 7)}, passed, 4) == 4
    assert room(4, {2: ConnectionLoad(1, 8)}, passed, 4) == 1
    assert room(4, {2: ConnectionLoad(0, 7), 3: ConnectionLoad(0, 0)}, passed, 4) == 0


@pytest.mark.parametrize("workers", [2, 3, 4, 8])
@pytest.mark.parametrize("count", [8, 64, 500])
@pytest.mark.parametrize("seed", range(5))
def test_all_are_taken_and_nobody_has_much_more_than_its_share(workers: int, count: int, seed: int) -> None:
    luck = random.Random(seed)
    have, queue, coming = [0] * workers, 0, count
    idle = 0
    while queue or coming:
        if coming and (not queue or luck.random() < 0.5):
            arrived = luck.randint(1, coming)
            queue, coming = queue + arrived, coming - arrived
        worker = luck.randrange(workers)
        rest = {uid: ConnectionLoad(each, 0) for uid, each in enumerate(have) if uid != worker}
        taken = room(have[worker], rest, {}, queue)
        have[worker] += taken
        queue -= taken
        idle = 0 if taken else idle + 1
        assert idle < 1000, "one worker takes what waits"
    assert sum(have) == count
    assert max(have) <= -(-count // workers) + count // 32 + 1
