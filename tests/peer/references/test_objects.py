"""Objects that cross: the object itself in its own process, a handle elsewhere, counted as functions are."""

from __future__ import annotations

from typing import Any

import pytest

from mob.errors import UnknownExport
from mob.peer.references.objects import Hosted, HostedService, RemoteMethod, RemoteObject, ref
from tests.peer.references.members import Mob


class Room:
    def __init__(self) -> None:
        self.people: list[Any] = []

    def add(self, person: Any) -> int:
        self.people.append(person)
        return len(self.people)


def test_an_object_is_a_handle_elsewhere_and_itself_at_home(mob: Mob) -> None:
    owner, holder = mob.join(), mob.join()
    room = Room()
    owner.send(ref(room), holder)
    mob.deliver()
    handle: Any = holder.got.pop()
    assert isinstance(handle, RemoteObject)
    assert dir(handle) == ["add", "options"]
    holder.send({"deep": [handle]}, owner)
    mob.deliver()
    assert owner.got.pop() == {"deep": [room]}


def test_one_object_has_one_number_for_each_choice_of_methods(mob: Mob) -> None:
    owner, holder = mob.join(), mob.join()
    room = Room()
    for value in (ref(room), ref(room), ref(room, methods=["add"]), ref(room, methods=("__init__",))):
        owner.send(value, holder)
    mob.deliver()
    first, again, _, other = holder.got
    assert first == again
    assert len({first, again, other}) == 2
    assert hash(first) == hash(again)


def test_a_call_goes_to_the_process_of_the_object_by_name(mob: Mob) -> None:
    owner, holder = mob.join(), mob.join()
    owner.send(ref(Room()), holder)
    mob.deliver()
    handle: Any = holder.got.pop()
    handle.add("Ada", how="well")
    assert holder.called == [(handle, "add", ("Ada",), {"how": "well"})]
    with pytest.raises(UnknownExport, match="no method 'ad'"):
        _ = handle.ad
    with pytest.raises(UnknownExport, match="private"):
        RemoteMethod(handle, "_secret")
    assert repr(handle.add) == "<Room.add(...)>"


def test_what_is_lent_runs_what_is_exposed_and_nothing_else() -> None:
    hosted = Hosted(Room(), "Room", ("add",))
    assert hosted("add", ["Ada"]) == 1
    with pytest.raises(UnknownExport, match="no method '__init__'"):
        hosted("__init__", [])
    assert repr(HostedService(Room(), "back.Room", {}, ())) == "<HostedService back.Room>"


def test_an_object_is_freed_when_the_last_handle_is_dropped(mob: Mob) -> None:
    owner, holder, third = mob.join(), mob.join(), mob.join()
    owner.send(ref(Room()), holder)
    mob.deliver()
    holder.send(holder.got.pop(), third)
    mob.deliver()
    holder.references.sweep()
    mob.deliver()
    assert owner.sizes["lent"] == 1
    third.got.clear()
    third.references.sweep()
    mob.deliver()
    assert "lent" not in owner.sizes
