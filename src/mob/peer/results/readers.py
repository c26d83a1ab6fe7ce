"""The readers of streams: when they stop for good, the streams and their generators in other processes end.

A stream without references ends by itself. But a cancelled task often keeps it alive: the error of the cancellation has
a traceback, which has the frames, and frameworks keep it in a cycle that only the garbage collector finds, minutes
later in an idle process. So the last task that read from a stream is tracked, and the stream ends when that task is
cancelled.

A plain `for` in a thread belongs to no task. If it runs for a request (a plain generator as the body of a response), it
runs in a copy of that request's context, and is found by it when the client disconnects.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import partial
from threading import Lock
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet


class Readable(Protocol):
    """A stream, as far as this module knows it."""

    reader: object

    def close(self) -> None:
        """Close it at both ends."""
        ...


class ReaderWork:
    """The work of threads for one request: the streams that they read."""

    __slots__ = ("_streams",)

    def __init__(self) -> None:
        self._streams: WeakSet[Any] | None = None

    def __repr__(self) -> str:
        return f"<ReaderWork, {len(self._streams or ())} streams>"

    def add(self, stream: Readable) -> None:
        """Note that a thread reads from a stream for this request."""
        with _LOCK:
            if self._streams is None:
                self._streams = WeakSet()
            self._streams.add(stream)

    def close(self) -> None:
        """Close the streams whose last reader was this request."""
        if self._streams is not None:
            _close(self._streams, self)


_LOCK = Lock()  # threads add to a set that the loop iterates over
WORK: ContextVar[ReaderWork | None] = ContextVar("WORK", default=None)
"""The request for which the code runs, if its client may disconnect."""
_READ: WeakKeyDictionary[asyncio.Task[Any], WeakSet[Any]] = WeakKeyDictionary()  # streams by the tasks that read them


def note_task(stream: Readable) -> None:
    """Track a stream by the task that asks for an item."""
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
    """Track a stream by the request for which a thread asks for an item."""
    work = WORK.get()
    if work is not None and stream.reader is not work:
        stream.reader = work
        work.add(stream)


def _handle_done(streams: WeakSet[Any], task: asyncio.Task[Any]) -> None:
    if task.cancelled():
        _close(streams, task)
    else:  # a task that raised keeps the frames of its streams, and they must not keep the task
        for stream in _last_read_by(task, streams):
            stream.reader = None


def _close(streams: WeakSet[Any], reader: object) -> None:
    for stream in _last_read_by(reader, streams):
        stream.close()


def _last_read_by(reader: object, streams: WeakSet[Any]) -> list[Any]:
    with _LOCK:
        found = list(streams)
    return [stream for stream in found if stream.reader is reader]
