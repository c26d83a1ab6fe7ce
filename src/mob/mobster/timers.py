"""Timers of a role: `mob.every` and `mob.cron` on a function of its module.

The Kingpin decides when one runs (`core/timers.py`); it learns from here which timers there are before the worker is
ready, and a run is a call of this process to itself. So a run counts as a call in hand, a worker that ends waits for
it, `def` functions run in the role's threads, and exceptions reach the handlers of `error`. The Kingpin waits for room
among the callers that wait for this worker (`peer/serving/inviting.py`), in turn with them.

In a process that only imported the module there are no timers, and the decorators return the function unchanged.
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
"""Minimum number of seconds between two runs."""
LONGEST_ERROR = 500
"""Maximum number of characters of an error that is shown for a run."""

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
    """Run a function of a role every so many seconds, in one worker at a time.

    The function takes no arguments, is `def` or `async def`, and need not be exported. The interval follows a clock
    that includes the time when the machine sleeps and cannot be set; runs start at multiples of the interval, however
    long they take. If runs were due while no worker was ready or the machine slept, one is run late, and the number of
    the others is logged. See docs/timers.md.

    Args:
        seconds: Seconds from the start of one run to the start of the next; at least 0.01.
        name: Name in `mob timers` (default: the name of the function).
        first: Seconds from the start of the app to the first run; 0 is at once (default None: `seconds`).
        jitter: Maximum random delay of each run in seconds, at most `seconds` (default 0).
        overlap: What to do if a run is due while another is running: False skips it, True starts it as well, a number
            is the maximum of runs at a time (default False).
        each: Run in every worker of the role, in a cluster on every machine, instead of in one of them all (default
            False).
        max_late: Maximum number of seconds by which a run may start late; a later one is skipped (default None: any).

    Returns:
        A decorator, which returns the function unchanged.

    Raises:
        TypeError: The function cannot be called without arguments, or is a generator.
        ValueError: A number is out of range, or the role has another timer of that name.

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
        raise ValueError(f"mob.every(first={first!r}) must be a number of seconds, at least 0, or None.")
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
    """Run a function of a role at the times of a cron line, in one worker at a time.

    Requires `pip install 'mobsters[cron]'`. Everything else is as in `mob.every`. Lines and both changes of daylight
    saving time are interpreted as by Debian's cron, with cronsim.

    Args:
        line: Minute, hour, day of the month, month, day of the week, as in `"*/5 8-18 * * mon-fri"`; six fields begin
            with seconds; or "@hourly", "@daily", "@weekly", "@monthly", "@yearly".
        zone: Time zone of the IANA database, such as "Europe/Berlin" (default None: that of the environment (`TZ`) or
            of the machine).
        name: Name in `mob timers` (default: the name of the function).
        jitter: Maximum random delay of each run in seconds (default 0).
        overlap: As in `mob.every` (default False).
        each: As in `mob.every` (default False).
        max_late: As in `mob.every` (default None).

    Returns:
        A decorator, which returns the function unchanged.

    Raises:
        PlanError: cronsim is not installed.
        TypeError: As in `mob.every`.
        ValueError: The cron line or the zone is invalid, or as in `mob.every`.

    Example:
        >>> @mob.cron("0 3 * * *", zone="Europe/Berlin")      # doctest: +SKIP
        ... def report(): ...
    """
    check_not_bare("cron", line)
    zone = os.environ.get("TZ", "").removeprefix(":") if zone is None else zone
    for what, text in (("line", line), ("zone", zone)):
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"mob.cron({what}={text!r}): expected a string.")
    importlib.import_module("mob.schedules").CronSchedule(line, zone)  # raises if they are invalid; needs cronsim
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
        note_unheard(f"@mob.{decorator}", depth=3)  # `_note_unheard`, `every`, and the wrapper of `helped`


