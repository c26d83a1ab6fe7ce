"""mob's adapter on mob's server, in the process of the test, for suites that start a server of their own there."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from mob.mobster.http import heads, writing
from mob.mobster.http.head_timeout import HeadTimeout
from mob.mobster.http.requests import Requests
from mob.mobster.http.wsgi import Adapter


class Server:
    """Serves a WSGI application; made like the servers of `socketserver`."""

    def __init__(self, address: tuple[str, int], application: Any) -> None:
        self._sock = socket.create_server(address)
        self.server_address = self._sock.getsockname()
        adapter = Adapter(application, threads=10, queue=100)
        self._config = uvicorn.Config(adapter, interface="asgi3", ws="none", log_config=None)
        self._config.load()
        self._config.loaded_app = writing.answering(Requests(self._config.loaded_app).serve)  # type: ignore[assignment]
        self._kind = heads.bounded(writing.connected(self._config.http_protocol_class), heads.LIMIT, HeadTimeout(60))
        self._state = ServerState()
        self._loop = asyncio.new_event_loop()

    def serve_forever(self) -> None:
        """Serve until `shutdown` is called in another thread."""
        self._loop.run_until_complete(
            self._loop.create_server(
                lambda: self._kind(config=self._config, server_state=self._state, app_state={}, _loop=self._loop),
                sock=self._sock,
            )
        )
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def shutdown(self) -> None:
        """Have `serve_forever` return."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def server_close(self) -> None:
        """Close the port."""
        self._sock.close()
