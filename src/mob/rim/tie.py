"""The tie between a process and an app that it started: however the process ends, the app ends too.

It is a socket pair with one end in each. Down it goes an order, one line of JSON that says what to run, and then a byte
for each request to stop; up it comes one line, `AppUp` or `AppRefused`. When the pair closes, the parent is dead and
cannot stop the app any more, so the app has `LAST_GRACE` to stop gracefully. A forked child of the parent may live
longer. It closes its copy; in case it does not (a fork by C code), the parent process is watched as well.

The parent is whatever called: a script, one of its threads, a mobster of another app. Below is a fresh interpreter.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from mob.errors import AppRunning, MobError, PlanError
from mob.rim import interpreter, places, processes, systemd
from mob.rim.pidfds import ProcessHandle

T = TypeVar("T")
KINGPIN = "mob.kingpin.tied"
"""Module of a Kingpin that receives a plan as its order."""
LAST_GRACE = 5.0
"""Seconds that an app has to stop gracefully when its parent is dead."""
START_TIMEOUT = 60.0
"""Maximum seconds until an app listens; it takes a fraction of one, and longer where many start at once."""
KILL_TIMEOUT = 5.0
"""Seconds to wait for a killed process to exit; one that is blocked in the kernel does not."""
NOT_PASSED_ON = frozenset({"MOB_UPGRADE", *systemd.VARIABLES, *systemd.PASSED})
"""Environment variables meant for the parent only."""
REFUSALS: Mapping[str, type[MobError]] = {each.__name__: each for each in (AppRunning, PlanError, MobError)}
"""The errors with which an app can fail before it listens."""
STOP = b"."
REQUESTS = (signal.SIGTERM, signal.SIGINT)
"""The signals as which requests to stop arrive below, in turn: two equal ones may arrive as one."""


class AppUp(msgspec.Struct, frozen=True, tag=True):
    """The app can be reached."""

    address: str


class AppRefused(msgspec.Struct, frozen=True, tag=True):
    """The app does not start."""

    kind: str
    text: str
    pid: int | None = None


class TiedApp:
    """The upper end: an app that this process started and that ends with it."""

    def __init__(
        self,
        program: str,
        order: msgspec.Struct,
        *,
        directory: str | None = None,
        environment: Mapping[str, str] | None = None,
        output: int | None = None,
    ) -> None:
        """Start the app.

        Args:
            program: Module whose `main` receives the order.
            order: What to run.
            directory: Working directory (default: that of this process).
            environment: Variables in addition to those of this process.
            output: Descriptor for its output, as in `subprocess.Popen` (default: the output of this process).

        Raises:
            OSError: The system lacks a resource.
            PlanError: No interpreter can be started from here.
        """
        interpreter.check()
        self.began: float = time.time()
        """Start time in seconds since the epoch."""
        self._read = b""
        with _lock:
            self._sock, below = socket.socketpair()
            _above.add(self)
        own_or_root = os.sep if places.is_blinding() else None
        of_the_app = {"", places.here(), *sys.path[:1]}
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                interpreter.command(program, (below.fileno(), os.getpid()), sys.path, of_the_app),
                cwd=directory or own_or_root,
                env={**{k: v for k, v in os.environ.items() if k not in NOT_PASSED_ON}, **(environment or {})},
                pass_fds=[below.fileno()],
                start_new_session=True,  # Ctrl-C at the terminal is only for the parent
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
            )
        except BaseException:
            self._sock.close()
            raise
        finally:
            below.close()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it already ended, and said why
            self._sock.sendall(msgspec.json.encode(order) + b"\n")

    def __repr__(self) -> str:
        return f"<TiedApp, Kingpin {self.pid}{', ended' if self.has_ended() else ''}>"

    @property
    def pid(self) -> int:
        """The process id of its Kingpin."""
        return self._process.pid

    @property
    def output(self) -> Any:
        """Its output, if `output` was a pipe."""
        return self._process.stdout

    @property
    def status(self) -> int | None:
        """Its exit status, as in `subprocess.Popen`; None while it runs."""
        return self._process.returncode

    def wait_listening(self, timeout: float = START_TIMEOUT) -> str:
        """Wait until it can be reached; return its address. Raise the error of the app (`MobError`) if it cannot."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._read:
            if not self._wait(deadline - time.monotonic(), self._sock):
                raise MobError(f"the Kingpin (pid {self.pid}) was not up within {timeout:g} s.")
            data = self._receive()
            if not data:
                self.wait_ended(KILL_TIMEOUT)
                raise MobError(
                    f"the Kingpin (pid {self.pid}) exited with status {self.status} before the app was up. Its output "
                    f"says why."
                )
            self._read += data
        word = msgspec.json.decode(self._read, type=AppUp | AppRefused)
        if isinstance(word, AppUp):
            return word.address
        self.wait_ended(KILL_TIMEOUT)
        kind = REFUSALS[word.kind]
        raise kind(word.text, word.pid) if kind is AppRunning else kind(word.text)

    def _receive(self) -> bytes:
        """Return its message, or b"" if it ended."""
        with contextlib.suppress(ConnectionError, BlockingIOError):
            return self._sock.recv(4096, socket.MSG_DONTWAIT)
        return b""

    def stop(self) -> None:
        """Ask it to stop gracefully, or immediately if it was asked before. Resume it if it was stopped (SIGSTOP)."""
        with contextlib.suppress(OSError):  # it ended
            self._sock.send(STOP, socket.MSG_DONTWAIT)
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill its Kingpin; the rest of the app then ends as after any death of a Kingpin."""
        self._signal(signal.SIGKILL)

    def _signal(self, signum: int) -> None:
        if not self.has_ended():  # a child that was not reaped keeps its number
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def has_ended(self) -> bool:
        """Return True if its Kingpin ended, which is then reaped."""
        return self._process.poll() is not None

    def wait_ended(self, timeout: float) -> bool:
        """Wait until its Kingpin ends, at most that many seconds; return True if it did."""
        self._wait(timeout)
        return self.has_ended()

    def _wait(self, seconds: float, *others: socket.socket) -> bool:
        """Wait until its Kingpin ends, or sends something on these sockets; return True if that happened in time."""
        if self.has_ended():
            return True
        with contextlib.closing(ProcessHandle(self.pid)) as held:
            return _is_any_ready(seconds, held, *others)

    def end(self, timeout: float) -> None:
        """Stop it gracefully within that many seconds; after that, or on Ctrl-C, immediately."""
        self.stop()
        try:
            if not self.wait_ended(timeout):
                self.kill()
        except BaseException:
            self.stop()
            if not self.wait_ended(KILL_TIMEOUT):
                self.kill()
            raise
        finally:
            self.wait_ended(KILL_TIMEOUT)
            self._sock.close()

    def abandon(self) -> None:
        """Release the app in the child of a fork, because it belongs to the parent."""
        self._sock.close()
        if hasattr(self, "_process"):
            self._process.returncode = 0  # so that nothing here waits for it or warns of it


_above: weakref.WeakSet[TiedApp] = weakref.WeakSet()
_lock = threading.RLock()
"""Held while a pair is made, so that no fork happens before it is noted."""


def _abandon_all() -> None:
    for app in list(_above):
        app.abandon()
    _above.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_abandon_all)


class Tie:
    """The lower end, in the Kingpin."""

    def __init__(self, descriptor: int, above: int) -> None:
        """Take the end of the pair; `above` is the process id of the parent."""
        os.set_inheritable(descriptor, False)
        self._descriptor = descriptor
        self._above = above
        self._read = b""

    def __repr__(self) -> str:
        return f"<Tie to {self._above}>"

    def receive(self, kind: type[T]) -> T:
        """Return the order.

        From now on this process has the signal handlers of a new program, and each request to stop arrives as one of
        `REQUESTS`.
        """
        while b"\n" not in self._read:
            data = os.read(self._descriptor, 1024 * 1024)
            if not data:
                raise SystemExit(1)  # the parent died before it sent an order
            self._read += data
        order, _, asked = self._read.partition(b"\n")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        processes.start_thread(lambda: self._watch(len(asked)), "mob-tie")
        return msgspec.json.decode(order, type=kind)

    def say(self, word: AppUp | AppRefused) -> None:
        """Report to the parent what became of the app."""
        with contextlib.suppress(OSError):  # the parent is dead
            os.write(self._descriptor, msgspec.json.encode(word) + b"\n")

    def refuse(self, error: MobError) -> None:
        """Report to the parent the error with which the app fails to start."""
        kind = next(each.__name__ for each in type(error).__mro__ if each.__name__ in REFUSALS)
        self.say(AppRefused(kind, str(error), getattr(error, "pid", None)))

    def _watch(self, asked: int) -> None:
        requests = itertools.cycle(REQUESTS)
        while True:
            for _ in range(asked):
                os.kill(os.getpid(), next(requests))
            asked = len(self._wait())
            if not asked:
                break
        os.kill(os.getpid(), next(requests))
        time.sleep(LAST_GRACE)
        os.kill(os.getpid(), next(requests))

    def _wait(self) -> bytes:
        """Return the requests; b"" if the parent is dead."""
        held: ProcessHandle | None = None
        with contextlib.suppress(OSError):  # it is dead, or there is no free descriptor: the pair alone must do
            held = ProcessHandle(self._above)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if held is not None:
            poll.register(held.fileno(), select.POLLIN)
        try:
            if os.getppid() != self._above:
                return b""
            ready = [descriptor for descriptor, _ in poll.poll()]
            return os.read(self._descriptor, 64) if self._descriptor in ready else b""
        except ConnectionError:
            return b""
        finally:
            if held is not None:
                held.close()


def _is_any_ready(seconds: float, *sources: socket.socket | ProcessHandle) -> bool:
    poll = select.poll()
    for source in sources:
        poll.register(source, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))
