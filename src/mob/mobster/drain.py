"""Carries out the end of a mobster.

`core/draining.py` decides what is awaited, until when and in which order; the parts concerned do the work of each
stage. Other processes can be called until the links are closed, so `finally:` blocks and handlers of `stop` may do so.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Protocol

from mob.core.draining import EXIT_SECONDS, Act, DrainProgress, DrainStage, Use, WaitUntil
from mob.mobster import ending
from mob.mobster.sigterm import Sigterm
from mob.peer.peer import Peer
from mob.peer.results.call import Call
from mob.rim import connections
from mob.rim.connections import Endpoint
from mob.rim.listeners import PortSharing


class WebServer(Protocol):
    """A server of mob, which has requests to finish."""

    def begin_to_end(self, now: float, with_process: bool) -> None:
        """Accept no more connections. `with_process`: the process ends as well."""
        ...

    async def finish(self, until: float) -> None:
        """Finish the requests, by force at that time."""
        ...

    async def end(self, seconds: float) -> None:
        """End the application; `TimeoutError` if that takes longer."""
        ...


class Drain:
    """The end of one mobster, from its beginning to the last bytes on its links."""

    def __init__(
        self,
        peer: Peer,
        sharing: PortSharing,
        sigterm: Sigterm,
        is_importing: Callable[[], bool],
        hand_over: Callable[[float], Awaitable[None]],
    ) -> None:
        self._peer = peer
        self._context, self._contacts, self._control = peer.context, peer.contacts, peer.control
        self._serving, self._inviting = peer.serving, peer.serving.inviting
        self._handlers, self._hooks, self._exits = peer.handlers, peer.hooks, peer.exits
        self._sharing = sharing
        self._sigterm = sigterm
        self._is_importing = is_importing
        self._hand_over = hand_over
        self._draining: DrainProgress | None = None
        self._places: frozenset[Endpoint] = frozenset()  # the shared ports
        self._web: WebServer | None = None
        self._requests: asyncio.Future[None] | None = None  # done when the requests of mob's server are
        self._awaited: list[Call[object]] = []  # calls to other processes that handlers wait for
        self.exit: BaseException | None = None
        """Exit that a handler requested; None if none did."""

    def __repr__(self) -> str:
        return f"<Drain of {self._context.name}, {self._draining or 'not begun'}>"

    def begin(self, grace: float, web: WebServer | None, with_process: bool) -> None:
        """Begin the end: accept nothing new, and notify those who registered for it. On the loop's thread.

        `with_process`: the process ends as well.
        """
        now = monotonic()
        self._web = web
        self._places = self._sharing.turn_deaf()
        self._draining = DrainProgress(self, now, grace, has_ports=bool(self._places))
        self._sigterm.should_exit = True
        self._inviting.end()
        self._handlers.is_leaving = web is None and not self.is_importing
        if web is not None:
            web.begin_to_end(now, with_process)
        self._handlers.fire("drain")

    def wake_module(self) -> None:
        """Wake the module that blocks in its import, once no caller would miss an answer."""
        if self._draining is None or not self.is_importing:
            return
        now = monotonic()
        until = self._draining.wakes_module_at(now)
        if until > now:
            self._context.reactor.loop.call_later(max(0.001, until - now), self.wake_module)
        else:
            self._sigterm.wake()

    async def run(self) -> None:
        """Carry out all stages; the last one closes the links."""
        draining = self._draining
        assert draining is not None, "run before begin"
        while True:
            match draining.decide(monotonic()):
                case WaitUntil(until):
                    await self._context.reactor.change(None if math.isinf(until) else until)
                case Act(stage, seconds):
                    try:
                        await self._carry_out(stage, seconds, draining)
                    except Exception:
                        self._context.log.exception(
                            "%r failed while this process was ending; continuing with the next stage", stage
                        )
                case _:
                    return

    def seconds_at_exit(self) -> float:
        """Return the number of seconds for threads and `atexit`."""
        return EXIT_SECONDS if self._draining is None else self._draining.seconds_at_exit(monotonic())

    async def _carry_out(self, stage: DrainStage, seconds: float, draining: DrainProgress) -> None:
        log = self._context.log
        match stage:
            case DrainStage.SIGNAL:
                self._sigterm.pass_on(log)
                self._finish_requests(draining.requests_until)
                self._awaited = self._contacts.unanswered() if self._handlers.has_standing else []
            case DrainStage.REQUESTS:
                await self._end_web(seconds)
            case DrainStage.DRAIN:
                await self._handlers.finish_drain(seconds)
            case DrainStage.STANDING:
                await self._handlers.end_standing(seconds)
            case DrainStage.STOP:
                began = monotonic()
                await self._hand_over(seconds)
                asked = await self._handlers.run_stop(max(0.0, seconds - (monotonic() - began)))
                self.exit = self._exits.asked or asked
            case DrainStage.TASKS:
                self._peer.begin_no_more()  # else the end of each task would start the next one, to be cancelled too
                self._serving.cancel_all()
                await ending.end_tasks(seconds, log, self._serving.cancelling)
            case DrainStage.ERRORS:
                await self._hooks.finish(seconds)
            case DrainStage.LINKS:
                self._peer.leave()
            case _:
                pass

    def _finish_requests(self, until: float) -> None:
        """Let their connections end while calls are still finished.

        Messages are received until then, because answers may depend on them.
        """
        if self._web is None:
            self._handle_finished()
        else:
            self._requests = asyncio.ensure_future(self._web.finish(until))
            self._requests.add_done_callback(self._handle_finished)

    def _handle_finished(self, requests: object = None) -> None:
        self._handlers.is_leaving = True
        self._context.reactor.note()

    async def _end_web(self, seconds: float) -> None:
        if self._web is None or self._requests is None:
            return
        try:
            await self._requests
            await self._web.end(seconds)
        except TimeoutError:
            self._context.log.error("the application's lifespan did not end within the grace period (grace)")
        except Exception:
            self._context.log.exception("the application's lifespan failed at its end")

    # ---------------------------------------------------------------------------- what `core.draining` asks about

    @property
    def is_importing(self) -> bool:
        """True if the module blocks in its import."""
        return self._is_importing()

    @property
    def finishes_by_itself(self) -> bool:
        """True if a server of the module handles SIGTERM."""
        return self._sigterm.is_the_roles

    @property
    def is_exit_asked(self) -> bool:
        """True if a handler called sys.exit()."""
        return self._exits.asked is not None

    @property
    def awaits_answers(self) -> bool:
        """True if calls that handlers wait for are still open."""
        return not all(call.done() for call in self._awaited)

    @property
    def in_hand(self) -> int:
        """Number of calls and messages that are not finished."""
        return self._serving.in_hand

    @property
    def has_heard_farewells(self) -> bool:
        """True if nothing more can arrive from other processes."""
        return self._control.is_closed or all(
            contact.heard_farewell or contact.link is None or contact.uid == self._context.uid
            for contact in self._contacts
        )

    @property
    def has_requests(self) -> bool:
        """True if requests are still being finished."""
        return self._requests is not None and not self._requests.done()

    def uses(self) -> Iterable[Use]:
        """Return how the connections at shared ports are used."""
        return connections.uses(self._places)
