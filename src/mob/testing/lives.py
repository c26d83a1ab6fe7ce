"""A mobster in a thread: its life in a process, without what belongs to a process.

Its links, its codec, its calls and its supervision are the real ones. There are no signals, no shared ports and no
system limits; its pid is invented and higher than any real one, so a signal to it reaches no process. A death cannot
end a thread: it closes the sockets at once, as the kernel would, and what the thread still does reaches no one.

The mobster that calls `mob.require` and the like, or prints, is known by the context in which it runs, or else (in a
thread of the application's own) by the module of the code.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import itertools
import os
import signal
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from time import monotonic
from types import FrameType, ModuleType
from typing import Any, TextIO

from mob.mobster import api, ending, loading
from mob.mobster.health.liveness import Liveness
from mob.mobster.life import Life
from mob.mobster.output import WholeLines
from mob.wire import messages as m

PIDS = itertools.count(10_000_001)
"""Invented process ids; those of Linux are at most 4,194,304."""
HERE: ContextVar[ThreadLife | None] = ContextVar("mob_testing_here", default=None)
TASKS_TIMEOUT = 1.0
"""Seconds that cancelled tasks have to end at the end of a mobster."""
_by_module: dict[int, ThreadLife] = {}  # by the id of the module's namespace


class Pulse(Liveness):
    """A liveness thread that ends with its mobster, and ends nothing else."""

    def _end_late(self) -> None:
        pass


class ThreadLife(Life):
    """One mobster, in a thread of its own."""

    lingers = False
    is_process = False
    pulse = Pulse

    def __init__(self, order: m.Fork, descriptors: list[int], pid: int, on_end: Callable[[int], None]) -> None:
        self._sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors[:2]]
        super().__init__(order, *self._sockets)
        self.peer.context.pid = pid
        self._on_end = on_end
        self.streams: list[WholeLines] = [
            WholeLines(io.BufferedWriter(io.FileIO(each, "w"))) for each in descriptors[2:]
        ]
        """The streams for its output: stdout and stderr."""
        self.born: float = monotonic()
        self.is_dead: bool = False
        self._fate: int | None = None  # the status with which it was ended
        self._ending = threading.Lock()
        self._has_ended = False

    @property
    def has_ended(self) -> bool:
        """True if the app knows of its end."""
        return self._has_ended

    def live(self) -> None:
        """Run the mobster from its first instruction to its end; the body of a thread."""
        status = 70
        try:
            status = self.run()
        except BaseException:  # noqa: BLE001  last frame of the thread: shown, and becomes the exit status
            traceback.print_exc()
        finally:
            self._free()
            self._end(status if self._fate is None else self._fate)

    def die(self, status: int = -signal.SIGKILL) -> None:
        """End it at once, whatever it does; from any thread."""
        self._fate = status
        self.is_dead = self.stopping = True
        self.peer.control.on_gone = _nothing
        self.peer.serving.inbox.calls = deque()  # a thread goes on: what it has not begun goes to others
        for each in self.peer.contacts.links():
            each.cut()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._end(status)
        self.reactor.call(partial(self.begin_stop, 0.0))

    def standing(self) -> str:
        """Return the position of the thread that imports the module."""
        frame = sys._current_frames().get(self.thread.ident or 0)  # pyright: ignore[reportPrivateUsage]
        while frame is not None and _life_of(frame) is not self:
            frame = frame.f_back
        return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"

    thread: threading.Thread
    """The thread in which it lives."""

    # ---------------------------------------------------------------------------------- instead of a process

    def begin_stop(self, grace: float) -> None:
        """Begin the shutdown like any mobster; a dead one only leaves its loop."""
        if self.is_dead:
            self.reactor.loop.stop()
        else:
            super().begin_stop(grace)

    def _enter_process(self) -> None:
        pass

    def _wake_module(self) -> None:
        """End the mobster, because nothing can wake a thread that is blocked in its import."""
        self.die(0)

    async def _drain(self) -> None:
        if self.is_dead:
            self.reactor.loop.stop()
        else:
            await super()._drain()

    def _load(self) -> ModuleType:
        """Return a new module object, whatever others have imported."""
        path = self.order.role.module
        spec, loader = loading.found(path, Path(path).stem)
        module = importlib.util.module_from_spec(spec)
        self.module: ModuleType | None = module
        _by_module[id(module.__dict__)] = self
        sys.modules.setdefault(spec.name, module)  # dataclasses and pickle look there
        loader.exec_module(module)
        return module

    # --------------------------------------------------------------------------------------------- the end

    def _end(self, status: int) -> None:
        with self._ending:
            has_ended, self._has_ended = self._has_ended, True
        if not has_ended:
            self._on_end(status)

    def _free(self) -> None:
        """Free what the kernel frees for a process."""
        peer, loop = self.peer, self.reactor.loop
        ending = loop.create_task(_end_tasks())
        ending.add_done_callback(lambda _: loop.stop())
        while not ending.done():  # code that was about to stop the loop when the kill came may do so now
            loop.run_forever()
        for each in peer.contacts.links():
            each.close()
        peer.control.on_gone = _nothing
        peer.control.close()
        self._close_liveness()
        self.vitals.close()
        if peer.serving.threads is not None:
            peer.serving.threads.end()
        if peer.context.board is not None:
            board, peer.context.board = peer.context.board, None
            board.close()
        peer.references.close()
        loop.close()
        self.reactor.close()
        for stream in self.streams:
            with contextlib.suppress(ValueError, OSError):
                stream.finish()
                stream.buffer.close()  # those of a process stay open
        if self.module is not None:
            _by_module.pop(id(self.module.__dict__), None)

    def _close_liveness(self) -> None:
        """Close the liveness socket after its thread, which uses the loop, has ended."""
        liveness = self._sockets[1]
        with contextlib.suppress(OSError):
            liveness.shutdown(socket.SHUT_RDWR)
        self.liveness.join()
        liveness.close()


def begin(order: m.Fork, descriptors: list[int], pid: int, on_end: Callable[[int], None]) -> ThreadLife:
    """Start a mobster; the descriptors (control, liveness, stdout, stderr) are its own from now on."""
    life = ThreadLife(order, descriptors, pid, on_end)
    life.thread = threading.Thread(
        target=_live, args=(life,), name=f"mob-{order.app}-{order.role.name}.{order.index}", daemon=True
    )
    life.thread.start()
    return life


def _live(life: ThreadLife) -> None:
    HERE.set(life)
    life.live()


def current() -> ThreadLife | None:
    """Return the mobster whose code is running."""
    life = HERE.get()
    frame = sys._getframe(1) if life is None and _by_module else None  # pyright: ignore[reportPrivateUsage]
    while life is None and frame is not None:
        life, frame = _life_of(frame), frame.f_back
    return life


def _life_of(frame: FrameType) -> ThreadLife | None:
    return _by_module.get(id(frame.f_globals))


def find_seat() -> api.Seat | None:
    """Return the seat of the mobster that calls `mob.require` and the like."""
    life = current()
    return None if life is None else (life.peer, life.be_ready)


class Routed(io.TextIOBase):
    """Standard output or standard error, separate for each mobster."""

    def __init__(self, beneath: TextIO, number: int) -> None:
        self.beneath = beneath
        self._number = number

    def _stream(self) -> TextIO:
        life = current()
        return self.beneath if life is None or life.streams[self._number].closed else life.streams[self._number]

    def write(self, text: str, /) -> int:
        """Write to the stream of the current mobster."""
        return self._stream().write(text)

    def flush(self) -> None:
        """Flush the stream of the current mobster."""
        self._stream().flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.beneath, name)


def route_output() -> None:
    """Route the output of mobsters to their streams, whatever sys.stdout is now."""
    for number, name in enumerate(("stdout", "stderr")):
        if not isinstance(stream := getattr(sys, name), Routed):
            setattr(sys, name, Routed(stream, number))


def leave_output() -> None:
    """Restore the streams."""
    for name in ("stdout", "stderr"):
        if isinstance(stream := getattr(sys, name), Routed):
            setattr(sys, name, stream.beneath)


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=TASKS_TIMEOUT)
    await ending.close_generators(TASKS_TIMEOUT)


def _nothing() -> None:
    pass


def close_all(descriptors: list[int]) -> None:
    """Close the descriptors of a mobster that is not started after all."""
    for descriptor in descriptors:
        os.close(descriptor)
