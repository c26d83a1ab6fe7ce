"""Sockets and open files in messages: duplicated by the sender, opened by the receiver.

`rim.descriptors` knows the parts of a socket or file, `wire.references` its place in a message; this module connects
them to encoding and links. A duplicate is made in the line that sends, so the sender may close its own in the next
line. It travels before its message, on the same link, as often as the message does.

Duplicates of a message or an answer are kept until it is posted. Those of a call are kept until the worker has them,
because until then the call may have to go to another worker; those of a call that may be repeated after a crash, until
it ends. A connection ends when its last descriptor is closed, so no duplicate may outlive its use. The receiver keeps
what arrived until its message is read or dropped, or its sender ends.

Limit: a process with too many open files does not receive descriptors. Then the message cannot be read, and the error
says so.
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mob.core.states import CallState
from mob.errors import BadMessage
from mob.rim import descriptors as rim
from mob.rim.link import DESCRIPTORS, MISSING, Descriptor, Link
from mob.wire import messages as m
from mob.wire.references import Handle
from mob.wire.refusals import text_of

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.references.protocol import Counterpart, Note, Outlet
    from mob.peer.results.call import Call
    from mob.wire.references import Passage


class Descriptors:
    """Both ends of every descriptor that crosses between processes."""

    def __init__(self, context: Context, note: Note, may_repeat: Callable[[Call[Any]], bool]) -> None:
        self._context = context
        self._note = note
        self._may_repeat = may_repeat
        self._numbers = itertools.count(1)
        self._kept: dict[int, Descriptor] = {}  # by number, duplicates that may have to be sent
        self._calls: dict[int, weakref.ref[Call[Any]]] = {}  # by number, the calls to which they belong
        self._arrived: dict[tuple[int, int], int] = {}  # (owner, number) -> received and unread; may be MISSING

    def __repr__(self) -> str:
        return f"<Descriptors {len(self._kept)} kept, {len(self._arrived)} to be read>"

    def __len__(self) -> int:
        return len(self._kept) + len(self._arrived)

    # --------------------------------------------------------------------------------------------- sending

    def check(self, value: Any) -> None:
        """Raise `UnsendableValue` if it cannot be sent."""
        rim.check(value)

    def duplicate(self, value: Any) -> Handle:
        """Duplicate a socket or file that the codec found."""
        descriptor, (kind, details) = rim.duplicate(value)
        handle = Handle(self._context.uid, next(self._numbers), kind, details)
        self._kept[handle.number] = descriptor
        self._note(handle, None)
        return handle

    def accompany(self, call: Call[Any], passage: Passage) -> None:
        """Remember the call to which the handles of a passage belong."""
        if self._kept:
            known = weakref.ref(call)
            for reference, _ in passage:
                if isinstance(reference, Handle):
                    self._calls[reference.number] = known

    def hold(self, references: Sequence[Handle], holder: Counterpart, where: Outlet) -> None:
        """Send the duplicates of handles that are about to be posted there."""
        found = ((handle.number, self._kept.get(handle.number)) for handle in references)
        kept = [(number, descriptor) for number, descriptor in found if descriptor is not None]
        for start in range(0, len(kept), DESCRIPTORS):
            numbers, descriptors = zip(*kept[start : start + DESCRIPTORS], strict=True)
            where.post_with(m.Attached(numbers, numbers[0] in self._calls), descriptors)

    def unpin(self, reference: Handle) -> None:
        """Release a handle that was encoded: its message was posted for good, or never will be."""
        self._kept.pop(reference.number, None)
        self._calls.pop(reference.number, None)

    def handle_arrived(self, numbers: Sequence[int]) -> None:
        """Release what the worker has: no other one will get it, unless the call may be repeated."""
        for number in numbers:
            known = self._calls.get(number)
            call = known() if known is not None else None
            if call is None or call.state is not CallState.SENT or not self._may_repeat(call):
                self._kept.pop(number, None)

    # ------------------------------------------------------------------------------------------- receiving

    def handle_attached(self, link: Link, uid: int, message: m.Attached) -> None:
        """Keep the descriptors that arrived, for a message that follows."""
        numbers = message.numbers
        taken = link.take(len(numbers))
        for number, descriptor in itertools.zip_longest(numbers, taken, fillvalue=MISSING):
            self._drop((uid, number))  # what came on a broken link, before it was sent again
            self._arrived[uid, number] = descriptor
        if message.wants_word:
            link.post(m.Arrived(numbers))
            link.flush()  # now: the call may block this thread for as long as it has the connection

    def open(self, handle: Handle) -> Any:
        """Open the socket or file of a handle that the codec found."""
        descriptor = self._arrived.pop((handle.owner, handle.number), None)
        noun = handle.kind if handle.kind in ("socket", "connection") else "file"
        if descriptor is None:
            raise BadMessage(f"a {noun} that was sent along did not arrive here.")
        if descriptor == MISSING:
            raise BadMessage(
                f"a {noun} that was sent along was lost: this process has too many open files. The limit is "
                f"{rim.limit():,} (`ulimit -n`)."
            )
        try:
            return rim.opened(handle.kind, handle.details, descriptor)
        except Exception as failure:
            raise BadMessage(f"a {noun} that was sent along cannot be used here: {text_of(failure)}") from failure

    def give_back(self, reference: Handle) -> None:
        """Close what will not be read."""
        self._drop((reference.owner, reference.number))

    def owner_gone(self, uid: int) -> None:
        """Close what a member sent before it ended, without the messages that belong to it."""
        for key in [key for key in self._arrived if key[0] == uid]:
            self._drop(key)

    def sweep(self) -> None:
        """Do nothing: what was opened here belongs to the program, and its sender keeps nothing."""

    def close(self) -> None:
        """Close everything, at the end of a client, and in a forked child, for which none of it is meant."""
        self._kept.clear()
        self._calls.clear()
        for key in list(self._arrived):
            self._drop(key)

    def _drop(self, key: tuple[int, int]) -> None:
        descriptor = self._arrived.pop(key, MISSING)
        if descriptor != MISSING:
            os.close(descriptor)
