"""Pools that are roles of an app, and several pools of a script, in threads and after a fork."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

import mob
from tests.patience import PATIENCE

BACK = """
import os

import mob

crunch = mob.pool("crunch")


def squares(count):
    return list(crunch.map(lambda x: x * x, range(count)))


def pids(count):
    return [future.result() for future in [crunch.submit(os.getpid) for _ in range(count)]]
"""


def square(x: int) -> int:
    return x * x


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mob.Client]:
    directory = tmp_path_factory.mktemp("app")
    (directory / "back.py").write_text(BACK)
    plan = mob.start("pools").base(str(directory)).role("back", "./back.py").pool("crunch", workers=2)
    with plan.up() as client:
        yield client


# ------------------------------------------------------------------------------------------ a pool as a role


def test_a_mobster_uses_the_pool_of_its_app(app: mob.Client) -> None:
    assert app.require("back").squares(1_000).result(PATIENCE) == [x * x for x in range(1_000)]


def test_a_client_uses_it_too(app: mob.Client) -> None:
    crunch = app.pool("crunch")
    assert crunch.submit(pow, 2, 10).result(PATIENCE) == 1024
    assert list(crunch.map(square, range(100))) == [x * x for x in range(100)]
    with pytest.raises(ZeroDivisionError):
        crunch.submit(divmod, 1, 0).result(PATIENCE)


def test_all_use_the_same_workers(app: mob.Client) -> None:
    crunch = app.pool("crunch")
    ours = {future.result(PATIENCE) for future in [crunch.submit(os.getpid) for _ in range(50)]}
    theirs = set(app.require("back").pids(50).result(PATIENCE))
    workers = {member.pid for member in app.members() if member.role == "crunch"}
    assert ours | theirs <= workers
    assert len(workers) == 2


def test_a_death_costs_one_call_of_a_role(app: mob.Client) -> None:
    crunch = app.pool("crunch")
    dead, *others = [crunch.submit(die), *[crunch.submit(square, x) for x in range(50)]]
    with pytest.raises(mob.Lost) as caught:
        dead.result(PATIENCE)
    assert isinstance(caught.value, BrokenExecutor)
    assert [future.result(PATIENCE) for future in others] == [x * x for x in range(50)]


# ------------------------------------------------------------------------------------------ pools of a script


def test_two_pools_at_once_have_their_own_workers() -> None:
    with mob.Pool(1) as one, mob.Pool(1) as other:
        pids = {one.submit(os.getpid).result(PATIENCE), other.submit(os.getpid).result(PATIENCE)}
    assert len(pids) == 2


def test_twenty_threads_share_a_pool() -> None:
    start = Barrier(20)

    def use(at: int) -> int:
        start.wait(PATIENCE)
        return sum(future.result(PATIENCE) for future in [pool.submit(square, at) for _ in range(50)])

    with mob.Pool(2) as pool, ThreadPoolExecutor(20) as threads:
        assert list(threads.map(use, range(20))) == [50 * at * at for at in range(20)]


@pytest.mark.parametrize("chunksize", [None, 1, 7, 100, 10_000])
def test_a_map_gives_the_same_whatever_its_chunks(chunksize: int | None) -> None:
    with mob.Pool(2) as pool:
        assert list(pool.map(pow, range(1_000), [2] * 1_000, chunksize=chunksize)) == [x * x for x in range(1_000)]


def in_child(function: Callable[[], None]) -> int:
    """Run a function in a forked child; return 0 if it returned."""
    child = os.fork()
    if not child:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_makes_a_pool_of_its_own(tmp_path: Path) -> None:
    found = tmp_path / "found"

    def use() -> None:
        with mob.Pool(1) as own:
            found.write_text(str(own.submit(square, 4).result(PATIENCE)))

    with mob.Pool(1) as pool:
        assert pool.submit(square, 3).result(PATIENCE) == 9
        assert in_child(use) == 0
        assert found.read_text() == "16"
        assert pool.submit(square, 5).result(PATIENCE) == 25


def test_a_pool_says_in_a_forked_child_that_it_is_another_process() -> None:
    def use() -> None:
        with pytest.raises(mob.WrongProcess, match=r"Make a new mob\.Pool in this process"):
            pool.submit(square, 4)

    with mob.Pool(1) as pool:
        pool.submit(square, 3).result(PATIENCE)
        assert in_child(use) == 0


def test_the_pool_of_an_app_says_there_to_connect(app: mob.Client) -> None:
    def use() -> None:
        with pytest.raises(mob.WrongProcess, match=r"call mob\.connect\('pools"):
            crunch.submit(square, 4)

    crunch = app.pool("crunch")
    assert crunch.submit(square, 3).result(PATIENCE) == 9
    assert in_child(use) == 0
