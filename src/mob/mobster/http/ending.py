"""The end of a worker's connections: which are closed when, and which requests are cancelled.

From the beginning of the shutdown each response says `Connection: close`. `core/draining.py` (`Visitors`) decides when
responses without an end are ended and silent connections closed. Requests under way are finished while there is time;
then they are cancelled, with a 503 response if none has begun.

Limit: a request that is sent at the very moment when its silent connection is closed gets no response. It was not read,
so the client can repeat it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from time import monotonic
from typing import Any

import h11

from mob.core.draining import BROKEN_OFF, VISITOR_LOOK, Use, Visitors, VisitorStep, WaitUntil
from mob.mobster.http import heads
from mob.mobster.http.exchanges import REFUSAL, Exchange, Exchanges
from mob.rim import connections

NAMED = 3
"""Maximum number of cancelled requests that the log names."""


class Ending:
    """The end of one server. `state` has the connections and tasks; `news` is set when they change."""

    def __init__(self, state: Any, news: asyncio.Event, exchanges: Exchanges, stream_grace: float | None) -> None:
        self._state = state
        self._news = news
        self._exchanges = exchanges
        self._visitors = Visitors(stream_grace)
        self._silent_since: dict[Any, float] = {}  # connections without a request under way
        self._closed: set[Any] = set()  # connections that were asked to close
        self._given_up: set[Any] = set()  # tasks that swallow their cancellation

    def __repr__(self) -> str:
        return f"<Ending{'' if self.has_begun else ', not begun'}, {len(self._closed)} closed>"

    @property
    def has_begun(self) -> bool:
        """True if each response is the last one on its connection."""
        return self._visitors.has_begun

    def begin(self, now: float) -> None:
        """Make each response the last one on its connection, also those of requests under way."""
        self._visitors.begin(now)
        self._exchanges.make_last()
        self._silent_since = {each: now for each in self._state.connections if _is_silent(each)}

    async def finish(self, last: float) -> None:
        """Wait until no connection and no request is left; end what is left at that time by force."""
        while (now := monotonic()) < last and (self._is_in_use or now < self._visitors.settled_at):
            self._news.clear()
            times = [*self._end_streams(now), *self._close_silent(now)]
            if now < self._visitors.settled_at:
                times.append(self._visitors.settled_at)
            await self._wait_for_news(min([last, *times]) - now)
        self._exchanges.are_refused = True
        await self._end_by_force()

    @property
    def _is_in_use(self) -> bool:
        return bool(self._state.connections or self._state.tasks - self._given_up)

    async def _wait_for_news(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.001, seconds)):  # uvloop treats shorter times as zero
                await self._news.wait()

    def _end_streams(self, now: float) -> list[float]:
        """End responses that have no end when it is time; return when to look at the others."""
        times: list[float] = []
        for exchange in list(self._exchanges.open):
            if not exchange.is_without_end or exchange.task in self._given_up:
                continue
            match self._visitors.decide_answer(now, exchange):
                case WaitUntil(until):
                    times.append(until)
                    continue
                case VisitorStep.TELL:
                    exchange.tell_of_end(now)
                case VisitorStep.BREAK_OFF:
                    exchange.break_off()
                case _:
                    self._given_up.add(exchange.task)
                    exchange.cut()
            times.append(now)  # look at it again in the loop's next turn
        return times

    def _close_silent(self, now: float) -> list[float]:
        """Close connections that were silent for long enough; return when to look at the others."""
        times: list[float] = []
        for connection in list[Any](self._state.connections):
            if connection in self._closed:
                continue
            if not _is_silent(connection):
                self._silent_since.pop(connection, None)
                continue
            since = self._silent_since.setdefault(connection, now)
            decision = self._visitors.decide_silent(
                now, since, partial(_has_sent, connection), partial(_waits_for_an_answer, connection)
            )
            if isinstance(decision, WaitUntil):
                times.append(decision.until)
            else:
                self._close(connection)
        return times

    def _close(self, connection: Any) -> None:
        """Close a connection without a request; a WebSocket with code 1012 (service restart)."""
        self._closed.add(connection)
        self._silent_since.pop(connection, None)
        try:
            if _is_silent(connection) and heads.is_begun(connection):
                connection.transport.write(REFUSAL)
            connection.shutdown()
        except h11.LocalProtocolError:  # its parser saw an error, and cannot close the connection properly
            connection.transport.close()

    async def _end_by_force(self) -> None:
        broken_off = [each for each in self._exchanges.open if not each.is_complete and not each.is_broken_off]
        for exchange in broken_off:
            exchange.break_off()
        ours = {exchange.task for exchange in broken_off}
        for task in set(self._state.tasks) - ours:
            task.cancel("the grace period is over")
        for connection in self._left():
            if not _has_sent(connection):
                self._close(connection)  # a connection with a response under way ends with that
        if self._left():
            await asyncio.sleep(VISITOR_LOOK)
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=BROKEN_OFF)
        for connection in self._left():
            self._close(connection)
        if broken_off:
            logging.getLogger("mob").error("%s", _summary(broken_off))

    def _left(self) -> list[Any]:
        return [each for each in self._state.connections if each not in self._closed]


def _is_silent(connection: Any) -> bool:
    """Return whether no request is under way on a connection. A WebSocket never has one."""
    cycle = getattr(connection, "cycle", None)
    return cycle is None or cycle.response_complete


def _waits_for_an_answer(connection: Any) -> bool:
    """Return whether data arrived that was not answered, as the kernel sees it."""
    with contextlib.suppress(OSError, AttributeError):
        return connections.use_of(_descriptor_of(connection)) is Use.UNANSWERED
    return False


def _has_sent(connection: Any) -> bool:
    """Return whether data arrived that is about to be read."""
    with contextlib.suppress(OSError, AttributeError):
        return connections.unread(_descriptor_of(connection)) > 0
    return False


def _descriptor_of(connection: Any) -> int:
    descriptor: int = connection.transport.get_extra_info("socket").fileno()
    return descriptor


def _summary(broken_off: list[Exchange]) -> str:
    """Return one line about the requests that were cancelled."""
    number = len(broken_off)
    cut = sum(exchange.head is not None for exchange in broken_off)
    names = [exchange.name for exchange in broken_off[:NAMED]]
    more = f" and {number - NAMED} more" if number > NAMED else ""
    return (
        f"{number} request{'s' if number > 1 else ''} did not end within the grace period: {number - cut} answered "
        f"with status 503, {cut} cut in the middle of the response ({', '.join(names)}{more})"
    )
