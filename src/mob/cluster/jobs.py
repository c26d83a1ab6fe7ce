"""The stream that stores durable jobs in a cluster: JetStream, where only the last message of a subject counts.

Strategy. A job is one message. The state of a job that is tried again, or is dead, is on a second subject. Its outcome
is on a third, and expires after the time that it must be kept; the job is removed only when the server has the outcome:
an empty message replaces it. So a keeper that takes over reads only the jobs that are left. Many messages are under way
at a time; nothing is reported as stored before the server acknowledged it.

Of two keepers only the latest can write: each has a number, publishes to subjects that contain it, and sets the stream
to accept only these, which it stores under subjects without the number. So no stream takes what a keeper that lost its
lease publishes. (Expected sequences in messages would do the same, but a cluster of servers accepts only one such
message at a time.)

Limits. It knows no more about what it stores than `store.py` does. New jobs are refused as long as NATS cannot be
reached; outcomes of others are written when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic, time_ns
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    StorageType,
    StreamConfig,
    SubjectTransform,
)
from nats.js.errors import NotFoundError

from mob.cluster.carrier import Guarded, options_of, scrubbed
from mob.cluster.durable import add_stream
from mob.cluster.names import NatsNames, token
from mob.core.job_rows import DEAD_KEEP, RAISED, Answered, FileRow, JobChanged, JobEnded, QueueBroken, QueueFull, Stored
from mob.core.jobs import Entry, JobState
from mob.plan import Cluster

TIMEOUT = 5.0
"""Maximum seconds until the server acknowledges a message."""
RETRY = 1.0
"""Seconds until a failed write is tried again."""
TOGETHER = 512
"""Number of messages that are read together."""
SPARE = 1024
"""Bytes of the largest payload that a job leaves unused."""
PAUSE = 0.25
"""Seconds until a message is sent again that no server took."""
NO_SERVER = "no server keeps the stream at the moment"
GONE = 1.0
"""Seconds after which an empty message expires."""

_encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
_decode: Callable[[bytes], list[Any]] = msgspec.msgpack.Decoder(list[Any]).decode
_Message = tuple[str, bytes, float]
"""End of the subject, content, and seconds for which it is kept; 0 for no limit."""


class StreamStore:
    """The stream of an app's jobs. Answers are given on the loop's thread.

    `find` returns the servers of the cluster and their authentication; `say` reports a problem to the user.
    """

    most: int = 1024 * 1024 - SPARE
    """Maximum number of bytes of a job."""

    def __init__(
        self, app: str, keep: float, find: Callable[[], Awaitable[Cluster]], say: Callable[[str], None]
    ) -> None:
        names = NatsNames(app)
        self.path: str = names.jobs_stream
        self._names = names
        self._keep = keep
        self._find = find
        self._say = say
        self._cluster: Cluster | None = None
        self._client = Guarded(needs_tls=False)
        self._js: JetStreamContext | None = None
        self._epoch = 0  # number of this keeper
        self._inbox = ""
        self._number = 0  # number of the latest message
        self._unacknowledged: dict[str, asyncio.Future[str]] = {}
        self._broken: QueueBroken | None = None
        self._is_reported = False
        self._changed: set[str] = set()  # jobs with a second subject
        self._line: list[tuple[JobChanged | JobEnded, Callable[[], None] | None]] = []
        self._writing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<StreamStore {self.path}{', broken' if self._broken else ''}>"

    # ------------------------------------------------------------------------------------------ for the keeper

    async def open(self, now: float) -> list[Entry]:
        """Connect, keep other keepers from writing, and return the jobs in the stream, however long NATS takes."""
        self._cluster = await self._find()
        while True:
            try:
                await self._connect()
                return await self._read(now)
            except (NatsError, OSError, TimeoutError) as error:
                self._report_once(f"the queue in JetStream cannot be read: {self._text(error)}. Retrying.")
                await self._client.close()
                await asyncio.sleep(RETRY)

    def put(self, rows: Sequence[FileRow], done: Stored) -> None:
        """Store new jobs; `done` gets None when the server has all of them, or the error."""
        self._start(self._put([(f"job.{token(row[0])}", _encode([*row[:13], row[14]]), 0.0) for row in rows], done))

    def write(self, what: JobChanged | JobEnded, done: Callable[[], None] | None = None) -> None:
        """Write the new state of a job; `done` is called when the server has it, however long that takes."""
        self._line.append((what, done))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_all())

    def body(self, id: str, done: Answered) -> None:
        """Read the call of a job."""

        async def ask() -> Any:
            found = await self._get("job", id)
            return found[13] if found else None

        self._start(self._answer(ask, done))

    def outcome(self, id: str, done: Answered) -> None:
        """Read the outcome of a job, as `JobStore.outcome` does."""

        async def ask() -> Any:
            if found := await self._get("end", id):
                return found[0], found[1]
            failure = await self._failure(id)
            return None if failure is None else (RAISED, failure)

        self._start(self._answer(ask, done))

    def failures(self, ids: Sequence[str], done: Answered) -> None:
        """Read the errors of dead jobs, by id."""

        async def ask() -> Any:
            found = {id: await self._failure(id) for id in ids}
            return {id: failure for id, failure in found.items() if failure is not None}

        self._start(self._answer(ask, done))

    def purge(self, now: float, keep: float, dead: Sequence[str]) -> None:
        """Forget these dead jobs; outcomes expire by themselves."""
        for id in dead:
            self.write(JobEnded(id, None))

    async def close(self) -> None:
        """Write what still waits, if NATS can be reached, and disconnect."""
        if self._writing is not None and self._client.is_connected:
            await asyncio.wait({self._writing}, timeout=TIMEOUT)
        for task in (*self._tasks, *((self._writing,) if self._writing is not None else ())):
            task.cancel()
        await self._client.close()

    # ---------------------------------------------------------------------------------------------- opening

    async def _connect(self) -> None:
        cluster = self._cluster
        assert cluster is not None
        client: Any = Guarded(needs_tls=bool(cluster.ca or cluster.cert))
        await client.connect(**options_of(cluster, f"mob {self._names.prefix} queue {cluster.node}"))
        self._client = client
        self._js = client.jetstream(timeout=TIMEOUT)
        self._inbox = client.new_inbox()
        await client.subscribe(f"{self._inbox}.*", cb=self._handle_acknowledged)
        self.most = client.max_payload - SPARE

    async def _read(self, now: float) -> list[Entry]:
        js: Any = self._js
        await self._take(js)
        last = (await js.publish(self._names.job(f"{self._epoch}.fence", ""), b"")).seq
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            inactive_threshold=60.0,
            filter_subjects=[self._names.job(kind, "") for kind in ("job.>", "now.>", "fence")],
        )
        consumer = await js.add_consumer(self.path, config)
        subscription = await js.pull_subscribe_bind(consumer=consumer.name, stream=self.path)
        jobs: dict[str, Entry] = {}
        changes: dict[str, list[Any]] = {}
        is_read = False
        while not is_read:
            for message in await subscription.fetch(TOGETHER, TIMEOUT):
                id = message.subject.rpartition(".")[2]
                found = _decode(message.data) if message.data else []
                if len(found) == 14:
                    jobs[id] = Entry(*found[:13])
                elif len(found) == 7:
                    changes[id] = found
                is_read = is_read or message.metadata.sequence.stream >= last
        await subscription.unsubscribe()
        for id, (due, is_at, attempts, failures, deaths, state, _) in changes.items():
            if (entry := jobs.get(id)) is None:  # the previous keeper had no time to forget that, too
                self._start(self._send([(f"now.{id}", b"", GONE)]))
                continue
            self._changed.add(entry.id)
            entry.due, entry.is_at, entry.attempts = due, bool(is_at), attempts
            entry.failures, entry.deaths = failures, deaths
            entry.state = JobState.DEAD if state == "dead" else JobState.WAITING
            if state == "dead" and due < now - DEAD_KEEP:
                del jobs[id]
                self.purge(now, self._keep, [entry.id])
        return sorted(jobs.values(), key=lambda entry: (entry.made, entry.id))

    async def _take(self, js: Any) -> None:
        """Make the stream, or make it this keeper's: from now on it accepts only subjects with its number."""
        self._epoch = time_ns()
        config = StreamConfig(
            name=self.path,
            subjects=[self._names.job(f"{self._epoch}.>", "")],
            subject_transform=SubjectTransform(self._names.job(f"{self._epoch}.>", ""), self._names.job(">", "")),
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_msgs_per_subject=1,
            allow_msg_ttl=True,
        )
        try:
            found = (await js.stream_info(self.path)).config
        except NotFoundError:
            await add_stream(js, config, len(self._client.servers) >= 3)
        else:
            found.subjects, found.subject_transform = config.subjects, config.subject_transform
            await js.update_stream(found)

    async def _handle_acknowledged(self, message: Msg) -> None:
        future = self._unacknowledged.pop(message.subject.rpartition(".")[2], None)
        if future is None or future.done():
            return
        if not message.data:
            future.set_result(NO_SERVER)
            return
        error = msgspec.json.decode(message.data).get("error")
        future.set_result("" if error is None else str(error.get("description", error)))

    # ---------------------------------------------------------------------------------------------- writing

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _put(self, messages: Sequence[_Message], done: Stored) -> None:
        done(await self._send(messages))

    async def _write_all(self) -> None:
        """Write everything that waits; only the latest state of each job counts."""
        while self._line:
            taken, self._line = self._line, []
            last = {what.id: what for what, _ in taken}
            ended = [what for what in last.values() if isinstance(what, JobEnded)]
            error = await self._send([self._outcome_of(what) for what in ended if what.at is not None])
            error = error or await self._send([message for what in last.values() for message in self._messages(what)])
            if error is not None:
                self._line = taken + self._line
                if self._broken is not None:
                    return
                self._report_once(f"{error} New jobs are refused; outcomes are written when NATS is back.")
                await asyncio.sleep(RETRY)
                continue
            self._is_reported = False
            self._changed -= {id for id, what in last.items() if isinstance(what, JobEnded)}
            for _, done in taken:
                if done is not None:
                    done()

    def _outcome_of(self, what: JobEnded) -> _Message:
        return f"end.{token(what.id)}", _encode([what.how, what.value]), self._keep

    def _messages(self, what: JobChanged | JobEnded) -> list[_Message]:
        own, second = f"job.{token(what.id)}", f"now.{token(what.id)}"
        if isinstance(what, JobChanged):
            self._changed.add(what.id)
            return [(second, _encode(what.values[:7]), 0.0)]
        forgotten = [(second, b"", GONE)] if what.id in self._changed else []
        return [(own, b"", GONE), *forgotten]

    async def _send(self, messages: Sequence[_Message]) -> Exception | None:
        """Have the server store all messages; return the error if it did not."""
        left = list(messages)
        until = monotonic() + TIMEOUT
        while left:
            if self._broken is not None:
                return self._broken
            try:
                if not self._client.is_connected:
                    raise ConnectionError("there is no connection")
                left, why = await self._publish(left)
                if why == NO_SERVER and not await self._is_ours():
                    return self._break()
                if left and (why != NO_SERVER or monotonic() > until):
                    raise ConnectionError(why)
                if left:
                    await asyncio.sleep(PAUSE)
            except (NatsError, OSError, TimeoutError) as error:
                if self._client.is_closed:
                    self._start(self._connect_again())
                return QueueFull(
                    f"the queue in JetStream cannot be written: {self._text(error)}. What was sent may be stored "
                    f"nevertheless. The queue continues by itself when NATS is back."
                )
        return None

    async def _publish(self, messages: list[_Message]) -> tuple[list[_Message], str]:
        """Publish all messages; return those that the server did not acknowledge, and why."""
        under_way: list[tuple[asyncio.Future[str], _Message]] = []
        loop, client = asyncio.get_running_loop(), self._client
        for message in messages:
            kind_and_id, body, keep = message
            self._number += 1
            future = self._unacknowledged[str(self._number)] = loop.create_future()
            under_way.append((future, message))
            headers = {"Nats-TTL": f"{max(1, round(keep))}s"} if keep else None
            subject, reply = self._names.job(f"{self._epoch}.{kind_and_id}", ""), f"{self._inbox}.{self._number}"
            await client.publish(subject, body, reply=reply, headers=headers)
        _, pending = await asyncio.wait([future for future, _ in under_way], timeout=TIMEOUT)
        for future in pending:
            future.set_result("the server did not answer")
        left = [(message, future.result()) for future, message in under_way if future.result()]
        return [message for message, _ in left], left[-1][1] if left else ""

    async def _is_ours(self) -> bool:
        js: Any = self._js
        return (await js.stream_info(self.path)).config.subjects == [self._names.job(f"{self._epoch}.>", "")]

    def _break(self) -> QueueBroken:
        self._broken = QueueBroken("another keeper has these jobs now: this one lost its lease.")
        return self._broken

    async def _connect_again(self) -> None:
        try:
            await self._connect()
        except (NatsError, OSError, TimeoutError) as error:
            self._report_once(f"NATS cannot be reached: {self._text(error)}.")

    # --------------------------------------------------------------------------------------------- reading

    async def _get(self, kind: str, id: str) -> list[Any]:
        """Return the content of a subject; [] for no content."""
        js: Any = self._js
        try:
            found = await js.get_last_msg(self.path, self._names.job(kind, id))
        except NotFoundError:
            return []
        return _decode(found.data) if found.data else []

    async def _failure(self, id: str) -> bytes | None:
        found = await self._get("now", id)
        return found[6] if found and found[5] == "dead" else None

    async def _answer(self, ask: Callable[[], Any], done: Answered) -> None:
        try:
            if not self._client.is_connected:
                raise ConnectionError("there is no connection")
            value, error = await ask(), None
        except (NatsError, OSError, TimeoutError) as raised:
            value, error = None, QueueFull(f"the queue in JetStream cannot be read: {self._text(raised)}.")
        done(value, error)

    def _text(self, error: BaseException) -> str:
        text = str(error) or type(error).__name__
        return text if self._cluster is None else scrubbed(self._cluster, text)

    def _report_once(self, text: str) -> None:
        if not self._is_reported:
            self._is_reported = True
            self._say(text)
