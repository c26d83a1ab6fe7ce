"""Durable messages in a JetStream stream of the app: they are stored here, and passed to workers of this machine.

A message stays in the stream until a handler of a worker returns. All gateways pull from one durable consumer for each
role, so each message arrives at one of them; a gateway pulls no more than its ready workers can take. It calls a
worker, reports "in progress" as long as that runs, and acknowledges when the worker answers. A message whose handler
raises is delivered again, after longer and longer pauses. After `DELIVERIES` attempts it is put aside in a second
stream, which an operator inspects.

Whatever dies, the server still has the message: it passes it to another gateway after `ACK_WAIT` without a report. So a
handler may get a message twice, but always at least once. The first message makes the stream; an app that sends none
does not use JetStream.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError, MaxPayloadError, NoRespondersError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from mob.cluster.names import NatsNames, token
from mob.errors import ArgumentError, Busy, CallError, Forbidden, Unavailable, UnknownExport
from mob.peer.links import served
from mob.plan import GATEWAY
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.peer.links.contact import Contact
    from mob.peer.peer import Peer

MAX_AGE = 7 * 86400.0
"""Maximum seconds that a message stays in the stream; Kafka's default."""
MAX_BYTES = 1024**3
"""Maximum bytes of the stream; when it is full, new messages are refused with `Busy`."""
DEAD_AGE = 30 * 86400.0
"""Maximum seconds that a message stays in the stream of those that were put aside."""
DEAD_BYTES = 256 * 1024**2
"""Maximum bytes of that stream; when it is full, the oldest messages are dropped."""
DUPLICATES = 120.0
"""Seconds within which a message that is stored twice is recognized; JetStream's default."""
DELIVERIES = 5
"""Maximum number of attempts to handle a message; SQS recommends 3 to 5."""
DELAYS = (1.0, 5.0, 25.0, 125.0)
"""Seconds until the next attempt, after the first, the second, ..."""
ACK_WAIT = 15.0
"""Seconds without a report after which the server passes a message to another gateway."""
PROGRESS = 5.0
"""Seconds between two reports that a handler still runs."""
PER_WORKER = 4
"""Number of messages that a worker has at once; Celery's default. Only `async def` handlers run concurrently."""
PULL = 20.0
"""Seconds that a request for messages waits at the server."""
REDELIVERY_DELAY = 0.25
"""Seconds until a message that a worker did not begin is tried again, if the workers do not change before."""
PREFETCH_TIMEOUT = 5.0
"""Seconds that a message waits for a worker here before another machine may have it."""
SETTLED = 30.0
"""Seconds between two looks for the stream, in case its announcement was missed."""
SENDER, KEY, REASON = "Mob-Sender", "Nats-Msg-Id", "Mob-Reason"
NO_ROOM = 10077
"""JetStream's error code for a full stream."""
TAKEN = 10058
"""JetStream's error code for an existing stream with other settings, which an operator chose."""


