"""What all that crosses by reference has in common: functions and objects, large buffers, descriptors.

Each is counted, or kept, by the process that it comes from, until nobody needs it there. `Crossing` is all that is
asked of a kind; `references` picks the kind of a reference. `Counterpart` is what a kind asks of another member.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from mob.rim.link import Descriptor, Link
from mob.wire.references import AnyReference
from mob.wire.sharing import BufferLocation

R = TypeVar("R", bound=AnyReference, contravariant=True)

Note = Callable[[AnyReference, Any], None]
"""Keep a reference, and what it stands for, with what this thread encodes."""
Replaced = Mapping[BufferLocation, memoryview | BufferLocation]
"""What stands in one message for buffers that cannot be passed on: a place with a copy, or the memory to be sent."""


class Outlet(Protocol):
    """A link, or a member to which there is one."""

    def post_with(self, message: Any, descriptors: Sequence[Descriptor]) -> None:
        """Send a message and descriptors."""
        ...


class Counterpart(Outlet, Protocol):
    """A member that holds references, or from which they come."""

    @property
    def uid(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def is_distant(self) -> bool: ...
    @property
    def gone(self) -> str: ...
    @property
    def link(self) -> Link | None: ...

    def post(self, message: Any) -> None:
        """Send a message; from any thread."""
        ...

    def post_lazily(self, message: Any) -> None:
        """Send a message with what is posted next; on the loop's thread."""
        ...


class Counterparts(Protocol):
    """All members that are known here."""

    def get(self, uid: int) -> Counterpart | None:
        """Return the member of that uid, if it is known."""
        ...

    def name_of(self, uid: int) -> str:
        """Return the name of a member as people read it."""
        ...

    def look_up(self, uid: int) -> Counterpart:
        """Return the member of that uid; one that is not known is asked for."""
        ...


class Crossing(Protocol[R]):
    """The one place for all references of a kind: those that come from this process, and those that came to it."""

    def hold(self, references: Sequence[R], holder: Counterpart, where: Outlet) -> Replaced | None:
        """Count a member as a holder: a message with these references is about to be posted to it, over `where`. Return
        what must be put in the place of some of them first."""
        ...

    def unpin(self, reference: R) -> None:
        """Let go of a reference that was encoded: its messages were posted, or never will be."""
        ...

    def give_back(self, reference: R) -> None:
        """Free a reference that has arrived and that nobody will read; from any thread."""
        ...

    def owner_gone(self, uid: int) -> None:
        """Forget a member that has gone: what it held, and what it sent and nobody has read."""
        ...

    def sweep(self) -> None:
        """Give back to their owners the things that the program has dropped here; on the loop's thread."""
        ...
