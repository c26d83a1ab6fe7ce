"""The module of the role "dashboard": a web server on its own event loop, in the main thread.

mob's loop then runs in another thread, so nothing that a browser does keeps this mobster from answering its Kingpin.
The server handles SIGTERM itself; open streams end with it, so a reload need not wait for viewers.

Its settings come from the environment, where `App.dashboard` put them: MOB_DASHBOARD_HOST, _PORT and _TOKEN.
"""

from __future__ import annotations

import logging
import os
from types import FrameType

import uvicorn

from mob.dashboard.actions import Actions
from mob.dashboard.feed import Feed
from mob.dashboard.guard import Guard
from mob.dashboard.machines import Machines
from mob.dashboard.routes import Site
from mob.mobster import api
from mob.peer.operating.steering import Steering

MOST_CONNECTIONS = 200
LAST_WORDS = 2
"""Seconds that requests under way get at the end."""


class DashboardServer(uvicorn.Server):
    """A uvicorn server that ends its streams when it has to exit."""

    feed: Feed

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Set the flag that ends the streams; on SIGTERM, between two instructions. The loop wakes up for it."""
        self.feed.is_closed = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: object = None) -> None:
        """Close the streams before the requests that are waited for."""
        self.feed.close()
        await super().shutdown()


def serve(host: str, port: int, token: str) -> None:
    """Serve until the process has to exit."""
    peer = api.current("dashboard")
    steering = Steering(peer.context, peer.control)
    machines = Machines(peer)
    feed = Feed(steering, peer.context, machines)
    actions = Actions(steering, feed, peer.context.roster.check_role, machines)
    site = Site(Guard(host, port, token), feed, actions, steering, peer.context.app)
    logging.getLogger("uvicorn.error").addFilter(_is_worth_saying)
    config = uvicorn.Config(
        site,
        host=host,
        port=port,
        access_log=False,
        log_level="warning",
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,  # client addresses do not matter here
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=LAST_WORDS,
        timeout_keep_alive=30,
    )
    server = DashboardServer(config)
    server.feed = feed
    server.run()


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Return False for messages about viewers that were cut off, which is not the server's fault."""
    return "without completing response" not in record.getMessage()


serve(os.environ["MOB_DASHBOARD_HOST"], int(os.environ["MOB_DASHBOARD_PORT"]), os.environ["MOB_DASHBOARD_TOKEN"])
