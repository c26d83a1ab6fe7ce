"""The surroundings of a call: the process that made it, and the member that it was sent to.

Both are defined on higher floors, so they are protocols here, as small as possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mob.errors import CallError
from mob.peer.context import Context
from mob.peer.results.handover import Handover
from mob.wire.references import Passage

if TYPE_CHECKING:
    from mob.peer.results.blocking import Blocking
    from mob.peer.results.call import Call
    from mob.peer.results.streams import Receiver


class CallQueue(Protocol):
    """The queues in which calls wait for workers."""

    def forget(self, call: Call[Any]) -> None:
        """Remove a waiting call that has ended; on any thread."""
        ...


class Kept(Protocol):
    """What is kept for other processes because messages refer to it."""

    def let_go(self, passage: Passage) -> None:
        """Release the references of a message that is no longer under way."""
        ...


class Maker(Protocol):
    """The process that makes calls."""

    @property
    def context(self) -> Context:
        """Facts of the process."""
        ...

    @property
    def blocking(self) -> Blocking:
        """The calls for which the loop's thread is blocked."""
        ...

    @property
    def handover(self) -> Handover:
        """The callbacks on their way to their loops."""
        ...

    @property
    def parking(self) -> CallQueue:
        """The calls that wait for workers."""
        ...

    @property
    def references(self) -> Kept:
        """What is kept because messages refer to it."""
        ...

    def fail(self, call: Call[Any] | Receiver, error: CallError) -> None:
        """Fail a call that ends without an answer."""
        ...


class Callee(Protocol):
    """The member that a call was sent to."""

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
    def queue(self) -> int:
        """Number of calls that waited there when it last answered."""
        ...

    @property
    def pending(self) -> Mapping[int, Call[Any] | Receiver]:
        """Unanswered calls, by number."""
        ...

    def take(self, number: int) -> object:
        """Remove a call that is answered."""
        ...

    def replace(self, number: int, call: Call[Any] | Receiver) -> None:
        """Replace a call, which is known to stream now, with its receiver."""
        ...

    def forget_call(self, call: Call[Any] | Receiver) -> None:
        """Cancel a call that its caller gave up."""
        ...

    def post(self, message: Any) -> None:
        """Send it a message."""
        ...
