"""Reports to the service manager, each state once."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mob.kingpin.manager import Manager
from tests.core.world import World, started


class Systemd:
    """The other end: the first word of each message since the last call."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    def heard(self) -> list[str]:
        found: list[str] = []
        while True:
            try:
                found.append(self._sock.recv(999).decode().partition("=")[0])
            except BlockingIOError:
                return found


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield Systemd(sock)


def tell(manager: Manager, world: World) -> None:
    for _ in range(2):
        manager.tell(world.supervisor)


def test_the_app_is_ready_when_every_role_has_a_worker(systemd: Systemd) -> None:
    world = started("back", "front", ready=False)
    manager = Manager()
    for uid in list(world.mobsters):
        tell(manager, world)
        assert systemd.heard() == []
        world.ready(uid)
    tell(manager, world)
    assert systemd.heard() == ["READY"]


def test_a_reload_and_the_stop(systemd: Systemd) -> None:
    world = started("back")
    manager = Manager()
    tell(manager, world)
    world.carry_out(world.supervisor.handle_reload([], (9, 1), world.now))
    tell(manager, world)
    assert systemd.heard() == ["READY", "RELOADING"]
    successor = max(world.mobsters)
    world.forked(successor)
    world.ready(successor)
    world.exits_with(min(world.mobsters), "ended by itself (exit status 0)")
    tell(manager, world)
    world.stop()
    tell(manager, world)
    assert systemd.heard() == ["READY", "STOPPING"]


def test_another_program_does_not_say_again_that_the_app_is_ready(systemd: Systemd) -> None:
    world = started("back")
    manager = Manager()
    manager.take_over()
    tell(manager, world)
    assert systemd.heard() == []
    assert "NOTIFY_SOCKET" in manager.environment()
