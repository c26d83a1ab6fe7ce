"""Environment variables that cannot be set for a role alone, because they are read before its code runs.

A mobster is a fork of the fork server, so its interpreter, its dynamic linker and its memory allocator are already
running when the `env` of its role is set. What they read at their start must be in the environment of the whole app;
this module lists those variables, and why. Some can be applied later, which `rim.environment` does. Pure.
"""

from __future__ import annotations

PYTHON = "Python reads it when the interpreter starts, and mobsters are forks of a running interpreter"
LINKER = "the dynamic linker reads it when a program starts, and mobsters are forks of a running program"
ALLOCATOR = "the C library reads it when a program starts, and mobsters are forks of a running program"
PREFIXES = {"PYTHON": PYTHON, "LD_": LINKER, "DYLD_": LINKER, "MALLOC_": ALLOCATOR, "GLIBC_TUNABLES": ALLOCATOR}
"""Prefixes of the names, and why the variables cannot be set later."""
TAKEN_OVER = frozenset({"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS", "TZ"})
"""Variables that are read at the start as well, but can be applied later in a mobster."""
HARMLESS = frozenset({"PYTHONBREAKPOINT", "PYTHONUNBUFFERED", "PYTHONASYNCIODEBUG", "PYTHONFAULTHANDLER"})
"""Variables that are read when they are needed, or that ask for what is so anyway."""
AT_LOAD = frozenset(
    {
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "GOTO_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "OMP_PROC_BIND",
        "OMP_WAIT_POLICY",
        "KMP_AFFINITY",
        "KMP_BLOCKTIME",
    }
)
"""Variables that are read when a C library is loaded, which `preload` may do."""
LIBRARIES = ("libgomp", "libomp", "libiomp", "openblas", "libmkl", "libblis")
"""Parts of the names of the files of such libraries."""


def why_refused(name: str) -> str:
    """Return why a variable cannot be set for a role alone; "" if it can.

    >>> why_refused("LD_PRELOAD")
    'the dynamic linker reads it when a program starts, and mobsters are forks of a running program'
    >>> why_refused("LEVEL"), why_refused("PYTHONPATH")
    ('', '')
    """
    if name in TAKEN_OVER or name in HARMLESS:
        return ""
    return next((reason for prefix, reason in PREFIXES.items() if name.startswith(prefix)), "")
