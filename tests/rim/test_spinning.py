import os
import select

import pytest

from mob.rim import spinning
from mob.rim.spinning import MOST_SLEEPS, Spinning


@pytest.fixture
def pipe():
    r, w = os.pipe()
    yield r, w
    os.close(r)
    os.close(w)


@pytest.fixture
def spin(pipe, monkeypatch):
    monkeypatch.setattr(spinning, "cores", lambda: 2)
    poll = select.poll()
    poll.register(pipe[0], select.POLLIN)
    return Spinning(poll)


def sleeps(spin: Spinning) -> int:
    """Return how many waits sleep before the next one that is spun through."""
    count = 0
    while not spin.is_worth_it():
        count += 1
    return count


def test_what_is_there_is_found(spin, pipe):
    os.write(pipe[1], b"x")
    assert spin.is_worth_it()
    assert [fd for fd, _ in spin.wait()] == [pipe[0]]
    assert spin.is_worth_it()


def test_each_spin_in_vain_makes_four_times_as_many_waits_sleep_up_to_a_bound(spin):
    counts = []
    for _ in range(7):
        assert spin.wait() == []
        counts.append(sleeps(spin))
    assert counts == [4, 16, 64, 256, 1024, 1024, 1024]
    assert counts[-1] == MOST_SLEEPS


def test_success_is_trusted_again_step_by_step(spin, pipe):
    for _ in range(3):
        assert spin.wait() == []
    assert sleeps(spin) == 64
    os.write(pipe[1], b"x")
    for _ in range(3):
        assert spin.wait()
    os.read(pipe[0], 1)
    assert spin.wait() == []
    assert sleeps(spin) == 32  # 64, halved three times, times four


def test_with_one_core_nothing_is_spun(monkeypatch):
    monkeypatch.setattr(spinning, "cores", lambda: 1)
    assert not any(Spinning(select.poll()).is_worth_it() for _ in range(3 * MOST_SLEEPS))
    assert "sleep" in repr(Spinning(select.poll()))
