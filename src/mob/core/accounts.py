"""The calls that one process sent to another and that were not answered, and how busy the other is because of them.

This class is the only writer of the table. Others read it as `pending`. Calls that the other process has from elsewhere
are read from the board of the machine; of a process on another machine it is known whether calls waited there when it
last answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

from mob.core.lanes import UNLIMITED, Lane

FULL = UNLIMITED >> 1
"""Number added to the calls in hand of a worker on another machine if others wait for it.

It is greater than the limit of any export that has one.
"""

C = TypeVar("C")


class Loads(Protocol):
    """The load of the mobsters of this machine, as they report it."""

    def all_in_hand(self, uid: int) -> int:
        """Return the number of all calls that a mobster has."""
        ...

    def queued(self, uid: int) -> int:
        """Return how many calls a further one would have to wait for; huge if callers wait for it."""
        ...

    def pace(self, uid: int) -> int:
        """Return the average microseconds that its calls take at the moment; 0 if unknown."""
        ...


class HasBoard(Protocol):
    """An object that knows the board, once this process takes part."""

    @property
    def board(self) -> Loads | None:
        """The board of this machine."""
        ...


class Loss(NamedTuple):
    """A call whose worker died, by its number."""

    number: int
    was_sent: bool
    """True if the worker may have read it."""


class Account(Generic[C]):
    """The calls that a process of this machine has from this one."""

    __slots__ = ("_facts", "_pending", "beside", "lanes", "pending", "queue", "uid")

    def __init__(self, uid: int, lanes: Mapping[str, Lane], facts: HasBoard) -> None:
        self.uid: int = uid
        self.lanes: Mapping[str, Lane] = lanes
        """How its exports run, for those that do not run one by one."""
        self.queue: int = 0
        """Number of calls, and of callers with more of them, that waited there when it last answered."""
        self.beside: set[int] = set()
        """The numbers of calls that block no other call there."""
        self._pending: dict[int, C] = {}
        self.pending: Mapping[int, C] = self._pending
        """Calls sent there and not answered, by number. Read-only."""
        self._facts = facts

    is_distant = False
    """True if it is on another machine."""

    def add(self, number: int, call: C, target: str | int) -> None:
        """Note that a call is sent there."""
        self._pending[number] = call
        lane = self.lanes.get(target)  # type: ignore[arg-type]
        if lane is not None and lane.is_beside:
            self.beside.add(number)

    def take(self, number: int) -> C | None:
        """Remove and return the unanswered call of that number; None if there is no such call."""
        self.beside.discard(number)
        return self._pending.pop(number, None)

    def replace(self, number: int, call: C) -> None:
        """Replace the object of a call, which is now known to block no other one."""
        self.beside.add(number)
        self._pending[number] = call

    def clear(self) -> None:
        """Forget all calls."""
        self._pending.clear()
        self.beside.clear()

    @property
    def outstanding(self) -> int:
        """Number of calls in hand: those from here that are unanswered, and at least what the board says."""
        board, own = self._facts.board, len(self._pending)
        return own if board is None else max(own, board.all_in_hand(self.uid))

    @property
    def in_hand(self) -> int:
        """Number of calls that another call would have to wait for there; huge if callers wait already."""
        board, own = self._facts.board, len(self._pending) - len(self.beside)
        return own if board is None else max(own, board.queued(self.uid))

    @property
    def pace(self) -> int:
        """Average microseconds that its calls take at the moment; 0 if unknown."""
        board = self._facts.board
        return 0 if board is None else board.pace(self.uid)


class DistantAccount(Account[C]):
    """The calls that a process of another machine has from this one."""

    __slots__ = ()
    is_distant = True

    @property
    def outstanding(self) -> int:
        """Number of unanswered calls from here; huge if others waited there when it last answered."""
        own = len(self._pending)
        return own if self.queue <= own else own + FULL

    @property
    def in_hand(self) -> int:
        """Number of calls that another call would have to wait for; huge if others waited there."""
        own = len(self._pending)
        return own - len(self.beside) + (0 if self.queue <= own else FULL)

    @property
    def pace(self) -> int:
        """Always 0: it is unknown here."""
        return 0
