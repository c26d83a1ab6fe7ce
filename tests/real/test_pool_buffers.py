"""Large arrays in a pool: writable, and the caller's own stay unchanged."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest

import mob

SIZE = 1 << 20


def increment(array: np.ndarray) -> np.ndarray:
    array += 1
    return array


def faults_of_writing(array: np.ndarray) -> int:
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    array += 1
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


def increment_and_die_once(array: np.ndarray, mark: Path) -> np.ndarray:
    array += 1
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return array


@pytest.mark.parametrize("retries", [0, 1])
def test_arrays_are_writable_at_both_ends_and_those_that_were_sent_stay_as_they_were(retries: int) -> None:
    array = np.arange(SIZE)
    with mob.Pool(1, retries=retries) as pool:
        first, second = pool.map(increment, [array, np.asfortranarray(array.reshape(8, -1))])
        first += 1
        again = pool.submit(increment, first).result()
    assert (array == np.arange(SIZE)).all()
    assert (first == array + 2).all()
    assert (again == array + 3).all()
    assert second.flags.f_contiguous
    assert (second.ravel() == array + 1).all()


def test_where_no_task_is_repeated_arrays_are_written_where_they_lie() -> None:
    array = np.arange(SIZE)
    with mob.Pool(1) as pool:
        pool.submit(faults_of_writing, array).result()
        assert pool.submit(faults_of_writing, array).result() < array.nbytes // resource.getpagesize() // 8


def test_a_task_that_is_repeated_finds_its_arrays_as_they_were(tmp_path: Path) -> None:
    array = np.arange(SIZE)
    with mob.Pool(1, retries=1) as pool:
        assert (pool.submit(increment_and_die_once, array, tmp_path / "mark").result() == array + 1).all()
