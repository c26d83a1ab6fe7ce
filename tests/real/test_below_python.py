"""Servers whose sockets Python never sees, such as those of gRPC and granian: they are ready when they serve."""

from __future__ import annotations

import socket
import textwrap

import pytest

from tests.patience import patient
from tests.running import Apps, RunningApp, free_port, wait_until

FOREIGN = """
    import asyncio, ctypes, os, socket, struct, subprocess, sys, threading, time
    libc = ctypes.CDLL(None, use_errno=True)

    def listen(port):
        descriptor = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        one = ctypes.c_int(1)
        libc.setsockopt(descriptor, socket.SOL_SOCKET, socket.SO_REUSEPORT, ctypes.byref(one), 4)
        address = struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + bytes([127, 0, 0, 1]) + bytes(8)
        assert libc.bind(descriptor, address, len(address)) == 0
        assert libc.listen(descriptor, 100) == 0
        return descriptor

    def serve(descriptor):
        answer = b"%d" % os.getpid()
        while True:
            connection = libc.accept(descriptor, None, None)
            libc.send(connection, answer, len(answer), 0)
            held.append(connection)

    held = []
    """


def start(apps: Apps, rest: str, options: str = "boot_timeout=30") -> tuple[RunningApp, int]:
    port = free_port()
    code = textwrap.dedent(FOREIGN) + textwrap.dedent(rest).replace("PORT", str(port))
    return apps.start(f'.role("front", "./front.py", {options})', options="grace=2", front=code), port


def ask(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=patient(30)) as sock:
        return int(sock.recv(100))


@pytest.mark.parametrize("loop", ["asyncio.SelectorEventLoop", "__import__('uvloop').new_event_loop"])
def test_a_server_in_a_thread_of_its_own_beside_a_loop(apps: Apps, loop: str) -> None:
    app, port = start(
        apps,
        f"""
        threading.Thread(target=serve, args=(listen(PORT),), daemon=True).start()
        with asyncio.Runner(loop_factory={loop}) as runner:
            runner.run(asyncio.Event().wait())
        """,
    )
    client = app.wait_ready(1)
    assert ask(port) in [member.pid for member in client.members()]


def test_two_workers_with_a_queue_each(apps: Apps) -> None:
    rest = """
        threading.Thread(target=serve, args=(listen(PORT),), daemon=True).start()
        asyncio.run(asyncio.Event().wait())
        """
    app, port = start(apps, rest, "workers=2, boot_timeout=30")
    client = app.wait_ready(2)
    pids = {member.pid for member in app.ready(client)}
    seen: set[int] = set()
    wait_until(lambda: (seen.add(ask(port)), seen == pids)[1], "both have answered")


def test_a_server_in_a_child(apps: Apps) -> None:
    app, port = start(
        apps,
        """
        code = "import socket; s = socket.create_server(('127.0.0.1', PORT)); print(flush=True); s.accept()"
        subprocess.run([sys.executable, "-c", code])
        """,
    )
    app.wait_ready(1)
    with socket.create_connection(("127.0.0.1", port), timeout=patient(30)):
        pass


def test_one_that_has_much_to_do_from_the_first_moment_on(apps: Apps) -> None:
    app, port = start(
        apps,
        """
        threading.Thread(target=serve, args=(listen(PORT),), daemon=True).start()
        while True:
            os.getpid()
        """,
        "boot_timeout=8",
    )
    wait_until(lambda: can_connect(port), "it listens")
    with socket.create_connection(("127.0.0.1", port), timeout=patient(30)):
        app.wait_ready(1)
    assert "was not ready within" not in app.output


def test_a_loop_that_loads_while_a_port_for_metrics_is_open_is_not_ready(apps: Apps) -> None:
    app, port = start(
        apps,
        """
        metrics = socket.create_server(("127.0.0.1", PORT))
        threading.Thread(target=metrics.accept, daemon=True).start()

        async def load():
            while not os.path.exists("loaded"):
                await asyncio.sleep(0.05)

        asyncio.run(load())
        """,
    )
    app.wait_for("is not ready: its module is blocked at")
    client = app.connect()
    assert [member.state for member in client.members() if member.role] == ["booting"]
    assert can_connect(port)
    (apps.directory / "loaded").touch()
    app.wait_ready(1)


def test_one_that_says_that_it_is_ready_is(apps: Apps) -> None:
    app, _ = start(
        apps,
        """
        import mob
        mob.ready()
        while True:
            os.getpid()
        """,
        "boot_timeout=60",
    )
    app.wait_ready(1)


def can_connect(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(patient(30))
        return sock.connect_ex(("127.0.0.1", port)) == 0
