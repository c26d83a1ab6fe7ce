"""Reports of leaks: functions, descriptors, processes."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from mob.testing import leaks
from mob.testing.leaks import Leak


def rows() -> Iterator[int]:
    yield 1


HERE = f"tests/testing/test_leaks.py:{rows.__code__.co_firstlineno}"


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (rows, f"rows ({HERE})"),
        (functools.partial(functools.partial(rows)), f"rows ({HERE})"),
        (rows(), f"rows ({HERE})"),
        ([].append, "list.append"),
        (len, "len"),
    ],
    ids=["function", "partial", "generator", "method", "builtin"],
)
def test_a_function_is_told_with_its_line(
    function: object, told: str, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.chdir(pytestconfig.rootpath)
    assert leaks.place_of(function) == told


def test_new_descriptors_are_told_by_what_they_are() -> None:
    before = leaks.descriptors()
    with socket.socket() as sock, open(os.devnull) as null:
        sock.bind(("127.0.0.1", 0))
        found = {leak.text.partition(",")[0]: leak.text for leak in leaks.new_descriptors(before)}
        assert found[str(null.fileno())].endswith(", /dev/null")
        assert f"a socket AF_INET at {sock.getsockname()!r}" in found[str(sock.fileno())]


@pytest.mark.skipif(sys.platform != "linux", reason="environments of others are read from /proc")
def test_processes_are_found_by_their_environment_and_told_by_their_command() -> None:
    child = subprocess.Popen(["sleep", "1000"], env={"TEST_LEAKS": str(os.getpid())})
    try:
        (found,) = leaks.processes_with("TEST_LEAKS", str(os.getpid()), set())
        assert list(leaks.told_processes([found])) == [Leak("processes", f"pid {child.pid}: sleep 1000")]
    finally:
        child.kill()
        child.wait()
    assert list(leaks.told_processes([found])) == []  # it exited meanwhile
    assert isinstance(found, psutil.Process)
