"""The start of a fork server: a fresh interpreter, with the flags, the module path and the directory of this one.

It is never a fork of the Kingpin, which has a loop. It leads a process group of its own, so that Ctrl-C at the terminal
reaches the Kingpin alone.

An interpreter takes longer to import what it needs than the Kingpin takes for all else. So the first one of an app is
started before the Kingpin is imported (`begin`), and both import side by side. Hence this file imports little.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import NamedTuple

from mob.plan import Plan
from mob.rim import descendants, interpreter, openfiles, places, processes, standard, titles

SECRET = "MOB_CLUSTER"
"""May have a password in it, and is for the Kingpin: mobsters do not get it."""


class NewServer(NamedTuple):
    """A fork server that has been started."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    """The Kingpin's end of it."""


class Starter:
    """What each fork server of an app is started with. What of this may change later is read here, once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._directory = places.here()
        self._path = [places.spelled(place) if place else place for place in sys.path]  # before a link is moved
        self._has_colors = plan.logs.is_shown and standard.has_colors()
        self._first: NewServer | None = None
        self.deadman: tuple[int, int] = processes.make_deadman()
        """The two ends of the deadman pipe. Who asks for a fork server closes them in the end."""

    def __repr__(self) -> str:
        return f"<Starter of fork servers of {self._plan.name!r}>"

    def begin(self) -> Starter:
        """Start the first one, which `start` returns. `OSError` if the system lacks what it takes."""
        standard.occupy()  # the main script may have closed them
        openfiles.raise_limit()
        self._first = self.start()
        return self

    def cancel(self) -> None:
        """End the one that was begun, if nothing has asked for it yet: there will be no Kingpin."""
        if self._first is not None:
            (process, channel), self._first = self._first, None
            channel.close()
            process.kill()
            process.wait()
            for descriptor in self.deadman:
                os.close(descriptor)
            openfiles.give_back_limit()

    def start(self) -> NewServer:
        """Start one, or return the one that was begun. `OSError` if the system lacks what it takes."""
        if self._first is not None:
            first, self._first = self._first, None
            return first
        own, other = socket.socketpair()
        passed = (other.fileno(), *self.deadman)
        plan = self._plan
        of_the_app = {"", plan.base, self._directory}
        arguments = (*passed, plan.grace, plan.name, plan.base, plan.preload)
        env = {name: value for name, value in os.environ.items() if name != SECRET}
        env[descendants.APP_MARK] = descendants.name_of(self.deadman[0])
        env[titles.VARIABLE] = titles.style_of(plan.titles)
        if self._has_colors:
            env.setdefault("FORCE_COLOR", "1")  # mobsters have pipes, and what they print is seen on a terminal
        own_or_root = os.sep if places.is_blinding() else None
        try:
            process = subprocess.Popen(
                interpreter.command("mob.mobster.__main__", arguments, self._path, of_the_app),
                cwd=self._directory if os.path.isdir(self._directory) else own_or_root,
                pass_fds=passed,
                process_group=0,
                stdin=subprocess.DEVNULL,
                env=env,
            )
        except OSError:
            own.close()
            raise
        finally:
            other.close()
        return NewServer(process, own)
