"""All references of a process: functions, objects, large buffers, sockets and files, behind one interface.

Strategy. Each kind (`protocol.Crossing`) handles its references: `functions`, `buffers`, `descriptors`. This module
picks the kind. Objects (`objects`) are counted as functions. Encoding a message notes the references in it, by thread,
because any thread may encode. The thread takes them as the message's *passage*: it is handed over to each receiver just
before the message is posted, and released when all receivers have it, or when none will get it.

Limits. It does not handle bodies; `encoding` does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any

from mob.core.callbacks import Function
from mob.peer.references.buffers import Buffers
from mob.peer.references.descriptors import Descriptors
from mob.peer.references.functions import CallFunction, Functions
from mob.peer.references.objects import CallMethod, Objects
from mob.wire import messages as m
from mob.wire.references import AnyReference, Handle, Passage, Reference
from mob.wire.sharing import BufferLocation

if TYPE_CHECKING:
    from mob.peer.context import Context
    from mob.peer.references.protocol import Counterpart, Counterparts, Crossing, Outlet, Replaced
    from mob.peer.results.call import Call
    from mob.rim.link import Link

AboutReferences = m.Release | m.Lend | m.SharedPool | m.Unpooled | m.Freed | m.Passed | m.Attached | m.Arrived
"""Messages between members about references."""


class References:
    """The references of one process, of all kinds."""

    def __init__(
        self,
        context: Context,
        others: Counterparts,
        shared_memory: int,
        call: CallFunction,
        may_repeat: Callable[[Call[Any]], bool],
        call_method: CallMethod,
    ) -> None:
        self.functions: Functions = Functions(context, others, self.note, call)
        self.objects: Objects = Objects(context, self.functions, call_method, self.set_aside)
        self.buffers: Buffers = Buffers(context, others, self.note, shared_memory)
        self.descriptors: Descriptors = Descriptors(context, self.note, may_repeat)
        self._kinds: dict[type[AnyReference], Crossing[Any]] = {
            Reference: self.functions,  # of objects, too
            BufferLocation: self.buffers,
            Handle: self.descriptors,
        }
        self.lent: Callable[[int], Function | None] = self.functions.lent.get
        """Returns the function of this process with that number, if it may still be called."""
        self.encoding: dict[int, list[tuple[AnyReference, Any]]] = {}
        """References in what is being encoded, by thread; empty most of the time, which makes everything cheap."""

    def __repr__(self) -> str:
        return f"<References: {self.functions}, {self.buffers}, {self.descriptors}>"

    def statistics(self) -> dict[str, int]:
        """Return the sizes of the tables; all are small again when nothing is under way."""
        return {
            "lent": len(self.functions.lent),
            "held": self.functions.held,
            "shared": self.shared,
            "views": self.views,
            "descriptors": len(self.descriptors),
        }

    @property
    def shared(self) -> int:
        """Bytes of shared memory that another process may still read."""
        return self.buffers.used

    @property
    def views(self) -> int:
        """Number of views of other processes' buffers that exist here."""
        return self.buffers.views

    def lent_to(self) -> list[tuple[Function, dict[int, int]]]:
        """Return each function that was lent, with the number of references by the uid of the holder."""
        return self.functions.lent.held()

    # --------------------------------------------------------------------------------------------- a passage

    def note(self, reference: AnyReference, what: Any) -> None:
        """Note a reference, and the thing that it stands for, along with what this thread encodes."""
        self.encoding.setdefault(get_ident(), []).append((reference, what))

    def noted(self) -> list[AnyReference]:
        """Return what this thread has noted."""
        return [reference for reference, _ in self.encoding.get(get_ident(), ())]

    def forget(self, start: int, end: int | None = None) -> None:
        """Release some of what this thread noted, because it will not be sent."""
        noted = list(self.take())
        self.let_go(noted[start:end])
        del noted[start:end]
        if noted:
            self.encoding[get_ident()] = noted

    def take(self) -> Passage:
        """Return the references in what this thread has just encoded; `let_go` releases them later."""
        return self.encoding.pop(get_ident(), ())

    @contextmanager
    def set_aside(self) -> Generator[None]:
        """Let this thread encode other things meanwhile."""
        ident = get_ident()
        noted = self.encoding.pop(ident, None)
        try:
            yield
        finally:
            if noted is not None:
                self.encoding[ident] = noted

    def accompany(self, call: Call[Any], passage: Passage) -> None:
        """Remember the call to which a passage belongs."""
        self.descriptors.accompany(call, passage)

    def hand_over(self, passage: Passage, holder: Counterpart, where: Outlet | None = None) -> Replaced | None:
        """Count a member as a holder, because a message with this passage is about to be posted to it.

        `where` is the link on which it is posted, if that is a particular one. Return the replacements that the message
        needs first (`Encoder.replaced`).
        """
        replaced: Replaced | None = None
        for kind, place in self._kinds.items():
            found = [reference for reference, _ in passage if reference.__class__ is kind]
            if found:
                replaced = place.hold(found, holder, where or holder) or replaced
        return replaced

    def let_go(self, passage: Passage) -> None:
        """Release what was posted, or never will be."""
        for reference, _ in passage:
            self._kinds[reference.__class__].unpin(reference)

    # ------------------------------------------------------------------------------------------- freeing

    def give_back(self, reference: AnyReference) -> None:
        """Free a reference that arrived and will not be read; from any thread."""
        self._kinds[reference.__class__].give_back(reference)

    def owner_gone(self, uid: int) -> None:
        """Forget a member that ended: what it held, and what it sent that is unread."""
        for kind in self._kinds.values():
            kind.owner_gone(uid)

    @property
    def is_untidy(self) -> bool:
        """True if finalizers have left something to `sweep`."""
        return bool(self.functions.dropped or self.buffers.dropped)

    def sweep(self) -> None:
        """Give back to their owners the things that the program dropped here; on the loop's thread."""
        for kind in self._kinds.values():
            kind.sweep()

    def cool(self, now: float) -> None:
        """Return idle shared memory to the system; must be called regularly."""
        self.buffers.cool(now)

    def abandon(self) -> None:
        """Close what belongs to the parent, in a forked child."""
        self.descriptors.close()

    def close(self) -> None:
        """Stop sending and receiving references."""
        self.descriptors.close()
        self.buffers.close()

    # ------------------------------------------------------------------------------------- what members say

    def handle(self, link: Link, holder: Counterpart, message: AboutReferences) -> None:
        """Handle a message of a member about references."""
        match message:
            case m.Release(counts=counts):
                self.functions.handle_release(holder.uid, counts)
            case m.Lend(id=number, holder=uid):
                self.functions.handle_lend(number, uid)
            case m.SharedPool(size=size, owner=owner):
                self.buffers.handle_pool(holder, link.take(1), size, owner or holder.uid)
            case m.Unpooled(owner=owner):
                self.buffers.handle_unpooled(holder.uid, owner)
            case m.Passed(counts=counts, holder=uid):
                self.buffers.handle_passed(counts, uid)
            case m.Freed(counts=counts):
                self.buffers.handle_freed(holder.uid, counts)
            case m.Attached():
                self.descriptors.handle_attached(link, holder.uid, message)
            case m.Arrived(numbers=numbers):
                self.descriptors.handle_arrived(numbers)
