"""Functions that cross between members of one process: what arrives, who counts what, and when it is freed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from mob.errors import Lost
from mob.peer.references.functions import LentIterator, RemoteFunction
from mob.peer.results.streams import RemoteIterator
from mob.wire import messages as m
from tests.peer.references.members import Member, Mob


def f() -> None: ...


def g() -> None: ...


def remote(member: Member) -> Any:
    """Remove and return the function that arrived last."""
    return member.got.pop()


def test_a_function_arrives_as_one_that_can_be_called_and_is_freed_at_both_ends(mob: Mob, two: Any) -> None:
    owner, other = two
    owner.send(f, other)
    mob.deliver()
    function = remote(other)
    assert type(function) is RemoteFunction
    assert repr(function) == "<remote function 1 of member 1>"
    assert function(1, a=2) is other.called
    assert other.called == [(1, 1, (1,), {"a": 2})]
    assert owner.references.lent(1) is f
    assert mob.sizes() == [{"lent": 1}, {"held": 1}]
    assert owner.references.lent_to() == [(f, {2: 1})]
    del function
    mob.settle()
    assert mob.sizes() == [{}, {}]
    assert owner.references.lent(1) is None


def test_arrivals_of_one_function_are_one_object_and_go_back_in_one_message(mob: Mob, two: Any) -> None:
    owner, other = two
    for _ in range(3):
        owner.send([f, g], other)
    mob.deliver()
    assert {id(function) for function, _ in other.got} == {id(other.got[0][0])}
    assert [count for _, count in owner.references.lent_to()] == [{2: 3}, {2: 3}]
    other.got.clear()
    other.references.sweep()
    assert [letter.message for letter in mob.letters] == [m.Release({1: 3, 2: 3})]
    mob.deliver()
    assert mob.sizes() == [{}, {}]


class Greeter:
    def greet(self) -> None: ...


def test_a_method_is_one_function_however_often_it_is_looked_up(mob: Mob, two: Any) -> None:
    owner, other = two
    greeter = Greeter()
    owner.send([greeter.greet, greeter.greet, Greeter().greet], other)
    mob.deliver()
    first, second, third = other.got.pop()
    assert first is second
    assert first is not third


def test_at_home_it_is_the_function_itself(mob: Mob, two: Any) -> None:
    owner, other = two
    owner.send(f, other)
    mob.deliver()
    other.send(remote(other), owner)
    mob.settle()
    assert owner.got == [f]
    assert mob.sizes() == [{}, {}]
    owner.send(f, owner)  # and to itself
    mob.deliver()
    assert owner.got == [f, f]
    assert mob.sizes() == [{}, {}]


def test_an_iterator_arrives_as_one(mob: Mob, two: Any) -> None:
    owner, other = two
    numbers = iter([1, 2])
    owner.send(numbers, other)
    mob.deliver()
    assert type(other.got[0]) is RemoteIterator
    lent: Any = owner.references.lent(1)
    assert type(lent) is LentIterator
    assert lent() is numbers
    other.got.clear()
    mob.settle()
    assert mob.sizes() == [{}, {}]


STEPS: dict[str, Callable[[Mob, Member, Member, Member], Any]] = {
    "the owner hears": lambda mob, owner, a, b: mob.deliver_to(owner),
    "a drops it": lambda mob, owner, a, b: a.references.sweep(),
    "b gets it and drops it": lambda mob, owner, a, b: (mob.deliver_to(b), b.got.clear(), b.references.sweep()),
    "a dies": lambda mob, owner, a, b: mob.lose(a),
}


@pytest.mark.parametrize("steps", list(permutations(STEPS, 3)), ids=", ".join)
def test_one_that_is_passed_on_is_known_until_the_last_has_dropped_it(mob: Mob, steps: tuple[str, ...]) -> None:
    owner, a, b = mob.join(), mob.join(), mob.join()
    owner.send(f, a)
    mob.deliver()
    a.send(remote(a), b)
    assert [type(letter.message) for letter in mob.letters] == [m.Lend, m.Message]
    for step in steps:
        STEPS[step](mob, owner, a, b)
    mob.deliver()
    if b.got:
        assert owner.references.lent(1) is f
    b.got.clear()
    mob.settle()
    assert owner.sizes == {}
    assert b.sizes == {}


def test_the_owner_asks_for_the_one_to_whom_a_function_was_passed_on(mob: Mob) -> None:
    owner, a, b = mob.join(), mob.join(), mob.join()
    owner.send(f, a)
    mob.deliver()
    a.send(remote(a), b)
    mob.deliver_to(owner)
    assert set(owner.ways) == {2, 3}  # otherwise it would not notice its end


def test_what_a_member_held_is_freed_when_it_goes(mob: Mob, two: Any) -> None:
    owner, other = two
    owner.send([f, g], other)
    mob.deliver()
    mob.lose(other)
    assert owner.sizes == {}
    owner.send(f, other)  # sent before all know about it
    assert owner.sizes == {}


def test_what_arrives_unread_goes_back(mob: Mob, two: Any) -> None:
    owner, other = two
    owner.send(f, other)
    other.encoder.discard(mob.letters.popleft().message)
    assert owner.sizes == {"lent": 1}
    mob.settle()
    assert mob.sizes() == [{}, {}]
    owner.send(f, owner)
    owner.encoder.discard(mob.letters.popleft().message)
    assert owner.sizes == {}


def test_what_comes_home_too_late_is_lost(mob: Mob, two: Any) -> None:
    owner, other = two
    owner.send(f, other)
    mob.deliver()
    other.send(remote(other), owner)
    owner.references.owner_gone(2)
    with pytest.raises(Lost, match="after its last holder released it"):
        mob.deliver()
