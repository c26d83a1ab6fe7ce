"""Functions that cross: what was lent to others, and the remote functions held here.

The tables and the counting are `core.callbacks`; this file connects them to encoding, to links, and to the life of
Python objects. Encoding a message notes the references in it (`encoding`, by thread, since any thread may encode);
when the message's receiver is known they are handed over to it.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

from mob.core.callbacks import Borrowed, Lent
from mob.errors import Lost
from mob.peer.results.call import Call
from mob.peer.results.streams import RemoteIterator
from mob.wire import messages as m
from mob.wire.references import AnyReference, Handle, Passage, Reference
from mob.wire.sharing import Place

if TYPE_CHECKING:
    from mob.peer.links.contacts import Contact
    from mob.peer.peer import Peer
    from mob.rim.link import Link


Function = Callable[..., Any]


class LentIterator:
    """An iterator that was handed over: what the receiver calls to draw from it."""

    __slots__ = ("iterator",)

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator

    def __call__(self) -> Any:
        return self.iterator


class RemoteFunction:
    """A function that lives in another process. Calling it sends a call there and returns a `Call`, as a proxy does.

    It is what arrives where a function was sent. `Lost` or `Unavailable` when its process has ended.

    >>> def resize(picture, progress):          # doctest: +SKIP
    ...     progress(0.5)
    """

    __slots__ = ("__weakref__", "_callbacks", "_count", "_number", "_owner")

    def __init__(self, callbacks: Callbacks, owner: int, number: int) -> None:
        self._callbacks = callbacks
        self._owner = owner
        self._number = number
        self._count = 0  # how many arrivals this object stands for

    def __call__(self, *args: Any, **kwargs: Any) -> Call[Any]:
        return self._callbacks.call(self._owner, self._number, args, kwargs)

    def __repr__(self) -> str:
        return f"<remote function {self._number} of {self._callbacks.name_of(self._owner)}>"

    def __del__(self) -> None:
        self._callbacks.dropped.append((self._owner, self._number, self._count))


class Callbacks:
    """Both ends of every function that crosses."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._context = peer.context
        self._lock = Lock()
        self._held: dict[tuple[int, int], weakref.ref[RemoteFunction]] = {}
        self.lent = Lent()
        self.borrowed = Borrowed()
        self.encoding: dict[int, list[tuple[AnyReference, Any]]] = {}
        """References in what is being encoded, by thread. Empty most of the time, and then there is nothing to do."""
        self.dropped: deque[tuple[int, int, int]] = deque()
        """(owner, number, count) of remote functions that went away; a finalizer appends, `sweep` works it off."""

    def __repr__(self) -> str:
        return f"<Callbacks {len(self.lent)} lent, {len(self._held)} held>"

    @property
    def held(self) -> int:
        """How many remote functions live here."""
        return len(self._held)

    # --------------------------------------------------------------------------------------------- sending

    def lend(self, function: Function) -> Reference:
        """The codec meets a function in what it encodes."""
        if isinstance(function, RemoteFunction):
            reference = Reference(function._owner, function._number)  # pyright: ignore[reportPrivateUsage]
        else:
            is_iterator = not callable(function)
            with self._lock:
                number = self.lent.pin(LentIterator(function) if is_iterator else function)
            reference = Reference(self._context.uid, number, is_iterator)
        self.note(reference, function)
        return reference

    def note(self, reference: AnyReference, what: Any) -> None:
        """It is in what this thread encodes."""
        self.encoding.setdefault(get_ident(), []).append((reference, what))

    def noted(self) -> list[AnyReference]:
        """What this thread has noted."""
        return [reference for reference, _ in self.encoding.get(get_ident(), ())]

    def forget(self, start: int, end: int | None = None) -> None:
        """Lets go of some of what was noted, for it will not be sent."""
        noted = list(self.take())
        self.let_go(noted[start:end])
        del noted[start:end]
        if noted:
            self.encoding[get_ident()] = noted

    def take(self) -> Passage:
        """The references in what this thread has just encoded; `let_go` of them later."""
        return self.encoding.pop(get_ident(), ())

    def hand_over(self, passage: Passage, contact: Contact, link: Link | None = None) -> None:
        """What holds these references is about to be posted to the contact: their owners count it as a holder.

        `link`: where it is posted, if that is a certain one.
        """
        handles: list[Handle] = []
        for reference, _ in passage:
            if isinstance(reference, Place):
                if not contact.is_distant:  # else it is in the message itself
                    self._peer.buffers.hold(reference, contact)
            elif isinstance(reference, Handle):
                handles.append(reference)
            elif reference.owner == self._context.uid:
                with self._lock:
                    self.lent.hold(reference.id, contact.uid)
            else:
                self._peer.contacts.look_up(reference.owner).post(m.Lend(reference.id, contact.uid))
        if handles:
            self._peer.descriptors.send(handles, link or contact)

    def let_go(self, passage: Passage) -> None:
        """What held these references was posted, or never will be."""
        for reference, _ in passage:
            if isinstance(reference, Place):
                self._peer.buffers.unpin(reference)
            elif isinstance(reference, Handle):
                self._peer.descriptors.let_go(reference)
            elif reference.owner == self._context.uid:
                with self._lock:
                    self.lent.unpin(reference.id)

    # ------------------------------------------------------------------------------------------- receiving

    def borrow(self, reference: Reference) -> Function:
        """The codec meets a reference in what it decodes: the function itself at home, a remote function elsewhere."""
        if reference.owner == self._context.uid:
            function = self.lent.get(reference.id)
            if function is None:
                raise Lost("a function of this process came back after its last holder had given it up.")
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

    def call(self, owner: int, number: int, args: Sequence[Any], kwargs: dict[str, Any]) -> Call[Any]:
        """Calls a function in the process that owns it."""
        contact = self._peer.contacts.look_up(owner)
        return self._peer.calling.call_one(contact, f"a callback of {contact.name}", number, args, kwargs)

    def name_of(self, owner: int) -> str:
        """The owner as people read it."""
        contact = self._peer.contacts.get(owner)
        return contact.name if contact else "a process that has gone"

    # --------------------------------------------------------------------------------------------- freeing

    def give_back(self, reference: Reference) -> None:
        """A function has arrived that nobody will call."""
        if reference.owner == self._context.uid:
            with self._lock:
                self.lent.release(reference.id, reference.owner, 1)
        else:
            self.dropped.append((reference.owner, reference.id, 1))

    def sweep(self) -> None:
        """Gives back to their owners what was dropped here; on the loop's thread."""
        dropped = self.dropped
        while dropped:
            owner, number, count = dropped.popleft()
            held = self._held.get((owner, number))
            if held is not None and held() is None:
                del self._held[owner, number]
            self.borrowed.drop(owner, number, count)
        for owner, counts in self.borrowed.give_back().items():
            self._peer.contacts.look_up(owner).post_lazily(m.Release(counts))

    def handle_release(self, contact: Contact, counts: dict[int, int]) -> None:
        """A holder gives references back."""
        with self._lock:
            for number, count in counts.items():
                self.lent.release(number, contact.uid, count)

    def handle_lend(self, number: int, holder: int) -> None:
        """A holder has passed a function on to another member."""
        with self._lock:
            self.lent.hold(number, holder)
        self._peer.contacts.look_up(holder)  # if it goes, the function is free

    def handle_gone(self, uid: int) -> None:
        """A member has gone: what it held is free."""
        with self._lock:
            self.lent.forget_holder(uid)
