"""The joblib backend "mob"."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError
from multiprocessing import TimeoutError as MultiprocessingTimeoutError
from pathlib import Path
from pickle import PicklingError
from typing import Any

import joblib
import numpy
import pytest
from joblib.parallel import ThreadingBackend

import mob
from mob.joblib import _MobBackend, warm
from tests.patience import PATIENCE

Parallel: Any = joblib.Parallel
delayed: Any = joblib.delayed
parallel_config: Any = joblib.parallel_config


@pytest.fixture(scope="module", autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    warm.shutdown()
    assert not warm.pids


@pytest.fixture(autouse=True)
def on_mob() -> Iterator[None]:
    with parallel_config("mob", n_jobs=2):
        yield


def pids(count: int = 20) -> set[int]:
    return set(Parallel()(delayed(os.getpid)() for _ in range(count)))


def read(path: Path) -> str:
    """Wait until a writer opens a named pipe."""
    return path.read_text("ascii")


# ------------------------------------------------------------------------------------------------ results


def test_results_come_in_the_order_of_the_tasks() -> None:
    assert Parallel()(delayed(pow)(x, 2) for x in range(100)) == [x * x for x in range(100)]


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_results_may_be_a_generator(return_as: str) -> None:
    assert sorted(Parallel(return_as=return_as)(delayed(pow)(x, 2) for x in range(10))) == [x * x for x in range(10)]


def test_two_generators_of_one_configuration_run_at_the_same_time() -> None:
    first = Parallel(return_as="generator")(delayed(pow)(x, 2) for x in range(10))
    second = Parallel(return_as="generator")(delayed(pow)(x, 3) for x in range(10))
    assert list(zip(first, second, strict=True)) == [(x**2, x**3) for x in range(10)]


def test_several_threads_use_the_same_workers() -> None:
    found: list[set[int]] = []

    def run() -> None:
        with parallel_config("mob", n_jobs=2):
            found.append(pids())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    assert len(found) == 4
    assert len(set().union(*found)) <= 2


def test_an_error_of_a_task_is_raised_as_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        Parallel()(delayed(divmod)(1, x) for x in (1, 0))


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("no way to send it")


@pytest.mark.parametrize("before", [0, 50])
def test_a_task_that_cannot_be_pickled_is_told_whenever_its_turn_comes(before: int) -> None:
    tasks = [*(delayed(id)(x) for x in range(before)), delayed(id)(Unpicklable())]
    with pytest.raises(PicklingError, match="cannot pickle the task to send to a worker: no way to send it"):
        Parallel()(tasks)


# ------------------------------------------------------------------------------------------------ arrays


def fill(places: list[Any], at: int) -> None:
    places[0][at] = at


def test_an_array_that_is_mapped_from_a_file_can_be_written_by_tasks(tmp_path: Path) -> None:
    places = numpy.memmap(tmp_path / "places", numpy.int64, "w+", shape=(2, 8))
    Parallel()(delayed(fill)([places[1]], at) for at in range(8))
    assert places.tolist() == [[0] * 8, list(range(8))]


def total(array: Any) -> tuple[float, bool]:
    array[0] += 1
    return float(array.sum()), isinstance(array, numpy.memmap)


@pytest.mark.parametrize("size", [10, 10_000, 10_000_000])
def test_a_task_has_an_array_to_itself(size: int) -> None:
    array = numpy.ones(size)
    assert Parallel()(delayed(total)(array) for _ in range(3)) == [(size + 1.0, False)] * 3
    assert array[0] == 1


# ------------------------------------------------------------------------------------------------ workers


def test_workers_stay_for_the_next_call() -> None:
    assert len(pids() | pids()) <= 2


def test_another_number_of_workers_ends_those_not_in_use() -> None:
    before = pids()
    with parallel_config("mob", n_jobs=3):
        assert not before & pids()
    assert before.isdisjoint(warm.pids)


def test_workers_that_nothing_uses_end_after_a_while() -> None:
    with parallel_config("mob", n_jobs=2, idle_worker_timeout=0.1):
        Parallel()(delayed(pow)(x, 2) for x in range(2))
    ended = threading.Event()
    while warm.pids:
        ended.wait(0.01)


def test_one_job_needs_no_worker() -> None:
    assert Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2


def test_more_jobs_than_workers_are_refused_if_they_are_none() -> None:
    with pytest.raises(ValueError, match="n_jobs == 0 in Parallel has no meaning"):
        Parallel(n_jobs=0)([])


def test_an_unknown_option_is_refused() -> None:
    with parallel_config("mob", n_jobs=2, worker=3), pytest.raises(TypeError, match="worker"):
        Parallel()(delayed(pow)(x, 2) for x in range(2))


def nested() -> tuple[list[str], set[int]]:
    inner = Parallel(n_jobs=2), Parallel(n_jobs=2, backend="mob")
    found = {pid for each in inner for pid in each(delayed(os.getpid)() for _ in range(4))}
    return [type(each._backend).__name__ for each in inner], found


def test_what_is_nested_runs_in_threads_of_the_worker() -> None:
    for names, found in Parallel()(delayed(nested)() for _ in range(2)):
        assert names == [ThreadingBackend.__name__] * 2
        assert len(found) == 1


def test_what_needs_shared_memory_runs_in_threads() -> None:
    assert set(Parallel(n_jobs=2, require="sharedmem")(delayed(os.getpid)() for _ in range(4))) == {os.getpid()}


@pytest.mark.parametrize(("options", "expected"), [({}, None), ({"inner_max_num_threads": 3}, "3")])
def test_libraries_are_told_how_many_threads_they_may_start(options: dict[str, int], expected: str | None) -> None:
    fair = os.environ.get("OMP_NUM_THREADS") or str(max(1, joblib.cpu_count() // 2))
    with parallel_config("mob", n_jobs=2, **options):
        assert set(Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(4))) == {expected or fair}


def test_modules_may_be_imported_once_for_all_workers() -> None:
    with parallel_config("mob", n_jobs=2, preload=["numpy"]):
        assert all(Parallel()(delayed(is_imported)("numpy") for _ in range(4)))


def is_imported(name: str) -> bool:
    return name in sys.modules


# -------------------------------------------------------------------------------------------- initializers


def begin(path: Path) -> None:
    if path.exists():
        raise OSError("the disk is full")
    os.environ["BEGUN"] = str(path)


def test_an_initializer_runs_in_each_worker(tmp_path: Path) -> None:
    with parallel_config("mob", n_jobs=2, initializer=begin, initargs=(tmp_path / "a",)):
        assert set(Parallel()(delayed(os.getenv)("BEGUN") for _ in range(20))) == {str(tmp_path / "a")}
    with parallel_config("mob", n_jobs=2, initializer=begin, initargs=(tmp_path / "b",)):
        assert set(Parallel()(delayed(os.getenv)("BEGUN") for _ in range(20))) == {str(tmp_path / "b")}


def test_an_initializer_that_has_failed_is_tried_again_by_the_next_call(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    with parallel_config("mob", n_jobs=2, initializer=begin, initargs=(lock,)):
        with pytest.raises(BrokenExecutor, match="the disk is full"):
            Parallel()(delayed(pow)(x, 2) for x in range(2))
        lock.unlink()
        assert Parallel()(delayed(pow)(x, 2) for x in range(2)) == [0, 1]


# --------------------------------------------------------------------------------------- deaths and aborts


def die_once(path: Path) -> str:
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return "alive"
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_worker_that_dies_fails_the_call(tmp_path: Path) -> None:
    with pytest.raises(mob.Lost):
        Parallel()([delayed(die_once)(tmp_path / "died")])
    assert len(pids()) <= 2


def test_a_task_is_repeated_if_that_is_wanted(tmp_path: Path) -> None:
    with parallel_config("mob", n_jobs=2, retries=2):
        assert Parallel()(delayed(die_once)(tmp_path / str(at)) for at in range(4)) == ["alive"] * 4


def test_joblib_calls_the_backend_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    Parallel(verbose=1)(delayed(pow)(x, 2) for x in range(3))
    assert "Using backend MobBackend with 2 concurrent workers" in capsys.readouterr().err


def test_a_timeout_ends_the_tasks(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(MultiprocessingTimeoutError):
        Parallel(timeout=0.1)(delayed(read)(pipe) for _ in range(10))
    assert Parallel(timeout=PATIENCE)(delayed(pow)(x, 2) for x in range(10)) == [x * x for x in range(10)]


def test_an_abort_leaves_the_tasks_of_others_alone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    lasting = Parallel(return_as="generator")([delayed(read)(pipe)])
    with pytest.raises(ZeroDivisionError):
        Parallel()(delayed(divmod)(1, x) for x in (1, 0))
    pipe.write_text("alive")
    assert list(lasting) == ["alive"]


def test_what_is_submitted_after_an_abort_is_cancelled() -> None:
    backend = _MobBackend(nesting_level=0)
    backend.configure(2)
    backend.terminate()
    future = backend.submit(os.getpid)
    with pytest.raises(CancelledError):
        backend.retrieve_result_callback(future)


def test_a_call_that_does_not_begin_leaves_no_pool_in_use() -> None:
    before = pids()
    with parallel_config("mob", n_jobs=2), contextlib.suppress(TypeError):
        Parallel()(5)
    gc.collect()
    with parallel_config("mob", n_jobs=3):
        pids()
    assert before.isdisjoint(warm.pids)


def test_a_forked_child_has_no_pools() -> None:
    pids()
    child = os.fork()
    if not child:
        os._exit(bool(warm.pids))
    assert os.waitpid(child, 0)[1] == 0
    assert warm.pids


def test_what_there_is_is_told() -> None:
    pids()
    assert repr(warm) == "<WarmPools, 1 open>"
    backend = _MobBackend(nesting_level=0)
    backend.configure(2)
    assert repr(backend._workers) == "<PoolShare of <Pool of 2 workers>, 0 unfinished>"
    backend.terminate()
