"""The host of an app under test: processes of its own here, threads of the test's process in `one_process`.

A host starts the Kingpin, reads its output, and ensures that nothing is left. The app's processes are recognized by a
variable of their environment, which is inherited even if they leave their group and session.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Sequence
from typing import Protocol

import psutil

from mob.peer.peer import Peer
from mob.rim.pidfds import ProcessHandle
from mob.rim.tie import TiedApp
from mob.testing import leaks
from mob.testing.described import Described
from mob.testing.launched import LaunchOrder
from mob.testing.leaks import Leak
from mob.testing.lines import WAIT_TIMEOUT, PrintedLines

PROGRAM = "mob.testing.launched"
VARIABLE = "MOB_TESTING"
"""The environment variable of all processes of an app under test, with the app's mark."""


class Host(Protocol):
    """The common interface of the two hosts."""

    name: str
    lines: PrintedLines
    is_one_process: bool

    def problem(self) -> str:
        """Return why the app will not come up; "" while nothing is wrong."""
        ...

    def wait_printed(self) -> None:
        """Wait for the end of an app that was asked to stop, after which nothing more is printed."""
        ...

    def send_signal(self, pid: int, signum: int) -> None:
        """Send a signal to a mobster."""
        ...

    def peers(self) -> Sequence[Peer]:
        """Return the peers of the mobsters in this process."""
        ...

    def end(self) -> list[Leak]:
        """Wait for the end of the app, which was asked to stop, or end it by force; end and return what it left."""
        ...


class Processes:
    """An app in processes of its own."""

    is_one_process = False

    def __init__(self, wanted: Described) -> None:
        self.name: str = wanted.name
        self.lines: PrintedLines = PrintedLines()
        self._reports = tempfile.TemporaryDirectory(prefix="mob-crashes-")
        self._mark = uuid.uuid4().hex
        self._seen: set[int] = set()
        order = LaunchOrder(wanted, self._reports.name)
        self._tied = TiedApp(
            PROGRAM,
            order,
            directory=wanted.directory,
            environment={VARIABLE: self._mark},
            output=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, name=f"mob-output-{self.name}", daemon=True)
        self._reader.start()

    def __repr__(self) -> str:
        return f"<Processes of {self.name!r}, Kingpin {self._tied.pid}>"

    def problem(self) -> str:
        """Return the problem if the Kingpin has ended."""
        if not self._tied.has_ended():
            return ""
        self._reader.join(WAIT_TIMEOUT)
        return f"its main process ended with status {self._tied.status}"

    def wait_printed(self) -> None:
        """Wait for the end of its output; `end` handles an app that does not end."""
        self._reader.join(WAIT_TIMEOUT)

    def send_signal(self, pid: int, signum: int) -> None:
        """Send a signal to a process of the app; `ProcessLookupError` if it has ended."""
        with contextlib.closing(ProcessHandle(pid)) as held:
            if held.has_ended() or not self._is_of_the_app(pid):
                raise ProcessLookupError(pid)
            held.signal(signum)

    def _is_of_the_app(self, pid: int) -> bool:
        """Return True if the process belongs to the app; its number may have been reused meanwhile."""
        with contextlib.suppress(psutil.Error):
            return self._tied.pid in (pid, *(each.pid for each in psutil.Process(pid).parents()))
        return False

    def peers(self) -> Sequence[Peer]:
        """Return nothing, since the mobsters are in other processes."""
        return ()

    def end(self) -> list[Leak]:
        """End all processes, whatever happened, and return those that had to be killed."""
        self._look()
        self._tied.stop()  # for an app that could not be reached
        if not self._tied.wait_ended(WAIT_TIMEOUT):
            self._look()
        self._tied.end(0)
        left = self._left()
        told = list(leaks.told_processes(left))
        for process in left:
            with contextlib.suppress(psutil.Error, OSError), contextlib.closing(ProcessHandle(process.pid)) as held:
                if process.is_running():  # compared by its start, in case its number was reused
                    held.signal(signal.SIGKILL)
        psutil.wait_procs(left, WAIT_TIMEOUT)
        self._reader.join(WAIT_TIMEOUT)
        self._tied.output.close()
        self._reports.cleanup()
        return told

    def _look(self) -> None:
        """Note the processes that belong to the app now."""
        with contextlib.suppress(psutil.Error):
            self._seen |= {child.pid for child in psutil.Process(self._tied.pid).children(recursive=True)}

    def _left(self) -> list[psutil.Process]:
        """Return the processes that remain, after a moment for those that are about to end."""
        left = leaks.processes_with(VARIABLE, self._mark, self._seen)
        psutil.wait_procs(left, leaks.FAIR if left else 0)
        return [process for process in left if process.is_running()]

    def _read(self) -> None:
        for line in self._tied.output:
            self.lines.add(line.decode(errors="replace").splitlines())
