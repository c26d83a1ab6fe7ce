"""Timers of a role: `mob.every` and `mob.cron` on a function of its module.

When one runs the Kingpin decides (`core/timers.py`); here it is told which timers there are, before the worker is
ready, and a run is a call of this process to itself. So a run counts among the calls in hand, a worker that ends waits
for it, `def` ones run in the role's threads, and what it raises reaches the handlers of `error`. The Kingpin waits for
room among the callers that wait for this worker (`peer/serving/inviting.py`), and has its turn as they have.

In a process that has only imported the module there are no timers, and the decorators give back the function.
"""

from __future__ import annotations

import importlib
import inspect
import math
import os
from collections.abc import Callable
from contextvars import Context
from functools import partial
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from mob.errors import RemoteError, summary_of
from mob.mobster import api
from mob.mobster.absent import note_unheard
from mob.mobster.timer_spellings import check_not_bare, helped, interval
from mob.peer.peer import Peer
from mob.peer.results.call import Call
from mob.peer.serving.exports import TimedFunction
from mob.peer.serving.selection import ExportOptions, code_of, is_marked
from mob.wire import messages as m
from mob.wire.methods import MARK

F = TypeVar("F", bound=Callable[..., Any])
SHORTEST = 0.01
"""Seconds between two runs at least."""
LONGEST_ERROR = 500
"""Characters of an error that are shown of a run."""

_timers: WeakKeyDictionary[Peer, DeclaredTimers] = WeakKeyDictionary()


@helped
def every(
    seconds: float,
    *,
    name: str = "",
    first: float | None = None,
    jitter: float = 0.0,
    overlap: bool | int = False,
    each: bool = False,
    max_late: float | None = None,
) -> Callable[[F], F]:
    """Run a function of a role every so many seconds, in one worker of it at a time.

    The function takes no arguments, is `def` or `async def`, and need not be exported. The interval goes by a clock
    that counts the sleep of the machine and that nobody sets; runs begin at multiples of it, however long they take.
    What fell due while no worker was ready or the machine slept is run once, late, and the number of the others is
    logged. See docs/timers.md.

    Args:
        seconds: From the beginning of one run to that of the next; at least 0.01.
        name: As `mob timers` shows it; by default the name of the function.
        first: Seconds from the start of the app until the first run; by default `seconds`, 0 is at once.
        jitter: Seconds by which each run is put off at most, by chance, and not more than `seconds` (default 0).
        overlap: What if a run is due while one still runs: False (the default) skips it, True begins another, a
            number says how many there may be at a time.
        each: Run in every worker of the role, and in a cluster of every machine (default False: in one of them all).
        max_late: Seconds by which a run may begin late at most; later than that it is skipped (default None: any).

    Returns:
        A decorator, which gives the function back as it is.

    Raises:
        TypeError: The function cannot be called without arguments, or is a generator.
        ValueError: A number is out of its range, or the role has another timer of that name.

    Example:
        >>> @mob.every(60, jitter=5)                          # doctest: +SKIP
        ... async def refresh(): ...
    """
    check_not_bare("every", seconds)
    if not _is_number(seconds) or seconds < SHORTEST:
        meant = interval(seconds)
        raise ValueError(
            f"mob.every({seconds!r}): the interval must be a number of at least {SHORTEST:g} (seconds).{meant}"
        )
    if first is not None and not (_is_number(first) and first >= 0):
        raise ValueError(f"mob.every(first={first!r}) must be 0 or a greater number (seconds), or None.")
    if _is_number(jitter) and jitter > seconds:
        raise ValueError(f"mob.every({seconds!r}, jitter={jitter!r}): the jitter must not exceed the interval.")
    info = m.TimerInfo(
        name,
        every=float(seconds),
        jitter=_jitter("every", jitter),
        overlap=_overlap("every", overlap),
        each=each,
        first=first,
        max_late=_max_late("every", max_late),
    )
    _note_unheard("every")
    return partial(_declare, "every", info)


