"""Permission to connect to a Unix socket: the mode and the owner of its file."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.patience import patient
from tests.real.test_ports_end import APPLICATION
from tests.running import Apps, RunningApp, wait_until

NOBODY = 65534
MINE = """
    import asyncio, os, mob
    BEFORE

    async def answer(reader, writer):
        writer.close()

    async def main():
        server = await asyncio.start_unix_server(answer, f"{mob.me().role}.sock")
        AFTER
        await server.serve_forever()

    asyncio.run(main())
    """


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a directory that every user can enter."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def start(apps: Apps, **addresses: str) -> RunningApp:
    """Start an app with a role for each address."""
    roles = [f'.role("{role}", "./front.py:app", workers=2, serve="{address}")' for role, address in addresses.items()]
    app = apps.start("".join(roles), front=APPLICATION)
    app.wait_ready()
    return app


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def can_connect_as_another(path: Path) -> bool:
    """Return True if a process of another user and group can connect."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            socket.socket(socket.AF_UNIX).connect(str(path))
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def test_everybody_may_connect_unless_a_mode_is_said(apps: Apps) -> None:
    modes = {"": 0o666, "?mode=660": 0o660, "?mode=0600": 0o600, "?mode=0o622": 0o622}
    app = start(apps, **{f"r{number}": f"unix:./r{number}.sock{said}" for number, said in enumerate(modes)})
    for number, mode in enumerate(modes.values()):
        assert mode_of(apps.directory / f"r{number}.sock") == mode
        app.wait_for(f"serving on unix:{apps.directory}/r{number}.sock$")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(patient(30))
        sock.connect(os.path.relpath(apps.directory / "r2.sock"))  # a path may be too long for an address
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
    app.stop()
    assert list(apps.directory.glob("*.sock*")) == []


def test_another_mode_comes_with_a_reload(apps: Apps) -> None:
    app = start(apps, front="unix:./front.sock?mode=600")
    main = apps.directory / "main.py"
    main.write_text(main.read_text().replace("mode=600", "mode=660"))
    app.clients[0].upgrade()
    app.clients[0].reload("front")
    wait_until(lambda: mode_of(apps.directory / "front.sock") == 0o660, "the file has the new mode")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may be another user")
def test_another_user_connects_if_he_may(apps: Apps, place: Path) -> None:
    owners = {
        "user": (f"user={pwd.getpwuid(NOBODY).pw_name}", (NOBODY, 0)),
        "group": (f"group={grp.getgrgid(NOBODY).gr_name}", (0, NOBODY)),
    }
    addresses = {owner: f"unix:{place}/{owner}.sock?{said}&mode=660" for owner, (said, _) in owners.items()}
    start(apps, open=f"unix:{place}/open.sock", **addresses)
    assert can_connect_as_another(place / "open.sock")
    for owner, (_, ids) in owners.items():
        path = place / f"{owner}.sock"
        assert can_connect_as_another(path)
        assert (path.stat().st_uid, path.stat().st_gid) == ids
        os.chown(path, 0, 0)
        assert not can_connect_as_another(path)


def test_a_socket_of_the_modules_own_has_the_mode_that_the_module_gives_it(apps: Apps) -> None:
    modes = {
        "plain": ("", "", 0o755),
        "narrow": ("os.umask(0o117)", "", 0o660),
        "wide": ("os.umask(0)", "", 0o777),
        "changed": ("", 'os.chmod("changed.sock", 0o640)', 0o640),
    }
    code: dict[str, Any] = {
        role: MINE.replace("BEFORE", before).replace("AFTER", after) for role, (before, after, _) in modes.items()
    }
    umask = os.umask(0o022)
    try:
        app = apps.start("".join(f'.role("{role}", "./{role}.py", workers=2)' for role in modes), **code)
    finally:
        os.umask(umask)
    app.wait_ready()
    for role, (_, _, mode) in modes.items():
        wait_until(lambda role=role, mode=mode: mode_of(apps.directory / f"{role}.sock") == mode, f"{mode:o} of {role}")
