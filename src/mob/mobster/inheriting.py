"""What a worker leaves to its successor, and what it gets from its predecessor.

`mob.on("hand_over")` declares that there is something to leave. If the old and the new worker exist at the same time,
the Kingpin requests it (`m.HandOver`): calls are finished, callers stop sending, and the handler runs. From then on
nothing is started that could change what the handler returned: calls go elsewhere; messages and calls of objects wait.
Then either the worker ends (`m.Stop`), or it continues (`m.GoOn`), with everything that waited. A worker that ends
without such a request hands over when its calls have ended, before its handlers of `stop`.

The data is encoded like a message, including all large buffers, into an unnamed file in memory. The Kingpin keeps its
descriptor and gives it to the successor. So it does not matter which of the two exists when.
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
    """The handover of one mobster, as giver and as heir."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._task: asyncio.Task[None] | None = None
        self._is_given = False  # True when the Kingpin has the data
        peer.control.on_hand_over = self._handle_asked
        peer.control.on_go_on = self._handle_go_on

    def __repr__(self) -> str:
        return f"<Heritage of {self._peer.context.name}>"

    # ------------------------------------------------------------------------------------------------ the heir

    async def take(self) -> None:
        """Get what the predecessor left, before the handlers of `start` run."""
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
            body = mapped[:]  # arrays refer to it, and belong to this worker
        return self._peer.encoder.codec.decode(bytearray(body))

    # ----------------------------------------------------------------------------------------------- the giver

    def _handle_asked(self, seconds: float) -> None:
        """Hand over, because a successor is about to start. On the loop's thread."""
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
            why = f"{counted(hand, 'call')} still running" if hand else "its handler was still running"
            self._tell(m.HandedOver(f"{why} after {seconds:g} s (grace)"))
        except Exception as error:  # noqa: BLE001  any exception is reported
            self._tell_failed(error)

    async def _wait_for_calls(self, until: float) -> None:
        """Wait until no call is in hand, and callers have noticed that they must not send more."""
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
        """Serve what was held, except calls of exports, because the process ends. On the loop's thread."""
        if self._task is not None:
            self._task.cancel()
        self._peer.serving.inbox.let_go_on(with_calls=False)

    async def give_at_end(self, seconds: float) -> None:
        """Hand over at the end of the process, unless there is no successor or it was done already."""
        control = self._peer.control
        if self._is_given or not control.may_hand_over or control.is_closed or not self._peer.handlers.of(EVENT):
            return
        try:
            await self._give(monotonic() + seconds)
        except TimeoutError:
            self._tell(m.HandedOver("its handler was still running at the end of the grace period (grace)"))
        except Exception as error:  # noqa: BLE001  any exception is reported
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
        """Return a value as bytes, with its large buffers; `BadMessage` for objects that end with this process."""
        peer = self._peer
        body = peer.encoder.codec.encode(value, "what is handed over")
        passage = peer.references.take() if peer.references.encoding else ()
        if passage:
            peer.references.let_go(passage)
            raise BadMessage(
                "functions, iterators, sockets and open files cannot be handed over: they end with this process"
            )
        return body

    def _tell_failed(self, error: Exception) -> None:
        self._peer.handlers.report(EVENT, error)
        self._peer.context.log.error("the handler of %r failed", EVENT, exc_info=shown_of(error))
        self._tell(m.HandedOver(f"{name_of(error)}: {error}"))

    def _tell(self, message: m.HandedOver) -> None:
        self._peer.control.post(message)
        self._peer.context.reactor.flush()

    def _handle_go_on(self) -> None:
        """Continue, because no successor takes the place. On the loop's thread."""
        self._is_given = False
        if self._task is not None:
            self._task.cancel()
            self._task = None
        for contact in self._peer.contacts:
            contact.heard_farewell = False
        self._peer.serving.inbox.let_go_on(with_calls=True)
        self._peer.serving.inviting.is_held = False
        self._peer.serving.invite()