@helped
def cron(
    line: str,
    *,
    zone: str | None = None,
    name: str = "",
    jitter: float = 0.0,
    overlap: bool | int = False,
    each: bool = False,
    max_late: float | None = None,
) -> Callable[[F], F]:
    """Run a function of a role at the times of a cron line, in one worker of it at a time.

    Needs `pip install 'mobsters[cron]'`. All else is as in `mob.every`. Lines and both changes of daylight saving are
    read as Debian's cron does, by cronsim.

    Args:
        line: Minute, hour, day of the month, month, day of the week, as in `"*/5 8-18 * * mon-fri"`; six fields begin
            with seconds; or "@hourly", "@daily", "@weekly", "@monthly", "@yearly".
        zone: A time zone of the IANA database, such as "Europe/Berlin"; by default that of the environment (`TZ`) or
            of the machine.
        name: As `mob timers` shows it; by default the name of the function.
        jitter: Seconds by which each run is put off at most, by chance (default 0).
        overlap: As in `mob.every` (default False).
        each: As in `mob.every` (default False).
        max_late: As in `mob.every` (default None).

    Returns:
        A decorator, which gives the function back as it is.

    Raises:
        PlanError: cronsim is not installed.
        TypeError: As in `mob.every`.
        ValueError: It is no cron line, there is no such zone, or as in `mob.every`.

    Example:
        >>> @mob.cron("0 3 * * *", zone="Europe/Berlin")      # doctest: +SKIP
        ... def report(): ...
    """
    check_not_bare("cron", line)
    zone = os.environ.get("TZ", "").removeprefix(":") if zone is None else zone
    for what, text in (("line", line), ("zone", zone)):
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"mob.cron({what}={text!r}): wanted is text.")
    importlib.import_module("mob.schedules").CronSchedule(line, zone)  # raises what is wrong; it needs cronsim
    info = m.TimerInfo(
        name,
        line=line,
        zone=zone,
        jitter=_jitter("cron", jitter),
        overlap=_overlap("cron", overlap),
        each=each,
        max_late=_max_late("cron", max_late),
    )
    _note_unheard("cron")
    return partial(_declare, "cron", info)


def _note_unheard(decorator: str) -> None:
    if api.find() is None:
        note_unheard(f"@mob.{decorator}", depth=3)  # `_note_unheard`, `every`, and what `helped` makes of it


def _declare(decorator: str, info: m.TimerInfo, function: F) -> F:
    if not (isinstance(info.name, str) and info.name.isprintable()):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"@mob.{decorator}(name={info.name!r}): wanted is a line of text.")
    if not isinstance(info.each, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"@mob.{decorator}(each={info.each!r}): wanted is True or False.")
    name = info.name or getattr(function, "__name__", "")
    _check_function(decorator, name, function)
    peer = api.find()
    if peer is not None:
        if peer not in _timers:
            _timers[peer] = DeclaredTimers(peer)
        _timers[peer].add(msgspec.structs.replace(info, name=name), function)
    return function


