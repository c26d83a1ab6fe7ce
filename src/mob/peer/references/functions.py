"""Functions in messages: what was lent to others, and the remote functions held here.

`core.callbacks` has the tables and the counts; this module connects them to encoding, to other members, and to the
lifetime of Python objects.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from mob.core.callbacks import Borrowed, Function, Lent
from mob.errors import Lost
from mob.peer.results.streams import RemoteIterator
from mob.wire import messages as m
from mob.wire.references import Reference

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.references.protocol import Counterpart, Counterparts, Note, Outlet
    from mob.peer.results.call import Call

CallFunction = Callable[[int, int, Sequence[Any], dict[str, Any]], "Call[Any]"]
"""(owner, number, args, kwargs) -> the call of a function in the process that owns it."""


class LentIterator:
    """An iterator that was sent; the receiver calls it to draw items."""

    __slots__ = ("iterator",)

    def __init__(self, iterator: Any) -> None:
        self.iterator: Any = iterator

    def __call__(self) -> Any:
        """Return the iterator to draw from."""
        return self.iterator


class RemoteFunction:
    """A function that lives in another process; calling it sends a call there and returns a `Call`.

    It arrives where a function was sent. Calls fail with `Lost` or `Unavailable` when its process ended.

    >>> def resize(picture, progress):          # doctest: +SKIP
    ...     progress(0.5)
    """

    __slots__ = ("__weakref__", "_count", "_functions", "_number", "_owner")

    def __init__(self, functions: Functions, owner: int, number: int) -> None:
        self._functions = functions
        self._owner = owner
        self._number = number
        self._count = 0  # number of arrivals that this object represents

    def __call__(self, *args: Any, **kwargs: Any) -> Call[Any]:
        """Send the call."""
        return self._functions.call(self._owner, self._number, args, kwargs)

    def __repr__(self) -> str:
        return f"<remote function {self._number} of {self._functions.name_of(self._owner)}>"

    def __del__(self) -> None:
        self._functions.dropped.append((self._owner, self._number, self._count))


class Functions:
    """Both ends of every function that crosses between processes."""

    def __init__(self, context: Context, others: Counterparts, note: Note, call: CallFunction) -> None:
        self._context = context
        self._others = others
        self._note = note
        self.call = call
        self.name_of: Callable[[int], str] = others.name_of
        self._lock = Lock()
        self._held: dict[tuple[int, int], weakref.ref[RemoteFunction]] = {}
        self.lent: Lent = Lent()
        self.borrowed: Borrowed = Borrowed()
        self.dropped: deque[tuple[int, int, int]] = deque()
        """(owner, number, count) of remote functions that were freed; a finalizer appends, `sweep` processes them."""

    def __repr__(self) -> str:
        return f"<Functions {len(self.lent)} lent, {len(self._held)} held>"

    @property
    def held(self) -> int:
        """Number of remote functions that exist here."""
        return len(self._held)

    # --------------------------------------------------------------------------------------------- sending

    def lend(self, function: Function) -> Reference:
        """Return a reference to a function that the codec found."""
        if isinstance(function, RemoteFunction):
            reference = Reference(function._owner, function._number)  # pyright: ignore[reportPrivateUsage]
        else:
            is_iterator = not callable(function)
            with self._lock:
                number = self.lent.pin(LentIterator(function) if is_iterator else function)
            reference = Reference(self._context.uid, number, is_iterator)
        self._note(reference, function)
        return reference

    def hold(self, references: Sequence[Reference], holder: Counterpart, where: Outlet) -> None:
        """Count a member as a holder, here or at their owners, of references that are about to be posted to it."""
        for reference in references:
            if reference.owner == self._context.uid:
                with self._lock:
                    self.lent.hold(reference.id, holder.uid)
            else:
                self._others.look_up(reference.owner).post(m.Lend(reference.id, holder.uid))

    def unpin(self, reference: Reference) -> None:
        """Release a reference that was encoded: its messages were posted, or never will be."""
        if reference.owner == self._context.uid:
            with self._lock:
                self.lent.unpin(reference.id)

    # ------------------------------------------------------------------------------------------- receiving

    def borrow(self, reference: Reference) -> Function:
        """Return the function of a reference: the function itself in its own process, otherwise a remote function."""
        if reference.owner == self._context.uid:
            function = self.lent.get(reference.id)
            if function is None:
                raise Lost("a function of this process came back after its last holder released it.")
            with self._lock:
                self.lent.release(reference.id, self._context.uid, 1)
            return function.iterator if isinstance(function, LentIterator) else function
        key = (reference.owner, reference.id)
        held = self._held.get(key)
        remote = held() if held is not None else None
        if remote is None:
            remote = RemoteFunction(self, *key)
            self._held[key] = weakref.ref(remote)
        remote._count += 1  # pyright: ignore[reportPrivateUsage]
        return RemoteIterator(remote) if reference.is_stream else remote  # type: ignore[return-value]

    # --------------------------------------------------------------------------------------------- freeing

    def give_back(self, reference: Reference) -> None:
        """Free a function that arrived and will not be called."""
        if reference.owner == self._context.uid:
            with self._lock:
                self.lent.release(reference.id, reference.owner, 1)
        else:
            self.dropped.append((reference.owner, reference.id, 1))

    def sweep(self) -> None:
        """Give back to their owners the remote functions that were freed here; on the loop's thread."""
        dropped = self.dropped
        while dropped:
            owner, number, count = dropped.popleft()
            held = self._held.get((owner, number))
            if held is not None and held() is None:
                del self._held[owner, number]
            self.borrowed.drop(owner, number, count)
        for owner, counts in self.borrowed.give_back().items():
            self._others.look_up(owner).post_lazily(m.Release(counts))

    def handle_release(self, uid: int, counts: dict[int, int]) -> None:
        """Count what a holder gives back."""
        with self._lock:
            for number, count in counts.items():
                self.lent.release(number, uid, count)

    def handle_lend(self, number: int, holder: int) -> None:
        """Count a member as a holder, because another one passed a function on to it."""
        with self._lock:
            self.lent.hold(number, holder)
        self._others.look_up(holder)  # the function is freed when it ends

    def owner_gone(self, uid: int) -> None:
        """Free what a member held that ended."""
        with self._lock:
            self.lent.forget_holder(uid)
