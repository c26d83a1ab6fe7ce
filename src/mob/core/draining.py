"""What a mobster that ends still waits for, until when, and in which order.

The same rules apply to a stop, a reload, a recycling and a role that shrinks, and to calls, HTTP requests, WebSockets,
event streams, and connections of servers that mob knows nothing about. All of it shares the grace period of the app,
which `share` divides between the roles of a stop. `mobster/drain.py` carries out what is decided here
(`DrainProgress`); `mobster/http/ending.py` does so for the visitors of one of mob's servers (`Visitors`).

Limit: the purpose of a connection at a shared port is unknown here. Bytes that came last and get no answer look like a
request.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, StrEnum, auto
from typing import Protocol

import msgspec

RESERVE = 0.1
"""Share of the grace period that is reserved for each role still to be stopped while an earlier one takes long."""

ORDERLY_END = 0.5
"""Seconds before the end of the grace period at which nothing is waited for any more, to leave time to end in order."""
LIFESPAN = 0.5
"""Seconds before that at which requests are cancelled: this time is kept for the end of the web application itself."""
LEAST = 0.1
"""Seconds that each stage gets even if the time is over."""
EXIT_SECONDS = 1.0
"""Seconds that threads and `atexit` get in a process that was not asked to end: it failed, or called sys.exit()."""
LINK_FLUSH_TIMEOUT = 1.0
"""Seconds in which a link that is being closed may still send unsent data."""

FAREWELL_TIME = 1.0
"""Seconds to wait until the other processes have noticed that this one drains."""
ANSWERED = 0.005
"""Seconds that a handler gets to use the last answer that it waited for."""

SETTLING = 0.1
"""Seconds in which a client that was just accepted sends its request and is read."""
ANSWERING = 3.0
"""Seconds to wait for an answer to a request that only the kernel knows of.

That is the case at a server that handles SIGTERM, before the signal, and on a WebSocket. There may be no answer.
"""
UNSURE = 5.0
"""Seconds to wait for connections of which the kernel does not tell whether they wait for an answer."""
HALF = 0.5
"""Share of the grace period in which connections may become idle; after it a moment between two answers suffices."""
LOOKS = 2
"""Number of checks in a row that must find no connection busy: an application may pause between two steps."""
CONNECTIONS_INTERVAL = 0.005
"""Seconds between two checks of the connections of shared ports.

The kernel tells their state when asked, and reports no changes.
"""

SILENT = 0.5
"""Seconds without a request, since the last answer or since the end began, after which a connection is closed."""
VISITOR_LOOK = 0.01
"""Seconds between two checks of a WebSocket that asked something, or of data that a visitor just sent."""
EVENTS = 1.0
"""Seconds after which event streams end if their role does not set `stream_grace`."""
HEEDING = 1.0
"""Seconds that an application has to end an answer after it learned that the visitor disconnected."""
BROKEN_OFF = 0.25
"""Seconds that cancelled requests get to end."""


def share(left: float, grace: float, roles: int) -> float:
    """Return how many of the remaining seconds the role that is stopped now gets, with that many roles left to stop.

    It gets all but a reserve for each of the others, and at least its fair share.

    >>> share(30.0, 30.0, 1), share(30.0, 30.0, 3), share(2.0, 30.0, 4)
    (30.0, 24.0, 0.5)
    """
    return left - min(grace * RESERVE, left / roles) * (roles - 1)


class DrainStage(StrEnum):
    """A stage of the end. Each waits for something, does something, or both."""

    MODULE = auto()
    SIGNAL = auto()
    ANSWERS = auto()
    CALLS = auto()
    REQUESTS = auto()
    PORTS = auto()
    DRAIN = auto()
    STANDING = auto()
    STOP = auto()
    TASKS = auto()
    ERRORS = auto()
    LINKS = auto()


WAITING = frozenset({DrainStage.ANSWERS, DrainStage.CALLS, DrainStage.PORTS})
"""The stages that only wait."""


class WaitUntil(msgspec.Struct, frozen=True):
    """Ask again when something changed, and at that time at the latest."""

    until: float


class Act(msgspec.Struct, frozen=True):
    """Do what this stage does, within that many seconds; then ask again."""

    stage: DrainStage
    seconds: float


class Over(msgspec.Struct, frozen=True):
    """All is done; the loop can stop. Threads and `atexit` follow: see `seconds_at_exit`."""


class Use(Enum):
    """The current use of a connection at a shared port, as the kernel sees it."""

    UNANSWERED = "has asked a moment ago"
    PATIENT = "has asked long ago, or expects no answer"
    OPEN = "has spoken or heard a moment ago"
    UNSURE = "may have asked"
    IDLE = "waits for nothing"


class Scene(Protocol):
    """The state of a mobster that ends, asked for when it matters."""

    @property
    def is_importing(self) -> bool:
        """True if its module blocks in the import."""
        ...

    @property
    def finishes_by_itself(self) -> bool:
        """True if a server of the module's own handles SIGTERM: it finishes when it gets the signal."""
        ...

    @property
    def is_exit_asked(self) -> bool:
        """True if a handler called sys.exit(), which waits for nothing, as everywhere."""
        ...

    @property
    def awaits_answers(self) -> bool:
        """True if handlers that may run forever wait for calls that other processes have."""
        ...

    @property
    def in_hand(self) -> int:
        """Number of calls and messages that arrived and are not finished."""
        ...

    @property
    def has_heard_farewells(self) -> bool:
        """True if every other process has announced that nothing follows."""
        ...

    @property
    def has_requests(self) -> bool:
        """True if one of mob's servers still finishes requests. It ends them itself, in time."""
        ...

    def uses(self) -> Iterable[Use]:
        """Return the use of each connection at shared ports. Each one costs a system call."""
        ...


