"""What is imported before the fork, and what of it a fork leaves in a state that a mobster cannot use.

Threads do not come along in a fork. Those of Python's are counted by Python; those of libraries in C (a pool of
OpenMP's that a model has computed with, a driver, a client of a database) are only seen by the kernel, and what waits
for them in a mobster waits for ever. OpenBLAS, which NumPy brings along, starts threads when it is loaded, ends them
before a fork and starts them again: those are no trouble, so they are asked for and not counted.

Generators of random numbers do come along, all in the same state: the global ones are seeded anew in each mobster.
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
"""Seconds in which a thread that has ended for Python ends for the kernel too."""
ENDED_INTERVAL = 0.01
COUNTERS = tuple(
    f"{prefix}openblas_get_num_threads{suffix}" for prefix in ("", "scipy_") for suffix in ("", "64_", "_64", "_64_")
)
"""What the function of OpenBLAS is called that tells how many threads it has, by who has built it."""


def preload(base: str, modules: Sequence[str]) -> None:
    """Import modules once for all mobsters. Say which of them fail (they are left to the mobsters that want them),
    and which of them start threads."""
    if modules:
        loading.make_importable(base)
    for module in modules:
        before, native = threading.active_count(), native_threads()
        try:
            importlib.import_module(module)
        except BaseException:  # noqa: BLE001  whatever the module does, the fork server goes on
            reason = traceback.format_exc().replace("\n", "\n    ")
            _say(f"{module!r} cannot be preloaded:\n    {reason}")
        if threading.active_count() > before:
            _say(
                f"preloading {module!r} has started a thread, which no mobster will have: locks that it holds at a "
                f"fork are never released. Import it in the roles that need it instead."
            )
        elif (more := _more_native_threads(native)) > 0:
            _say(
                f"preloading {module!r} has started {counted(more, 'thread')} of a library in C, "
                f"which no mobster will have: what waits for them there waits for ever (OpenMP, used by scikit-learn "
                f"and others, does). Preload what only defines things, and compute in the roles."
            )


def reseed() -> None:
    """In a mobster: give the global generators of random numbers seeds of their own. `random` does so by itself."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None and hasattr(numpy, "seed"):
        numpy.seed()
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "default_generator"):
        torch.default_generator.seed()


def _more_native_threads(before: int) -> int:
    """Return how many there are more than before, once those that are about to end have ended."""
    until = time.monotonic() + THREAD_END_TIMEOUT
    while (more := native_threads() - before) > 0 and time.monotonic() < until:
        time.sleep(ENDED_INTERVAL)
    return more


def native_threads() -> int:
    """Return how many threads Python knows nothing of, without those that bear a fork; 0 where this cannot be seen."""
    try:
        count = len(os.listdir(TASKS))
    except OSError:
        return 0
    return max(0, count - threading.active_count() - sum(_threads_of_openblas()))


def _threads_of_openblas() -> Iterator[int]:
    """Yield how many threads each OpenBLAS has started that is loaded here."""
    for path in environment.loaded(("openblas",)):
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
            counter = next((name for name in COUNTERS if hasattr(library, name)), "")
            yield max(0, getattr(library, counter)() - 1) if counter else 0


def _say(text: str) -> None:
    print(f"mob: {text}", file=sys.stderr, flush=True)
