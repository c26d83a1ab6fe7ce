"""The data that singletons hand over to the machine that runs them next, in an object store of JetStream.

The store `mob_APP_left` is made when the first singleton hands over data. An object is named by the role and the token
with which it ran, so two machines never write the same object, and the object named in a lease record is what the
writer of the record stored. The Kingpin decides (`core.moving`); nothing is remembered or decoded here: the data goes
from an unnamed file into the store, and from there into another unnamed file.

Only a few parts are under way at a time: leases are renewed on the same connection, and a slow connection that is full
for seconds would cost the lease. Therefore an object is not read with nats-py's `get`, which would also wait forever
for a server that disappeared.
"""

from __future__ import annotations

import asyncio
import base64
import io
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from hashlib import sha256
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ObjectStoreConfig
from nats.js.errors import APIError, BucketNotFoundError, NotFoundError, ServiceUnavailableError
from nats.js.object_store import (
    OBJ_CHUNKS_PRE_TEMPLATE,
    OBJ_DIGEST_TYPE,
    OBJ_META_PRE_TEMPLATE,
    OBJ_STREAM_TEMPLATE,
    ObjectStore,
)

from mob.cluster.leases import COPIES
from mob.cluster.names import NatsNames
from mob.rim import places
from mob.rim.link import Descriptor
from mob.wire import messages as m

OBJECT_TIMEOUT = 5.0
"""Maximum seconds to store or receive one part of an object."""
PARTS = 4
"""Maximum number of parts of an object under way at a time, of 128 KiB each."""
TROUBLE = (NatsError, OSError, TimeoutError, ValueError)
Teller = Callable[[m.Up, Sequence[int | Descriptor]], None]