class DrainProgress:
    """The progress of the end of a mobster. `decide` is called after each change."""

    def __init__(self, scene: Scene, now: float, grace: float, has_ports: bool = False) -> None:
        self.deadline: float = now + grace
        self._last = self.deadline - ORDERLY_END
        self._scene = scene
        self._began = now
        self._stages = deque(DrainStage)
        self._has_awaited = False
        self._handled_at = -math.inf  # when a handler has used its answer
        self._farewells_until = math.inf
        self._has_ports = has_ports
        self._quiet_looks = 0
        self._look_at = now + SETTLING

    def __repr__(self) -> str:
        return f"<DrainProgress, {self._stages[0] if self._stages else 'over'}>"

    @property
    def requests_until(self) -> float:
        """Time at which the requests of mob's servers are cancelled."""
        return self._last - LIFESPAN

    def decide(self, now: float) -> WaitUntil | Act | Over:
        """Return what to do next."""
        while self._stages:
            stage = self._stages[0]
            if (until := self._waits_until(stage, now)) > now:
                return WaitUntil(until)
            self._stages.popleft()
            if stage not in WAITING and (stage is not DrainStage.MODULE or self._scene.is_importing):
                return Act(stage, self._seconds(stage, now))
        return Over()

    def wakes_module_at(self, now: float) -> float:
        """Return when to wake a module that blocks in its import, or to ask again: now if the time has come.

        Its import may end at any moment: then `decide` continues, and nothing is woken.
        """
        return self._look(now, self._scene.finishes_by_itself)

    def seconds_at_exit(self, now: float) -> float:
        """Return how many seconds threads and `atexit` have when all else is over."""
        return EXIT_SECONDS if self._scene.is_exit_asked else max(LEAST, self.deadline - now - ORDERLY_END / 2)

    def _seconds(self, stage: DrainStage, now: float) -> float:
        if stage is DrainStage.DRAIN and self._scene.is_exit_asked:
            return 0.0
        return max(LIFESPAN if stage is DrainStage.REQUESTS else LEAST, self._last - now)

    def _waits_until(self, stage: DrainStage, now: float) -> float:
        """Return until when a stage waits if nothing changes; a time that has passed if it does not wait."""
        scene = self._scene
        if stage is DrainStage.REQUESTS:
            return math.inf if scene.has_requests else now
        if stage is DrainStage.MODULE:
            return self.wakes_module_at(now) if scene.is_importing else now
        if stage not in WAITING or scene.is_exit_asked:
            return now
        if stage is DrainStage.ANSWERS:
            return self._wait_for_answers(now)
        return self._wait_for_calls(now) if stage is DrainStage.CALLS else self._look(now, finishes_by_itself=False)

    def _wait_for_answers(self, now: float) -> float:
        self._farewells_until = min(self._farewells_until, now + FAREWELL_TIME)
        if self._scene.awaits_answers and now < self._last:
            self._has_awaited = True
            return self._last
        if self._has_awaited:
            self._has_awaited = False
            self._handled_at = now + ANSWERED
        return self._handled_at

    def _wait_for_calls(self, now: float) -> float:
        """Let calls in hand use the whole grace period: the Kingpin ends it."""
        if self._scene.in_hand:
            return math.inf
        return now if self._scene.has_heard_farewells else self._farewells_until

    def _look(self, now: float, finishes_by_itself: bool) -> float:
        """Return when to check the connections of shared ports again; now if there is none left to wait for."""
        if not self._has_ports or now >= self._last or (finishes_by_itself and now >= self._began + ANSWERING):
            return now
        if now >= self._look_at:
            self._quiet_looks = 0 if self._is_busy(now, finishes_by_itself) else self._quiet_looks + 1
            if self._quiet_looks >= LOOKS:
                return now
            self._look_at = now + CONNECTIONS_INTERVAL
        return self._look_at

    def _is_busy(self, now: float, finishes_by_itself: bool) -> bool:
        waited_for = {Use.UNANSWERED}
        if not finishes_by_itself:
            waited_for.add(Use.PATIENT)
            if now < self._began + UNSURE:
                waited_for.add(Use.UNSURE)
            if now < self._began + (self.deadline - self._began) * HALF:
                waited_for.add(Use.OPEN)
        return any(use in waited_for for use in self._scene.uses())


