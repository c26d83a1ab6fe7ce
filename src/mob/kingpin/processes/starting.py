"""The start of a fork server: a fresh interpreter with the flags, module path and directory of this one.

It is never a fork of the Kingpin, which has a loop. It leads its own process group, so that Ctrl-C at the terminal
reaches only the Kingpin.

Its imports take longer than everything that the Kingpin does at its start. So the first one of an app is started before
the Kingpin is imported (`begin`), and both import at the same time. Therefore this file imports little.
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
"""Environment variable that may contain a password. It is for the Kingpin only, so mobsters do not get it."""


class NewServer(NamedTuple):
    """A fork server that was started."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    """The Kingpin's end of the channel."""


class Starter:
    """What each fork server of an app is started with. Whatever may change later is read here, once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._directory = places.here()
        self._path = [places.spelled(place) if place else place for place in sys.path]  # before links are moved
        self._has_colors = plan.logs.is_shown and standard.has_colors()
        self._first: NewServer | None = None
        self.deadman: tuple[int, int] = processes.make_deadman()
        """The two ends of the deadman pipe. The Kingpin closes them in the end."""

    def __repr__(self) -> str:
        return f"<Starter of fork servers of {self._plan.name!r}>"

    def begin(self) -> Starter:
        """Start the first fork server, which `start` will return. Raise `OSError` if the system lacks a resource."""
        standard.occupy()  # the main script may have closed the standard streams
        openfiles.raise_limit()
        self._first = self.start()
        return self

    def cancel(self) -> None:
        """End the first fork server if no Kingpin asked for it yet: there will be none."""
        if self._first is not None:
            (process, channel), self._first = self._first, None
            channel.close()
            process.kill()
            process.wait()
            for descriptor in self.deadman:
                os.close(descriptor)
            openfiles.give_back_limit()

    def start(self) -> NewServer:
        """Return a new fork server, or the one that `begin` started. Raise `OSError` if the system lacks a resource."""
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
            env.setdefault("FORCE_COLOR", "1")  # mobsters write to pipes, but their output is shown on a terminal
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