class StoredInheritances:
    """The stored data of all singletons of an app.

    Args:
        app: Name of the app.
        client: Returns the connection, or None.
        answer: Sends a message to the Kingpin, with descriptors.
    """

    def __init__(self, app: str, client: Callable[[], Client | None], answer: Teller) -> None:
        self._bucket = NatsNames(app).left_bucket
        self._stream = OBJ_STREAM_TEMPLATE.format(bucket=self._bucket)
        self._client = client
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<StoredInheritances in {self._bucket}, {len(self._tasks)} requests>"

    def handle(self, message: m.PutLeft | m.GetLeft | m.DropLeft, descriptors: list[int]) -> None:
        """Carry out a request of the Kingpin, and answer it."""
        match message:
            case m.PutLeft():
                work = self._settle(message, self._put(message, [Descriptor(each) for each in descriptors]))
            case m.GetLeft():
                work = self._settle(message, self._get(message))
            case m.DropLeft():
                work = self._drop(message)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Cancel all requests, because this gateway ends; the Kingpin asks another one."""
        for task in self._tasks:
            task.cancel()

    async def _settle(self, message: m.PutLeft | m.GetLeft, work: Coroutine[Any, Any, Descriptor | None]) -> None:
        number, role = message.number, message.role
        try:
            found = await work
        except NotFoundError:
            self._answer(m.LeftIs(number, role, error="NATS no longer has it", is_gone=True), [])
        except TROUBLE as error:
            self._answer(m.LeftIs(number, role, error=str(error) or type(error).__name__), [])
        else:
            size = -1 if found is None else os.fstat(found.fileno()).st_size
            self._answer(m.LeftIs(number, role, size), [] if found is None else [found])

    def _jetstream(self) -> JetStreamContext:
        client = self._client()
        if client is None or not client.is_connected:
            raise ConnectionError("there is no connection to NATS")
        stream: Any = client.jetstream(timeout=OBJECT_TIMEOUT)  # pyright: ignore[reportUnknownMemberType]
        return stream

    async def _put(self, message: m.PutLeft, files: list[Descriptor]) -> None:
        if not files:
            raise OSError("the gateway has too many open files, see `ulimit -n`")
        stream = self._jetstream()
        store = await self._made(stream)
        await store.put(_name(message.role, message.token), MemoryReader(files[0]))
        try:
            await self._drop_others(stream, store, message)
        except TROUBLE as error:
            logging.getLogger("mob").warning("earlier handover data of %r is still in NATS: %s", message.role, error)

    async def _made(self, stream: JetStreamContext) -> ObjectStore:
        try:
            return await stream.object_store(self._bucket)
        except BucketNotFoundError:
            client = self._client()
            copies = COPIES if client is not None and len(client.servers) >= COPIES else 1
        config = ObjectStoreConfig(description="what singletons leave to the next machine", replicas=copies)
        try:
            return await stream.create_object_store(self._bucket, config)  # pyright: ignore[reportUnknownMemberType]
        except ServiceUnavailableError:
            raise
        except APIError:  # another gateway was faster
            return await stream.object_store(self._bucket)

    async def _drop_others(self, stream: JetStreamContext, store: ObjectStore, message: m.PutLeft) -> None:
        """Delete data of machines that died before they could name it in the lease."""
        for info in await store.list(ignore_deletes=True):
            name = info.name or ""
            if name.startswith(_name(message.role, "")) and name != _name(message.role, message.token):
                await self._delete(stream, store, name)

    async def _get(self, message: m.GetLeft) -> Descriptor:
        stream = self._jetstream()
        info = await (await stream.object_store(self._bucket)).get_info(_name(message.role, message.left))
        chunks = OBJ_CHUNKS_PRE_TEMPLATE.format(bucket=self._bucket, obj=info.nuid)
        config = ConsumerConfig(ack_policy=AckPolicy.NONE)
        subscription = await stream.pull_subscribe(chunks, stream=self._stream, config=config)
        digest, written = sha256(), 0
        try:
            with places.unnamed_file() as file:
                while written < (info.size or 0):
                    for each in await _next_parts(subscription):
                        written += file.write(each.data)
                        digest.update(each.data)
                file.flush()
                if f"{OBJ_DIGEST_TYPE}{base64.urlsafe_b64encode(digest.digest()).decode()}" != info.digest:
                    raise ValueError("the stored data is damaged")
                return Descriptor(os.dup(file.fileno()))
        finally:
            await subscription.unsubscribe()

    async def _drop(self, message: m.DropLeft) -> None:
        try:
            stream = self._jetstream()
            store = await stream.object_store(self._bucket)
            await self._delete(stream, store, _name(message.role, message.left))
        except TROUBLE as error:  # it will be deleted when the role moves next
            logging.getLogger("mob").debug("handover data of %r is still in NATS: %s", message.role, error)

    async def _delete(self, stream: JetStreamContext, store: ObjectStore, name: str) -> None:
        """Delete an object, and the note of it that would stay."""
        await store.delete(name)
        object_name = base64.urlsafe_b64encode(name.encode()).decode()
        subject = OBJ_META_PRE_TEMPLATE.format(bucket=self._bucket, obj=object_name)
        await stream.purge_stream(self._stream, subject=subject)


class MemoryReader(io.BufferedIOBase):
    """A file that is read from its beginning, even if other code has it open at another position."""

    def __init__(self, file: Descriptor) -> None:
        super().__init__()
        self._file = file
        self._at = 0

    def __repr__(self) -> str:
        return f"<MemoryReader at {self._at}>"

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into a buffer; return their number."""
        count = os.preadv(self._file.fileno(), [buffer], self._at)
        self._at += count
        return count


async def _next_parts(subscription: JetStreamContext.PullSubscription) -> list[Msg]:
    try:
        return await subscription.fetch(PARTS, OBJECT_TIMEOUT)
    except TimeoutError:
        raise TimeoutError(f"NATS sent no data for {OBJECT_TIMEOUT:g} s") from None


def _name(role: str, token: int | str) -> str:
    return f"{role}/{token}"