class VisitorStep(Enum):
    """What to do about a visitor."""

    TELL = "tell the application that the visitor disconnected"
    BREAK_OFF = "cancel the request"
    GIVE_UP = "cut the answer, and wait no longer for the application"
    CLOSE = "close the connection"


class Endless(Protocol):
    """An answer that began and whose length is unknown."""

    is_broken_off: bool
    """True if its request was cancelled."""
    told_at: float | None
    """Time at which the application learned that the visitor disconnected."""

    @property
    def has_events(self) -> bool:
        """True if it is an event stream, which its visitor requests again when it ends."""
        ...


class Visitors:
    """Decides when one of mob's servers that ends closes unlimited answers and silent connections of its visitors.

    The end loses no request. A connection that is kept open between two requests may carry the next one at any moment,
    so it is closed only after it was silent for a while after its last answer. An answer of unknown length would keep
    the worker for the whole grace period, so it is ended after `stream_grace` seconds if the role sets it. If it does
    not, only event streams are ended: their visitors come back by themselves, and those of a long download do not.
    """

    def __init__(self, stream_grace: float | None) -> None:
        self._stream_grace = stream_grace
        self._began = math.inf

    def __repr__(self) -> str:
        return f"<Visitors{'' if self.has_begun else ', not ending'}>"

    @property
    def has_begun(self) -> bool:
        """True once the server is ending."""
        return self._began != math.inf

    @property
    def settled_at(self) -> float:
        """Time at which every visitor that was accepted before the end has sent its request."""
        return self._began + SETTLING

    def begin(self, now: float) -> None:
        """Note that the end begins."""
        self._began = now

    def decide_answer(self, now: float, answer: Endless) -> WaitUntil | VisitorStep:
        """Return what to do about an answer of unknown length."""
        if answer.told_at is None:
            grace = self._stream_grace
            if grace is None:
                grace = EVENTS if answer.has_events else math.inf
            due = self._began + grace
            return WaitUntil(due) if now < due else VisitorStep.TELL
        due = answer.told_at + (2 * HEEDING if answer.is_broken_off else HEEDING)
        if now < due:
            return WaitUntil(due)
        return VisitorStep.GIVE_UP if answer.is_broken_off else VisitorStep.BREAK_OFF

    def decide_silent(
        self, now: float, since: float, has_sent: Callable[[], bool], is_unanswered: Callable[[], bool]
    ) -> WaitUntil | VisitorStep:
        """Return what to do about a connection without a request.

        `has_sent`: True if data came in that is about to be read; `is_unanswered`: True if something was not answered.
        Asking the kernel costs time.
        """
        if now < since + SILENT:
            return WaitUntil(since + SILENT)
        if now < since + SILENT + SETTLING and has_sent():
            return WaitUntil(now + VISITOR_LOOK)
        if now < self._began + ANSWERING and is_unanswered():
            return WaitUntil(now + VISITOR_LOOK)
        return VisitorStep.CLOSE
