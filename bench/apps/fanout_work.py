"""What is called, by mob and by its peers alike: asleep for a while, or busy for a while. Imports no mob."""

import time

BATCH = 10_000


def nap(i, seconds):
    time.sleep(seconds)
    return i


def rest(seconds):
    time.sleep(seconds)


def burn(i, loops):
    turn(loops)
    return i


def turn(loops):
    total = 0
    for number in range(loops):
        total += number & 7
    return total


def loops_per_second():
    """Return how many loops `turn` does in a second: the best of several batches, so what an idle core can do."""
    took = []
    for _ in range(200):
        start = time.perf_counter()
        turn(BATCH)
        took.append(time.perf_counter() - start)
    return BATCH / min(took)
