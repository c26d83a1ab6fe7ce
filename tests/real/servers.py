"""Web servers of six makes, as their users write them, and clients for them.

Each answers a GET with its pid, after a short pause in which it can do nothing else with that request. `PORT` stands
for the port.
"""

from __future__ import annotations

import http.client
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.patience import patient

SERVERS: dict[str, str] = {
    "http.server": """
        import os, time
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                time.sleep(0.005)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(str(os.getpid()).encode())

            def log_message(self, *args):
                pass

        ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
        """,
    "asyncio on mob's loop": """
        import asyncio, os, time
        import mob

        async def answer(reader, writer):
            await reader.readuntil(b"\\r\\n\\r\\n")
            time.sleep(0.005)
            writer.write(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n%d" % os.getpid())
            await writer.drain()
            writer.close()

        @mob.on("start")
        async def start():
            global server
            server = await asyncio.start_server(answer, "127.0.0.1", PORT)
        """,
    "asyncio.run": """
        import asyncio, os, time

        async def answer(reader, writer):
            await reader.readuntil(b"\\r\\n\\r\\n")
            time.sleep(0.005)
            writer.write(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n%d" % os.getpid())
            await writer.drain()
            writer.close()

        async def main():
            server = await asyncio.start_server(answer, "127.0.0.1", PORT)
            async with server:
                await server.serve_forever()

        asyncio.run(main())
        """,
    "uvicorn": """
        import os, time
        import uvicorn

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                while True:
                    message = await receive()
                    await send({"type": message["type"] + ".complete"})
                    if message["type"] == "lifespan.shutdown":
                        return
            time.sleep(0.005)
            body = str(os.getpid()).encode()
            length = (b"content-length", b"%d" % len(body))
            await send({"type": "http.response.start", "status": 200, "headers": [length]})
            await send({"type": "http.response.body", "body": body})

        uvicorn.run(app, host="127.0.0.1", port=PORT, access_log=False)
        """,
    "aiohttp": """
        import os, time
        from aiohttp import web

        async def answer(request):
            time.sleep(0.005)
            return web.Response(text=str(os.getpid()))

        app = web.Application()
        app.router.add_get("/", answer)
        web.run_app(app, host="127.0.0.1", port=PORT, access_log=None)
        """,
    "flask": """
        import logging, os, time
        from flask import Flask

        app = Flask(__name__)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)

        @app.get("/")
        def answer():
            time.sleep(0.005)
            return str(os.getpid())

        app.run(host="127.0.0.1", port=PORT)
        """,
}


def source_of(make: str, port: int) -> str:
    """The module of a role that serves on the port."""
    return SERVERS[make].replace("PORT", str(port))


def ask(port: int, host: str = "127.0.0.1") -> int:
    """Return the pid of the process that answers, on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=patient(30))
    try:
        connection.request("GET", "/", headers={"Connection": "close"})
        return int(connection.getresponse().read())
    finally:
        connection.close()


def ask_many(port: int, requests: int, clients: int = 4) -> Counter[int]:
    """Return the number of requests that each process answered."""
    with ThreadPoolExecutor(clients) as pool:
        return Counter(pool.map(lambda _: ask(port), range(requests)))


def begin_request(port: int, patience: float) -> socket.socket:
    """Send a request on a new connection; the answer may come at any time. It must be accepted within `patience`."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=patience)
    sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    sock.settimeout(patient(30))
    return sock


def finish_request(sock: socket.socket) -> int:
    """Return the pid of the process that answered, 0 if the connection broke before."""
    answer = b""
    with sock:
        try:
            while data := sock.recv(4096):
                answer += data
        except ConnectionError:
            return 0
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(body) if head.startswith(b"HTTP/1.") and body else 0


def can_listen(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether the port is free."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen()
        except OSError:
            return False
        return True
