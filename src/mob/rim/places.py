"""Paths as the user has spelled them, through symbolic links: `/srv/app/current/main.py`, not `/srv/app/r41/main.py`.

A release is often put into service by pointing a link to another directory. The system knows the working directory and
Python the first entry of `sys.path` only as the link was resolved at the start, so a reload would read the old release
for ever. How the user came there is told by what he typed: PWD, the path of the interpreter and that of the script.

And where files of mob's own lie, if there is a place for them: file systems may be read-only, and users without a home.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import IO

PACKAGE = str(Path(__file__).resolve().parents[1]) + os.sep
"""Where the source of mob lies: what the names of its files begin with."""


def here() -> str:
    """Return the working directory, as it is spelled in PWD if that leads here; where it was, if it is gone."""
    typed = os.environ.get("PWD", "")
    try:
        directory = os.getcwd()
    except FileNotFoundError:
        return _last_place() or typed or os.sep
    try:
        if os.path.isabs(typed) and os.path.samefile(typed, directory):
            return typed
    except OSError:
        pass  # it was moved away since
    return directory


def _last_place() -> str:
    """Return where the working directory was that somebody has removed; nothing if the system does not tell."""
    try:
        return os.readlink("/proc/self/cwd").removesuffix(" (deleted)")
    except OSError:
        return ""


def is_blinding() -> bool:
    """Return whether no program can begin in the working directory: it is gone, and this is Python 3.13.0 to 3.13.2.

    These look the directory up when a module lacks an attribute, and fail with a `SystemError`: at most imports.
    """
    return (3, 13) <= sys.version_info < (3, 13, 3) and not os.path.exists(here())


def spelled(path: str) -> str:
    """Return an absolute path with the link in it by which the user came there, if there was one.

    >>> spelled("/srv/app/r41/main.py")                  # doctest: +SKIP
    '/srv/app/current/main.py'
    """
    absolute = os.path.join(here(), path)
    path = os.path.realpath(absolute) if os.pardir in PurePath(absolute).parts else os.path.normpath(absolute)
    if os.path.realpath(path) != path:
        return path  # it has a link in it already
    for link in _links():
        real = os.path.realpath(link)
        if path == real or path.startswith(real + os.sep):
            return link + path[len(real) :]
    return path


def state_directory() -> Path:
    """Return where what mob keeps of this user lies. `FileNotFoundError` if the user has no home directory."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    if state.startswith("~"):
        raise FileNotFoundError(errno.ENOENT, "this user has no home directory, and XDG_STATE_HOME is not set")
    return Path(state) / "mob"


def queue_file(app: str) -> Path:
    """Return where the durable jobs of an app are kept, if it says nothing else. `FileNotFoundError` as above.

    >>> queue_file("shop")                               # doctest: +SKIP
    PosixPath('/home/ada/.local/state/mob/queues/shop.db')
    """
    return state_directory() / "queues" / f"{app}.db"


def queue_mark(app: str, make: bool = False) -> Path:
    """Return the file whose presence says that an app has jobs in its cluster; `make` it. `OSError` if not."""
    mark = queue_file(app).with_suffix(".cluster")
    if make:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch(0o600)
    return mark


def unnamed_file(size: int = 0) -> IO[bytes]:
    """Return a file of that size without a name, which goes when it is closed: in memory, where the system gives that,
    so it needs no file system that can be written. `OSError` if there is no place for it.
    """
    try:
        made = os.fdopen(os.memfd_create("mob", os.MFD_CLOEXEC), "w+b")
    except (AttributeError, OSError) as error:  # it has no memfd, or refuses it (a sandbox)
        made = _temporary_file(size, error)
    os.ftruncate(made.fileno(), size)
    return made


def _temporary_file(size: int, refused: Exception) -> IO[bytes]:
    import tempfile  # only where there is no memfd

    for directory in ("/dev/shm", None):  # None: where the system has temporary files
        with contextlib.suppress(OSError), contextlib.ExitStack() as made:
            file = made.enter_context(tempfile.TemporaryFile(dir=directory))
            os.ftruncate(file.fileno(), size)
            made.pop_all()
            return file
    raise refused if isinstance(refused, OSError) else OSError(errno.ENOSYS, str(refused))


def _links() -> Iterator[str]:
    """Yield the directories that are links, among those by which the user came here."""
    for typed in (here(), sys.argv[0] if sys.argv else "", sys.executable or ""):
        absolute = PurePath(here(), typed)
        if os.pardir not in absolute.parts:
            yield from (str(place) for place in absolute.parents if os.path.islink(place))
    if os.path.islink(here()):
        yield here()
