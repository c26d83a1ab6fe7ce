"""Who may connect to a Unix socket: the mode and the owner of its file."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import patient
from tests.real.test_ports_end import APPLICATION
from tests.running import Apps, RunningApp, wait_until

NOBODY = 65534
MINE = """
    import asyncio, os
    BEFORE

    async def answer(reader, writer):
        writer.close()

    async def main():
        server = await asyncio.start_unix_server(answer, "front.sock")
        AFTER
        await server.serve_forever()

    asyncio.run(main())
    """


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can enter."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def start(apps: Apps, address: str, **env: str) -> RunningApp:
    app = apps.start(f'.role("front", "./front.py:app", workers=2, serve="{address}")', front=APPLICATION, env=env)
    app.wait_ready(2)
    return app


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def can_connect_as_another(path: Path) -> bool:
    """Return whether a process of another user and group can connect."""
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


def test_everybody_may_connect_unless_something_else_is_said(apps: Apps) -> None:
    start(apps, "unix:./front.sock")
    assert mode_of(apps.directory / "front.sock") == 0o666


@pytest.mark.parametrize(("said", "mode"), [("660", 0o660), ("0600", 0o600), ("0o622", 0o622)])
def test_the_mode_that_is_said(apps: Apps, said: str, mode: int) -> None:
    app = start(apps, f"unix:./front.sock?mode={said}")
    assert mode_of(apps.directory / "front.sock") == mode
    app.wait_for(f"serving on unix:{apps.directory}/front.sock$")
    app.stop()
    assert list(apps.directory.glob("*.sock*")) == []


def test_another_mode_comes_with_a_reload(apps: Apps) -> None:
    app = start(apps, "unix:./front.sock?mode=600")
    main = apps.directory / "main.py"
    main.write_text(main.read_text().replace("mode=600", "mode=660"))
    app.clients[0].upgrade()
    app.clients[0].reload("front")
    wait_until(lambda: mode_of(apps.directory / "front.sock") == 0o660, "the file has the new mode")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may be another user")
def test_another_user_connects_if_he_may(apps: Apps, place: Path) -> None:
    start(apps, f"unix:{place}/front.sock")
    assert can_connect_as_another(place / "front.sock")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may be another user")
@pytest.mark.parametrize("owner", ["user", "group"])
def test_the_owner_of_the_file_may_connect_and_others_not(apps: Apps, place: Path, owner: str) -> None:
    name = pwd.getpwuid(NOBODY).pw_name if owner == "user" else grp.getgrgid(NOBODY).gr_name
    start(apps, f"unix:{place}/front.sock?{owner}={name}&mode=660")
    assert can_connect_as_another(place / "front.sock")
    there = (place / "front.sock").stat()
    assert (there.st_uid, there.st_gid) == ((NOBODY, 0) if owner == "user" else (0, NOBODY))
    os.chown(place / "front.sock", 0, 0)
    assert not can_connect_as_another(place / "front.sock")


@pytest.mark.parametrize(
    ("before", "after", "mode"),
    [
        ("", "", 0o755),
        ("os.umask(0o117)", "", 0o660),
        ("os.umask(0)", "", 0o777),
        ("", 'os.chmod("front.sock", 0o640)', 0o640),
    ],
)
def test_a_socket_of_the_modules_own_has_the_mode_that_the_module_gives_it(
    apps: Apps, before: str, after: str, mode: int
) -> None:
    code = MINE.replace("BEFORE", before).replace("AFTER", after)
    umask = os.umask(0o022)
    try:
        app = apps.start('.role("front", "./front.py", workers=2)', front=code)
    finally:
        os.umask(umask)
    app.wait_ready(2)
    assert mode_of(apps.directory / "front.sock") == mode


def test_a_connection_is_answered(apps: Apps) -> None:
    start(apps, "unix:./front.sock?mode=600")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(patient(30))
        sock.connect(os.path.relpath(apps.directory / "front.sock"))  # a path may be too long for an address
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200")
