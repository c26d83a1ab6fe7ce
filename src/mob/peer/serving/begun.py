"""Notes on the board which calls begin here: if this process dies, the other calls go to other workers by themselves.

A call has begun when its function, or any other code of the application that serves it, may have been entered. A call
that waits for its turn with decoded arguments has not begun. While they are decoded it counts as begun, because the
decoding itself may crash the process, and the next worker should be spared that.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from threading import Lock
from typing import TYPE_CHECKING, Any

from mob.errors import Lost
from mob.peer.links.served import SERVED
from mob.rim.begun import MOST_RUNNING, BegunRow

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.links.contact import Contact
    from mob.peer.links.contacts import Contacts


class Begun:
    """The notes of this process. `has_threads`: calls begin in several threads."""

    __slots__ = ("_apart", "_contacts", "_context", "_places", "_writing", "notes_running")

    def __init__(self, context: Context, contacts: Contacts, has_threads: bool) -> None:
        self._context = context
        self._contacts = contacts
        self.notes_running: bool = False
        """True if calls of the exports made from now on can be killed: the board then shows what runs."""
        self._places = list(range(MOST_RUNNING))
        self._writing: AbstractContextManager[object] = Lock() if has_threads else nullcontext()
        self._apart = BegunRow.apart()  # of callers without a row on the board

    def __repr__(self) -> str:
        return f"<Begun of {self._context.name}>"

    def row_of(self, contact: Contact) -> BegunRow:
        """Return the row in which the calls of a caller are noted."""
        row = contact.begun
        if row is None:
            board = self._context.board
            if board is not None and self._context.role and not contact.is_distant:
                row = board.begun.take_row(self._context.uid, contact.uid, self._contacts.get)
            row = contact.begun = row or self._apart
        return row

    def note(self, contact: Contact, number: int) -> None:
        """Note that a call begins now; from any thread."""
        with self._writing:
            self.row_of(contact).begin(number)

    def begin(self, contact: Contact, number: int) -> bool:
        """Note that a call begins now; return False if it must not, because its caller has taken it back."""
        self.note(contact, number)
        return not self.row_of(contact).is_taken_back(number)

    def end(self, contact: Contact, number: int) -> None:
        """Note that a call ended without running, or a kill would wait for it to run; from any thread."""
        with self._writing:
            self.row_of(contact).end(number)

    def decode(self, contact: Contact, number: int) -> None:
        """Note that the arguments of a call are decoded that begins later; 0 afterwards. On the loop's thread."""
        self.row_of(contact).decode(number)

    def noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a plain function that notes which of its calls runs, and does not run a revoked one."""

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            served, board, places = SERVED.get(), self._context.board, self._places
            call = None if served is None else served[1]
            if board is None or served is None or call is None or call.id < 0 or not places:
                return function(*args, **kwargs)
            uid, place = self._context.uid, places.pop()
            try:
                if not board.begun.enter(uid, place, served[0].uid, call.id):
                    raise Lost(f"{call.target} was cancelled before it began.", executed="no")
                return function(*args, **kwargs)
            finally:
                self.row_of(served[0]).end(call.id)
                board.begun.leave(uid, place)
                places.append(place)

        return run
