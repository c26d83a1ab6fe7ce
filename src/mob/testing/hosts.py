"""Where an app under test runs: in processes of its own here, in threads of the test's process in `one_process`.

A host starts the Kingpin, hears what is printed, and sees to it that nothing is left. The app's processes are known by
a variable of their environment, which also those inherit that leave their group and session.
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
"""In the environment of all processes of an app under test: which one it is."""


class Host(Protocol):
    """What the two have in common."""

    name: str
    lines: PrintedLines
    is_one_process: bool

    def problem(self) -> str:
        """Why the app will not come up; "" as long as nothing speaks against it."""
        ...

    def wait_printed(self) -> None:
        """Waits for the end of an app that was told to stop: nothing more is printed then."""
        ...

    def send_signal(self, pid: int, signum: int) -> None:
        """Sends a signal to a mobster."""
        ...

    def peers(self) -> Sequence[Peer]:
        """Of those mobsters that are in this process."""
        ...

    def end(self) -> list[Leak]:
        """Waits for the end of the app, which was told to stop, or ends it by force; what it has left is ended too."""
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
        """That the Kingpin has ended."""
        if not self._tied.has_ended():
            return ""
        self._reader.join(WAIT_TIMEOUT)
        return f"its main process has ended with status {self._tied.status}"

    def wait_printed(self) -> None:
        """The end of its pipe; `end` sees to what does not end."""
        self._reader.join(WAIT_TIMEOUT)

    def send_signal(self, pid: int, signum: int) -> None:
        """To a process of the app; `ProcessLookupError` if it has ended."""
        with contextlib.closing(ProcessHandle(pid)) as held:
            if held.has_ended() or not self._is_of_the_app(pid):
                raise ProcessLookupError(pid)
            held.signal(signum)

    def _is_of_the_app(self, pid: int) -> bool:
        """Return whether the app has such a process: its number may be another's since it was asked for."""
        with contextlib.suppress(psutil.Error):
            return self._tied.pid in (pid, *(each.pid for each in psutil.Process(pid).parents()))
        return False

    def peers(self) -> Sequence[Peer]:
        """They are elsewhere."""
        return ()

    def end(self) -> list[Leak]:
        """Whatever has happened, no process is left."""
        self._look()
        self._tied.stop()  # an app that nobody could tell to
        if not self._tied.wait_ended(WAIT_TIMEOUT):
            self._look()
        self._tied.end(0)
        left = self._left()
        told = list(leaks.told_processes(left))
        for process in left:
            with contextlib.suppress(psutil.Error, OSError), contextlib.closing(ProcessHandle(process.pid)) as held:
                if process.is_running():  # by its start, so its number is not another's
                    held.signal(signal.SIGKILL)
        psutil.wait_procs(left, WAIT_TIMEOUT)
        self._reader.join(WAIT_TIMEOUT)
        self._tied.output.close()
        self._reports.cleanup()
        return told

    def _look(self) -> None:
        """Who belongs to the app now."""
        with contextlib.suppress(psutil.Error):
            self._seen |= {child.pid for child in psutil.Process(self._tied.pid).children(recursive=True)}

    def _left(self) -> list[psutil.Process]:
        """Who is still there, after a moment for those that are about to end."""
        left = leaks.processes_with(VARIABLE, self._mark, self._seen)
        psutil.wait_procs(left, leaks.FAIR if left else 0)
        return [process for process in left if process.is_running()]

    def _read(self) -> None:
        for line in self._tied.output:
            self.lines.add(line.decode(errors="replace").splitlines())
