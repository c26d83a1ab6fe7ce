"""A store in a running app: values, counters, locks, rate limits and watchers, whatever dies."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import mob
from mob.testing import AppUnderTest
from tests.patience import PATIENCE, patient
from tests.running import Apps, freeze, wait_until

BOTH = pytest.mark.parametrize("one_process", [False, True], ids=["processes", "one process"])
FRONT = """
    import asyncio
    import mob

    cache = mob.store("cache")

    def count(key, times):
        for _ in range(times):
            last = cache.add(key).result()
        return last

    async def count_async(key, times):
        await asyncio.gather(*[cache.add(key) for _ in range(times)])

    def critical(name):
        with cache.lock(name) as lock:
            before = cache.get("inside", 0).result()
            cache.set("inside", before + 1).result()
            assert before == 0
            cache.set("inside", 0).result()
        return lock.fence

    async def critical_async(name):
        async with cache.lock(name) as lock:
            assert await cache.add("inside_async") == 1
            await cache.add("inside_async", -1)
        return lock.fence
"""
BLOCKED = """
    import pathlib
    import time
    import mob

    cache = mob.store("cache")

    async def hold(go):
        async with cache.lock("a", ttl=3000) as lock:
            while not pathlib.Path(go).exists():
                time.sleep(0.01)
        return lock.fence
"""
HOLDER = """
    import sys
    import mob

    app = mob.connect(sys.argv[1])
    lock = app.store("cache").lock("a")
    with lock:
        print("held", lock.fence, flush=True)
        sys.stdin.read()