class Durable:
    """The durable messages of an app, as one gateway sees them."""

    def __init__(self, peer: Peer, client: Callable[[], Client | None]) -> None:
        self._peer = peer
        self._context = peer.context
        self._client = client
        self._changes = peer.control.changes
        self._names = NatsNames(peer.context.app)
        self.stream: str = self._names.stream
        self.dead: str = self._names.dead_stream
        self._is_there = False  # the stream exists
        self._announced: Client | None = None  # the connection on which announcements of it are received
        self._pulling: dict[str, asyncio.Task[None]] = {}
        self._in_hand: dict[str, set[asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_looking = False

    def __repr__(self) -> str:
        return f"<Durable {self.stream}, {sum(map(len, self._in_hand.values()))} in hand>"

    def handle_connected(self) -> None:
        """Look for messages, because NATS can be reached (again)."""
        self._changes.note()  # not a change of the roster, but processes that wait here treat it as one
        self._start(self._listen())
        if not self._is_looking:
            self._is_looking = True
            self._start(self._look_periodically())

    async def close(self) -> None:
        """Cancel everything, because this gateway ends: another one may take over its messages at once."""
        tasks = [*self._pulling.values(), *self._tasks, *(task for each in self._in_hand.values() for task in each)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --------------------------------------------------------------------------------------------- storing

    async def store(self, role: str, body: bytes, key: str) -> None:
        """Store a message of the caller; return when the server has it on its disk."""
        self._context.roster.check_role(role)
        await self._wait_for_the_first_connection()
        client, label = self._client(), f"a durable message to {role!r}"
        if client is None or not client.is_connected:
            raise Unavailable(f"{label}: NATS cannot be reached now.")
        sender = served.caller()
        assert sender is not None
        headers = {KEY: key, SENDER: _written(sender)}
        try:
            if not self._is_there:
                await self._make(client)
            await _jetstream(client).publish(self._names.durable(role), body, headers=headers)
        except MaxPayloadError:
            most = f"at most {client.max_payload:,} (max_payload in its configuration)"
            raise ArgumentError(f"{label}: it has {len(body):,} bytes, but the NATS server accepts {most}.") from None
        except (NatsError, TimeoutError) as error:
            self._is_there = False
            raise _translated(label, error) from error
        if role not in self._pulling:
            self._pull_all()

    async def _wait_for_the_first_connection(self) -> None:
        """Wait for the first connection to NATS; messages sent later, without a connection, fail at once."""
        until = monotonic() + PREFETCH_TIMEOUT
        while self._client() is None and (left := until - monotonic()) > 0:
            await self._changes.next(left)

    async def _make(self, client: Client) -> None:
        """Make the streams that do not exist. Existing ones keep the settings that an operator chose."""
        js = _jetstream(client)
        dead = StreamConfig(
            name=self.dead,
            subjects=[self._names.dead("*")],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_age=DEAD_AGE,
            max_bytes=DEAD_BYTES,
        )
        live = StreamConfig(
            name=self.stream,
            subjects=[self._names.durable("*")],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_age=MAX_AGE,
            max_bytes=MAX_BYTES,
            duplicate_window=DUPLICATES,
        )
        for config in (dead, live):
            try:
                await js.stream_info(str(config.name))
            except NotFoundError:
                await add_stream(js, config, len(client.servers) >= 3)
        self._is_there = True
        await client.publish(self._names.stored)

    # ---------------------------------------------------------------------------------- looking for messages

    async def _listen(self) -> None:
        client = self._client()
        if client is not None and self._announced is not client:
            self._announced = client
            await _any(client).subscribe(self._names.stored, cb=self._handle_announced)
        await self._look()

    async def _handle_announced(self, message: Msg) -> None:
        self._is_there = True
        self._pull_all()

    async def _look_periodically(self) -> None:
        while True:
            await asyncio.sleep(SETTLED)
            self._changes.note()
            await self._look()

    async def _look(self) -> None:
        """Look whether the stream exists; if so, fetch messages for the workers of this machine."""
        client = self._client()
        if client is None or not client.is_connected:
            return
        if not self._is_there:
            try:
                await _jetstream(client).stream_info(self.stream)
            except (NatsError, TimeoutError):
                return  # no JetStream, or no stream, because no message was ever sent
            self._is_there = True
        self._pull_all()

    def _pull_all(self) -> None:
        """Pull messages for each role that may have workers here."""
        for role in self._context.roster.roles:
            if role != GATEWAY and role not in self._pulling:
                self._peer.contacts.want_role(role)
                self._pulling[role] = asyncio.get_running_loop().create_task(self._pull(role))

    # --------------------------------------------------------------------------------------------- pulling

    async def _pull(self, role: str) -> None:
        in_hand = self._in_hand.setdefault(role, set())
        subscription: JetStreamContext.PullSubscription | None = None
        while True:
            if len(in_hand) >= PER_WORKER * len(self._workers(role)):
                await self._wait_for_room(in_hand)
                continue
            client = self._client()
            if client is None or not client.is_connected:
                await self._changes.next()
                continue
            try:
                if subscription is None:
                    subscription = await self._subscribe(_jetstream(client), role)
                messages = await subscription.fetch(1, PULL)
            except TimeoutError:
                continue  # there was no message
            except NatsError:  # the stream, the consumer or the connection is lost
                if subscription is not None:
                    await _give_up(subscription)
                subscription = None
                await asyncio.sleep(1.0)
                continue
            for message in messages:
                task = asyncio.get_running_loop().create_task(self._handle(role, message))
                in_hand.add(task)
                task.add_done_callback(in_hand.discard)

    async def _wait_for_room(self, in_hand: set[asyncio.Task[None]]) -> None:
        """Wait until a message is finished or the workers change."""
        change = self._changes.future()
        try:
            await asyncio.wait({change, *in_hand}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            change.cancel()

    async def _subscribe(self, js: JetStreamContext, role: str) -> JetStreamContext.PullSubscription:
        config = ConsumerConfig(
            durable_name=token(role),
            filter_subject=self._names.durable(role),
            ack_wait=ACK_WAIT,
            max_deliver=-1,  # counted here: a message that finds no worker did not fail
            max_ack_pending=-1,
        )
        await _any(js).add_consumer(self.stream, config)
        return await js.pull_subscribe_bind(durable=config.durable_name, stream=self.stream)

    def _workers(self, role: str) -> list[Contact]:
        """Return the ready workers of this machine."""
        route = self._peer.contacts.routes.of(role)
        return list(route.targets)

    # -------------------------------------------------------------------------------------------- handling

    async def _handle(self, role: str, message: Msg) -> None:
        """Have a worker handle a message, and report the outcome to the server."""
        progress = asyncio.get_running_loop().create_task(_say_in_progress(message))
        attempt = message.metadata.num_delivered or 1
        try:
            error = await self._deliver(role, message, attempt)
        except asyncio.CancelledError:
            await _tell(message.nak())
            raise
        finally:
            progress.cancel()
        if error is None:
            await _tell(message.ack())
        elif isinstance(error, Unavailable) and error.executed == "no":
            await _tell(message.nak(delay=1))  # the workers left in the meantime; another machine may have some
        elif isinstance(error, Forbidden) or attempt >= DELIVERIES:
            await self._put_aside(role, message, attempt, error)
        else:
            text = "%s: attempt %d failed: %s"
            label = _label(role, message)
            self._context.complaints.tell(
                (text, label), text, label, attempt, error, error=error, level=logging.WARNING, traceback=False
            )
            await _tell(message.nak(delay=DELAYS[min(attempt, len(DELAYS)) - 1]))

    async def _deliver(self, role: str, message: Msg, attempt: int) -> Exception | None:
        """Call one worker, or another if that one did not begin; return the error, if any."""
        headers = message.headers or {}
        key = headers.get(KEY) or f"{self.stream}-{message.metadata.sequence.stream}"
        sender = _read(headers.get(SENDER, ""))
        until = monotonic() + PREFETCH_TIMEOUT
        while True:
            workers = self._workers(role)
            if not workers and monotonic() >= until:
                return Unavailable(f"no worker of {role!r} is ready on this machine.")
            if workers:
                until = monotonic() + PREFETCH_TIMEOUT
                contact = min(workers, key=lambda each: each.outstanding)
                args = (message.data, sender, key, attempt)
                call = self._peer.calling.call_one(contact, _label(role, message), m.HANDLE, args, {})
                try:
                    await call
                except CallError as error:
                    if error.executed != "no" or isinstance(error, (Forbidden, UnknownExport)):
                        return error
                else:
                    return None
            await self._changes.next(REDELIVERY_DELAY if workers else max(0.001, until - monotonic()))

    async def _put_aside(self, role: str, message: Msg, attempt: int, error: Exception) -> None:
        client, label = self._client(), _label(role, message)
        reason = " ".join(str(error).split())[:500]
        headers = {**(message.headers or {}), KEY: f"dead-{message.metadata.sequence.stream}", REASON: reason}
        try:
            assert client is not None
            put = await _jetstream(client).publish(self._names.dead(role), message.data, headers=headers)
        except (NatsError, TimeoutError) as failure:
            self._context.log.error("%s failed %d times, and cannot be put aside: %s", label, attempt, failure)
            await _tell(message.nak(delay=DELAYS[-1]))
            return
        await _tell(message.ack())
        times = "at once" if isinstance(error, Forbidden) else f"after {attempt} deliveries"
        self._context.log.error(
            "%s was put aside %s: %s. It is number %d of the stream %s: nats stream get %s %d",
            *(label, times, reason.rstrip("."), put.seq, self.dead, self.dead, put.seq),
        )

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _any(obj: object) -> Any:
    """Return the object without its type, for methods of nats-py whose types are partly unknown."""
    return obj


def _jetstream(client: Client) -> JetStreamContext:
    return _any(client).jetstream()


def _label(role: str, message: Msg) -> str:
    _, pid, sender, index, _, node = _read((message.headers or {}).get(SENDER, ""))
    who = f"{sender}.{index} (pid {pid} on {node})" if sender else f"a client (pid {pid} on {node})"
    return f"a durable message to {role!r} from {who}"


def _written(sender: Contact) -> str:
    """Return the sender of a message as a header."""
    member = sender.member
    parts = (member.uid, member.pid, member.role, member.index, member.generation, sender.node)
    return " ".join(map(str, ("-" if part == "" else part for part in parts)))


def _read(header: str) -> tuple[int, int, str, int, int, str]:
    """Return the sender in a header; foreign programs may have stored the message."""
    try:
        uid, pid, role, index, generation, node = header.split(" ")
        return int(uid), int(pid), role.strip("-"), int(index), int(generation), node
    except ValueError:
        return 0, 0, "", 0, 0, "elsewhere"


def _translated(label: str, error: Exception) -> CallError:
    if isinstance(error, (ServiceUnavailableError, NoRespondersError)):
        return Unavailable(
            f"{label}: the NATS server has no JetStream, which stores durable messages. Start it with JetStream: "
            f"`nats-server -js -sd DIRECTORY` or `mob nats`."
        )
    if isinstance(error, APIError) and (error.err_code == NO_ROOM or "maximum" in str(error.description)):
        return Busy(f"{label}: the stream is full ({error.description}): its workers are too slow, or there are none.")
    if isinstance(error, APIError):
        return Unavailable(f"{label}: JetStream refuses it: {error.description}.")
    return Unavailable(f"{label}: JetStream did not confirm that it is stored: {error!r}.", executed="maybe")


async def add_stream(js: JetStreamContext, config: StreamConfig, has_three: bool) -> None:
    """Make a stream; in a cluster of at least three servers with three copies, so that one server may fail."""
    try:
        await _any(js).add_stream(config, num_replicas=3 if has_three else 1)
    except APIError as error:
        if error.err_code == TAKEN:  # another gateway was first
            return
        if not has_three:
            raise
        await _any(js).add_stream(config, num_replicas=1)


async def _say_in_progress(message: Msg) -> None:
    while True:
        await asyncio.sleep(PROGRESS)
        await _tell(message.in_progress())


async def _tell(word: Any) -> None:
    """Send a report about a message to the server. If it is lost the message is delivered again."""
    with contextlib.suppress(NatsError):
        await word


async def _give_up(subscription: JetStreamContext.PullSubscription) -> None:
    with contextlib.suppress(NatsError):
        await subscription.unsubscribe()
