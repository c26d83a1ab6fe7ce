"""The fork server's program: imports what a mobster needs, then forks one for each order.

The Kingpin starts it with the descriptors of its channel and of the deadman pipe, and what it must know about the app:
grace period, name, base, and the modules to preload. All mobsters share what is imported here, copy on write.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from mob.mobster import ending, life, output, preloading
from mob.rim import processes, titles
from mob.rim.forkserver import ForkServer
from mob.rim.guardian import GuardianHandle
from mob.wire import messages as m


def main(arguments: tuple[int, int, int, float, str, str, Sequence[str]]) -> None:
    """Serve until the Kingpin is dead."""
    channel, deadman_r, deadman_w, grace, app, base, modules = arguments
    titles.set_title(titles.FORK_SERVER, app)
    output.install()
    processes.keep_heap_warm()
    guard = GuardianHandle(deadman_r)
    guard.start()  # first: preloaded modules may start processes, and the guardian should not hold their memory
    for decode in (m.decode_peer, m.decode_down, m.decode_heed):
        decode(m.encode([]))  # creates the decoder for all mobsters
    preloading.preload(base, modules)
    with socket.socket(fileno=channel) as kingpin:
        ForkServer(kingpin, (deadman_r, deadman_w), guard, grace, life.main).serve()
    ending.end_interpreter(grace, 0)
    output.finish()
    os._exit(0)  # the Kingpin waits, and freeing the shared objects one by one takes long and is useless
