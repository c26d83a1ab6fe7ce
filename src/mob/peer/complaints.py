"""Complaints: log lines about failures that no caller waits for, from anywhere in this process.

Examples are calls whose results were never read, messages that could not be sent, and handlers that raised. One cause
can produce very many of them: the first is logged at once, with its traceback, and the rest are summed up once a second
(`core/repeats.py` decides). Anything that one cause can repeat without end is logged through here.

The logger is looked up for each line and not kept: `logging.config.dictConfig` and `fileConfig` disable every existing
logger that they do not name, unless `disable_existing_loggers` is false.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Hashable
from threading import Lock
from time import monotonic
from types import TracebackType

import msgspec

from mob.core.repeats import Repeats, Summary
from mob.errors import RemoteError
from mob.rim.places import PACKAGE
from mob.rim.reactor import Reactor

_BEFORE = PACKAGE, os.path.dirname(asyncio.__file__) + os.sep


def shown_of(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """Return an error as a logger shows it: without the frames of mob and asyncio before those of the application."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_BEFORE):
        trace = trace.tb_next
    return type(error), error, trace or error.__traceback__


class Complaint(msgspec.Struct, frozen=True):
    """One line of the log."""

    level: int
    template: str
    args: tuple[object, ...]


class Complaints:
    """The complaints of one process."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._repeats: Repeats[Complaint] = Repeats()
        self._lock = Lock()
        self._is_waiting = False  # True while a timer is set that looks for summaries that are due

    def __repr__(self) -> str:
        return f"<Complaints, {self._repeats!r}>"

    def tell(
        self,
        kind: Hashable,
        template: str,
        *args: object,
        error: BaseException | None = None,
        level: int = logging.ERROR,
        traceback: bool = True,
    ) -> None:
        """Log a line now, or count it for the next summary; from any thread.

        Lines with the same `kind` and the same type of `error` are summed up together. With `traceback`, the first line
        of a kind shows the traceback of `error`.
        """
        complaint = Complaint(level, template, args)
        with self._lock:
            is_first = self._repeats.admit((kind, _type_of(error)), complaint, monotonic())
            must_wait = not (is_first or self._is_waiting)
            self._is_waiting = self._is_waiting or must_wait
        if is_first:
            shown = shown_of(error) if error is not None and traceback else None
            logging.getLogger("mob").log(level, template, *args, exc_info=shown)
        elif must_wait:
            self._reactor.call(self._wait)

    def flush(self) -> None:
        """Log all summaries now, because the process ends."""
        with self._lock:
            summaries = self._repeats.take_all(monotonic())
        self._say(summaries)

    def _wait(self) -> None:
        with self._lock:
            when = self._repeats.next_at
            self._is_waiting = when is not None
        if when is not None:
            self._reactor.call_at(when, self._handle_timer)

    def _handle_timer(self) -> None:
        with self._lock:
            summaries = self._repeats.take_due(monotonic())
        self._say(summaries)
        self._wait()

    def _say(self, summaries: list[Summary[Complaint]]) -> None:
        for summary in summaries:
            complaint, seconds = summary.example, f"{summary.seconds:.1f}"
            text = f"%s more like this in %s s: {complaint.template}"
            logging.getLogger("mob").log(complaint.level, text, f"{summary.count:,}", seconds, *complaint.args)


def _type_of(error: BaseException | None) -> str:
    if isinstance(error, RemoteError):
        return error.type_name
    return type(error).__qualname__
