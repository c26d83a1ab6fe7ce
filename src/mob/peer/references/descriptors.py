"""Sockets and open files that cross: duplicated where they are sent, opened anew where they arrive.

What a socket or a file consists of is `rim.descriptors`, its place in a message is `wire.references`; this file
connects them to encoding and to links. A duplicate is made in the line that sends, so the sender may close its own in
the next. It travels in front of its message, on the same link, as often as the message does.

How long duplicates are kept. Those of a message or an answer until it is posted. Those of a call until the callee has
them, for until then it may have to go to another worker; of a call that may be repeated after a death, until it has
ended. A connection ends when its last descriptor is closed, so no duplicate may outlive its use. The receiver keeps
what has arrived until its message is read, or is dropped, or its sender has gone.

Limit: with too many files open a process is not given what is sent to it. Then the message cannot be read, and says so.
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
    """Both ends of every descriptor that crosses."""

    def __init__(self, context: Context, note: Note, may_repeat: Callable[[Call[Any]], bool]) -> None:
        self._context = context
        self._note = note
        self._may_repeat = may_repeat
        self._numbers = itertools.count(1)
        self._kept: dict[int, Descriptor] = {}  # duplicates that may have to be sent, by number
        self._calls: dict[int, weakref.ref[Call[Any]]] = {}  # the calls in which they are, if it is one
        self._arrived: dict[tuple[int, int], int] = {}  # (owner, number) -> received and not read; perhaps MISSING

    def __repr__(self) -> str:
        return f"<Descriptors {len(self._kept)} kept, {len(self._arrived)} to be read>"

    def __len__(self) -> int:
        return len(self._kept) + len(self._arrived)

    # --------------------------------------------------------------------------------------------- sending

    def check(self, value: Any) -> None:
        """Raise `UnsendableValue` if it cannot be handed over."""
        rim.check(value)

    def duplicate(self, value: Any) -> Handle:
        """Duplicate a socket or a file that the codec meets in what it encodes."""
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
        """Let go of a handle that was encoded: its message was posted for good, or never will be."""
        self._kept.pop(reference.number, None)
        self._calls.pop(reference.number, None)

    def handle_arrived(self, numbers: Sequence[int]) -> None:
        """Let go of what the callee has: nobody else will get it, unless the call may be repeated."""
        for number in numbers:
            known = self._calls.get(number)
            call = known() if known is not None else None
            if call is None or call.state is not CallState.SENT or not self._may_repeat(call):
                self._kept.pop(number, None)

    # ------------------------------------------------------------------------------------------- receiving

    def handle_attached(self, link: Link, uid: int, message: m.Attached) -> None:
        """Keep the descriptors that have come, for a message that follows."""
        numbers = message.numbers
        taken = link.take(len(numbers))
        for number, descriptor in itertools.zip_longest(numbers, taken, fillvalue=MISSING):
            self._drop((uid, number))  # what came on a link that has broken, before it was sent anew
            self._arrived[uid, number] = descriptor
        if message.wants_word:
            link.post(m.Arrived(numbers))
            link.flush()  # now: the call may block this thread for as long as it has the connection

    def open(self, handle: Handle) -> Any:
        """Open the socket or file of a handle that the codec meets in what it decodes."""
        descriptor = self._arrived.pop((handle.owner, handle.number), None)
        noun = handle.kind if handle.kind in ("socket", "connection") else "file"
        if descriptor is None:
            raise BadMessage(f"a {noun} that was sent along has not arrived here.")
        if descriptor == MISSING:
            raise BadMessage(
                f"a {noun} that was sent along was lost: this process has too many files open. It may have "
                f"{rim.limit():,} (`ulimit -n`)."
            )
        try:
            return rim.opened(handle.kind, handle.details, descriptor)
        except Exception as failure:
            raise BadMessage(f"a {noun} that was sent along is of no use here: {text_of(failure)}") from failure

    def give_back(self, reference: Handle) -> None:
        """Close what nobody will read."""
        self._drop((reference.owner, reference.number))

    def owner_gone(self, uid: int) -> None:
        """Close what a member has sent last and has gone before the messages of it: they will not follow."""
        for key in [key for key in self._arrived if key[0] == uid]:
            self._drop(key)

    def sweep(self) -> None:
        """Do nothing: what was opened here belongs to the program, and its sender keeps nothing."""

    def close(self) -> None:
        """Close everything, at the end of a client, and in the child of a fork, for which none of it is meant."""
        self._kept.clear()
        self._calls.clear()
        for key in list(self._arrived):
            self._drop(key)

    def _drop(self, key: tuple[int, int]) -> None:
        descriptor = self._arrived.pop(key, MISSING)
        if descriptor != MISSING:
            os.close(descriptor)
