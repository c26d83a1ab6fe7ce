"""A lock on a file that one process at a time writes, and for which its successor waits.

The lock is `flock` on PATH.lock, which contains the pid of its holder and the name of its app. The kernel frees it when
the holder ends, however it ends. A process waits for it in a thread that the kernel wakes; there is no polling.

Limits. It is advisory: only code that uses such a lock respects it. `flock` may not work over NFS.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import threading
from typing import NamedTuple


class LockHolder(NamedTuple):
    """The holder of a lock, as the lock file says."""

    pid: int
    """Process id; 0 if unknown."""
    owner: str
    """Name of the app; "" if unknown."""

    def __str__(self) -> str:
        """Return the holder for messages: `pid 42 of the app 'shop'`."""
        pid = f"pid {self.pid}" if self.pid else "unknown pid"
        return f"{pid} of the app {self.owner!r}" if self.owner else pid


class FileLock:
    """A lock on a file.

    Args:
        path: Path of the file that is locked; the lock is PATH.lock.
        owner: Name of the app of this process.
    """

    def __init__(self, path: str | os.PathLike[str], owner: str = "") -> None:
        self.path: str = f"{os.fspath(path)}.lock"
        self.owner: str = owner
        self._descriptor = -1
        self._is_given_up = False

    def __repr__(self) -> str:
        return f"<FileLock {self.path}{', held' if self._descriptor >= 0 else ''}>"

    def take(self) -> LockHolder | None:
        """Take the lock, even if its file was deleted since; return None, or the process that has it.

        Raises:
            OSError: It cannot be locked.
        """
        if self._descriptor >= 0 and _is_at(self._descriptor, self.path):
            return None
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _read(descriptor)
            os.close(descriptor)
            return holder
        self._hold(descriptor)
        return None

    async def wait(self) -> None:
        """Wait until the lock is free, and take it. Raise `OSError` if it cannot be locked."""
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[None] = loop.create_future()

        def tell(error: OSError | None) -> None:
            if self._is_given_up or taken.done():
                self.release()
                taken.cancel()
            elif error is None:
                taken.set_result(None)
            else:
                taken.set_exception(error)

        def wait() -> None:
            error: OSError | None = None
            try:
                self._wait()
            except OSError as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(tell, error)

        threading.Thread(target=wait, name="mob-lock", daemon=True).start()  # ends with the process at the latest
        await taken

    def _wait(self) -> None:
        while True:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                os.close(descriptor)
                raise
            if self._is_given_up or _is_at(descriptor, self.path):
                break
            os.close(descriptor)  # it was deleted meanwhile; there may be another file
        if self._is_given_up:
            os.close(descriptor)
        else:
            self._hold(descriptor)

    def release(self) -> None:
        """Release the lock, or give up waiting for it."""
        self._is_given_up = True
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _hold(self, descriptor: int) -> None:
        before, self._descriptor = self._descriptor, descriptor
        if before >= 0:
            os.close(before)
        with contextlib.suppress(OSError):  # on a full disk the holder stays unknown
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {self.owner}\n".encode(), 0)


def _read(descriptor: int) -> LockHolder:
    try:
        pid, _, owner = os.pread(descriptor, 1000, 0).decode("utf-8", "replace").partition("\n")[0].partition(" ")
    except OSError:
        return LockHolder(0, "")
    return LockHolder(int(pid) if pid.isdecimal() else 0, owner)


def _is_at(descriptor: int, path: str) -> bool:
    """Return True if an open file is still at its path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False
