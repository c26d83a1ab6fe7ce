"""NATS, as a gateway uses it. The only file that knows it.

Subjects of an app: `mob.APP.all` (letters to all Kingpins), `mob.APP.node.N` (letters to one) and
`mob.APP.gateway.UID` (packets of trunks to one gateway). The gateways of a node take letters as a queue group, so each
letter comes to one of them.

What is published is gone the moment it is handed over: NATS promises nothing for it, and that is all a trunk expects.
While there is no connection nothing is published; packets that matter are sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import types
from collections.abc import Callable, Generator
from typing import Any, cast

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from mob.core.membership import UNCONNECTED
from mob.plan import Cluster

CONNECT_TIMEOUT = 2
"""Seconds for one attempt."""
FLUSHED = 1
"""Seconds in which what is left to say at the end is sent."""
PAUSE = 0.25
"""Seconds between two attempts."""
PING = 1
"""Seconds between two pings, so that a server that is out of reach is noticed."""
PINGS = 2
"""How many of them may stay unanswered."""
PENDING = 64 * 1024 * 1024
"""Bytes that may wait for the socket; trunks keep far below it."""
ROOM = 1024
"""Bytes of the largest payload that a packet leaves unused."""
PACKET = 256 * 1024
"""Bytes of a packet: small enough that others get their turn, large enough to cost little."""

Handler = Callable[[bytes], None]


class Carrier:
    """The connection to NATS, which comes and goes."""

    def __init__(
        self, app: str, node: int, uid: int, cluster: Cluster, on_letter: Handler, on_change: Callable[[str], None]
    ) -> None:
        self._prefix = f"mob.{app.replace('.', '_')}"
        self._node = node
        self._uid = uid
        self._cluster = cluster
        self._on_letter = on_letter
        self._on_change = on_change
        self.on_packet: Callable[[int, bytes], None] = _ignore
        """What is done with a packet: (uid of the gateway that has sent it, packet)."""
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._rest: set[asyncio.Task[Any]] = set()
        self.why_not = UNCONNECTED
        """Why nothing can be sent, if it cannot."""

    def __repr__(self) -> str:
        return f"<Carrier {self._prefix}, {self.why_not or 'connected'}>"

    @property
    def packet_limit(self) -> int:
        """Bytes that a packet may have."""
        return PACKET if self._client is None else min(PACKET, self._client.max_payload - ROOM)

    @property
    def is_connected(self) -> bool:
        """Whether something can be sent now."""
        return not self.why_not

    def open(self) -> None:
        """Begins to connect; goes on until it is, and whenever it is lost."""
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def close(self) -> None:
        """Sends what is left and leaves."""
        if self._task is not None:
            self._task.cancel()
        if self._client is not None and not self._client.is_closed:
            with contextlib.suppress(NatsError, TimeoutError, OSError):
                await self._client.flush(FLUSHED)
            await self._client.close()

    def write(self, node: int, letter: bytes) -> None:
        """A letter to the Kingpin of a node; to all if it is 0."""
        self._publish(f"{self._prefix}.node.{node}" if node else f"{self._prefix}.all", letter)

    def send(self, uid: int, packet: bytes) -> None:
        """A packet to another gateway."""
        self._publish(f"{self._prefix}.gateway.{uid}", self._uid.to_bytes(8) + packet)

    def _publish(self, subject: str, data: bytes) -> None:
        client = self._client
        if client is None or self.why_not:
            return
        publishing = client.publish(subject, data)
        try:
            awaited = publishing.send(None)  # nearly always that is all, and a task costs more than the rest
        except (StopIteration, NatsError):
            return
        task = asyncio.get_running_loop().create_task(_finish(publishing, awaited))
        self._rest.add(task)
        task.add_done_callback(self._rest.discard)

    # ----------------------------------------------------------------------------------------- the connection

    async def _connect(self) -> None:
        while True:
            try:
                self._client = await nats.connect(**self._options())  # pyright: ignore[reportUnknownMemberType]
                break
            except (OSError, NatsError, TimeoutError, ValueError) as error:
                self._change(f"NATS at {self._shown()} cannot be reached: {error or type(error).__name__}")
                await asyncio.sleep(PAUSE)
        subscribe = cast(Any, self._client).subscribe  # its types are partly unknown
        await subscribe(f"{self._prefix}.all", queue=f"node-{self._node}", cb=self._handle_letter)
        await subscribe(f"{self._prefix}.node.{self._node}", queue="gateways", cb=self._handle_letter)
        await subscribe(f"{self._prefix}.gateway.{self._uid}", cb=self._handle_packet)
        await self._client.flush()
        self._change("")

    def _options(self) -> dict[str, Any]:
        cluster = self._cluster
        options: dict[str, Any] = {
            "servers": list(cluster.servers),
            "name": f"mob {self._prefix} {cluster.node}",
            "connect_timeout": CONNECT_TIMEOUT,
            "reconnect_time_wait": PAUSE,
            "max_reconnect_attempts": -1,
            "allow_reconnect": True,
            "ping_interval": PING,
            "max_outstanding_pings": PINGS,
            "pending_size": PENDING,
            "error_cb": self._handle_error,
            "disconnected_cb": self._handle_lost,
            "reconnected_cb": self._handle_found,
            "user": cluster.user,
            "password": cluster.password,
            "token": cluster.token,
            "user_credentials": cluster.credentials,
            "nkeys_seed": cluster.nkey,
        }
        if cluster.ca or cluster.cert:
            context = ssl.create_default_context(cafile=cluster.ca)
            if cluster.cert:
                context.load_cert_chain(cluster.cert, cluster.key)
            options["tls"] = context
        return {name: value for name, value in options.items() if value is not None}

    def _shown(self) -> str:
        return ", ".join(server.rpartition("@")[2].removeprefix("nats://") for server in self._cluster.servers)

    async def _handle_letter(self, message: Msg) -> None:
        self._on_letter(message.data)

    async def _handle_packet(self, message: Msg) -> None:
        data = message.data
        if len(data) > 8:
            self.on_packet(int.from_bytes(data[:8]), data[8:])

    async def _handle_lost(self) -> None:
        self._change(f"the connection to NATS at {self._shown()} is lost")

    async def _handle_found(self) -> None:
        self._change("")

    async def _handle_error(self, error: Exception) -> None:
        pass  # what follows from it is told by the others

    def _change(self, why_not: str) -> None:
        if why_not != self.why_not:
            self.why_not = why_not
            self._on_change(why_not)


async def _finish(coroutine: Any, awaited: Any) -> None:
    with contextlib.suppress(NatsError):
        await _rest_of(coroutine, awaited)


@types.coroutine
def _rest_of(coroutine: Any, awaited: Any) -> Generator[Any, None, None]:
    """Goes on with a coroutine that waits for something."""
    while True:
        yield awaited
        try:
            awaited = coroutine.send(None)
        except StopIteration:
            return


def _ignore(uid: int, packet: bytes) -> None:
    pass
