"""The HTTP server of a role with `serve=`: uvicorn's protocols, on mob's own loop and the shared port.

uvicorn parses requests and runs the application. Everything around that is mob's: accepting connections, the start, the
end, the signals. So uvicorn's `Server` is not used, only its parts (Config, ServerState, the protocols). This file is
imported, and uvicorn with it, only in a mobster that serves HTTP.

`ending` decides how connections end.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import socket
from collections.abc import Callable, Mapping
from email.utils import formatdate
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from uvicorn.server import ServerState

from mob import serve, serve_options
from mob.errors import PlanError, nearest
from mob.mobster.http import access, applications, binding, heads, writing, wsgi
from mob.mobster.http.accepting import Accepting
from mob.mobster.http.access import AccessLog
from mob.mobster.http.ending import Ending
from mob.mobster.http.exchanges import Exchanges, watched
from mob.mobster.http.head_timeout import HeadTimeout
from mob.mobster.http.lifespan import Lifespan
from mob.mobster.http.requests import Requests
from mob.plan import RolePlan
from mob.serve_options import ServeOptions

if TYPE_CHECKING:
    from mob.peer.peer import Peer
    from mob.wire import messages as m


class Web:
    """The HTTP server of one worker."""

    def __init__(self, peer: Peer, order: m.Fork, module: ModuleType) -> None:
        role = order.role
        assert role.serve is not None
        self._address = serve.address_of(role.serve)
        self._peer = peer
        self._index = order.index
        options, others = serve_options.split(role.serve_options)
        self._config = _config(role, module, options, others)
        self._head_timeout = options.head_timeout
        limit = self._config.h11_max_incomplete_event_size or heads.LIMIT
        self._config.h11_max_incomplete_event_size = limit
        kind = self._config.http_protocol_class
        adapter = self._config.app if isinstance(self._config.app, wsgi.Adapter) else None
        self._news = asyncio.Event()  # the connections or requests changed
        self._state = ServerState()
        self._state.connections = ObservedSet(self._handle_connections)
        self._state.tasks = ObservedSet(self._news.set)
        application = cast(Any, self._config).loaded_app
        self._lifespan = Lifespan(application, self._config.lifespan)
        is_json = order.log_format == "json"
        log = AccessLog(options.access_log, is_json) if options.access_log else None
        exchanges = Exchanges(application, self._news.set, options.cancel_on_disconnect)
        bounded = heads.bounded(
            kind if adapter is None else writing.connected(kind), limit, HeadTimeout(options.head_timeout)
        )
        self._make = watched(bounded, exchanges.handle_lost)
        self.requests: Requests = Requests(exchanges.serve, peer.context.tracing, adapter, log)
        """The counts of the application's responses."""
        serve_ = self.requests.serve
        self._config.loaded_app = serve_ if adapter is None else writing.answering(serve_)
        self._accepting: Accepting | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._ending = Ending(self._state, self._news, exchanges, options.stream_grace)

    def __repr__(self) -> str:
        return f"<Web, {len(self._state.connections)} connections, {len(self._state.tasks)} requests>"

    async def start(self) -> None:
        """Start the application, then accept connections."""
        await self._lifespan.start()
        if self._ending.has_begun:
            return
        self._set_headers()
        socks = binding.bound(self._address)
        self._accepting = Accepting(self._peer, self._connect)
        self._accepting.open(socks)
        if self._index == 0:
            print(f"serving on {binding.text_of(self._address, socks, self._config.is_ssl)}", flush=True)

    def begin_to_end(self, now: float, with_process: bool) -> None:
        """Accept no more connections; from now on each response is the last one on its connection.

        `with_process`: the process ends as well, so libraries may treat the end as final.
        """
        self._ending.begin(now)
        if self._accepting is not None:
            self._accepting.leave()
        if not with_process:
            return
        try:
            uvicorn.Server(self._config).handle_exit(signal.SIGTERM, None)  # libraries replace it to notice the end
        except Exception:
            logging.getLogger("mob").exception("the function installed as `handle_exit` of uvicorn.Server raised")

    async def finish(self, until: float) -> None:
        """Finish the requests; cancel those that are left at that time."""
        await self._ending.finish(until)

    async def end(self, seconds: float) -> None:
        """End the application, whose requests are finished; `TimeoutError` if that takes longer than `seconds`."""
        if self._clock is not None:
            self._clock.cancel()
        try:
            await asyncio.wait_for(self._lifespan.end(), seconds)
        finally:
            self._lifespan.cancel()
            if self._accepting is not None:
                self._accepting.close()

    def _new_connection(self) -> asyncio.Protocol:
        return self._make(config=self._config, server_state=self._state, app_state=self._lifespan.state)

    async def _connect(self, sock: socket.socket) -> None:
        """Serve a connection."""
        loop, context = asyncio.get_running_loop(), self._config.ssl
        limit = self._head_timeout if context is not None else None
        await loop.connect_accepted_socket(self._new_connection, sock, ssl=context, ssl_handshake_timeout=limit)

    def _handle_connections(self) -> None:
        """Note that the connections changed."""
        self._news.set()
        if self._accepting is not None:
            self._accepting.handle_count(len(self._state.connections))

    def _set_headers(self) -> None:
        """Set the headers of every response; once a second, because of the date. In place: requests keep the list."""
        date = [(b"date", formatdate(usegmt=True).encode())] if self._config.date_header else []
        self._state.default_headers[:] = [*date, *self._config.encoded_headers]
        self._clock = asyncio.get_running_loop().call_later(1.0, self._set_headers)


class ObservedSet(set[Any]):
    """A set that reports additions and removals, for the methods that uvicorn uses."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        super().__init__()
        self._on_change = on_change

    def add(self, element: Any, /) -> None:
        """Add an element."""
        super().add(element)
        self._on_change()

    def discard(self, element: Any, /) -> None:
        """Remove an element if it is in the set."""
        super().discard(element)
        self._on_change()

    def remove(self, element: Any, /) -> None:
        """Remove an element."""
        super().remove(element)
        self._on_change()


def _config(role: RolePlan, module: ModuleType, own: ServeOptions, given: Mapping[str, Any]) -> uvicorn.Config:
    """Return uvicorn's configuration, with the application loaded."""
    known = [*inspect.signature(uvicorn.Config).parameters, *serve_options.OWN]
    for option in given:
        if option not in known:
            raise PlanError(
                f"role {role.name!r}: serve_options: neither mob nor uvicorn {uvicorn.__version__} has an option "
                f"{option!r}. "
                f"{nearest(option, [name for name in known if name not in serve.OURS])}"
            )
    name = f"{module.__name__}.{role.application}"
    application = applications.find(module, role.application)
    options: dict[str, Any] = {"log_level": "info", "access_log": False, "interface": "auto", **given}
    if options["interface"] == "auto":
        options["interface"] = applications.interface_of(application, name)
    if options["interface"] == "wsgi":
        if own.cancel_on_disconnect:
            raise PlanError(
                f"role {role.name!r}: serve_options: cancel_on_disconnect is for ASGI applications, but {name!r} is "
                f"WSGI: it runs in threads, which cannot be cancelled."
            )
        is_multiprocess = max(role.workers, role.max_workers or 1) > 1
        application = wsgi.Adapter(application, role.threads or wsgi.THREADS, own.wsgi_queue, is_multiprocess)
        options.update(interface="asgi3", ws="none")
    with access.own_handlers_kept():
        config = uvicorn.Config(application, loop="none", log_config=None, **options)
    config.load()
    return config
