"""The common interface of all references: functions and objects, large buffers, descriptors.

The process from which a thing comes counts or keeps it until no other process needs it. `Crossing` is the interface of
a kind; `references` picks the kind of a reference. `Counterpart` is what a kind needs of another member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from mob.rim.link import Descriptor, Link
from mob.wire.references import AnyReference
from mob.wire.sharing import BufferLocation

R = TypeVar("R", bound=AnyReference, contravariant=True)

Note = Callable[[AnyReference, Any], None]
"""Notes a reference, and the thing that it stands for, along with what this thread encodes."""
Replaced = Mapping[BufferLocation, memoryview | BufferLocation]
"""Replacements in one message for buffers that cannot be passed on: a place with a copy, or the bytes."""


class Outlet(Protocol):
    """A link, or a member to which there is one."""

    def post_with(self, message: Any, descriptors: Sequence[Descriptor]) -> None:
        """Send a message with descriptors."""
        ...


class Counterpart(Outlet, Protocol):
    """A member that holds references, or from which they come."""

    @property
    def uid(self) -> int:
        """Its number."""
        ...

    @property
    def name(self) -> str:
        """Its name for people."""
        ...

    @property
    def is_distant(self) -> bool:
        """True if it is on another machine."""
        ...

    @property
    def gone(self) -> str:
        """The reason why it ended; empty while it runs."""
        ...

    @property
    def link(self) -> Link | None:
        """The link to it, if there is one."""
        ...

    def post(self, message: Any) -> None:
        """Send a message; from any thread."""
        ...

    def post_lazily(self, message: Any) -> None:
        """Send a message along with the next one that is posted; on the loop's thread."""
        ...


class Counterparts(Protocol):
    """All members that are known here."""

    def get(self, uid: int) -> Counterpart | None:
        """Return the member with that uid, if it is known."""
        ...

    def name_of(self, uid: int) -> str:
        """Return the name of a member for people."""
        ...

    def look_up(self, uid: int) -> Counterpart:
        """Return the member with that uid; ask the Kingpin about one that is unknown."""
        ...


class Crossing(Protocol[R]):
    """The one place for all references of a kind: those from this process, and those that came to it."""

    def hold(self, references: Sequence[R], holder: Counterpart, where: Outlet) -> Replaced | None:
        """Count a member as a holder, because a message with these references is about to be posted over `where`.

        Return the replacements that the message needs first.
        """
        ...

    def unpin(self, reference: R) -> None:
        """Release a reference that was encoded: its messages were posted, or never will be."""
        ...

    def give_back(self, reference: R) -> None:
        """Free a reference that arrived and will not be read; from any thread."""
        ...

    def owner_gone(self, uid: int) -> None:
        """Forget a member that ended: what it held, and what it sent that is unread."""
        ...

    def sweep(self) -> None:
        """Give back to their owners the things that the program dropped here; on the loop's thread."""
        ...
