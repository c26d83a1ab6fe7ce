"""Who is still waited for when a mobster ends, until when, and in which order.

There is one answer for a stop, a reload, a recycling and a role that becomes smaller, and for calls, HTTP requests,
WebSockets, event streams, and connections of servers that mob knows nothing of. All of it has the grace time of the
app, which `share` divides between the roles of a stop. `mobster/drain.py` does what is decided here (`DrainProgress`),
and `mobster/http/ending.py` does it for the visitors of a server of mob's (`Visitors`).

Limit: what a connection at a shared port is for is not known here. Bytes that came last and get no answer look like a
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
"""The part of the grace time that a role still to be stopped keeps for itself while an earlier one takes long."""

ORDERLY_END = 0.5
"""Seconds before the end of the grace time at which nothing is waited for any more, to end in order all the same."""
LIFESPAN = 0.5
"""Seconds before that at which requests are broken off: they are kept for the end of the web application itself."""
LEAST = 0.1
"""Seconds that each stage has although the time is over."""
EXIT_SECONDS = 1.0
"""Seconds that threads and `atexit` get in a process that was not asked to end: it failed, or said sys.exit()."""
LINK_FLUSH_TIMEOUT = 1.0
"""Seconds in which a link that is closed may still send what is unsent."""

FAREWELL_TIME = 1.0
"""Seconds to wait for the others to have noticed that this process drains."""
ANSWERED = 0.005
"""Seconds that a handler gets for what it does with the last answer that it has waited for."""

SETTLING = 0.1
"""Seconds in which a client that was let in a moment ago says what it wants, and is read."""
ANSWERING = 3.0
"""Seconds that something gets to be answered of which the kernel alone tells that it was asked: at a server that
handles SIGTERM, before the signal, and on a WebSocket. It may get no answer."""
UNSURE = 5.0
"""Seconds that connections are waited for of which the kernel does not tell whether they wait for an answer."""
HALF = 0.5
"""The part of the grace time in which connections may become idle; then a moment between two answers has to do."""
LOOKS = 2
"""So many looks in a row must find nobody: between two steps of an application a connection may be nobody's."""
CONNECTIONS_INTERVAL = 0.005
"""Seconds between two looks at the connections of shared ports. The kernel tells of their state when it is asked, and
of no change of it."""

SILENT = 0.5
"""Seconds without a request, since the last answer or since the end began, after which a visitor's connection is
closed."""
VISITOR_LOOK = 0.01
"""Seconds between two looks at a WebSocket that has asked something, or at what a visitor has just sent."""
EVENTS = 1.0
"""Seconds after which event streams end of a role that does not say `stream_grace`."""
HEEDING = 1.0
"""Seconds that an application has to end an answer after it was told that the visitor has gone."""
BROKEN_OFF = 0.25
"""Seconds that requests get to end after they were broken off."""


def share(left: float, grace: float, roles: int) -> float:
    """Return what the role that is stopped now has of the seconds that are left, while so many roles have not ended:
    all but a reserve for each of the others, and its fair share at the least.

    >>> share(30.0, 30.0, 1), share(30.0, 30.0, 3), share(2.0, 30.0, 4)
    (30.0, 24.0, 0.5)
    """
    return left - min(grace * RESERVE, left / roles) * (roles - 1)


class DrainStage(StrEnum):
    """One stage of the end. Each waits for something, does something, or both."""

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
"""Stages that wait, and do nothing after that."""


class WaitUntil(msgspec.Struct, frozen=True):
    """Ask again when something has changed, and at that time at the latest."""

    until: float


class Act(msgspec.Struct, frozen=True):
    """Do what this stage does, within so many seconds; then ask again."""

    stage: DrainStage
    seconds: float


class Over(msgspec.Struct, frozen=True):
    """All is done; the loop can stop. Threads and `atexit` come then: see `seconds_at_exit`."""


class Use(Enum):
    """What a connection at a shared port is used for at the moment, as the kernel sees it."""

    UNANSWERED = "has asked a moment ago"
    PATIENT = "has asked long ago, or expects no answer"
    OPEN = "has spoken or heard a moment ago"
    UNSURE = "may have asked"
    IDLE = "waits for nothing"


class Scene(Protocol):
    """What a mobster that ends is asked about itself, when it matters."""

    @property
    def is_importing(self) -> bool:
        """Return whether its module blocks in the import."""
        ...

    @property
    def finishes_by_itself(self) -> bool:
        """Return whether a server of the module's own handles SIGTERM: it finishes when it gets the signal."""
        ...

    @property
    def is_exit_asked(self) -> bool:
        """Return whether a handler has said sys.exit(), which waits for nothing, as anywhere."""
        ...

    @property
    def awaits_answers(self) -> bool:
        """Return whether handlers that may run for ever wait for calls that others have."""
        ...

    @property
    def in_hand(self) -> int:
        """Return the number of calls and messages that have arrived and are not finished."""
        ...

    @property
    def has_heard_farewells(self) -> bool:
        """Return whether each other process has said that nothing follows."""
        ...

    @property
    def has_requests(self) -> bool:
        """Return whether a server of mob's still finishes requests. It ends them itself, in time."""
        ...

    def uses(self) -> Iterable[Use]:
        """Look at the connections at shared ports. Each one costs a question to the kernel."""
        ...


