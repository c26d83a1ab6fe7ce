"""Other users of the machine: what they bind under names of apps is neither trusted nor used, and blocks no app."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mob
from mob.errors import AppRunning, PlanError
from mob.kingpin.desk import Desk
from mob.peer.operating import doors
from mob.rim.addresses import all_apps, desks, running_apps
from tests.patience import patient
from tests.running import Apps

MOB = [sys.executable, "-m", "mob"]
FOO = "def foo():\n    return 'mine'\n"
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can start a process of another user")
SQUATTER = """
import json, os, socket, sys
os.setgroups([])
os.setuid(int(sys.argv[1]))
held = []
for name in json.loads(sys.argv[2]):
    mark, name = name[0], name[1:]
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].bind(f"\\0mob/{name}".encode())
    if mark != "-":
        held[-1].listen(0 if mark == "0" else 4096)
print("bound", flush=True)
sys.stdin.read()
"""


class Squatter:
    """A process of another user that takes names; before each: `+` it listens, `0` with room for one, `-` not."""

    def __init__(self, *names: str) -> None:
        command = [sys.executable, "-c", SQUATTER, str(pwd.getpwnam("nobody").pw_uid), json.dumps(names)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "bound\n"

    def end(self) -> None:
        """Give the names back."""
        self.process.communicate()


@pytest.fixture
def squatted() -> Iterator[list[Squatter]]:
    made: list[Squatter] = []
    yield made
    for each in made:
        each.end()


def run(app_directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MOB, *words], cwd=app_directory, capture_output=True, text=True, timeout=patient(60))


@needs_root
@pytest.mark.parametrize("mark", ["+", "-"])
def test_an_app_whose_name_another_user_has_taken_runs_all_the_same(
    apps: Apps, squatted: list[Squatter], mark: str
) -> None:
    squatted.append(Squatter(f"{mark}0/t-squatted"))
    app = apps.start('.role("back", "./back.py")', name="t-squatted", back=FOO)
    client = app.wait_ready()
    pid = squatted[0].process.pid
    who = f"process {pid} of user 'nobody' " if mark == "+" else "a process that accepts no connections, "
    assert f"the address of 't-squatted' (mob/0/t-squatted) is taken by {who}" in app.output
    assert client.require("back").foo().result(patient(30)) == "mine"
    assert run(app.directory, "call", "-a", "t-squatted", "back.foo").stdout == '"mine"\n'
    assert "t-squatted" in running_apps()
    second = subprocess.run(
        [sys.executable, "main.py"], cwd=app.directory, capture_output=True, text=True, timeout=patient(60)
    )
    assert f"is already running (its Kingpin has pid {app.process.pid})" in second.stderr
    squatted.pop().end()
    second = subprocess.run(
        [sys.executable, "main.py"], cwd=app.directory, capture_output=True, text=True, timeout=patient(60)
    )
    assert f"is already running (its Kingpin has pid {app.process.pid})" in second.stderr
    assert run(app.directory, "stop", "-a", "t-squatted").returncode == 0
    assert app.wait() == 0
    assert "t-squatted" not in running_apps()


@needs_root
def test_a_client_finds_a_restarted_app_at_its_other_address(apps: Apps, squatted: list[Squatter]) -> None:
    roles = '.role("back", "./back.py")'
    app = apps.start(roles, name="t-moved", back=FOO)
    client = app.wait_ready()
    app.stop()
    squatted.append(Squatter("+0/t-moved"))
    again = apps.start(roles, name="t-moved", back=FOO)
    again.wait_ready()
    assert client.require("back").foo().result(patient(30)) == "mine"
    assert client.kingpin_pid == again.process.pid


@needs_root
def test_what_strangers_have_bound_is_no_app(squatted: list[Squatter], tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    evil = "zz\x1b]0;PWNED\x07\x1b[31mfake\x1b[8m"
    line = "\n0000000000000000: 00000002 00000000 00010000 0001 01 1 @mob/0/t-forged"
    names = (f"+0/{evil}", f"+{nobody}/{evil}", "+0/t-fake", "+0/t-fake@node", "+0/t-fake/0123456789ab", f"+x{line}")
    squatted.append(Squatter(*names, f"+{nobody}/t-real"))
    seen = all_apps()
    assert (nobody, "t-real") in seen
    assert not any("fake" in app or "forged" in app for _, app in seen)
    assert desks("t-fake", 0) == []
    with pytest.raises(mob.AppNotRunning, match="no app named 't-fake' is running on this machine"):
        mob.connect("t-fake")
    for words in (["ps"], ["apps"], ["doctor"], ["ps", "-a", "nosuch"], ["call", "a.f"]):
        shown = run(tmp_path, *words)
        assert "fake" not in shown.stdout + shown.stderr
        assert "\x1b" not in shown.stdout + shown.stderr


@needs_root
def test_a_stranger_at_whose_desk_many_wait_holds_up_nobody(squatted: list[Squatter]) -> None:
    squatted.append(Squatter("00/t-full"))
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for sock in (first, second):
            sock.setblocking(False)
            try:
                sock.connect("\0mob/0/t-full")
            except BlockingIOError:
                break
        with pytest.raises(mob.AppNotRunning, match="no app named 't-full' is running on this machine"):
            mob.connect("t-full")


@needs_root
def test_an_app_at_whose_desk_many_wait_is_not_waited_for_without_end(
    squatted: list[Squatter], monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    squatted.append(Squatter(f"0{nobody}/t-busy"))
    monkeypatch.setattr(doors, "DESK_TIMEOUT", 0.2)
    address = f"\0mob/{nobody}/t-busy"
    held: list[socket.socket] = []
    try:
        for _ in range(2):  # one fits into the queue, and one more
            sock = socket.socket(socket.AF_UNIX)
            held.append(sock)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(address)
        with pytest.raises(mob.AppNotRunning, match="'t-busy' accepts no connection"):
            doors.knock_at(address, nobody)
    finally:
        for sock in held:
            sock.close()


def test_a_desk_at_which_many_wait_is_that_of_its_user(apps: Apps) -> None:
    desk = Desk.claim("t-desk")
    try:
        assert [(each.app, each.pid) for each in desks("t-desk")] == [("t-desk", os.getpid())]
        with pytest.raises(AppRunning, match=rf"is already running \(its Kingpin has pid {os.getpid()}\)"):
            Desk.claim("t-desk")
    finally:
        desk.sock.close()
    assert desks("t-desk") == []


def test_names_that_are_too_long_together_are_told_as_such() -> None:
    with pytest.raises(PlanError) as told:
        Desk.claim(f"{'x' * 64}@{'n' * 60}")
    of = f"the names of the app, {'x' * 64!r}, and of its node, {'n' * 60!r}, are together "
    assert str(told.value).startswith(of)
    assert "Shorten one of them, in mob.start(...) or .cluster(node=...)." in str(told.value)
    longest = "x" * (107 - len(f"mob/{os.getuid()}/"))
    Desk.claim(longest).sock.close()
