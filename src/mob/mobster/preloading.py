"""Imports modules before the fork, and reports what a fork leaves unusable in a mobster.

A fork does not copy threads. Python counts its own; threads of C libraries (an OpenMP pool that a model has used, a
driver, a database client) are visible only to the kernel, and code in a mobster that waits for them waits forever.
OpenBLAS, which comes with NumPy, starts threads when it is loaded, ends them before a fork and starts them again: those
are harmless, so their number is queried and subtracted.

Random number generators are copied, all in the same state: the global ones get a new seed in each mobster.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence

from mob.errors import counted
from mob.mobster import loading
from mob.rim import environment

TASKS = "/proc/self/task"
THREAD_END_TIMEOUT = 0.2
"""Seconds within which a thread that ended in Python also ends in the kernel."""
ENDED_INTERVAL = 0.01
COUNTERS = tuple(
    f"{prefix}openblas_get_num_threads{suffix}" for prefix in ("", "scipy_") for suffix in ("", "64_", "_64", "_64_")
)
"""Possible names of OpenBLAS's function that returns its number of threads; they depend on the build."""


def preload(base: str, modules: Sequence[str]) -> None:
    """Import modules once for all mobsters, and report those that fail (mobsters import them then) or start threads."""
    if modules:
        loading.make_importable(base)
    for module in modules:
        before, native = threading.active_count(), native_threads()
        try:
            importlib.import_module(module)
        except BaseException:  # noqa: BLE001  any exception of the module; the fork server continues
            reason = traceback.format_exc().replace("\n", "\n    ")
            _say(f"{module!r} cannot be preloaded:\n    {reason}")
        if threading.active_count() > before:
            _say(
                f"preloading {module!r} started a thread, which no worker will have: locks that it holds during a "
                f"fork are never released. Import the module in the roles that need it instead."
            )
        elif (more := _more_native_threads(native)) > 0:
            _say(
                f"preloading {module!r} started {counted(more, 'thread')} of a C library, which no worker will have: "
                f"code that waits for them there waits forever, as in OpenMP, which scikit-learn and others use. "
                f"Preload only modules that define things, and compute in the roles."
            )


def reseed() -> None:
    """Give the global random number generators new seeds, in a mobster. `random` does so by itself."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None and hasattr(numpy, "seed"):
        numpy.seed()
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        torch.default_generator.seed()


def _more_native_threads(before: int) -> int:
    """Return how many more threads there are than before, after those that are ending have ended."""
    until = time.monotonic() + THREAD_END_TIMEOUT
    while (more := native_threads() - before) > 0 and time.monotonic() < until:
        time.sleep(ENDED_INTERVAL)
    return more


def native_threads() -> int:
    """Return the number of threads unknown to Python, except those that survive a fork; 0 where it cannot be read."""
    try:
        count = len(os.listdir(TASKS))
    except OSError:
        return 0
    return max(0, count - threading.active_count() - sum(_threads_of_openblas()))


def _threads_of_openblas() -> Iterator[int]:
    """Yield the number of threads that each loaded OpenBLAS has started."""
    for path in environment.loaded(("openblas",)):
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            counter = next((name for name in COUNTERS if hasattr(library, name)), "")
            yield max(0, getattr(library, counter)() - 1) if counter else 0


def _say(text: str) -> None:
    print(f"mob: {text}", file=sys.stderr, flush=True)
