"""Leases in a bucket of JetStream, as a gateway keeps them for its Kingpin.

The bucket `mob_APP_leases` has a value for each singleton, and for the timers of each other role that has some. Reads
are answered by the leader of its stream and not by a replica, and writes name the revision that they replace, so every
writer has seen the previous value. The Kingpin decides (`core.lease`): a request comes in, an answer goes out, and only
the bucket is remembered.

Limits: a server reports a write as stored slightly before it is on its disk. A server that loses power may forget the
last renewals; a cluster of three servers keeps a copy on each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError, NoRespondersError
from nats.js.api import KeyValueConfig
from nats.js.errors import (
    APIError,
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    ServiceUnavailableError,
)
from nats.js.kv import KeyValue

from mob.cluster.names import NatsNames
from mob.wire import messages as m

BUCKET_TIMEOUT = 1.0
"""Maximum seconds for one request to the server."""
TRIES = 4
"""Maximum number of attempts to give a lease back while others write it."""
COPIES = 3
"""Number of servers that keep the bucket, if there are as many."""
NO_JETSTREAM = (
    "the NATS server cannot store leases, because JetStream is not enabled there. Start it with `nats-server -js` or "
    "`mob nats`, or leave out singleton=True"
)


class LeaseBucket:
    """The bucket of an app's leases."""

    def __init__(
        self, app: str, node: int, client: Callable[[], Client | None], answer: Callable[[m.Up], None]
    ) -> None:
        self._bucket = NatsNames(app).bucket
        self._node = node
        self._client = client
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<LeaseBucket in {self._bucket}, {len(self._tasks)} requests>"

    def handle(self, message: m.ReadLease | m.WriteLease | m.GiveBack, publish: Callable[[bytes], None]) -> None:
        """Carry out a request of the Kingpin; `publish` sends a letter to all Kingpins."""
        match message:
            case m.ReadLease():
                work = self._read(message)
            case m.WriteLease():
                work = self._write(message)
            case m.GiveBack():
                work = self._give_back(message, publish)
        task = asyncio.get_running_loop().create_task(self._settle(message.number, message.role, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Finish the requests under way, because this gateway ends."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=BUCKET_TIMEOUT * 2)

    async def _settle(self, number: int, role: str, work: Coroutine[Any, Any, m.LeaseIs]) -> None:
        try:
            answer = await work
        except (ServiceUnavailableError, NoRespondersError):
            answer = m.LeaseIs(number, role, error=await self._why())
        except (NatsError, OSError, TimeoutError, ValueError) as error:
            answer = m.LeaseIs(number, role, error=f"NATS did not answer for its lease: {_text(error)}")
        self._answer(answer)

    async def _why(self) -> str:
        """Return why JetStream does not answer: it does not exist, or has no leader at the moment."""
        client = self._client()
        information: Any = {} if client is None else client._server_info  # pyright: ignore[reportPrivateUsage]
        return "JetStream has no leader at the moment" if information.get("jetstream") else NO_JETSTREAM

    async def _open(self) -> KeyValue:
        client = self._client()
        if client is None or not client.is_connected:
            raise ConnectionError("there is no connection")
        stream: Any = client.jetstream(timeout=BUCKET_TIMEOUT)  # pyright: ignore[reportUnknownMemberType]
        try:
            return await stream.key_value(self._bucket)
        except BucketNotFoundError:
            return await self._create(stream, COPIES if len(client.servers) >= COPIES else 1)

    async def _create(self, stream: Any, copies: int) -> KeyValue:
        config = KeyValueConfig(self._bucket, description="which machine runs a singleton", replicas=copies)
        try:
            return await stream.create_key_value(config)
        except ServiceUnavailableError:
            raise
        except APIError:  # another gateway was faster
            return await stream.key_value(self._bucket)

    async def _look(self, role: str) -> tuple[KeyValue, int, m.LeaseRecord]:
        bucket = await self._open()
        try:
            entry = await bucket.get(_key(role))
        except KeyNotFoundError:
            return bucket, 0, m.LeaseRecord()
        try:
            value = msgspec.msgpack.decode(entry.value or b"", type=m.LeaseRecord)
        except m.UNREADABLE:
            raise ValueError(
                f"the value of {_key(role)!r} in the bucket {self._bucket!r} is not a lease written by mob"
            ) from None
        return bucket, entry.revision or 0, value

    async def _read(self, message: m.ReadLease) -> m.LeaseIs:
        _, revision, value = await self._look(message.role)
        return m.LeaseIs(message.number, message.role, revision, value)

    async def _write(self, message: m.WriteLease) -> m.LeaseIs:
        bucket = await self._open()
        written = await _put(bucket, message.role, message.revision, message.lease)
        return m.LeaseIs(message.number, message.role, written, message.lease, is_written=written > 0)

    async def _give_back(self, message: m.GiveBack, publish: Callable[[bytes], None]) -> m.LeaseIs:
        for _ in range(TRIES):
            bucket, revision, value = await self._look(message.role)
            if value.node != self._node or m.token_of(value, revision) != message.token:
                break  # another node has it, or this node has taken it again
            written = await _put(bucket, message.role, revision, m.LeaseRecord(token=message.token, left=message.left))
            if written:
                publish(message.letter)
                return m.LeaseIs(message.number, message.role, written, is_written=True)
        return m.LeaseIs(message.number, message.role)


async def _put(bucket: KeyValue, role: str, revision: int, lease: m.LeaseRecord) -> int:
    """Write a lease; return the new revision, or 0 if the previous one was not `revision`."""
    try:
        return await bucket.update(_key(role), msgspec.msgpack.encode(lease), last=revision)
    except KeyWrongLastSequenceError:
        return 0


def _key(role: str) -> str:
    """Return the key of a role: its name may end in a dot, a key may not."""
    return role.replace(".", "=")


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