class DrainProgress:
    """How far the end of a mobster has come. `decide` is asked after each change."""

    def __init__(self, scene: Scene, now: float, grace: float, has_ports: bool = False) -> None:
        self.deadline: float = now + grace
        self._last = self.deadline - ORDERLY_END
        self._scene = scene
        self._began = now
        self._stages = deque(DrainStage)
        self._has_awaited = False
        self._handled_at = -math.inf  # when a handler has done what it does with an answer
        self._farewells_until = math.inf
        self._has_ports = has_ports
        self._quiet_looks = 0
        self._look_at = now + SETTLING

    def __repr__(self) -> str:
        return f"<DrainProgress, {self._stages[0] if self._stages else 'over'}>"

    @property
    def requests_until(self) -> float:
        """Return when the requests of a server of mob's are broken off."""
        return self._last - LIFESPAN

    def decide(self, now: float) -> WaitUntil | Act | Over:
        """Return what is to be done next."""
        while self._stages:
            stage = self._stages[0]
            if (until := self._waits_until(stage, now)) > now:
                return WaitUntil(until)
            self._stages.popleft()
            if stage not in WAITING and (stage is not DrainStage.MODULE or self._scene.is_importing):
                return Act(stage, self._seconds(stage, now))
        return Over()

    def wakes_module_at(self, now: float) -> float:
        """Return when a module that blocks in its import is to be woken, or asked about again: at once, if that is not
        later than now. Its import may end at any moment: then `decide` goes on, and nothing is woken."""
        return self._look(now, self._scene.finishes_by_itself)

    def seconds_at_exit(self, now: float) -> float:
        """Return how many seconds threads and `atexit` have, when all else is over."""
        return EXIT_SECONDS if self._scene.is_exit_asked else max(LEAST, self.deadline - now - ORDERLY_END / 2)

    def _seconds(self, stage: DrainStage, now: float) -> float:
        if stage is DrainStage.DRAIN and self._scene.is_exit_asked:
            return 0.0
        return max(LIFESPAN if stage is DrainStage.REQUESTS else LEAST, self._last - now)

    def _waits_until(self, stage: DrainStage, now: float) -> float:
        """Return until when a stage waits, if nothing changes; or a time that has come already if it does not wait."""
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
        """Calls in hand have the whole grace time: it is the Kingpin who ends it."""
        if self._scene.in_hand:
            return math.inf
        return now if self._scene.has_heard_farewells else self._farewells_until

    def _look(self, now: float, finishes_by_itself: bool) -> float:
        """Return when to look at the connections of shared ports again, now if nobody is left to wait for."""
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
    """What is done about a visitor."""

    TELL = "tell the application that the visitor has gone"
    BREAK_OFF = "cancel the request"
    GIVE_UP = "cut the answer, and wait no longer for the application"
    CLOSE = "close the connection"


class Endless(Protocol):
    """An answer that has begun, and of which nobody knows how long it is."""

    is_broken_off: bool
    """Whether its request was cancelled."""
    told_at: float | None
    """When the application was told that the visitor has gone."""

    @property
    def has_events(self) -> bool:
        """Return whether it is an event stream, which its visitor asks for again when it ends."""
        ...


class Visitors:
    """When the visitors of a server of mob's are told of its end: answers without an end, and silent connections.

    The end loses no request. A connection that is kept between two requests may carry the next one at any moment, so
    it is closed only when it has been silent for a while after its last answer. An answer whose end nobody knows would
    hold the worker for the whole grace time, so it is ended after `stream_grace` seconds if the role says so. If it
    does not, that is done with event streams alone: their visitors come back by themselves, and those of a long
    download do not.
    """

    def __init__(self, stream_grace: float | None) -> None:
        self._stream_grace = stream_grace
        self._began = math.inf

    def __repr__(self) -> str:
        return f"<Visitors{'' if self.has_begun else ', not ending'}>"

    @property
    def has_begun(self) -> bool:
        """Return whether the server ends."""
        return self._began != math.inf

    @property
    def settled_at(self) -> float:
        """Return when everybody has arrived who was let in before the end began."""
        return self._began + SETTLING

    def begin(self, now: float) -> None:
        """Begin the end."""
        self._began = now

    def decide_answer(self, now: float, answer: Endless) -> WaitUntil | VisitorStep:
        """Return what is done about an answer without an end."""
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
        """Return what is done about a connection without a request. `has_sent`: whether something has come in that is
        about to be read; `is_unanswered`: whether something was not answered. Asking the kernel costs time."""
        if now < since + SILENT:
            return WaitUntil(since + SILENT)
        if now < since + SILENT + SETTLING and has_sent():
            return WaitUntil(now + VISITOR_LOOK)
        if now < self._began + ANSWERING and is_unanswered():
            return WaitUntil(now + VISITOR_LOOK)
        return VisitorStep.CLOSE
