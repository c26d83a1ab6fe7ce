"""Tasks that swallow their cancellation: cancelled, they wait again where they waited before, and would never end.

Everything of the application that mob cancels is cancelled here. A task swallowed its cancellation if it is found at
exactly the same place as before it: in the same frames, each at the same instruction, down to what it awaits. Then it
is cancelled once more. If it swallows that as well it is left: mob no longer waits for it, and the log names it with
its line. A `finally:` block that awaits something is at another place, so it may take its time; so may a task that
waits for others that were cancelled with it (`gather`, task groups) as long as one of these does.

No judgement is made where the place cannot be seen (coroutines made in C), and where a task waits for something that is
shielded from its cancellation. All of this runs on the loop's thread, except `lasting`.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, NamedTuple
from weakref import WeakSet

CANCELLED_INTERVAL = 0.25
"""Seconds before a cancelled task is examined, and between two looks at one that does not end."""
TURNS = 16
"""Minimum number of turns of the loop that a cancellation gets to reach what the task awaits."""
DEEPEST = 100
"""Maximum number of frames of one task that are examined."""
MOST = 1000
"""Maximum number of tasks behind one task that are examined."""
NAMED_AFTER = 0.5
"""Seconds after which a cancelled task is listed among those that are waited for."""
OWN = (str(Path(asyncio.__file__).parent), str(Path(__file__).resolve().parents[1]))
"""Directories of code that is not the application's."""
KINDS: dict[type, tuple[str, str]] = {
    CoroutineType: ("cr_frame", "cr_await"),
    AsyncGeneratorType: ("ag_frame", "ag_await"),
    GeneratorType: ("gi_frame", "gi_yieldfrom"),
}
"""Objects that can be examined: the attributes with the frame, and with what it awaits."""
GROUPS = ("__aexit__", "_aexit")
"""Functions in which task groups of asyncio and of anyio wait for their tasks."""

TOLD = "%s swallowed its cancellation twice and goes on%s; mob no longer waits for it. Let CancelledError through."

Task = asyncio.Task[Any]
TellUser = Callable[[str, str, str], object]


class TaskPosition(NamedTuple):
    """The place where a task waits."""

    frames: tuple[tuple[CodeType, int], ...]
    """The frames from its coroutine down to what it awaits: the code, and the instruction."""
    behind: dict[Task, TaskPosition]
    """The tasks that it waits for, with their places."""


class _Watched:
    """A task that was cancelled."""

    __slots__ = ("place", "since", "was_repeated", "when_left")

    def __init__(self, place: TaskPosition | None) -> None:
        self.place = place
        self.since = monotonic()
        self.was_repeated = False
        self.when_left: list[Callable[[], object]] = []