"""


def start(mob_app: Any, one_process: bool = False, **options: Any) -> AppUnderTest:
    """Start an app with nothing but a store."""
    return mob_app(mob.start("store").store("cache", **options), one_process=one_process)


def with_front(mob_app: Any, tmp_path: Path, one_process: bool = False) -> AppUnderTest:
    """Start an app with a store and two workers that use it."""
    (tmp_path / "front.py").write_text(textwrap.dedent(FRONT))
    app = mob.start("store").base(tmp_path).store("cache").role("front", "./front.py", workers=2, threads=4)
    return mob_app(app, one_process=one_process)


def holder(app: AppUnderTest) -> subprocess.Popen[str]:
    """Start a process that holds the lock "a" until its input ends."""
    script = textwrap.dedent(HOLDER)
    process = subprocess.Popen(
        [sys.executable, "-c", script, app.app], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("held")
    return process


def run(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


# -- values ------------------------------------------------------------------------------------------------------------


@BOTH
def test_values_come_back_as_calls_bring_them(mob_app: Any, one_process: bool) -> None:
    cache = start(mob_app, one_process).store("cache")
    values = {
        "int": 5,
        "big": 2**70,
        "negative": -(2**63),
        "float": 1.5,
        "bool": True,
        "none": None,
        "text": "tea",
        "bytes": b"\xc4\x00",
        "large": bytes(200_000),
        "bytearray": bytearray(b"x"),
        "nested": {"a": [1, {"b": None}], "c": b"d"},
    }
    for key, value in values.items():
        assert cache.set(key, value).result(PATIENCE) is None
    for key, value in values.items():
        found = cache.get(key, "missing").result(PATIENCE)
        assert found == value
        assert type(found) is type(value)
    assert cache.get_many([*values, "missing"]).result(PATIENCE) == values
    assert cache.get("missing").result(PATIENCE) is None
    assert cache.get("missing", 5).result(PATIENCE) == 5
    assert sorted(cache.keys().result(PATIENCE)) == sorted(values)
    assert cache.keys("n").result(PATIENCE) == ["negative", "none", "nested"]
    assert cache.delete("int", "missing", "text").result(PATIENCE) == 2
    assert cache.set_many({"a": 1, "b": [2]}).result(PATIENCE) is None
    assert cache.get_many(["a", "b", "int"]).result(PATIENCE) == {"a": 1, "b": [2]}


def test_an_array_comes_back_as_one(mob_app: Any) -> None:
    numpy = pytest.importorskip("numpy")
    cache = start(mob_app).store("cache")
    array = numpy.arange(100_000, dtype="f8").reshape(100, -1)
    cache.set("array", array).result(PATIENCE)
    found = cache.get("array").result(PATIENCE)
    assert found.shape == array.shape
    assert (found == array).all()


def test_the_value_of_a_key_is_not_opened_in_the_store(mob_app: Any) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    mob.register(Point, lambda point: point.x, Point)  # here and not in the store
    cache = start(mob_app).store("cache")
    cache.set("point", Point(5)).result(PATIENCE)
    assert cache.get("point").result(PATIENCE).x == 5


def test_what_cannot_be_stored_is_refused_in_its_line(mob_app: Any) -> None:
    app = start(mob_app)
    cache = app.store("cache")
    with pytest.raises(
        mob.BadMessage, match=r"^cannot store the value of 'k' in 'cache': it contains a function, a sock"
    ):
        cache.set("k", {"f": [print]})
    with pytest.raises(mob.BadMessage, match=r"^cannot send the value of 'k'\['lock'\]: a thread lock"):
        cache.set("k", {"lock": threading.Lock()})
    with pytest.raises(mob.ArgumentError, match="key: str"):
        cache.set(5, 1).result(PATIENCE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"ttl=0.0 of 'k' is not a number of seconds above 0"):
        cache.set("k", 1, ttl=0).result(PATIENCE)
    with pytest.raises(mob.UnknownRole, match="Did you mean 'cache'"):
        app.store("cash")


def test_an_older_value_goes_when_there_is_no_room(mob_app: Any) -> None:
    cache = start(mob_app, max_memory="1M").store("cache")
    for number in range(20):
        cache.set(str(number), bytes(100_000)).result(PATIENCE)
        assert cache.get("0").result(PATIENCE) is not None  # used again and again, so it stays
    seen = cache.stats().result(PATIENCE)
    assert seen["bytes"] <= 1024 * 1024
    assert seen["keys"] + seen["evictions"] == 20
    with pytest.raises(
        ValueError, match=r"store 'cache': 'k' would take 2,000,\d+ bytes, more than max_memory=1,048,576"
    ):
        cache.set("k", bytes(2_000_000)).result(PATIENCE)


def test_a_key_ends_by_itself(mob_app: Any) -> None:
    cache = start(mob_app).store("cache")
    with cache.watch("k") as changes:
        cache.set("k", "v", ttl=0.05).result(PATIENCE)
        assert [next(changes).kind, next(changes).kind] == ["set", "expire"]
    assert cache.stats().result(PATIENCE)["keys"] == 0


# -- counters and limits -----------------------------------------------------------------------------------------------


@BOTH
def test_a_counter_loses_nothing_whoever_counts(mob_app: Any, tmp_path: Path, one_process: bool) -> None:
    app = with_front(mob_app, tmp_path, one_process)
    front = app.require("front")
    calls = [front.count("n", 100) for _ in range(8)] + [front.count_async("n", 100) for _ in range(4)]
    for call in calls:
        call.result(PATIENCE)
    cache = app.store("cache")
    assert cache.get("n").result(PATIENCE) == 1200
    assert cache.add("n", -0.5).result(PATIENCE) == 1199.5
    cache.set("text", "x").result(PATIENCE)
    with pytest.raises(TypeError, match=r"store 'cache': add\('text'\) needs a number"):
        cache.add("text").result(PATIENCE)


@BOTH
def test_a_rate_limit_holds_for_all_processes_together(mob_app: Any, one_process: bool) -> None:
    cache = start(mob_app, one_process).store("cache")
    answers = [cache.allow("ada", "5/hour") for _ in range(8)]
    assert [bool(each.result(PATIENCE)) for each in answers] == [True] * 5 + [False] * 3
    refused = answers[-1].result()
    assert (refused.limit, refused.remaining) == (5, 0)
    assert 700 < refused.retry_after <= 720
    assert 3590 < refused.reset_after <= 3600
    assert cache.allow("bob", "5/hour").result(PATIENCE).remaining == 4
    assert cache.allow("ada", "1/s").result(PATIENCE)
    assert cache.allow("bob", "5/hour", 4).result(PATIENCE)
    with pytest.raises(
        ValueError, match=r"allow\('bob', '5/hour', n=6\) can never be allowed: n must be from 1 to 5\."
    ):
        cache.allow("bob", "5/hour", 6).result(PATIENCE)
    with pytest.raises(ValueError, match="'often' is not a rate limit"):
        cache.allow("bob", "often").result(PATIENCE)
    assert cache.keys().result(PATIENCE) == []


def test_a_limit_that_is_not_waited_for_lets_nobody_in(mob_app: Any) -> None:
    cache = start(mob_app).store("cache")
    call = cache.allow("ada", "1/s")
    with pytest.raises(TypeError, match=r"^the call cache\.allow\(\) is not its answer: write `if await"):
        bool(call)
    assert call.result(PATIENCE)

    async def asked() -> list[mob.Allowance]:
        first = await cache.allow("eve", "2/hour")
        return [first, *await asyncio.gather(cache.allow("eve", "2/hour"), cache.allow("eve", "2/hour"))]

    assert list(map(bool, asyncio.run(asked()))) == [True, True, False]


# -- locks -------------------------------------------------------------------------------------------------------------


@BOTH
def test_one_at_a_time_holds_a_lock_and_each_has_a_greater_fence(
    mob_app: Any, tmp_path: Path, one_process: bool
) -> None:
    front = with_front(mob_app, tmp_path, one_process).require("front")
    for export in (front.critical, front.critical_async):
        fences = [call.result(PATIENCE) for call in [export("a") for _ in range(30)]]
        assert len({*fences}) == 30


def test_those_who_wait_get_it_in_their_order(mob_app: Any) -> None:
    app = start(mob_app)
    cache = app.store("cache")
    order: list[int] = []

    def hold(number: int) -> None:
        with cache.lock("a"):
            order.append(number)

    with cache.lock("a"):
        threads = []
        for number in range(5):
            threads.append(run(lambda number=number: hold(number)))
            seen = number + 1
            app.wait_until(lambda seen=seen: waiting(app) == seen, "it waits")
    for thread in threads:
        thread.join(PATIENCE)
    assert order == [0, 1, 2, 3, 4]


def waiting(app: AppUnderTest) -> int:
    """Return how many callers wait for a lock, or hold one that others wait for."""
    return app.store("cache").stats().result(PATIENCE)["waiting"]


@BOTH
def test_a_lock_that_is_not_free_in_time_is_refused(mob_app: Any, one_process: bool) -> None:
    cache = start(mob_app, one_process).store("cache")
    with cache.lock("a") as lock:
        assert lock.is_held
        assert "held with fence" in repr(lock)
        with (
            pytest.raises(TimeoutError, match=r"store 'cache': the lock 'a' was not free within 0\.05 s \(wait\)"),
            cache.lock("a", wait=0.05),
        ):
            pass
        with pytest.raises(TimeoutError), cache.lock("a", wait=0):
            pass
        with pytest.raises(RuntimeError, match="is not reentrant"), lock:
            pass
        with cache.lock("b", wait=0):
            pass
    assert not lock.is_held
    with cache.lock("a", wait=0) as other:
        assert other.fence > lock.fence


def test_a_lock_whose_time_is_over_goes_to_the_next_and_its_holder_is_told(mob_app: Any) -> None:
    cache = start(mob_app).store("cache")
    slow = cache.lock("a", ttl=0.1)
    slow.__enter__()
    with cache.lock("a") as quick:
        assert quick.fence > slow.fence
        assert not slow.renew().result(PATIENCE)
        text = r"the lock 'a' was lost before the end of its block: its ttl of 0\.1 s expired\. Another"
        with pytest.raises(TimeoutError, match=text):
            slow.__exit__(None, None, None)
    with cache.lock("a", ttl=0.2) as lock:
        assert lock.renew(1000).result(PATIENCE)
        with pytest.raises(TimeoutError), cache.lock("a", wait=0.4):
            pass
    with pytest.raises(KeyError), cache.lock("a", ttl=0.01), cache.lock("a"):
        raise KeyError  # is not hidden by the error of the lock


def test_the_lock_of_a_process_that_is_killed_is_free(mob_app: Any) -> None:
    app = start(mob_app)
    process = holder(app)

    def take() -> int:
        with app.store("cache").lock("a") as lock:
            return lock.fence

    try:
        with pytest.raises(TimeoutError), app.store("cache").lock("a", wait=0):
            pass
        found: list[int] = []
        thread = run(lambda: found.append(take()))
        app.wait_until(lambda: waiting(app) == 1, "it waits")
        os.kill(process.pid, signal.SIGKILL)
        thread.join(PATIENCE)
        assert found
    finally:
        process.kill()
        process.communicate()


def test_who_is_killed_while_it_waits_gets_no_lock(mob_app: Any) -> None:
    app = start(mob_app)
    cache = app.store("cache")
    script = textwrap.dedent(HOLDER)
    with cache.lock("a"):
        process = subprocess.Popen([sys.executable, "-c", script, app.app], stdin=subprocess.PIPE)
        app.wait_until(lambda: waiting(app) == 1, "it waits")
        process.kill()
        process.communicate()
        app.wait_until(lambda: waiting(app) == 0, "it waits no more")
    with cache.lock("a", wait=PATIENCE):
        pass


def test_a_task_that_is_cancelled_lets_go(mob_app: Any) -> None:
    cache = start(mob_app).store("cache")

    async def main() -> None:
        async def hold(begun: asyncio.Event) -> None:
            async with cache.lock("a"):
                begun.set()
                await asyncio.Event().wait()

        for _ in range(2):
            begun = asyncio.Event()
            task = asyncio.create_task(hold(begun))
            await begun.wait()
            waits = asyncio.create_task(hold(asyncio.Event()))
            await cache.get("a")
            waits.cancel()
            task.cancel()
            await asyncio.wait([task, waits])

    asyncio.run(main())
    with cache.lock("a", wait=PATIENCE):
        pass


@pytest.mark.parametrize("how", ["kill", "reload", "restart"])
def test_a_lock_is_held_on_when_the_worker_of_the_store_is_replaced(mob_app: Any, how: str) -> None:
    app = start(mob_app)
    cache = app.store("cache")
    (before,) = app.pids("cache")
    with cache.lock("a", ttl=3000) as lock:
        end_worker(app, how)
        app.wait_until(lambda: app.pids("cache") not in ([], [before]), "another one is there")
        with pytest.raises(TimeoutError), cache.lock("a", wait=3):
            pass
        assert lock.is_held
        assert lock.renew().result(PATIENCE)
    with cache.lock("a", wait=PATIENCE) as other:
        assert other.fence > lock.fence


def test_a_holder_whose_loop_is_blocked_keeps_its_lock_over_a_reload(mob_app: Any, tmp_path: Path) -> None:
    (tmp_path / "front.py").write_text(textwrap.dedent(BLOCKED))
    app = mob_app(
        mob.start("store").base(tmp_path).store("cache").role("front", "./front.py", hang_timeout=None),
        one_process=False,
    )
    cache = app.store("cache")
    call = app.require("front").hold(str(tmp_path / "go"))
    app.wait_until(lambda: cache.stats().result(PATIENCE)["locks"] == 1, "it holds the lock")
    app.reload("cache", timeout=PATIENCE)
    with pytest.raises(TimeoutError), cache.lock("a", wait=3):  # longer than locks of a store that has died are kept
        pass
    (tmp_path / "go").touch()
    fence = call.result(PATIENCE)
    with cache.lock("a", wait=PATIENCE) as lock:
        assert lock.fence > fence


def end_worker(app: AppUnderTest, how: str) -> None:
    if how == "kill":
        app.faults.kill("cache.0")
    elif how == "reload":
        app.reload("cache", timeout=PATIENCE)
    else:
        app.restart("cache")


@pytest.mark.parametrize("how", ["kill", "restart"])
def test_who_waits_for_a_lock_waits_on_at_the_next_worker(mob_app: Any, how: str) -> None:
    app = start(mob_app)
    cache = app.store("cache")
    found: list[int] = []

    def take() -> None:
        with cache.lock("a") as lock:
            found.append(lock.fence)

    with cache.lock("a") as lock:
        thread = run(take)
        app.wait_until(lambda: waiting(app) == 1, "it waits")
        end_worker(app, how)
        app.wait_until(lambda: waiting(app) == 1, "it waits again")
        assert not found
    thread.join(PATIENCE)
    assert found
    assert found[0] > lock.fence


# -- watching ----------------------------------------------------------------------------------------------------------


@BOTH
def test_changes_are_seen_in_order_by_plain_and_by_async_code(mob_app: Any, one_process: bool) -> None:
    cache = start(mob_app, one_process).store("cache")
    changes = cache.watch("user:", prefix=True)
    one = cache.watch("user:1")
    cache.set("user:1", {"name": "Ada"})
    cache.set("other", 1)
    cache.add("user:n", 2)
    cache.delete("user:1")
    seen = [next(changes) for _ in range(3)]
    assert seen == [
        mob.StoreChange("set", "user:1", {"name": "Ada"}),
        mob.StoreChange("set", "user:n", 2),
        mob.StoreChange("delete", "user:1"),
    ]
    assert [next(one).kind, next(one).kind] == ["set", "delete"]
    assert "user:" in repr(changes)
    for watch in (changes, one):
        watch.close()
        assert list(watch) == []

    async def follow() -> list[Any]:
        async with cache.watch("n") as changes:
            for number in range(200):
                cache.set("n", number)
            return [(await anext(changes)).value for _ in range(200)]

    assert asyncio.run(follow()) == list(range(200))


@pytest.mark.parametrize("how", ["kill", "reload", "restart"])
def test_a_watch_goes_on_at_the_next_worker_and_says_that_something_was_missed(mob_app: Any, how: str) -> None:
    app = start(mob_app)
    cache = app.store("cache")
    with cache.watch("a") as changes:
        end_worker(app, how)
        assert next(changes).kind == "missed"
        app.wait_until(lambda: cache.stats().result(PATIENCE)["watchers"] == 1, "it watches again")
        cache.set("a", 1).result(PATIENCE)
        assert next(changes) == mob.StoreChange("set", "a", 1)


def test_an_app_with_holders_and_watchers_stops_at_once(mob_app: Any) -> None:
    app = start(mob_app)
    cache = app.store("cache")
    with cache.watch("a") as changes:
        lock = cache.lock("a")
        lock.__enter__()
        app.stop()
        assert app.wait_stopped(PATIENCE)
        with pytest.raises(mob.MobError):
            for _ in changes:
                pass
    assert "waits for" not in app.output


def test_an_upgrade_of_the_kingpin_changes_nothing(apps: Apps, tmp_path: Path) -> None:
    running = apps.start(f'.store("cache", file={str(tmp_path / "store.db")!r})')
    app = running.wait_ready()
    cache = app.store("cache")
    cache.set("a", 1).result(PATIENCE)
    with cache.lock("a") as lock, cache.watch("a") as changes:
        app.upgrade(PATIENCE)
        cache.set("a", 2).result(PATIENCE)
        assert next(changes).value == 2
        assert lock.is_held
        assert lock.renew().result(PATIENCE)
        with pytest.raises(TimeoutError), cache.lock("a", wait=0):
            pass
    app.reload("cache", timeout=PATIENCE)
    assert cache.get("a").result(PATIENCE) == 2


def test_a_store_has_one_worker(mob_app: Any) -> None:
    app = start(mob_app)
    with pytest.raises(mob.MobError, match="it has one worker, not 2"):
        app.scale("cache", 2)


# -- metrics -----------------------------------------------------------------------------------------------------------


@BOTH
def test_what_the_store_holds_and_did_is_in_the_metrics_of_the_app(mob_app: Any, one_process: bool) -> None:
    app = start(mob_app, one_process, max_memory="64K")
    cache = app.store("cache")
    watch = cache.watch("a")
    with cache.lock("a"):
        for number in range(100):
            cache.set(str(number), bytes(1000)).result(PATIENCE)
        cache.get("99").result(PATIENCE)
        cache.get_many(["99", "98", "missing"]).result(PATIENCE)
        app.wait_until(lambda: app.metrics().value("store_hits") == 3, "it was told")
        metrics = app.metrics()
        assert metrics.value("store_misses") == 1
        keys = metrics.value("store_keys")
        assert 40 < keys < 60
        assert metrics.value("store_evictions") == 100 - keys
        assert 60_000 < metrics.value("store_bytes") <= 65536
        assert (metrics.value("store_locks"), metrics.value("store_watchers")) == (1, 1)
    watch.close()
    app.wait_until(lambda: app.metrics().value("store_locks") == app.metrics().value("store_watchers") == 0, "they end")
    app.reload("cache", timeout=PATIENCE)
    cache.get("99").result(PATIENCE)
    app.wait_until(lambda: app.metrics().value("store_hits") == 4, "it was added to what the one before has told")


# -- what a reload keeps -----------------------------------------------------------------------------------------------


@BOTH
def test_a_reload_loses_nothing_however_much_goes_on(mob_app: Any, tmp_path: Path, one_process: bool) -> None:
    app = with_front(mob_app, tmp_path, one_process)
    cache, front = app.store("cache"), app.require("front")
    cache.set("large", bytes(5_000_000)).result(PATIENCE)
    cache.set_many({str(number): number for number in range(5000)}).result(PATIENCE)
    cache.set("ends", 1, ttl=3000).result(PATIENCE)
    assert cache.allow("ada", "1/hour").result(PATIENCE)
    counts = [front.count("n", 2000) for _ in range(6)] + [front.count_async("n", 2000) for _ in range(2)]
    for _ in range(3):
        app.reload("cache", timeout=PATIENCE)
    assert [call.result(PATIENCE) for call in counts]
    assert cache.get("n").result(PATIENCE) == 16_000
    assert cache.get("large").result(PATIENCE) == bytes(5_000_000)
    assert cache.get("4999").result(PATIENCE) == 4999
    assert not cache.allow("ada", "1/hour").result(PATIENCE)
    assert cache.stats().result(PATIENCE)["keys"] == 5004


def test_a_reload_that_fails_leaves_the_store_as_it_was(mob_app: Any, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    app = start(mob_app, file=str(path))
    cache = app.store("cache")
    cache.set("a", 1).result(PATIENCE)
    lock = cache.lock("a")
    lock.__enter__()
    waits = cache.watch("a")
    (before,) = app.pids("cache")
    (tmp_path / "store.db").chmod(0o600)
    path.rename(tmp_path / "aside")
    path.mkdir()  # the new worker cannot open it
    try:
        with pytest.raises(mob.MobError, match=r"the old workers keep running"):
            app.reload("cache", timeout=PATIENCE)
    finally:
        path.rmdir()
        (tmp_path / "aside").rename(path)
    assert app.pids("cache") == [before]
    assert cache.add("a").result(PATIENCE) == 2
    assert next(waits).value == 2
    assert lock.is_held
    lock.__exit__(None, None, None)


def test_the_contents_are_handed_over_to_nobody_else(mob_app: Any) -> None:
    app = start(mob_app)
    with pytest.raises(PermissionError, match="handed over to its next worker only"):
        list(app.require("cache").hand_over())
    assert app.store("cache").add("n").result(PATIENCE) == 1


# -- the file ----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("how", ["kill", "reload", "restart"])
def test_what_was_answered_is_in_the_file(mob_app: Any, tmp_path: Path, how: str, one_process: bool) -> None:
    app = start(mob_app, one_process, file=str(tmp_path / "store.db"))
    cache = app.store("cache")
    (before,) = app.pids("cache")
    cache.set("text", "tea").result(PATIENCE)
    cache.set("ends", 1, ttl=3000).result(PATIENCE)
    cache.set("over", 1, ttl=0.01).result(PATIENCE)
    cache.delete("text2").result(PATIENCE)
    cache.set_many({"a": 1.5, "b": b"x", "c": [1]}).result(PATIENCE)
    cache.delete("c").result(PATIENCE)
    cache.add("n", 5).result(PATIENCE)
    assert cache.allow("ada", "1/hour").result(PATIENCE)
    end_worker(app, how)
    app.wait_until(lambda: app.pids("cache") not in ([], [before]), "another one is there")
    assert cache.get_many(["text", "ends", "over", "a", "b", "c", "n"]).result(PATIENCE) == {
        "text": "tea",
        "ends": 1,
        "a": 1.5,
        "b": b"x",
        "n": 5,
    }
    assert not cache.allow("ada", "1/hour").result(PATIENCE)


def test_nothing_that_was_answered_is_lost_when_the_store_is_killed_under_load(mob_app: Any, tmp_path: Path) -> None:
    app = start(mob_app, file=str(tmp_path / "store.db"))
    cache = app.store("cache")
    answered: dict[str, int] = {}
    over = threading.Event()

    def write(key: str) -> None:
        while not over.is_set():
            try:
                answered[key] = cache.add(key).result(PATIENCE)
            except mob.Lost:
                pass

    threads = [run(lambda key=key: write(key)) for key in "abcd"]
    for _ in range(5):
        (before,) = app.pids("cache")
        seen = sum(answered.values())
        app.wait_until(lambda seen=seen: sum(answered.values()) > seen + 200, "some were answered")
        app.faults.kill("cache.0")
        app.wait_until(lambda before=before: app.pids("cache") not in ([], [before]), "another one is there")
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
    for key, count in answered.items():
        assert count <= cache.get(key).result(PATIENCE) <= count + 5  # for each death, one call that was not answered


def test_nothing_is_answered_after_the_file_is_closed_when_the_kingpin_is_killed(apps: Apps, tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    running = apps.start(f'.store("cache", file={str(file)!r})')
    cache = running.wait_ready().store("cache")
    answered: dict[str, int] = {}
    ends: list[mob.CallError] = []

    def write(key: str) -> None:
        try:
            while True:  # until the store refuses: a client learns of the Kingpin's death only then
                answered[key] = cache.add(key).result(PATIENCE)
        except mob.CallError as error:
            ends.append(error)

    threads = [run(lambda key=key: write(key)) for key in "abc"]
    wait_until(lambda: sum(answered.values()) > 200, "some are answered")
    running.kill()
    for thread in threads:
        thread.join(PATIENCE)
    running.wait_gone()
    with closing(sqlite3.connect(file)) as found:
        kept = dict(found.execute("SELECT key, value FROM entries"))
    assert len(ends) == 3
    for key, count in answered.items():
        assert count <= kept[key] <= count + sum(error.executed != "no" for error in ends)


def test_the_contents_outlive_the_app(mob_app: Any, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    app = start(mob_app, file=str(path))
    for number in range(300):
        app.store("cache").set(str(number), number, ttl=3000)
    app.store("cache").set("last", "x").result(PATIENCE)
    app.stop()
    assert app.wait_stopped(PATIENCE)
    app = start(mob_app, file=str(path))
    assert app.store("cache").get("last").result(PATIENCE) == "x"
    app.stop()
    assert app.wait_stopped(PATIENCE)
    app = start(mob_app, file=str(path), max_memory="64K")
    cache = app.store("cache")
    seen = cache.stats().result(PATIENCE)
    assert 100 < seen["keys"] == 301 - seen["evictions"] < 300
    app.stop()
    assert app.wait_stopped(PATIENCE)
    again = start(mob_app, file=str(path)).store("cache").stats().result(PATIENCE)
    assert again["keys"] == seen["keys"]  # what was dropped was dropped from the file too


def test_a_file_that_cannot_be_written_is_told_and_written_again(mob_app: Any, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    app = start(mob_app, file=str(path))
    cache = app.store("cache")
    cache.set("a", 1).result(PATIENCE)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        assert other.execute("SELECT value FROM entries").fetchall() == [(1,)]
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            OSError, match=r"store\.db cannot be written: database is locked\. The change was made in mem"
        ):
            cache.set("a", 2).result(PATIENCE)
        assert cache.get("a").result(PATIENCE) == 2
        app.wait_for(r"store 'cache': .*database is locked\. The store continues in memory, and retries every 1 s")
        other.execute("ROLLBACK")
        app.wait_for(r"store 'cache': .*store\.db can be written again")
        assert other.execute("SELECT value FROM entries").fetchall() == [(2,)]
    cache.set("a", 3).result(PATIENCE)


def test_a_full_disk_costs_no_more_than_what_is_written_then(mob_app: Any, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    app = start(mob_app, file=str(path))
    cache = app.store("cache")
    cache.set("a", 1).result(PATIENCE)
    (pid,) = app.pids("cache")
    limit = path.stat().st_size + 100_000
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))  # as a disk that is full
    with pytest.raises(OSError, match=r"store\.db cannot be written: .* The change was made in memory"):
        cache.set("large", bytes(500_000)).result(PATIENCE)
    assert cache.get("large").result(PATIENCE) == bytes(500_000)
    cache.delete("large")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    cache.set("b", 2).result(PATIENCE)
    app.faults.kill("cache.0")
    assert cache.get_many(["a", "b", "large"]).result(PATIENCE) == {"a": 1, "b": 2}


def test_a_damaged_file_keeps_the_store_from_starting_and_stays_as_it_is(mob_app: Any, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(
        AssertionError, match=r"store\.db cannot be opened: .* The file is damaged: put a backup in its p"
    ):
        start(mob_app, file=str(path))
    assert path.read_bytes() == b"no database" * 1000


ANSWER = patient(1)
"""Seconds that a store has in these tests instead of 30."""


@pytest.fixture
def stopped(mob_app: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[AppUnderTest]:
    """An app whose store has answered, and is stopped now."""
    monkeypatch.setattr("mob.stores.waits.ANSWER", ANSWER)
    monkeypatch.setattr("mob.stores.waits.LOOK", 0.05)
    app = start(mob_app)
    app.store("cache").set("a", 1).result(PATIENCE)
    pid = next(member.pid for member in app.members() if member.role == "cache")
    freeze(pid)
    try:
        yield app
    finally:
        os.kill(pid, signal.SIGCONT)


def test_no_call_of_a_store_that_is_stopped_waits_for_ever(stopped: AppUnderTest) -> None:
    cache = stopped.store("cache")
    calls = {
        "get": cache.get("a"),
        "set": cache.set("a", 2),
        "add": cache.add("b"),
        "delete": cache.delete("c"),
        "get_many": cache.get_many(["a"]),
        "set_many": cache.set_many({"d": 1}),
        "keys": cache.keys(),
        "stats": cache.stats(),
        "allow": cache.allow("ada", "5/s"),
        "renew": cache.lock("x").renew(),
    }
    for name, call in calls.items():
        error = call.exception(PATIENCE)
        assert isinstance(error, mob.CallTimeout), name
        was_sent = r"it was sent to cache\.0 \(pid \d+\)"
        assert re.match(
            rf"cache\.{name} did not answer within {ANSWER:g} s(; {was_sent}|: all workers were busy\.)", str(error)
        )
        assert error.executed in (["no", "maybe"] if "busy" not in str(error) else ["no"])
    assert "it was sent to" in str(calls["get"].exception())


def test_a_lock_of_a_store_that_is_stopped_is_given_up_in_time(stopped: AppUnderTest) -> None:
    cache = stopped.store("cache")
    text = f"store 'cache' did not answer within {ANSWER:g} s when asked for the lock 'x'; is its process stopped?"
    with pytest.raises(TimeoutError, match=re.escape(text)), cache.lock("x", wait=0.1):
        raise AssertionError("it is not held")

    async def ask() -> None:
        async with cache.lock("x", wait=0):
            raise AssertionError("it is not held")

    with pytest.raises(TimeoutError, match=re.escape(text)):
        asyncio.run(ask())

    async def cancelled() -> None:
        task = asyncio.create_task(ask())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())


def test_a_watcher_of_a_store_that_is_stopped_is_given_up_in_time(stopped: AppUnderTest) -> None:
    cache = stopped.store("cache")
    text = f"store 'cache' did not answer within {ANSWER:g} s when asked for changes of 'a'; is its process"
    with pytest.raises(mob.CallTimeout, match=re.escape(text)), cache.watch("a"):
        raise AssertionError("it has not begun")

    async def watch() -> None:
        async with cache.watch("a"):
            raise AssertionError("it has not begun")

    with pytest.raises(mob.CallTimeout, match=re.escape(text)):
        asyncio.run(watch())


def test_a_lock_that_is_left_while_the_store_is_stopped_is_free_when_it_goes_on(
    mob_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mob.stores.waits.ANSWER", ANSWER)
    monkeypatch.setattr("mob.stores.waits.LOOK", 0.05)
    app = start(mob_app)
    cache = app.store("cache")
    with cache.lock("x") as lock:
        pid = next(member.pid for member in app.members() if member.role == "cache")
        freeze(pid)
    assert not lock.is_held
    os.kill(pid, signal.SIGCONT)
    with cache.lock("x", wait=PATIENCE) as following:
        assert following.fence > lock.fence


def test_calls_of_a_store_that_answers_are_not_looked_at_for_long(
    mob_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mob.stores.waits.LOOK", 0.05)
    cache = start(mob_app).store("cache")
    assert cache.add("a").result(PATIENCE) == 1
    waits = cache._waits
    wait_until(lambda: not waits.is_armed, "nothing is under way")
    with cache.lock("x", wait=PATIENCE):
        assert cache.add("a").result(PATIENCE) == 2
    wait_until(lambda: not waits.is_armed, "nothing is under way")


@BOTH
@pytest.mark.parametrize("how", ["restart", "terminate"])
def test_contents_survive_the_end_of_their_worker_in_order(mob_app: Any, one_process: bool, how: str) -> None:
    if how == "terminate" and one_process:
        pytest.skip("a thread gets no signals")
    app = start(mob_app, one_process)
    cache = app.store("cache")
    (before,) = (member.uid for member in app.members() if member.role == "cache")
    cache.set_many({"a": b"x" * 200_000, "b": {"name": "Ada"}, "n": 7}).result(PATIENCE)
    cache.set("short", 1, ttl=3000).result(PATIENCE)
    cache.allow("ada", "2/hour", 2).result(PATIENCE)
    with cache.lock("held", ttl=3000) as lock, cache.watch("n") as changes:
        if how == "restart":
            app.restart("cache")
        else:
            os.kill(app.pids("cache")[0], signal.SIGTERM)
        app.wait_until(lambda: app.pids("cache") and before not in [each.uid for each in app.members()], "another")
        assert cache.get_many(["a", "b", "n"]).result(PATIENCE) == {"a": b"x" * 200_000, "b": {"name": "Ada"}, "n": 7}
        assert cache.add("n").result(PATIENCE) == 8
        assert not cache.allow("ada", "2/hour").result(PATIENCE)
        assert next(changes).kind == "missed"
        with pytest.raises(TimeoutError), cache.lock("held", wait=0):
            pass
        assert lock.renew().result(PATIENCE)
    assert cache.keys("short").result(PATIENCE) == ["short"]


def test_no_change_is_lost_while_workers_of_a_store_are_restarted(mob_app: Any) -> None:
    app = start(mob_app)
    cache = app.store("cache")
    counted = lost = 0
    stop = threading.Event()

    def count() -> None:
        nonlocal counted, lost
        while not stop.is_set():
            try:
                cache.add("n").result(PATIENCE)
                counted += 1
            except mob.CallError as error:
                lost += error.executed != "no"

    thread = run(count)
    for _ in range(5):
        (before,) = app.pids("cache")
        app.restart("cache")
        app.wait_until(lambda before=before: app.pids("cache") not in ([], [before]), "another one is there")
    stop.set()
    thread.join(PATIENCE)
    assert counted <= cache.get("n").result(PATIENCE) <= counted + lost
    assert lost == 0
