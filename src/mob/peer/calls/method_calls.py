"""Calls of methods: how they differ from calls of exports when the object's process ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Raw

from mob.errors import Lost
from mob.peer.references.objects import RemoteObject
from mob.peer.results.call import Call
from mob.wire.references import Passage

if TYPE_CHECKING:
    Rest = tuple[Raw, tuple[Raw, ...], tuple[float, float] | None, tuple[int, ...], str]


class MethodCall(Call[Any]):
    """A call of a method of an object in another process."""

    __slots__ = ()

    def fail(self, error: BaseException) -> None:
        """End the call with an error; if the object's process ended, so did the object."""
        if type(error) is Lost:
            kind = self.label.rpartition(".")[0]
            error = Lost(f"{error} The {kind} was lost with its process: make a new one.", executed=error.executed)
        super().fail(error)


class PreparedCall(NamedTuple):
    """A call of a method of an object that is being made."""

    call: MethodCall
    rest: Rest
    """What is sent after the number of the object."""
    passage: Passage


def whereabouts(handle: RemoteObject) -> tuple[int, int, str, float | None]:
    """Return the uid of the process that holds an object, its number there, its label and the timeout of its calls."""
    remote = handle._mob_remote  # pyright: ignore[reportPrivateUsage]
    return remote._owner, remote._number, handle._mob_label, handle._mob_timeout  # pyright: ignore[reportPrivateUsage]
