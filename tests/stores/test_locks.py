"""Locks of a store: which claim has one, and which comes next."""

from __future__ import annotations

from math import inf

import pytest

from mob.stores.locks import HELD, KEPT, OVER, WAITING, Locks


def test_a_free_lock_is_held_at_once_and_the_next_one_waits_for_its_end() -> None:
    locks = Locks("cache", 100)
    first, second, third = locks.ask("a", None, 0), locks.ask("a", None, 0), locks.ask("a", None, 0)
    other = locks.ask("b", None, 0)
    assert (first.state, second.state, third.state, other.state) == (HELD, WAITING, WAITING, HELD)
    assert (first.fence, other.fence) == (101, 102)
    assert locks.next_due() is None
    assert locks.count_waiting() == 2
    assert locks.leave(first, 1) == [first, second]
    assert (first.state, second.state, second.fence) == (OVER, HELD, 103)
    assert locks.leave(first, 1) == []
    assert locks.release("a", 101, 1) == []
    assert locks.release("a", 103, 1) == [second, third]
    assert locks.release("a", third.fence, 2) == [third]
    assert locks.release("a", third.fence, 2) == []
    assert "1 held" in repr(locks)
    assert "'a', over" in repr(third)


def test_who_gives_up_waiting_leaves_the_line() -> None:
    locks = Locks("cache", 0)
    first, second, third = (locks.ask("a", None, 0) for _ in range(3))
    assert locks.leave(second, 0) == [second]
    assert locks.leave(third, 0) == [third]
    assert not locks.waiting
    assert locks.leave(first, 0) == [first]


def test_a_lock_ends_with_its_ttl_unless_it_is_renewed() -> None:
    locks = Locks("cache", 0)
    first, second = locks.ask("a", 10, 0), locks.ask("a", None, 0)
    assert locks.next_due() == 10
    assert locks.renew("a", first.fence, 20, 5) is first
    assert locks.end_due(10) == []
    assert locks.next_due() == 25
    assert locks.end_due(25) == [first, second]
    assert first.why == "its ttl of 20 s expired"
    assert locks.renew("a", first.fence, 20, 25) is None
    assert locks.renew("b", 1, 20, 25) is None
    assert locks.renew("a", second.fence, None, 25) is second
    assert locks.next_due() is None
    for claim in (
        lambda: locks.ask("b", 0, 0),
        lambda: locks.adopt("b", -1, 1, 0),
        lambda: locks.renew("a", 1, inf, 0),
    ):
        with pytest.raises(
            ValueError, match=r"store 'cache': lock\('[ab]', ttl=.*\): not a number of seconds above 0\."
        ):
            claim()


def test_after_a_restart_holders_keep_their_locks_before_others_get_one() -> None:
    locks = Locks("cache", 1000, grants_from=2)
    early, late = locks.ask("a", None, 0), locks.ask("b", None, 0)
    kept = locks.adopt("a", 60, 7, 1)
    assert (kept.state, kept.fence, kept.ends) == (HELD, 7, 61)
    assert locks.next_due() == 2
    assert locks.leave(locks.adopt("c", None, 8, 1), 1.5)
    assert locks.end_due(2) == [late]
    assert early.state is WAITING
    assert late.fence == 1001
    assert locks.next_due() == 61
    assert locks.leave(kept, 3) == [kept, early]


def test_a_lock_that_others_may_have_had_is_not_kept() -> None:
    locks = Locks("cache", 1000, grants_from=2)
    assert locks.adopt("a", None, 7, 1).state is HELD
    second = locks.adopt("a", None, 6, 1)
    late = locks.adopt("b", None, 5, 2)
    stranger = locks.adopt("c", None, 5000, 1)
    for claim in (second, late, stranger):
        assert claim.state is OVER
        assert "free for others meanwhile" in claim.why


def test_a_lock_that_is_released_while_none_are_given_is_given_later() -> None:
    locks = Locks("cache", 1000, grants_from=2)
    kept, next_one = locks.adopt("a", None, 7, 0), locks.ask("a", None, 0)
    assert locks.leave(kept, 1) == [kept]
    assert locks.end_due(2) == [next_one]


def test_a_lock_that_was_handed_over_is_kept_for_its_holder() -> None:
    locks = Locks("cache", 1000, grants_from=2)
    for name, fence in (("a", 7), ("b", 8), ("c", 9)):
        locks.inherit(name, fence, KEPT)
    other = locks.ask("b", None, 1)
    assert locks.adopt("a", None, 6, 3).state is OVER
    taken = locks.adopt("a", None, 7, 20)
    assert (taken.state, taken.fence, taken.ends) == (HELD, 7, inf)
    assert locks.adopt("a", None, 7, 21).state is OVER  # it has been taken
    assert locks.release("c", 9, 21)[0].state is OVER
    kept = locks.renew("b", 8, 1000, 25)
    assert kept is not None
    assert kept.ends == 25 + KEPT
    assert locks.renew("b", 8, 1, 25) is kept
    assert locks.end_due(26) == [kept, other]
    locks.inherit("d", 10, 50)
    (over,) = locks.end_due(50)
    assert over.why == ""
    assert locks.held == {"a": taken, "b": other}
