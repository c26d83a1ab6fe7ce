"""The calls that one process has sent to another and that were not answered, and how busy the other is because of them.

The table has one writer, this class. Others read it as `pending`. What the other process has from elsewhere is read
from the board of the machine; of one on another machine it is known whether calls waited there when it last answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

from mob.core.lanes import UNLIMITED, Lane

FULL = UNLIMITED >> 1
"""What is added to the calls that a worker of another machine has in hand if others wait for it: more than any export
runs at once that has a limit."""

C = TypeVar("C")


class Loads(Protocol):
    """How busy the mobsters of this machine are, as they say."""

    def all_in_hand(self, uid: int) -> int:
        """Return the number of all calls that one has."""
        ...

    def queued(self, uid: int) -> int:
        """Return for how many a further call would have to wait; beyond all numbers if callers wait for it."""
        ...

    def pace(self, uid: int) -> int:
        """Return what its calls take on average at the moment, in microseconds; 0 if nobody knows."""
        ...


class HasBoard(Protocol):
    """What knows the board, once this process takes part."""

    @property
    def board(self) -> Loads | None: ...


class Loss(NamedTuple):
    """A call whose worker is gone, by its number."""

    number: int
    was_sent: bool
    """The worker may have read it."""


class Account(Generic[C]):
    """The calls that a process of this machine has from this one."""

    __slots__ = ("_facts", "_pending", "beside", "lanes", "pending", "queue", "uid")

    def __init__(self, uid: int, lanes: Mapping[str, Lane], facts: HasBoard) -> None:
        self.uid: int = uid
        self.lanes: Mapping[str, Lane] = lanes
        """How its exports are run, as far as they are not run one after the other."""
        self.queue: int = 0
        """How many calls, and callers with more of them, waited there when it last answered."""
        self.beside: set[int] = set()
        """The numbers of those that hold up no other call there."""
        self._pending: dict[int, C] = {}
        self.pending: Mapping[int, C] = self._pending
        """Calls sent there and not answered, by number. For reading."""
        self._facts = facts

    is_distant = False
    """It is on another machine."""

    def add(self, number: int, call: C, target: str | int) -> None:
        """Note that a call goes there."""
        self._pending[number] = call
        lane = self.lanes.get(target)  # type: ignore[arg-type]
        if lane is not None and lane.is_beside:
            self.beside.add(number)

    def take(self, number: int) -> C | None:
        """Return the unanswered call of that number, which is none any more; None if there is no such call."""
        self.beside.discard(number)
        return self._pending.pop(number, None)

    def replace(self, number: int, call: C) -> None:
        """Have another object stand for a call, which is known to hold up no other one now."""
        self.beside.add(number)
        self._pending[number] = call

    def clear(self) -> None:
        """Forget all of them."""
        self._pending.clear()
        self.beside.clear()

    @property
    def outstanding(self) -> int:
        """Calls that it has in hand: those from here that it has not answered, and at least what the board says."""
        board, own = self._facts.board, len(self._pending)
        return own if board is None else max(own, board.all_in_hand(self.uid))

    @property
    def in_hand(self) -> int:
        """Those for whose end another call would have to wait there; beyond all numbers if callers wait already."""
        board, own = self._facts.board, len(self._pending) - len(self.beside)
        return own if board is None else max(own, board.queued(self.uid))

    @property
    def pace(self) -> int:
        """Microseconds that its calls take on average at the moment; 0 if that is not known."""
        board = self._facts.board
        return 0 if board is None else board.pace(self.uid)


class DistantAccount(Account[C]):
    """The calls that a process of another machine has from this one."""

    __slots__ = ()
    is_distant = True

    @property
    def outstanding(self) -> int:
        """Calls from here that it has not answered; beyond all numbers if others waited there when it last answered."""
        own = len(self._pending)
        return own if self.queue <= own else own + FULL

    @property
    def in_hand(self) -> int:
        """Those of them for whose end another call would have to wait; beyond all numbers, too."""
        own = len(self._pending)
        return own - len(self.beside) + (0 if self.queue <= own else FULL)

    @property
    def pace(self) -> int:
        """That is not known here."""
        return 0
