"""The contents of a store, without a process and without a clock."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, strategies as st

from mob.stores import book as books
from mob.stores.book import StoreBook, Value

Told = list[tuple[str, str, Value | None]]


def listened(max_memory: int | None = None) -> tuple[StoreBook, Told]:
    """Return a book, and the changes that it reports."""
    told: Told = []
    book = StoreBook("cache", max_memory)
    book.listeners.append(lambda what, key, value: told.append((what, key, value)))
    return book, told


def test_a_key_has_the_value_that_was_set_last() -> None:
    book, told = listened()
    assert book.get("a", 0) is None
    book.set("a", b"one", None, 0)
    book.set("a", 2, None, 0)
    assert book.get("a", 1e9) == 2
    assert book.ends("a", 5) == inf
    assert book.ends("b", 5) is None
    assert told == [("set", "a", b"one"), ("set", "a", 2)]
    assert (book.hits, book.misses) == (1, 1)


def test_deleting_says_how_many_there_were() -> None:
    book, told = listened()
    book.set("a", 1, None, 0)
    book.set("b", 1, 5, 0)
    assert book.delete(["a", "b", "c"], 6) == 1
    assert not book.entries
    assert book.bytes == 0
    assert told[2:] == [("delete", "a", None), ("expire", "b", None)]


def test_keys_are_found_by_what_they_begin_with() -> None:
    book, _ = listened()
    for key in ("user:1", "user:2", "other"):
        book.set(key, 1, None, 0)
    book.set("user:3", 1, 5, 0)
    book.put_own("user:4", 1, 99)
    assert sorted(book.keys("user:", 6)) == ["user:1", "user:2"]
    assert len(list(book.keys("", 6))) == 3


@pytest.mark.parametrize("ttl", [0, -1, inf, nan])
def test_a_ttl_that_is_no_time_is_refused(ttl: float) -> None:
    book, told = listened()
    for write in (lambda: book.set("a", 1, ttl, 0), lambda: book.add("a", 1, ttl, 0)):
        with pytest.raises(ValueError, match=rf"store 'cache': ttl={ttl} of 'a' is not a number of seconds above 0\."):
            write()
    assert not told


def test_a_key_of_the_stores_own_is_refused() -> None:
    book, _ = listened()
    book.put_own("x", 1.5, 10)
    assert book.own("x", 9) == 1.5
    assert book.own("x", 10) is None
    assert book.own("y", 0) is None
    for write in (lambda: book.set("\0x", 1, None, 0), lambda: book.delete(["\0x"], 0)):
        with pytest.raises(ValueError, match="begins with a NUL"):
            write()
    assert book.own("x", 9) == 1.5


# -- counters ----------------------------------------------------------------------------------------------------------


def test_a_counter_begins_at_0_and_ends_when_its_first_ttl_is_over() -> None:
    book, told = listened()
    assert book.add("n", 1, 10, 0) == 1
    assert book.add("n", 4, 10, 9) == 5
    assert book.add("n", -0.5, None, 9) == 4.5
    assert book.get("n", 9.9) == 4.5
    assert book.add("n", 1, 10, 10) == 1
    assert told[-2:] == [("expire", "n", None), ("set", "n", 1)]


def test_what_is_no_number_is_not_added_to() -> None:
    book, _ = listened()
    book.set("n", b"x", None, 0)
    with pytest.raises(
        TypeError, match=r"^store 'cache': add\('n'\) needs a number, but the key holds another value\.$"
    ):
        book.add("n", 1, None, 0)
    assert book.get("n", 0) == b"x"


def test_a_sum_that_no_file_can_hold_is_refused() -> None:
    book, _ = listened()
    book.set("n", 2**63 - 2, None, 0)
    assert book.add("n", 1, None, 0) == 2**63 - 1
    for write in (lambda: book.add("n", 1, None, 0), lambda: book.set("n", 2**63, None, 0)):
        with pytest.raises(
            OverflowError, match=r"^store 'cache': 'n' would become 9223\d+, which does not fit in 64 bits\.$"
        ):
            write()
    assert book.get("n", 0) == 2**63 - 1


# -- the end of keys ---------------------------------------------------------------------------------------------------


def test_a_key_ends_when_it_is_looked_at_or_when_it_is_due() -> None:
    book, told = listened()
    book.set("a", 1, 5, 0)
    book.set("b", 1, 5, 1)
    assert book.next_due() == 5
    assert book.get("a", 5) is None
    book.end_due(5.5)
    assert book.next_due() == 6
    assert told[2:] == [("expire", "a", None)]
    book.end_due(6)
    assert told[3:] == [("expire", "b", None)]
    assert book.next_due() is None
    assert book.bytes == 0


def test_a_key_that_is_prolonged_does_not_end_sooner_and_one_that_is_shortened_does() -> None:
    book, told = listened()
    book.set("long", 1, 5, 0)
    book.set("long", 1, 50, 0)
    book.set("short", 1, 100, 0)
    book.set("short", 1, 3, 0)
    book.set("kept", 1, 5, 0)
    book.set("kept", 1, None, 0)
    told.clear()
    book.end_due(10)
    assert told == [("expire", "short", None)]
    book.end_due(200)
    assert told == [("expire", "short", None), ("expire", "long", None)]
    assert list(book.entries) == ["kept"]
    assert book.next_due() is None


def test_keys_that_come_and_go_leave_no_more_than_some_places_in_the_heap() -> None:
    book, _ = listened()
    book.set("stays", 1, 1000, 0)
    for number in range(3 * books.SPARE):
        book.set(str(number), 1, 1000, 0)
        book.delete([str(number)], 0)
    assert len(book._due) < 2 * books.SPARE
    book.end_due(1001)
    assert not book.entries


# -- the bound ---------------------------------------------------------------------------------------------------------


def test_beyond_its_bound_the_least_recently_used_key_goes() -> None:
    book, told = listened(3 * 400)
    for key in "abc":
        book.set(key, b"x" * 100, None, 0)
    book.get("a", 0)
    told.clear()
    book.set("d", b"x" * 100, None, 0)
    assert told == [("set", "d", b"x" * 100), ("evict", "b", None)]
    assert list(book.entries) == ["c", "a", "d"]
    assert book.evictions == 1


def test_what_is_larger_than_the_bound_is_refused_and_changes_nothing() -> None:
    book, told = listened(1000)
    book.set("a", 1, None, 0)
    with pytest.raises(
        ValueError, match=r"^store 'cache': 'a' would take 5,\d\d\d bytes, more than max_memory=1,000\.$"
    ):
        book.set("a", bytes(5000), None, 0)
    assert book.get("a", 0) == 1
    assert len(told) == 1


steps = st.lists(
    st.tuples(
        st.sampled_from(["set", "get", "delete", "add", "due"]),
        st.sampled_from("abcdef"),
        st.sampled_from([None, 1, 5]),
        st.integers(0, 3),
    ),
    max_size=60,
)


@given(steps)
def test_what_is_told_and_counted_is_what_there_is(steps: list[tuple[str, str, Any, int]]) -> None:
    book, _ = listened(1300)
    seen: dict[str, Any] = {}
    now = 0.0

    def follow(what: str, key: str, value: Value | None) -> None:
        if what == "set":
            seen[key] = value
        else:
            del seen[key]

    book.listeners.append(follow)
    for what, key, ttl, wait in steps:
        now += wait
        if what == "set":
            book.set(key, wait, ttl, now)
        elif what == "add":
            book.add(key, wait, ttl, now)
        elif what == "delete":
            book.delete([key], now)
        elif what == "due":
            book.end_due(now)
            due = book.next_due()
            assert due is None or due > now
            assert all(entry.ends > now for entry in book.entries.values())
        else:
            value = book.get(key, now)
            assert value == seen.get(key)
        assert {key: entry.value for key, entry in book.entries.items()} == seen
        assert book.bytes == sum(entry.size for entry in book.entries.values()) <= 1300
    assert "cache" in repr(book)
    assert all("bytes" in repr(entry) for entry in book.entries.values())
