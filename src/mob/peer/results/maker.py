"""What a call needs of its surroundings: the process that has made it, and the member that it was sent to.

Both come from rooms above, so here they are protocols, as small as what is used.
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
    """Where calls wait for workers."""

    def forget(self, call: Call[Any]) -> None:
        """A call that waits has ended; on any thread."""
        ...


class Kept(Protocol):
    """What is kept for others because messages refer to it."""

    def let_go(self, passage: Passage) -> None:
        """A message is not under way any more."""
        ...


class Maker(Protocol):
    """The process that makes calls."""

    @property
    def context(self) -> Context: ...
    @property
    def blocking(self) -> Blocking: ...
    @property
    def handover(self) -> Handover: ...
    @property
    def parking(self) -> CallQueue: ...
    @property
    def references(self) -> Kept: ...
    def fail(self, call: Call[Any] | Receiver, error: CallError) -> None:
        """A call ends without an answer."""
        ...


class Callee(Protocol):
    """The member that a call was sent to."""

    @property
    def uid(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def is_distant(self) -> bool: ...
    @property
    def queue(self) -> int:
        """How many calls waited there when it last answered."""
        ...

    @property
    def pending(self) -> Mapping[int, Call[Any] | Receiver]:
        """What it has not answered, by number."""
        ...

    def take(self, number: int) -> object:
        """A call is answered."""
        ...

    def replace(self, number: int, call: Call[Any] | Receiver) -> None:
        """Something else stands for a call, which is known to stream now."""
        ...

    def forget_call(self, call: Call[Any] | Receiver) -> None:
        """The caller gives a call up."""
        ...

    def post(self, message: Any) -> None:
        """Say something to it."""
        ...
