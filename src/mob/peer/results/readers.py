"""Those who read streams: when they stop for good, the streams end, and with them the generators in other processes.

A stream that nobody holds any more ends by itself. But what was cancelled often holds it on: the error of the
cancellation has a traceback, which has the frames, and frameworks keep it in a circle that only the garbage collector
finds, minutes later in a process with little to do. So a stream is followed to the task that has read from it last, and
ends when that task was cancelled.

A plain `for` in a thread belongs to no task. Where it runs for a request (a plain generator as the body of an answer),
it runs in a copy of that request's context, and is found by it when the visitor has gone.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import partial
from threading import Lock
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet


class Readable(Protocol):
    """A stream, as far as it is known here."""

    reader: object

    def close(self) -> None:
        """End it at both ends."""
        ...


class ReaderWork:
    """What threads do for one request: the streams that they read."""

    __slots__ = ("_streams",)

    def __init__(self) -> None:
        self._streams: WeakSet[Any] | None = None

    def __repr__(self) -> str:
        return f"<ReaderWork, {len(self._streams or ())} streams>"

    def add(self, stream: Readable) -> None:
        """Note that a thread reads from a stream for this."""
        with _LOCK:
            if self._streams is None:
                self._streams = WeakSet()
            self._streams.add(stream)

    def close(self) -> None:
        """End the streams that were read last for this."""
        if self._streams is not None:
            _close(self._streams, self)


_LOCK = Lock()  # threads add to a set that the loop looks through
WORK: ContextVar[ReaderWork | None] = ContextVar("WORK", default=None)
"""What the code that runs is done for, if there is one who may go away."""
_READ: WeakKeyDictionary[asyncio.Task[Any], WeakSet[Any]] = WeakKeyDictionary()  # streams by the tasks that read them


def note_task(stream: Readable) -> None:
    """Follow a stream to the task that asks for an item."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return  # no loop runs yet
    if task is None or stream.reader is task:
        return
    stream.reader = task
    streams = _READ.get(task)
    if streams is None:
        streams = _READ[task] = WeakSet()
        task.add_done_callback(partial(_handle_done, streams))
    streams.add(stream)


def note_thread(stream: Readable) -> None:
    """Follow a stream to the work that asks for an item in a thread."""
    work = WORK.get()
    if work is not None and stream.reader is not work:
        stream.reader = work
        work.add(stream)


def _handle_done(streams: WeakSet[Any], task: asyncio.Task[Any]) -> None:
    if task.cancelled():
        _close(streams, task)
    else:  # a task that has raised keeps the frames of its streams, and they must not keep the task
        for stream in _last_read_by(task, streams):
            stream.reader = None


def _close(streams: WeakSet[Any], reader: object) -> None:
    for stream in _last_read_by(reader, streams):
        stream.close()


def _last_read_by(reader: object, streams: WeakSet[Any]) -> list[Any]:
    with _LOCK:
        found = list(streams)
    return [stream for stream in found if stream.reader is reader]
