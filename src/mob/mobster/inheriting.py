"""What a worker leaves to its successor, and what it has got from the one before it.

`mob.on("hand_over")` says that there is something to leave. Where old and new are there together, the Kingpin asks for
it (`m.HandOver`): calls are finished, the callers have stopped to send, the handler runs, and from then on nothing is
begun any more that may change what it has returned: calls go elsewhere, messages and calls of objects wait. Either the
end follows (`m.Stop`), or the worker goes on (`m.GoOn`), with what has waited. A worker that just ends hands over when
its calls have ended, before its handlers of `stop`.

The data is encoded as a message is, with all its large buffers in it, into a file without a name in memory. The Kingpin
keeps its descriptor and gives it to the successor. So it does not matter which of them lives when.
"""

from __future__ import annotations

import asyncio
import inspect
import mmap
import os
from time import monotonic
from typing import TYPE_CHECKING, Any

from mob.core.draining import FAREWELL_TIME, LEAST
from mob.errors import BadMessage, counted, name_of
from mob.peer.complaints import shown_of
from mob.rim import places
from mob.rim.link import Descriptor
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.peer import Peer

EVENT = "hand_over"


class Heritage:
    """Both sides of it, for one mobster."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._task: asyncio.Task[None] | None = None
        self._is_given = False  # the Kingpin has it
        peer.control.on_hand_over = self._handle_asked
        peer.control.on_go_on = self._handle_go_on

    def __repr__(self) -> str:
        return f"<Heritage of {self._peer.context.name}>"

    # ------------------------------------------------------------------------------------------------ the heir

    async def take(self) -> None:
        """Get what the one before this has left, before the handlers of `start` run."""
        found: tuple[int, int] = await self._peer.control.request(EVENT, m.WantInheritance)
        fd, size = found
        if fd < 0:
            return
        try:
            self._peer.inherited = self._decoded(fd, size)
        finally:
            os.close(fd)

    def _decoded(self, fd: int, size: int) -> Any:
        with mmap.mmap(fd, size, access=mmap.ACCESS_COPY) as mapped:
            body = mapped[:]  # arrays look into it, and are this worker's own
        return self._peer.encoder.codec.decode(bytearray(body))

    # ----------------------------------------------------------------------------------------------- the giver

    def _handle_asked(self, seconds: float) -> None:
        """A successor is about to start. On the loop's thread."""
        self._task = self._peer.context.reactor.loop.create_task(self._hand_over(seconds))

    async def _hand_over(self, seconds: float) -> None:
        until = monotonic() + seconds
        serving = self._peer.serving
        serving.inviting.is_held = True
        try:
            await self._wait_for_calls(until)
            serving.inbox.hold()
            await self._give(until)
        except TimeoutError:
            hand = serving.in_hand
            why = f"{counted(hand, 'call')} still ran" if hand else "its handler still ran"
            self._tell(m.HandedOver(f"{why} after {seconds:g} s (grace)"))
        except Exception as error:  # noqa: BLE001  told
            self._tell_failed(error)

    async def _wait_for_calls(self, until: float) -> None:
        """Wait until no call is in hand, and the others have noticed that none is to come."""
        peer, farewells_until = self._peer, monotonic() + FAREWELL_TIME
        while True:
            now = monotonic()
            if now >= until:
                raise TimeoutError
            if peer.serving.in_hand:
                await peer.context.reactor.change(until)
            elif not self._has_heard_farewells() and now < farewells_until:
                await peer.context.reactor.change(farewells_until)
            else:
                return

    def _has_heard_farewells(self) -> bool:
        own = self._peer.context.uid
        return all(
            contact.heard_farewell or contact.link is None or contact.uid == own for contact in self._peer.contacts
        )

    def begin_end(self) -> None:
        """The process ends: what was held is served, but for calls of exports. On the loop's thread."""
        if self._task is not None:
            self._task.cancel()
        self._peer.serving.inbox.let_go_on(with_calls=False)

    async def give_at_end(self, seconds: float) -> None:
        """The process ends: leave what there is to leave, unless nobody follows, or it was done already."""
        control = self._peer.control
        if self._is_given or not control.may_hand_over or control.is_closed or not self._peer.handlers.of(EVENT):
            return
        try:
            await self._give(monotonic() + seconds)
        except TimeoutError:
            self._tell(m.HandedOver("its handler still ran at the end of the grace time"))
        except Exception as error:  # noqa: BLE001  told
            self._tell_failed(error)

    async def _give(self, until: float) -> None:
        """Run the handler, and give the Kingpin what it returns."""
        (handler,) = self._peer.handlers.of(EVENT)
        value = self._peer.handlers.call(handler)
        if inspect.isawaitable(value):
            value = await asyncio.wait_for(value, max(LEAST, until - monotonic()))
        body = self._encoded(value)
        with places.unnamed_file(len(body)) as file:
            file.write(body)
            file.flush()
            descriptor = Descriptor(os.dup(file.fileno()))
        self._is_given = True
        self._peer.control.post_with(m.HandedOver(size=len(body)), [descriptor])

    def _encoded(self, value: Any) -> bytes:
        """Return a value as bytes, with its large buffers; `BadMessage` for what ends with this process."""
        peer = self._peer
        body = peer.encoder.codec.encode(value, "what is handed over")
        passage = peer.references.take() if peer.references.encoding else ()
        if passage:
            peer.references.let_go(passage)
            raise BadMessage("functions, iterators, sockets and open files cannot be handed over: they end here")
        return body

    def _tell_failed(self, error: Exception) -> None:
        self._peer.handlers.report(EVENT, error)
        self._peer.context.log.error("the handler of %r failed", EVENT, exc_info=shown_of(error))
        self._tell(m.HandedOver(f"{name_of(error)}: {error}"))

    def _tell(self, message: m.HandedOver) -> None:
        self._peer.control.post(message)
        self._peer.context.reactor.flush()

    def _handle_go_on(self) -> None:
        """No successor takes the place. On the loop's thread."""
        self._is_given = False
        if self._task is not None:
            self._task.cancel()
            self._task = None
        for contact in self._peer.contacts:
            contact.heard_farewell = False
        self._peer.serving.inbox.let_go_on(with_calls=True)
        self._peer.serving.inviting.is_held = False
        self._peer.serving.invite()