class DeclaredTimers:
    """The timers of one mobster."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._infos: dict[str, m.TimerInfo] = {}
        self._functions: dict[str, Callable[..., Any]] = {}
        self._codes: dict[str, Any] = {}
        self._is_told = False
        self._wanted: set[str] = set()  # those for which the Kingpin waits for room, by target
        self._began: dict[int, float] = {}  # when the functions of runs were called
        peer.before_ready.append(self._tell)
        peer.control.on_timer = self._handle
        peer.serving.inviting.on_room = self._handle_room

    def __repr__(self) -> str:
        return f"<DeclaredTimers {', '.join(self._infos) or 'none'}>"

    def add(self, info: m.TimerInfo, function: Callable[..., Any]) -> None:
        """There is another one, or the one there was was declared again (its module was executed twice)."""
        name, code = info.name, _place(function)
        if self._codes.setdefault(name, code) != code:
            raise ValueError(
                f"{self._peer.context.role!r} has a timer {name!r} already. Give one of them another name: name='...'."
            )
        self._infos[name], self._functions[name] = info, function
        self._is_told = False
        self._peer.handlers.on_hearing()  # one that is ready says so again, and so tells of this

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            serving, role = self._peer.serving, self._peer.context.role
            for name, function in self._functions.items():  # by now all decorators of it have run
                run = self._run_of(f"{role}.{name}", function)
                if is_marked(function):
                    setattr(run, MARK, ExportOptions(kill_after=getattr(function, MARK).kill_after))
                serving.exports[m.TIMER + name] = serving.limited(TimedFunction, role, name, run)
            self._functions.clear()
            self._peer.control.post(m.TimersAre(tuple(self._infos.values())))

    def _run_of(self, label: str, function: Callable[..., Any]) -> Callable[[int], Any]:
        """Return what a run calls, with its number: it gives nothing back, and logs what is raised."""

        def run(number: int) -> None:
            self._began[number] = monotonic()
            try:
                function()
            except Exception as error:
                self._log(label, error)
                raise

        async def run_on_loop(number: int) -> None:
            self._began[number] = monotonic()
            try:
                await function()
            except Exception as error:
                self._log(label, error)
                raise

        return run_on_loop if inspect.iscoroutinefunction(code_of(function)) else run

    def _log(self, label: str, error: Exception) -> None:
        told = "the timer %s raised %s: %s"
        self._peer.context.complaints.tell((told, label), told, label, type(error).__name__, error, error=error)

    def _handle(self, word: m.BeginRun | m.RunWaits | m.NoRun) -> None:
        """What the Kingpin says of a run."""
        target, inviting = m.TIMER + word.name, self._peer.serving.inviting
        match word:
            case m.RunWaits():
                self._wanted.add(target)
                inviting.wait_for_kingpin(self._line(target), target)
            case m.BeginRun():
                self._wanted.discard(target)  # the place that it was promised is kept for it until that call arrives
                Context().run(self._call, word)  # a call of this process to itself, outside of any other
            case m.NoRun():
                self._wanted.discard(target)
                inviting.decline_for_kingpin(self._line(target))

    def _line(self, target: str) -> int:
        """Return the number by which `inviting` knows the line in which the Kingpin waits."""
        return -1 - list(self._infos).index(target.removeprefix(m.TIMER))

    def _handle_room(self, target: str) -> None:
        """There is room for a run for which the Kingpin has waited."""
        if target in self._wanted:
            self._peer.control.post(m.RoomForRun(target.removeprefix(m.TIMER)))
        else:
            self._peer.serving.inviting.known.handle_declined(self._peer.context.uid, self._line(target))

    def _call(self, begin: m.BeginRun) -> None:
        peer, name = self._peer, begin.name
        contact = peer.contacts.look_up(peer.context.uid)
        call = peer.calling.call_one(contact, f"{peer.context.role}.{name}", m.TIMER + name, (begin.number,), {})
        call.when_done(partial(self._handle_done, begin.number))

    def _handle_done(self, number: int, call: Call[Any]) -> None:
        error = call.exception()
        text = "" if error is None else _text_of(error)
        began = self._began.pop(number, math.inf)
        self._peer.control.post(m.TimerRan(number, text, max(-1.0, monotonic() - began)))


def _check_function(decorator: str, name: str, function: Any) -> None:
    code = code_of(function)
    if inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code):
        raise TypeError(f"@mob.{decorator} on {name}: a generator cannot be run by a timer. Call it in a function.")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise TypeError(
            f"@mob.{decorator} on {name or repr(function)}: a timer calls its function without arguments ({error})."
        ) from None
    if not name:
        raise TypeError(f"@mob.{decorator} on {function!r}: it has no name, so say name='...'.")


def _place(function: Any) -> Any:
    """Return what is the same for one function of a module that was executed twice."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return function if code is None else (code.co_filename, code.co_firstlineno)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value and abs(value) < 1e12


def _jitter(decorator: str, jitter: float) -> float:
    if not _is_number(jitter) or jitter < 0:
        raise ValueError(f"mob.{decorator}(jitter={jitter!r}) must be 0 or a greater number (seconds).")
    return float(jitter)


def _max_late(decorator: str, max_late: float | None) -> float | None:
    if max_late is not None and not (_is_number(max_late) and max_late >= 0):
        raise ValueError(f"mob.{decorator}(max_late={max_late!r}) must be 0 or a greater number (seconds), or None.")
    return max_late


def _overlap(decorator: str, overlap: bool | int) -> int:
    """Return how many runs there may be at a time; 0 is any number."""
    if isinstance(overlap, bool):
        return 0 if overlap else 1
    if not isinstance(overlap, int) or not 1 <= overlap < 2**31:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"mob.{decorator}(overlap={overlap!r}) must be True, False or a number of at least 1.")
    return overlap


def _text_of(error: BaseException) -> str:
    text = summary_of(error) if isinstance(error, RemoteError) else f"{type(error).__name__}: {error}"
    return text if len(text) <= LONGEST_ERROR else text[:LONGEST_ERROR] + "..."
