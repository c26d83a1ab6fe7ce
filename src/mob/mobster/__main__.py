"""The fork server's program: imports what a mobster needs, then forks one for each order.

The Kingpin starts it with the descriptors of its channel and of the deadman pipe, the grace time and the app's name.
"""

from __future__ import annotations

import socket

import setproctitle

from mob.mobster import life, output
from mob.rim import processes
from mob.rim.forkserver import ForkServer


def main(arguments: tuple[int, int, int, float, str]) -> None:
    """Serves until the Kingpin is gone."""
    channel, deadman_r, deadman_w, grace, app = arguments
    setproctitle.setproctitle(f"{app} (fork server)")
    output.install()
    processes.keep_heap_warm()
    ForkServer(socket.socket(fileno=channel), (deadman_r, deadman_w), grace, life.main).serve()
