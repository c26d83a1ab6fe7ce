"""Paths as the user spelled them, through symbolic links: `/srv/app/current/main.py`, not `/srv/app/r41/main.py`.

A release is often deployed by pointing a link to another directory. The system knows the working directory, and Python
the first entry of `sys.path`, only as the link was resolved at the start, so a reload would read the old release
forever. The user's spelling is found in PWD, the path of the interpreter and that of the script.

Also the places of mob's own files, if there are any: file systems may be read-only, and users may have no home
directory.
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
"""Directory of mob's source, with which the names of its files begin."""


def here() -> str:
    """Return the working directory, as PWD spells it if that leads here; its last path if it was removed."""
    typed = os.environ.get("PWD", "")
    try:
        directory = os.getcwd()
    except FileNotFoundError:
        return _last_place() or typed or os.sep
    try:
        if os.path.isabs(typed) and os.path.samefile(typed, directory):
            return typed
    except OSError:
        pass  # it was moved since
    return directory


def _last_place() -> str:
    """Return the path of a working directory that was removed; "" if the system does not report it."""
    try:
        return os.readlink("/proc/self/cwd").removesuffix(" (deleted)")
    except OSError:
        return ""


def is_blinding() -> bool:
    """Return True if no program can start in the working directory: it was removed, and Python is 3.13.0 to 3.13.2.

    These versions look up the directory when a module lacks an attribute, and fail with a `SystemError` at most
    imports.
    """
    return (3, 13) <= sys.version_info < (3, 13, 3) and not os.path.exists(here())


def spelled(path: str) -> str:
    """Return an absolute path with the link in it through which the user came, if there was one.

    >>> spelled("/srv/app/r41/main.py")                  # doctest: +SKIP
    '/srv/app/current/main.py'
    """
    absolute = os.path.join(here(), path)
    path = os.path.realpath(absolute) if os.pardir in PurePath(absolute).parts else os.path.normpath(absolute)
    if os.path.realpath(path) != path:
        return path  # it already contains a link
    for link in _links():
        real = os.path.realpath(link)
        if path == real or path.startswith(real + os.sep):
            return link + path[len(real) :]
    return path


def state_directory() -> Path:
    """Return the directory of mob's files of this user. Raise `FileNotFoundError` if the user has no home directory."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    if state.startswith("~"):
        raise FileNotFoundError(errno.ENOENT, "this user has no home directory, and XDG_STATE_HOME is not set")
    return Path(state) / "mob"


def queue_file(app: str) -> Path:
    """Return the default file of an app's durable jobs. Raise `FileNotFoundError` as above.

    >>> queue_file("shop")                               # doctest: +SKIP
    PosixPath('/home/ada/.local/state/mob/queues/shop.db')
    """
    return state_directory() / "queues" / f"{app}.db"


def queue_mark(app: str, make: bool = False) -> Path:
    """Return the file whose presence shows that an app has jobs in its cluster.

    With `make`, create it, or raise `OSError`.
    """
    mark = queue_file(app).with_suffix(".cluster")
    if make:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch(0o600)
    return mark


def unnamed_file(size: int = 0) -> IO[bytes]:
    """Return a file of that size without a name, which is deleted when it is closed.

    It is in memory if the system supports that, so it needs no writable file system. Raise `OSError` if there is no
    place for it.
    """
    try:
        made = os.fdopen(os.memfd_create("mob", os.MFD_CLOEXEC), "w+b")
    except (AttributeError, OSError) as error:  # the system has no memfd, or refuses it (a sandbox)
        made = _temporary_file(size, error)
    os.ftruncate(made.fileno(), size)
    return made


def _temporary_file(size: int, refused: Exception) -> IO[bytes]:
    import tempfile  # only needed without memfd

    for directory in ("/dev/shm", None):  # None: the system's directory for temporary files
        with contextlib.suppress(OSError), contextlib.ExitStack() as made:
            file = made.enter_context(tempfile.TemporaryFile(dir=directory))
            os.ftruncate(file.fileno(), size)
            made.pop_all()
            return file
    raise refused if isinstance(refused, OSError) else OSError(errno.ENOSYS, str(refused))


def _links() -> Iterator[str]:
    """Yield the directories that are links, among those through which the user came here."""
    for typed in (here(), sys.argv[0] if sys.argv else "", sys.executable or ""):
        absolute = PurePath(here(), typed)
        if os.pardir not in absolute.parts:
            yield from (str(place) for place in absolute.parents if os.path.islink(place))
    if os.path.islink(here()):
        yield here()
