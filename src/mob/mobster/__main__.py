"""The fork server's program: imports what a mobster needs, then forks one for each order.

The Kingpin starts it with the descriptors of its channel and of the deadman pipe, and what it must know of the app:
grace time, name, base, and the modules to preload. What is imported here is shared by all mobsters, copy on write.
"""

from __future__ import annotations

import importlib
import socket
import sys
import threading
import traceback
from collections.abc import Sequence

import setproctitle

from mob.mobster import life, loading, output
from mob.rim import processes
from mob.rim.forkserver import ForkServer


def main(arguments: tuple[int, int, int, float, str, str, Sequence[str]]) -> None:
    """Serves until the Kingpin is gone."""
    channel, deadman_r, deadman_w, grace, app, base, modules = arguments
    setproctitle.setproctitle(f"{app} (fork server)")
    output.install()
    processes.keep_heap_warm()
    preload(base, modules)
    ForkServer(socket.socket(fileno=channel), (deadman_r, deadman_w), grace, life.main).serve()


def preload(base: str, modules: Sequence[str]) -> None:
    """Imports modules once for all mobsters. One that fails is told, and left to the mobsters that want it.

    A thread that a module starts does not come along in a fork, and what it holds stays held: that is told as well.
    """
    if modules:
        loading.make_importable(base)
    for module in modules:
        before = threading.active_count()
        try:
            importlib.import_module(module)
        except BaseException:  # noqa: BLE001  whatever the module does, the fork server goes on
            reason = traceback.format_exc().replace("\n", "\n    ")
            print(f"mob: {module!r} cannot be preloaded:\n    {reason}", file=sys.stderr, flush=True)
        if threading.active_count() > before:
            print(
                f"mob: preloading {module!r} has started a thread, which no mobster will have: locks that it holds at "
                f"a fork are never released. Import it in the roles that need it instead.",
                file=sys.stderr,
                flush=True,
            )