def _declare(decorator: str, info: m.TimerInfo, function: F) -> F:
    if not (isinstance(info.name, str) and info.name.isprintable()):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"@mob.{decorator}(name={info.name!r}): expected a string of one line.")
    if not isinstance(info.each, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"@mob.{decorator}(each={info.each!r}): expected True or False.")
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
        self._wanted: set[str] = set()  # targets of the timers for which the Kingpin waits for room
        self._began: dict[int, float] = {}  # start times of the runs' functions
        peer.before_ready.append(self._tell)
        peer.control.on_timer = self._handle
        peer.serving.inviting.on_room = self._handle_room

    def __repr__(self) -> str:
        return f"<DeclaredTimers {', '.join(self._infos) or 'none'}>"

    def add(self, info: m.TimerInfo, function: Callable[..., Any]) -> None:
        """Add a timer, or replace it if its module was executed twice."""
        name, code = info.name, _place(function)
        if self._codes.setdefault(name, code) != code:
            raise ValueError(
                f"{self._peer.context.role!r} already has a timer {name!r}. Give one of them another name: name='...'."
            )
        self._infos[name], self._functions[name] = info, function
        self._is_told = False
        self._peer.handlers.on_hearing()  # a ready worker reports again, and with it this timer

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            serving, role = self._peer.serving, self._peer.context.role
            for name, function in self._functions.items():  # by now all its decorators have run
                run = self._run_of(f"{role}.{name}", function)
                if is_marked(function):
                    setattr(run, MARK, ExportOptions(kill_after=getattr(function, MARK).kill_after))
                serving.exports[m.TIMER + name] = serving.limited(TimedFunction, role, name, run)
            self._functions.clear()
            self._peer.control.post(m.TimersAre(tuple(self._infos.values())))

    def _run_of(self, label: str, function: Callable[..., Any]) -> Callable[[int], Any]:
        """Return the function that a run calls with its number; it returns nothing, and logs exceptions."""

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
        """Handle a message of the Kingpin about a run."""
        target, inviting = m.TIMER + word.name, self._peer.serving.inviting
        match word:
            case m.RunWaits():
                self._wanted.add(target)
                inviting.wait_for_kingpin(self._line(target), target)
            case m.BeginRun():
                self._wanted.discard(target)  # its reserved place is kept until that call arrives
                Context().run(self._call, word)  # a call of this process to itself, outside of any other
            case m.NoRun():
                self._wanted.discard(target)
                inviting.decline_for_kingpin(self._line(target))

    def _line(self, target: str) -> int:
        """Return the number under which `inviting` knows the Kingpin as a waiting caller."""
        return -1 - list(self._infos).index(target.removeprefix(m.TIMER))

    def _handle_room(self, target: str) -> None:
        """Report that there is room for a run for which the Kingpin has waited."""
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
        raise TypeError(f"@mob.{decorator} on {name}: a timer cannot run a generator. Call it in a function.")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise TypeError(
            f"@mob.{decorator} on {name or repr(function)}: a timer calls its function without arguments ({error})."
        ) from None
    if not name:
        raise TypeError(f"@mob.{decorator} on {function!r}: it has no name. Pass one with name='...'.")


def _place(function: Any) -> Any:
    """Return a key that is the same for one function of a module that was executed twice."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return function if code is None else (code.co_filename, code.co_firstlineno)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value and abs(value) < 1e12


def _jitter(decorator: str, jitter: float) -> float:
    if not _is_number(jitter) or jitter < 0:
        raise ValueError(f"mob.{decorator}(jitter={jitter!r}) must be a number of seconds, at least 0.")
    return float(jitter)


def _max_late(decorator: str, max_late: float | None) -> float | None:
    if max_late is not None and not (_is_number(max_late) and max_late >= 0):
        raise ValueError(f"mob.{decorator}(max_late={max_late!r}) must be a number of seconds, at least 0, or None.")
    return max_late


def _overlap(decorator: str, overlap: bool | int) -> int:
    """Return how many runs there may be at a time; 0 means any number."""
    if isinstance(overlap, bool):
        return 0 if overlap else 1
    if not isinstance(overlap, int) or not 1 <= overlap < 2**31:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"mob.{decorator}(overlap={overlap!r}) must be True, False or a whole number of at least 1.")
    return overlap


def _text_of(error: BaseException) -> str:
    text = summary_of(error) if isinstance(error, RemoteError) else f"{type(error).__name__}: {error}"
    return text if len(text) <= LONGEST_ERROR else text[:LONGEST_ERROR] + "..."
