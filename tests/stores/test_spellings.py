"""A store is not a `dict`, nor a client of Redis, and says what it has instead."""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import mob
from mob.spellings import instead
from mob.stores import spellings
from mob.stores.lock import StoreLock
from mob.stores.store import Store
from mob.testing import AppUnderTest
from tests.patience import PATIENCE

NO_DICT = "the store 'cache' is not a dict, because it is in another process. Use "
PLAIN = ": `await` it, or call its .result() in sync code."


@pytest.fixture
def app(mob_app: Any) -> AppUnderTest:
    return mob_app(mob.start("spelt").store("cache"), one_process=True)


@pytest.fixture
def cache(app: AppUnderTest) -> Any:
    return app.store("cache")


def assign(cache: Any) -> None:
    cache["a"] = 1


def remove(cache: Any) -> None:
    del cache["a"]


async def wait(lock: Any) -> None:
    await lock


LOCK = "the lock 'n' has no "
AROUND = "Here it is `with` around the block that holds it, or `async with` in async code."


@pytest.mark.parametrize(
    ("write", "fault", "text"),
    [
        (assign, TypeError, f"{NO_DICT}.set(key, value, ttl=seconds){PLAIN}"),
        (remove, TypeError, f"{NO_DICT}.delete(key){PLAIN}"),
        (lambda cache: cache["a"], TypeError, f"{NO_DICT}.get(key){PLAIN}"),
        (lambda cache: "a" in cache, TypeError, f"{NO_DICT}.get(key), which gives None if there is no such key{PLAIN}"),
        (len, TypeError, f'{NO_DICT}.stats(), which gives {{"keys": ...}}{PLAIN}'),
        (list, TypeError, f"{NO_DICT}.keys(prefix){PLAIN}"),
        (lambda cache: cache.incr("a"), AttributeError, "the store 'cache' has no 'incr'. Here it is .add(key, n)."),
        (lambda cache: cache.decr, AttributeError, "the store 'cache' has no 'decr'. Here it is .add(key, -n)."),
        (lambda cache: cache.lokc, AttributeError, "the store 'cache' has no 'lokc'. Did you mean 'lock'?"),
        (
            lambda cache: cache.exists,
            AttributeError,
            "the store 'cache' has no 'exists'. Here it is .get(key), which returns None if there is no such key.",
        ),
        (
            lambda cache: cache.setex,
            AttributeError,
            "the store 'cache' has no 'setex'. Here it is .set(key, value, ttl=seconds).",
        ),
        (
            lambda cache: cache.set("a", 1, ex=5),
            TypeError,
            "Store.set() has no option 'ex'. Here it is 'ttl', in seconds.",
        ),
        (lambda cache: cache.set("a", 1, 5), TypeError, "Store.set() accepts these options only by name: ttl="),
        (
            lambda cache: cache.lock("n", timeout=5),
            TypeError,
            f"Store.lock() has no option 'timeout'. Here it is {spellings.LOCK['timeout']}.",
        ),
        (
            lambda cache: cache.lock("n", 5),
            TypeError,
            "Store.lock() accepts these options only by name: ttl=, wait=",
        ),
        (
            lambda cache: cache.lock("n", ttl="5"),
            TypeError,
            "ttl='5' is not a number of seconds or None.",
        ),
        (
            lambda cache: cache.set("a", 1, ttl=timedelta(seconds=5)),
            TypeError,
            "ttl=datetime.timedelta(seconds=5) is not a number of seconds or None.",
        ),
        (
            lambda cache: cache.get_many("ab"),
            TypeError,
            "get_many() takes a list of keys, not the text 'ab'. Write ['ab'].",
        ),
        (
            lambda cache: cache.delete(["a"]),
            TypeError,
            "delete() takes keys, not a list: (['a'],). Write .delete(*keys).",
        ),
        (lambda cache: cache.lock("n").acquire(), AttributeError, f"{LOCK}'acquire'. {AROUND}"),
        (lambda cache: cache.lock("n").extend(5), AttributeError, f"{LOCK}'extend'. Here it is .renew(ttl)."),
        (lambda cache: cache.lock("n").renw, AttributeError, f"{LOCK}'renw'. Did you mean 'renew'?"),
    ],
)
def test_what_is_no_way_to_use_a_store(
    cache: Any, write: Callable[[Any], object], fault: type[Exception], text: str
) -> None:
    with pytest.raises(fault) as caught:
        write(cache)
    assert str(caught.value) == text


def test_a_lock_is_not_awaited(cache: Any) -> None:
    with pytest.raises(TypeError, match=re.escape("Use `async with cache.lock('n'):`.")):
        asyncio.run(wait(cache.lock("n")))


def test_a_store_is_true_and_python_may_ask_for_what_it_wants(cache: Any) -> None:
    assert cache
    assert not hasattr(cache, "_ipython_display_")
    assert not hasattr(cache.lock("n"), "_repr_html_")
    assert copy.copy(cache).add("a").result(PATIENCE) == 1
    assert copy.copy(cache.lock("n")).fence == 0


def test_no_name_is_here_and_elsewhere() -> None:
    for table, kind in ((spellings.NAMES, Store), (spellings.OF_LOCK, StoreLock)):
        assert [name for name in table if hasattr(kind, name)] == []


def test_what_is_named_instead_exists() -> None:
    for name in spellings.NAMES:
        for method in re.findall(r"(?<![\w)])\.(\w+)\(", instead(name, spellings.NAMES, [])):
            assert hasattr(Store, method), name


def test_a_store_and_a_pool_that_nothing_adds(app: AppUnderTest) -> None:
    with pytest.raises(mob.UnknownRole) as caught:
        app.store("state")
    add = "Add it in the main script: mob.start(...)"
    assert str(caught.value) == f"this app has no store 'state'. {add}.store('state')."
    with pytest.raises(mob.UnknownRole, match=re.escape(f"Did you mean 'cache'? {add}.store('cahce').")):
        app.store("cahce")
    with pytest.raises(mob.UnknownRole, match=re.escape(f"this app has no pool 'crunch'. {add}.pool('crunch').")):
        app.pool("crunch")
