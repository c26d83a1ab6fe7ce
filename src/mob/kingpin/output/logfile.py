"""A log file that is rotated when it grows too large: file becomes file.1, file.1 becomes file.2, and so on.

Only whole lines are written, and a line is never split between files, so the files are readable at any moment. If the
disk is full, a partly written line is removed. Anything but an ordinary file (a FIFO, /dev/stdout) is written to as it
is. Errors are returned, not raised, because the writer must continue.
"""

from __future__ import annotations

import contextlib
import os
import stat

from mob.errors import PlanError
from mob.plan import Logs


class LogFile:
    """The open log file, and its rotation."""

    def __init__(self, logs: Logs) -> None:
        assert logs.file is not None
        self.path: str = logs.file
        self._max_bytes = logs.max_bytes
        self._keep = logs.keep
        self._mode = logs.mode
        self._fd = -1
        self._size = 0
        self._is_ordinary = False
        self.problem: str = ""
        """Reason why lines could not be written; empty if the last ones were."""
        self.remark: str = ""
        """The last other problem, in which no line was lost."""
        self.reopen()

    def __repr__(self) -> str:
        return f"<LogFile {self.path}, {self._size:,} bytes{', ' + self.problem if self.problem else ''}>"

    def write(self, data: bytes) -> int:
        """Write whole lines; return how many bytes of them are in the file. If not all are, `problem` says why."""
        if self._fd < 0:
            self.reopen()
        done = 0
        while done < len(data) and self._fd >= 0:
            part = self._part(data, done)
            written = self._write_lines(part)
            done += written
            if written < len(part):
                return done
        return done

    def reopen(self) -> bool:
        """Open the file at this path again after it was moved away; return True on success."""
        try:
            fd = _open(self.path, self._mode)
        except OSError as error:
            why = f"{self.path} cannot be opened: {error.strerror}"
            if self._fd < 0:
                self.problem = why
            else:
                self.remark = f"{why}. Lines still go to the file that was open."
            return False
        if self._fd >= 0:
            os.close(self._fd)
        status = os.fstat(fd)
        self._fd, self._size, self._is_ordinary = fd, status.st_size, stat.S_ISREG(status.st_mode)
        return True

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _part(self, data: bytes, start: int) -> bytes:
        """Return the lines that still fit into this file; rotate it first if not even one fits."""
        if not self._is_ordinary or self._size + len(data) - start <= self._max_bytes:
            return data[start:] if start else data
        end = data.rfind(b"\n", start, start + max(0, self._max_bytes - self._size)) + 1
        if end <= start:
            if self._size:
                self._put_aside()
            room = max(0, self._max_bytes - self._size)
            end = max(data.rfind(b"\n", start, start + room), data.find(b"\n", start)) + 1
        return data[start:end]

    def _write_lines(self, lines: bytes) -> int:
        written = 0
        try:
            while written < len(lines):
                written += os.write(self._fd, lines[written:] if written else lines)
            self.problem = ""
        except OSError as error:
            self.problem = f"{self.path} cannot be written: {error.strerror}"
            whole = lines.rfind(b"\n", 0, written) + 1
            if self._is_ordinary and whole < written:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._size + whole)
            written = whole
        self._size += written
        return written

    def _put_aside(self) -> None:
        try:
            for number in range(self._keep - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.path}.{number}", f"{self.path}.{number + 1}")
            if self._keep:
                os.replace(self.path, f"{self.path}.1")
            else:
                os.ftruncate(self._fd, 0)
        except OSError as error:
            self.remark = f"{self.path} cannot be rotated: {error.strerror}. It grows beyond {self._max_bytes:,} bytes."
        self.reopen()


def check(logs: Logs) -> None:
    """Raise `PlanError` if the file cannot be written; called before anything is started."""
    if logs.file is None:
        return
    try:
        os.close(_open(logs.file, logs.mode))
    except OSError as error:
        raise PlanError(
            f"logs: the file {logs.file} cannot be written: {error.strerror}. Choose a path in an existing directory "
            f"that this user (uid {os.getuid()}) can write to."
        ) from error


def _open(path: str, mode: int) -> int:
    """Return a descriptor of the file; an existing file keeps its permissions, which a user chose."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags, 0o600)
    if mode != 0o600:
        with contextlib.suppress(OSError):  # a file system without permissions
            os.fchmod(fd, mode)
    return fd