class Cancelling:
    """The cancellations under way in one process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tell: TellUser) -> None:
        """Take `tell`, which logs a template with the name and the place of a task that is left."""
        self._loop = loop
        self._tell = tell
        self._watched: dict[Task, _Watched] = {}
        self._is_looking = False
        self._left: WeakSet[Task] = WeakSet()
        self._news: asyncio.Future[None] | None = None  # done when a task is left that `end` waits for

    def __repr__(self) -> str:
        return f"<Cancelling, {len(self._watched)} tasks have not ended>"

    def cancel(self, task: Task, when_left: Callable[[], object] | None = None) -> None:
        """Cancel a task. If it swallows that twice, `when_left` is called, because its end may never come."""
        if task.done() or task in self._left:
            task.cancel()
            return
        watched = self._watched.get(task)
        if watched is None:
            watched = self._watched[task] = _Watched(place_of(task))
        if when_left is not None:
            watched.when_left.append(when_left)
        task.cancel()
        if not self._is_looking:
            self._is_looking = True
            self._loop.call_later(CANCELLED_INTERVAL, self._turn, TURNS)

    async def end(self, tasks: Iterable[Task], seconds: float) -> set[Task]:
        """Cancel tasks; wait at most `seconds` until each ended or is left; return those that did neither."""
        waiting: set[Task] = {task for task in tasks if not task.done() and task not in self._left}
        for task in waiting:
            self.cancel(task, self._handle_left)
        until = monotonic() + seconds
        while waiting and (rest := until - monotonic()) > 0:
            if self._news is None or self._news.done():
                self._news = self._loop.create_future()
            either: set[asyncio.Future[Any]] = {*waiting, self._news}
            await asyncio.wait(either, timeout=rest, return_when=asyncio.FIRST_COMPLETED)
            waiting = {task for task in waiting if not task.done() and task not in self._left}
        return waiting

    def is_left(self, task: Task) -> bool:
        """Return whether mob no longer waits for that task."""
        return task in self._left

    def lasting(self, now: float) -> list[tuple[Task, str, float]]:
        """Return the cancelled tasks that take their time, with names and seconds; from any thread."""
        watched = [(task, now - each.since) for task, each in list(self._watched.items())]
        return [(task, _named(task), since) for task, since in watched if since > NAMED_AFTER and not task.done()]

    def _turn(self, left: int) -> None:
        """Examine the cancelled tasks after `left` more turns of the loop."""
        if left:
            self._loop.call_soon(self._turn, left - 1)
            return
        try:
            for task, watched in list(self._watched.items()):
                if task.done():
                    del self._watched[task]
                elif watched.place is not None and is_same(watched.place, place_of(task)):
                    self._handle_swallowed(task, watched)
        finally:
            self._is_looking = bool(self._watched)
            if self._is_looking:
                self._loop.call_later(CANCELLED_INTERVAL, self._turn, TURNS)

    def _handle_swallowed(self, task: Task, watched: _Watched) -> None:
        if not watched.was_repeated:
            watched.was_repeated = True
            task.cancel()
            return
        del self._watched[task]
        self._left.add(task)
        try:
            for handle in watched.when_left:
                handle()
        finally:
            self._tell(TOLD, *_who_and_where(task))

    def _handle_left(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def is_same(before: TaskPosition, after: TaskPosition | None) -> bool:
    """Return whether a task is where it was before, and so are the tasks that it waits for."""
    return (
        after is not None
        and before.frames == after.frames
        and bool(before.behind) == bool(after.behind)
        and all(_is_same_behind(before, task, place) for task, place in after.behind.items())
    )


def _is_same_behind(before: TaskPosition, task: Task, place: TaskPosition) -> bool:
    known = before.behind.get(task)
    if known is not None:
        return is_same(known, place)
    return any(is_same(each, place) for each in before.behind.values())  # a loop may make new tasks at each turn


def place_of(task: Task, depth: int = 10) -> TaskPosition | None:
    """Return the place of a task; None if it cannot be seen, or if the task waits for something shielded."""
    frames: list[tuple[CodeType, int]] = []
    others: list[Task] = []
    for each in _chain(task.get_coro()):
        if isinstance(each, FrameType):
            frames.append((each.f_code, each.f_lasti))
            if each.f_code.co_name in GROUPS:
                others += _tasks_of(each.f_locals.get("self"))
        elif each is None or _is_shielded(each):
            return None
        else:
            others += _tasks_behind(each)
    behind: dict[Task, TaskPosition] = {}
    for other in others:
        if other.done():
            continue
        place = place_of(other, depth - 1) if depth and len(behind) < MOST else None
        if place is None:
            return None
        behind[other] = place
    return TaskPosition(tuple(frames), behind)


def _chain(waiting: Any) -> Iterator[FrameType | asyncio.Future[Any] | None]:
    """Yield the frames from a coroutine down, and the future at the end; None for what cannot be seen."""
    for _ in range(DEEPEST):
        kind = KINDS.get(type(waiting))  # pyright: ignore[reportUnknownArgumentType]
        if kind is not None:
            frame = getattr(waiting, kind[0])
            if frame is not None:
                yield frame
            waiting = getattr(waiting, kind[1])
            if waiting is None:
                return
        elif _is_future(waiting):
            yield waiting
            return
        else:  # an iterator made in C, of a future, or of a step of an asynchronous generator
            behind = [each for each in gc.get_referents(waiting) if type(each) in KINDS or _is_future(each)]
            if not behind:
                break
            waiting = behind[0]
    yield None


def _is_future(value: Any) -> bool:
    return issubclass(type(value), asyncio.Future)  # by type: inspecting a value may run code of the application


def _tasks_behind(future: Any) -> list[Task]:
    """Return the tasks behind a future: itself, or the tasks that `gather` waits for."""
    if isinstance(future, asyncio.Task):
        return [future]
    children: list[Any] = getattr(future, "_children", [])
    return [each for each in children if isinstance(each, asyncio.Task)]


def _tasks_of(group: Any) -> list[Task]:
    tasks: set[Any] = getattr(group, "_tasks", set())
    return [each for each in list(tasks) if isinstance(each, asyncio.Task)]


def _is_shielded(future: asyncio.Future[Any]) -> bool:
    callbacks = getattr(future, "_callbacks", None) or ()
    return any(getattr(each, "__qualname__", "").startswith("shield.<locals>") for each, *_ in callbacks)


def _named(task: Task) -> str:
    return "{}{}".format(*_who_and_where(task))


def _who_and_where(task: Task) -> tuple[str, str]:
    """Return the name of the application's outermost function in a task, and the line of its innermost one."""
    frames = [each for each in _chain(task.get_coro()) if isinstance(each, FrameType)]
    theirs = [each for each in frames if not each.f_code.co_filename.startswith(OWN)] or frames
    if not theirs:
        return repr(task.get_coro()), ""
    name, last = theirs[0].f_code.co_qualname, theirs[-1]
    kind = "the generator" if theirs[0].f_code.co_flags & inspect.CO_ASYNC_GENERATOR else "the coroutine"
    return f"{kind} {name}", f" ({last.f_code.co_filename}:{last.f_lineno})"
