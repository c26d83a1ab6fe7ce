"""The connection of a gateway to NATS, and the options with which mob connects.

Subjects of an app (`names.py`): `mob.APP.all` (letters to all Kingpins), `mob.APP.node.N` (letters to one) and
`mob.APP.gateway.UID` (packets of trunks to one gateway). Each gateway of a node receives all letters, and its Kingpin
listens to one gateway. They are not in a queue group: if the other servers of a cluster cannot reach one server, its
receivers still count for minutes, and messages assigned to them are lost.

A message is forgotten as soon as it is published: NATS promises nothing for it, and a trunk expects no more. Nothing is
published while there is no connection; packets that matter are sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
import types
from collections.abc import Callable, Generator
from typing import Any, cast

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import AuthorizationError, Error as NatsError, NoServersError

from mob.cluster.names import NatsNames
from mob.core.membership import UNCONNECTED
from mob.plan import Cluster

CONNECT_TIMEOUT = 2
"""Seconds for one attempt to connect."""
FLUSHED = 1
"""Maximum number of seconds to send what is left at the end."""
NATS_RETRY = 0.25
"""Seconds between two attempts to connect."""
PING = 0.4
"""Seconds between two pings. An unreachable server is noticed, and another one found, before a machine is missed (three
seconds): it takes until the third ping, and a beat."""
PINGS = 2
"""Maximum number of unanswered pings."""
UNANSWERED = 1000
"""Milliseconds for which TCP keeps data that the server does not acknowledge. nats-py changes the server only if
all that it has written is sent or failed; by default that would take the kernel about 15 minutes."""
PENDING = 64 * 1024 * 1024
"""Maximum number of bytes that wait for the socket; trunks stay far below it."""
ROOM = 1024
"""Bytes of the largest payload that a packet leaves unused."""
PACKET = 256 * 1024
"""Maximum size of a packet in bytes: small enough that others get their turn, large enough to cost little."""

LetterHandler = Callable[[bytes], None]


class Guarded(Client):
    """A client that does not send its password to a server without TLS if TLS is required.

    nats-py encrypts if the server asks for it, and otherwise continues in plain text: an attacker in between would only
    have to remove that request.
    """

    def __init__(self, *, needs_tls: bool) -> None:
        super().__init__()
        self._needs_tls = needs_tls

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        server = self._current_server
        scheme = "" if server is None else server.uri.scheme
        asked = self._needs_tls or scheme == "tls"
        if initial_connection and asked and scheme not in ("ws", "wss") and not info.get("tls_required"):
            raise NatsError("the server does not offer TLS, but .cluster(...) requires it")
        await cast(Any, super())._process_info(info, initial_connection)


class Carrier:
    """The connection to NATS; it is made again whenever it is lost."""

    def __init__(
        self,
        app: str,
        node: int,
        uid: int,
        cluster: Cluster,
        on_letter: LetterHandler,
        on_change: Callable[[str], None],
    ) -> None:
        self._names = NatsNames(app)
        self._node = node
        self._uid = uid
        self.address: bytes = uid.to_bytes(8)
        """The start of every packet: the uid of its sender."""
        self._cluster = cluster
        self._on_letter = on_letter
        self._on_change = on_change
        self.on_packet: Callable[[int, memoryview], None] = _ignore
        """Called with each packet: (uid of the gateway that sent it, packet)."""
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._logged: set[str] = set()  # denied permissions that were logged
        self._rest: set[asyncio.Task[Any]] = set()
        self.why_not: str = UNCONNECTED
        """Why nothing can be sent now; "" if it can."""

    def __repr__(self) -> str:
        return f"<Carrier {self._names.prefix}, {self.why_not or 'connected'}>"

    @property
    def client(self) -> Client | None:
        """The connection, for JetStream; None before the first one."""
        return self._client

    @property
    def packet_limit(self) -> int:
        """Maximum size of a packet in bytes."""
        return PACKET if self._client is None else min(PACKET, self._client.max_payload - ROOM)

    @property
    def is_connected(self) -> bool:
        """True if something can be sent now."""
        return not self.why_not

    def open(self) -> None:
        """Connect, now and whenever the connection is lost; try until it works."""
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def close(self) -> None:
        """Send what is left and disconnect."""
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()
        if self._client is not None and not self._client.is_closed:
            with contextlib.suppress(NatsError, TimeoutError, OSError):
                await self._client.flush(FLUSHED)
            await self._client.close()

    def write(self, node: int, letter: bytes) -> None:
        """Send a letter to the Kingpin of a node; to all Kingpins if `node` is 0."""
        self._publish(self._names.node(node) if node else self._names.all, letter)

    def send(self, uid: int, packet: bytes) -> None:
        """Send a packet to another gateway; it begins with `address`."""
        self._publish(self._names.gateway(uid), packet)

    def _publish(self, subject: str, data: bytes) -> None:
        client = self._client
        if client is None or self.why_not:
            return
        publishing = client.publish(subject, data)
        try:
            awaited = publishing.send(None)  # usually this is all, and a task would cost more than everything else
        except (StopIteration, NatsError):
            return
        task = asyncio.get_running_loop().create_task(_finish(publishing, awaited))
        self._rest.add(task)
        task.add_done_callback(self._rest.discard)

    # ----------------------------------------------------------------------------------------- the connection

    async def _connect(self) -> None:
        while True:
            try:
                client = Guarded(needs_tls=bool(self._cluster.ca or self._cluster.cert))
                await cast(Any, client).connect(**self._options())  # its types are partly unknown
                self._client = client
                break
            except Exception as error:  # noqa: BLE001  readers of key and certificate files raise anything
                self._refuse(error)
                await asyncio.sleep(NATS_RETRY)
        subscribe = cast(Any, self._client).subscribe  # its types are partly unknown
        await subscribe(self._names.all, cb=self._handle_letter)
        await subscribe(self._names.node(self._node), cb=self._handle_letter)
        await subscribe(self._names.gateway(self._uid), cb=self._handle_packet)
        await self._client.flush()
        await self._handle_found()

    def _options(self) -> dict[str, Any]:
        own = {
            "error_cb": self._handle_error,
            "disconnected_cb": self._handle_lost,
            "reconnected_cb": self._handle_found,
            "closed_cb": self._handle_closed,
        }
        return options_of(self._cluster, f"mob {self._names.prefix} {self._cluster.node}") | own

    def _shown(self) -> str:
        return ", ".join(server.rpartition("@")[2].removeprefix("nats://") for server in self._cluster.servers)

    async def _handle_letter(self, message: Msg) -> None:
        self._note_life()
        self._on_letter(message.data)

    async def _handle_packet(self, message: Msg) -> None:
        self._note_life()
        data = message.data
        if len(data) > 8:
            self.on_packet(int.from_bytes(data[:8]), memoryview(data)[8:])

    def _note_life(self) -> None:
        """Note that the server is alive: on a busy line a pong may have to wait for other data."""
        cast(Any, self._client)._pings_outstanding = 0  # nats-py counts pongs only, and has no hook for this

    async def _handle_lost(self) -> None:
        if self._is_closing:
            return
        self._change(f"the connection to NATS at {self._shown()} was lost")

    async def _handle_found(self) -> None:
        self._set_user_timeout()
        self._change("")

    def _set_user_timeout(self) -> None:
        """Tell the kernel when to give up the connection. nats-py has no public way to its socket."""
        transport = getattr(self._client, "_transport", None)
        writer = getattr(transport, "_bare_io_writer", None)
        if writer is not None and hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED)

    async def _handle_closed(self) -> None:
        """Connect again after the server disconnected this machine, for example because its credentials expired."""
        if not self._is_closing:
            self._client = None
            self.open()

    async def _handle_error(self, error: Exception) -> None:
        client, text = self._client, str(error)
        if client is None or (not client.is_connected and _is_permanent(error)):
            self._refuse(error)  # an attempt to connect failed, and another follows
        elif "permissions violation" in text.lower() and text not in self._logged:
            self._logged.add(text)
            logging.getLogger("mob").error(
                "NATS denied a permission that mob needs: %s. See 'Who may do what' in docs/cluster.md.", text
            )

    def _refuse(self, error: Exception) -> None:
        """Report why there is no connection; log it when it turns out that waiting will not help."""
        was = self.why_not
        self._change(scrubbed(self._cluster, f"NATS at {self._shown()} {_reason(error)}"))
        if self.why_not != was != UNCONNECTED and _is_permanent(error):
            logging.getLogger("mob").error("%s", self.why_not)

    def _change(self, why_not: str) -> None:
        if why_not != self.why_not:
            self.why_not = why_not
            self._on_change(why_not)


def options_of(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return the options with which nats-py connects to the servers of a cluster, under that name."""
    options: dict[str, Any] = {
        # Shuffled here and not by nats-py: it shuffles again after losing a server, and may try that one again first,
        # which takes two seconds if it cannot be reached.
        "servers": random.sample(cluster.servers, len(cluster.servers)),
        "dont_randomize": True,
        "name": name,
        "connect_timeout": CONNECT_TIMEOUT,
        "reconnect_time_wait": NATS_RETRY,
        "max_reconnect_attempts": -1,
        "allow_reconnect": True,
        "ping_interval": PING,
        "max_outstanding_pings": PINGS,
        "pending_size": PENDING,
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


def scrubbed(cluster: Cluster, text: str) -> str:
    """Return a text without secrets: errors of nats-py may quote an address, with the password in it.

    >>> scrubbed(Cluster(("nats://me:secret@host",), "a", token="other"), "secret and other are hidden")
    '*** and *** are hidden'
    """
    secrets = [cluster.password, cluster.token]
    for server in cluster.servers:
        secrets += [server.partition("://")[2].rpartition("@")[0].partition(":")[2]]
        if ":" not in server.partition("://")[2].rpartition("@")[0]:
            secrets += [server.partition("://")[2].rpartition("@")[0]]  # a token
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    return text


def _is_permanent(error: Exception) -> bool:
    """Return whether waiting will not help."""
    return not isinstance(error, (NoServersError, TimeoutError)) and not (
        isinstance(error, OSError) and not isinstance(error, (ssl.SSLError, FileNotFoundError, PermissionError))
    )


def _reason(error: Exception) -> str:
    if isinstance(error, AuthorizationError) or "uthorization" in str(error) or "uthentication" in str(error):
        return (
            f"rejects the authentication of this machine ({str(error).removeprefix('nats: ')}). Check what "
            f".cluster(...) gives: user and password, token, nkey or credentials."
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"has a certificate that is not trusted ({error.verify_message}). Check ca=, and the name in the address."
        )
    if isinstance(error, ssl.SSLError):
        return f"cannot be reached with TLS ({error.reason or error}). Check ca=, cert= and key=."
    if type(error).__module__.startswith("nkeys") or type(error).__name__ == "Error":
        return f"cannot be used: the nkey or the credentials are invalid ({error or type(error).__name__})."
    return f"cannot be reached: {error or type(error).__name__}"


async def _finish(coroutine: Any, awaited: Any) -> None:
    with contextlib.suppress(NatsError):
        await _rest_of(coroutine, awaited)


@types.coroutine
def _rest_of(coroutine: Any, awaited: Any) -> Generator[Any, None, None]:
    """Continue a coroutine that waits for something."""
    while True:
        yield awaited
        try:
            awaited = coroutine.send(None)
        except StopIteration:
            return


def _ignore(uid: int, packet: memoryview) -> None:
    pass
