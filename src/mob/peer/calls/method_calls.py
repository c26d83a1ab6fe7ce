"""Calls of methods: what differs from calls of exports when the object's process is gone."""

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
        """It ended with an error: if the object's process is gone, so is the object."""
        if type(error) is Lost:
            kind = self.label.rpartition(".")[0]
            error = Lost(f"{error} The {kind} is gone with its process: make a new one.", executed=error.executed)
        super().fail(error)


class PreparedCall(NamedTuple):
    """A call of a method of an object that is being made."""

    call: MethodCall
    rest: Rest
    """What is sent behind the number of the object."""
    passage: Passage


def whereabouts(handle: RemoteObject) -> tuple[int, int, str, float | None]:
    """Return the uid of the process in which an object lives, its number there, its label, and the timeout of calls."""
    remote = handle._mob_remote  # pyright: ignore[reportPrivateUsage]
    return remote._owner, remote._number, handle._mob_label, handle._mob_timeout  # pyright: ignore[reportPrivateUsage]
