"""A port closes with the last worker that serves from it, and stays open while another worker is expected."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
from pathlib import Path
from typing import Any

from tests.patience import patient
from tests.running import Apps, RunningApp, free_port, wait_until

SERVER = """
    import os
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    EXTRA

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(str(os.getpid()).encode())

        def log_message(self, *args):
            pass

    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
    """
APPLICATION = """
    import os

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        if scope["path"] == "/exit":
            os._exit(int(scope["query_string"] or b"0"))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
    """


def server(port: int, extra: str = "") -> str:
    return SERVER.replace("PORT", str(port)).replace("EXTRA", extra)


def is_refused(port: int) -> bool:
    """Return True if no process listens there."""
    with socket.socket() as sock:
        sock.settimeout(patient(10))
        return sock.connect_ex(("127.0.0.1", port)) != 0


def wait_refused(port: int) -> None:
    wait_until(lambda: is_refused(port), f"port {port} is closed")


def ask(port: int, path: str = "/") -> bytes:
    """Return the whole answer; empty if the server died."""
    with socket.create_connection(("127.0.0.1", port), timeout=patient(30)) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(4096):
                answer += data
    return answer.partition(b"\r\n\r\n")[2]


def start(apps: Apps, role: str, options: str = "grace=5", count: int | None = None, **files: Any) -> RunningApp:
    app = apps.start(role, options=options, **files)
    app.wait_ready(count)
    return app


def change_main(apps: Apps, old: str, new: str) -> None:
    path = apps.directory / "main.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_port_that_a_reload_has_left_is_closed(apps: Apps) -> None:
    old, new = free_port(), free_port()
    app = start(apps, '.role("front", "./front.py", workers=2)', front=server(old))
    assert ask(old)
    apps.write(front=server(new))
    app.clients[0].reload("front")
    wait_refused(old)
    assert ask(new)


def test_what_an_upgrade_changes_or_removes_is_closed_and_a_file_goes_with_its_socket(apps: Apps) -> None:
    old, new, removed = free_port(), free_port(), free_port()
    changed = '.role("front", "./front.py:app", workers=2, serve="127.0.0.1:%d")'
    gone = f'.role("gone", "./front.py:app", serve="127.0.0.1:{removed}")'
    gone += '.role("file", "./front.py:app", serve="unix:./front.sock")'
    app = start(apps, changed % old + gone, front=APPLICATION)
    client, file = app.clients[0], apps.directory / "front.sock"
    assert ask(removed)
    assert file.is_socket()
    change_main(apps, str(old), str(new))
    change_main(apps, gone, "")
    client.upgrade()
    assert ask(old)  # until the workers are replaced
    wait_refused(removed)
    wait_until(lambda: not list(apps.directory.glob("*.sock*")), "the file is removed")
    wait_until(lambda: not list(apps.directory.glob(".*.sock*")), "its spare name is removed")
    client.reload("front")
    wait_refused(old)
    assert ask(new)
    change_main(apps, "app.run()", f"app{gone}\napp.run()")
    client.upgrade()
    wait_until(lambda: not is_refused(removed) and file.is_socket(), "it listens again")
    assert ask(removed)


def test_the_ports_of_roles_that_end_for_good_are_closed_with_what_waits_in_their_queues(apps: Apps) -> None:
    ports = {name: free_port() for name in ("given", "temporary", "transient", "queue")}
    options = {"given": "intensity=0", "temporary": 'restart="temporary"', "transient": 'restart="transient"'}
    roles = [
        f'.role("{name}", "./front.py:app", serve="127.0.0.1:{port}", {options.get(name, options["temporary"])})'
        for name, port in ports.items()
    ]
    app = start(apps, f'.role("back", "./back.py"){"".join(roles)}', front=APPLICATION, back="def foo(): ...")
    (pid,) = [member.pid for member in app.ready(app.clients[0], "queue")]
    os.kill(pid, signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", ports["queue"]), timeout=patient(30)) as waiting:
        waiting.sendall(b"GET / HTTP/1.0\r\n\r\n")
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ConnectionResetError):
            assert waiting.recv(100) == b""
    for name in options:
        assert ask(ports[name], "/exit?3" if name == "given" else "/exit?0") == b""
    app.wait_for("'given' is given up")
    for port in ports.values():
        wait_refused(port)


def test_the_queue_of_a_worker_that_crashes_waits_for_the_next_start(apps: Apps) -> None:
    port = free_port()
    fails = 'import pathlib\nif pathlib.Path("fail").exists(): raise RuntimeError("not yet")'.replace("\n", "\n    ")
    app = start(apps, '.role("front", "./front.py")', front=server(port, fails))
    (first,) = [member.pid for member in app.ready(app.clients[0], "front")]
    (apps.directory / "fail").touch()
    os.kill(first, signal.SIGKILL)
    app.wait_for(r"next try in")
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(ask(port)))
    thread.start()
    (apps.directory / "fail").unlink()
    thread.join(patient(30))
    assert answers
    assert int(answers[0]) != first


def test_the_queue_of_a_worker_that_binds_late_waits_for_its_successor(apps: Apps) -> None:
    port = free_port()
    code = server(port, "import mob\n    mob.ready()\n    if mob.me().generation > 1: input_of_the_test()")
    code = code.replace("    import os", "    import os, pathlib, time\n    def input_of_the_test():\n"
                        "        while not pathlib.Path('go').exists(): time.sleep(0.01)\n", 1)  # fmt: skip
    app = start(apps, '.role("front", "./front.py")', options="grace=60", front=code)
    wait_until(lambda: not is_refused(port), "it listens")
    (first,) = [member.pid for member in app.ready(app.clients[0], "front")]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: [m.pid for m in app.ready(app.clients[0], "front") if m.pid != first], "the next is ready")
    with socket.create_connection(("127.0.0.1", port), timeout=patient(30)) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        (apps.directory / "go").touch()
        assert sock.recv(4096).startswith(b"HTTP/1.0 200")


def test_a_stop_refuses_as_soon_as_nobody_accepts(apps: Apps) -> None:
    port = free_port()
    slow = APPLICATION.replace('if scope["path"] == "/exit"', """if scope["path"] == "/slow":
            import asyncio, pathlib
            pathlib.Path("slow").touch()
            while not pathlib.Path("go").exists():
                await asyncio.sleep(0.01)
        if scope["path"] == "/exit\"""")  # fmt: skip
    app = start(apps, f'.role("front", "./front.py:app", serve="127.0.0.1:{port}")', options="grace=30", front=slow)
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(ask(port, "/slow")))
    thread.start()
    wait_until(Path(apps.directory / "slow").exists, "the request is under way")
    app.signal(signal.SIGTERM)
    wait_refused(port)
    (apps.directory / "go").touch()
    thread.join(patient(30))
    assert answers
    assert re.search(rb"\d+", answers[0])
    assert app.wait() == 0
