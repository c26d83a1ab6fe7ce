"""Environment variables that a role cannot have for itself, because they are read before its code runs.

A mobster is a fork of the fork server, so its interpreter, its dynamic linker and its memory allocator are running when
the `env` of its role is set. What they read at their start must be in the environment of the whole app; here is which
those are, and why. What can be taken over later is done by `rim.environment`. Pure.
"""

from __future__ import annotations

PYTHON = "Python reads it when the interpreter starts, and mobsters are forks of an interpreter that runs"
LINKER = "the dynamic linker reads it when a program starts, and mobsters are forks of a program that runs"
ALLOCATOR = "the C library reads it when a program starts, and mobsters are forks of a program that runs"
PREFIXES = {"PYTHON": PYTHON, "LD_": LINKER, "DYLD_": LINKER, "MALLOC_": ALLOCATOR, "GLIBC_TUNABLES": ALLOCATOR}
"""How the names begin, and who reads them."""
TAKEN_OVER = frozenset({"PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS", "TZ"})
"""Read at the start as well, and taken over in a mobster."""
HARMLESS = frozenset({"PYTHONBREAKPOINT", "PYTHONUNBUFFERED", "PYTHONASYNCIODEBUG", "PYTHONFAULTHANDLER"})
"""Read when they are needed, or what they ask for is so anyway."""
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
"""Read when a library of C is loaded, which `preload` may have done."""
LIBRARIES = ("libgomp", "libomp", "libiomp", "openblas", "libmkl", "libblis")
"""Parts of the names of the files that do so."""


def why_refused(name: str) -> str:
    """Return why a role cannot have this variable for itself; nothing if it can.

    >>> why_refused("LD_PRELOAD")
    'the dynamic linker reads it when a program starts, and mobsters are forks of a program that runs'
    >>> why_refused("LEVEL"), why_refused("PYTHONPATH")
    ('', '')
    """
    if name in TAKEN_OVER or name in HARMLESS:
        return ""
    return next((reason for prefix, reason in PREFIXES.items() if name.startswith(prefix)), "")
