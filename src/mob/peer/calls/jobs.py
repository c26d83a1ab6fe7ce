"""Durable calls at their caller: `back.options(durable=True).resize(name)` gives a `Job`.

The arguments are encoded in the line that calls; what is stored, how it is run and how it ends is the business of the
keeper of the app's jobs (`jobs/keeper.py`), a process that the Kingpin starts when it is first wanted. Jobs travel
there together, as many as there are; a keeper that dies meanwhile is followed by another, which is asked the same
again: the id of a job, made here, has it stored once.
"""

from __future__ import annotations

import itertools
import math
import secrets
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import datetime
from functools import partial
from threading import Lock
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Unpack, cast
from weakref import WeakKeyDictionary

import msgspec
from msgspec import Raw

from mob.core.job_rows import DROPPED, RAISED
from mob.core.jobs import BACKOFF, RETRIES
from mob.errors import (
    CallError,
    JobDropped,
    Lost,
    MobError,
    QueueFailed,
    Unavailable,
    UnknownExport,
    nearest,
)
from mob.peer.calls.durable import lasting
from mob.peer.results.call import Call
from mob.peer.results.checking import check_seconds
from mob.plan import QUEUE
from mob.wire import messages as m
from mob.wire.failures import Failure, rebuild

if TYPE_CHECKING:
    from mob.peer.calls.outgoing import Outgoing
    from mob.peer.calls.proxy import Proxy, RemoteExport

T = TypeVar("T")

STORE_TIMEOUT = 30.0
"""Seconds in which a job must have been stored, or the keeper must have answered."""
ASK_AGAIN = 1.0
"""Seconds until the next attempt, if nothing has changed before."""
MOST_JOBS = 512
"""Jobs that travel together."""
MOST_BYTES = 1024 * 1024
"""Bytes of them beyond which no more goes along."""
UNDER_WAY = 2
"""Messages with jobs that are unanswered at a time; meanwhile the next one gathers."""


class JobOptions(TypedDict, total=False):
    """The options of durable calls, by name; `Proxy.options` says what each means.

    >>> nightly: mob.JobOptions = {"priority": -1, "retries": 10}       # doctest: +SKIP
    >>> back.options(durable=True, **nightly).report(day)               # doctest: +SKIP
    """

    delay: float
    at: datetime | float | None
    priority: int
    retries: int
    backoff: float
    key: str | None


class _Terms(msgspec.Struct, frozen=True):
    """How a durable view of a proxy calls."""

    delay: float = 0.0
    at: float | None = None
    priority: int = 0
    retries: int = RETRIES
    backoff: float = BACKOFF
    key: str | None = None


def _changed(terms: _Terms, changes: Mapping[str, Any]) -> _Terms:
    """Return terms with some of them changed; `TypeError` and `ValueError` as `Proxy.options`."""
    for name in changes:
        if name not in _Terms.__struct_fields__:
            if name in ("wait", "timeout", "pid"):
                raise TypeError(
                    f"{name}= says nothing of a durable call: it waits as long as it takes, for any worker."
                )
            raise TypeError(f"a durable call has no option {name!r}. {nearest(name, _Terms.__struct_fields__)}")
    changes = dict(changes)
    at = changes.get("at")
    if isinstance(at, datetime):
        changes["at"] = at.timestamp()
    elif isinstance(at, str):
        raise TypeError(f"at={at!r} is text. Wanted: a datetime, or seconds since the epoch; for a pause, delay=.")
    for name in ("delay", "at", "backoff"):
        check_seconds(name, changes.get(name))
    for name in ("delay", "backoff"):
        if changes.get(name, 0.0) is None or not 0 <= changes.get(name, 0.0) < math.inf:
            raise ValueError(f"{name}={changes[name]!r} is not a number of seconds of at least 0.")
    for name in ("priority", "retries"):
        if type(changes.get(name, 0)) is not int or not -(2**31) <= changes.get(name, 0) < 2**31:
            raise TypeError(f"{name}={changes[name]!r} is not a whole number.")
    if changes.get("retries", 0) < 0:
        raise ValueError(f"retries={changes['retries']!r} is less than 0. With 0 it is tried once.")
    _check_key(changes.get("key"))
    for name in ("delay", "at", "backoff"):
        if changes.get(name) is not None:
            changes[name] = _finite(name, changes[name])
    return msgspec.structs.replace(terms, **changes)


def _finite(name: str, seconds: float) -> float:
    """Return seconds as they are stored; `ValueError` for what is beyond any time."""
    try:
        found = float(seconds)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{name}={seconds!r} is a time that never comes.")
    return found


def _check_key(key: object) -> None:
    if not isinstance(key, str | None):
        raise TypeError(f"key={key!r} is not text: it is kept with the job.")
    try:
        (key or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"key={key!r} has a lone surrogate in it, which is not text and cannot be stored.") from None


class Job(Generic[T]):
    """A durable call: `await` it, or ask for its `result`, here or in any other process, now or after a restart.

    It exists when it is `stored`; before that it is a call on its way like any other. What it ends with is kept for a
    day (`App.queue(keep=)`). See docs/jobs.md.

    >>> job = back.options(durable=True).resize("a.png")      # doctest: +SKIP
    >>> await job.stored                                      # doctest: +SKIP
    >>> await job                                             # doctest: +SKIP
    """

    def __init__(self, peer: Outgoing, id: str, label: str, new_call: Callable[..., Call[Any]] = Call) -> None:
        self._peer = peer
        self._new_call = new_call
        self._label = label
        self._outcome: Call[T] | None = None
        self._making = Lock()
        self._id = id
        self._stored: Call[str] = Call(peer, f"storing {label}", "")

    def __repr__(self) -> str:
        return f"<Job {self.id} {self._label}>"

    @property
    def id(self) -> str:
        """By which any process knows it: `mob.job(id)`. With `key=` it is final when the job is stored: if another one
        has the key, this is that one, and has its id."""
        return self._id

    @property
    def stored(self) -> Call[str]:
        """Done when the job lies on the disk, with its id; fails if it could not be stored."""
        return self._stored

    def __await__(self) -> Generator[Any, None, T]:
        return self.outcome.__await__()

    def result(self, timeout: float | None = None) -> T:
        """What the export has returned, waited for; raises what it has raised in its last attempt.

        `CallTimeout` after `timeout` seconds; the job goes on. `JobDropped` if it was dropped, `UnknownJob` if there
        is no such job, or its result was kept long enough.

        >>> job.result(timeout=60)                            # doctest: +SKIP
        """
        return self.outcome.result(timeout)

    @property
    def outcome(self) -> Call[T]:
        """What it ends with, as a call: for `mob.wait`, `asyncio.gather` and whatever else takes one."""
        with self._making:
            if self._outcome is None:
                self._outcome = cast("Call[T]", self._new_call(self._peer, self._label, ""))
                self.stored.when_done(self._ask_for_outcome)
        return self._outcome

    def status(self) -> Call[str]:
        """Ask where it stands: "waiting" for a worker, or for "later"; "running"; "dead", when it has failed too often;
        "done" or "dropped". The call fails with `UnknownJob` if nothing is known of it.

        >>> await job.status()                                # doctest: +SKIP
        'running'
        """
        return self._ask("status")

    def drop(self) -> Call[bool]:
        """Drop it, whether it waits, runs or is dead; the call says whether it was there. A `def` that runs already
        runs to its end; nothing comes of it.

        >>> await job.drop()                                  # doctest: +SKIP
        True
        """
        return self._ask("drop")

    def retry(self) -> Call[bool]:
        """Try it again, though it is dead, or though its time has not come; the call says whether that is done. It is
        not if the job runs, or is over, or another one has its key.

        >>> await job.retry()                                 # doctest: +SKIP
        True
        """
        return self._ask("retry")

    # ------------------------------------------------------------------------------------------- internals

    def settle(self, id: str) -> None:
        """It is stored; under that id."""
        self._id = id
        self._stored.settle(id)

    def _ask(self, what: str) -> Call[Any]:
        call: Call[Any] = Call(self._peer, f"{what} of {self._label}", "")
        self.stored.when_done(lambda stored: self._begin(stored, call, what, call.settle, STORE_TIMEOUT))
        return call

    def _ask_for_outcome(self, stored: Call[str]) -> None:
        assert self._outcome is not None
        self._begin(stored, self._outcome, "outcome", self._handle_outcome, math.inf)

    def _begin(
        self, stored: Call[str], call: Call[Any], what: str, settle: Callable[[Any], None], timeout: float
    ) -> None:
        error = stored.exception() if not stored.cancelled() else JobDropped(f"{self._label} was not stored.")
        if error is not None:
            call.fail(error)
        else:
            KeeperRequest(self._peer, call, what, (self.id,), settle, timeout)

    def _handle_outcome(self, answer: Any) -> None:
        call, codec = self._outcome, self._peer.encoder.codec
        assert call is not None
        how, value = answer
        if how == DROPPED:
            call.fail(JobDropped(f"{self._label} (job {self.id}) was dropped before it was done."))
        elif how == RAISED:
            call.fail(rebuild(msgspec.msgpack.decode(value, type=Failure), codec))
        else:
            body = Raw(value)
            try:
                decoded = codec.decode(body, call.is_undecided)
            except Exception as error:  # noqa: BLE001  becomes the outcome
                if not call.settle_as_declared(body):
                    unreadable = CallError(f"the result of {self._label} cannot be read: {error}", executed="yes")
                    unreadable.__cause__ = error
                    call.fail(unreadable)
                return
            call.settle(decoded)


def job_of(peer: Outgoing, id: str) -> Job[Any]:
    """Return the job of that id, of this app."""
    if not isinstance(id, str) or not id:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"mob.job({id!r}): wanted is the id of a job, as its .id says it.")
    job: Job[Any] = Job(peer, id, f"the job {id}")
    job.settle(id)
    return job


# ------------------------------------------------------------------------------------------------------ the keeper


class KeeperRequest:
    """Something that the keeper is asked; again, if it dies over it. `settle` is called with its answer, and the `call`
    fails if there is none in time."""

    def __init__(
        self,
        peer: Outgoing,
        call: Call[Any],
        export: str,
        args: tuple[Any, ...],
        settle: Callable[[Any], None],
        timeout: float = STORE_TIMEOUT,
    ) -> None:
        self._peer, self._call, self._settle = peer, call, settle
        self._request = export, args
        self._until = monotonic() + timeout
        self._timer: int | None = None
        self._is_introduced = False
        self._attempt()

    def _attempt(self) -> None:
        peer, call = self._peer, self._call
        if call.done_already():
            return
        if peer.control.is_closed:
            peer.control.come_back()
        if (known := peer.context.roster.roles.get(QUEUE)) is None:
            label = "asking for the keeper of durable jobs"
            peer.control.request(label, m.WantQueue).when_done(self._handle_wanted)
            return
        if not self._is_introduced:
            peer.contacts.route(QUEUE)
            self._is_introduced = True
        keeper = next(iter(peer.contacts.ready(QUEUE)), None)
        if keeper is None:
            why = f" It cannot start: {known.failing}." if known.failing else ""
            self._try_again(Unavailable(f"{call.label}: the process that keeps durable jobs is not ready.{why}"))
            return
        name, args = self._request
        try:
            asked = peer.calling.call_one(keeper, call.label, name, args, {})
        except Exception as error:  # noqa: BLE001  becomes the outcome
            call.fail(error)
            return
        asked.when_done(self._handle_answer)

    def _handle_wanted(self, wanted: Call[Any]) -> None:
        error: BaseException | None = wanted.exception()
        if error is None and not wanted.result().error:
            self._peer.context.reactor.call(self._attempt)
        else:
            text = f"{self._call.label}: {error or wanted.result().error}"
            self._call.fail(Unavailable(text))

    def _handle_answer(self, asked: Call[Any]) -> None:
        error = asked.exception()
        if error is None:
            try:
                self._settle(asked.result())
            except MobError as unfit:
                self._call.fail(unfit)
        elif isinstance(error, (Lost, Unavailable)):  # it has died, or ends; another one comes
            self._try_again(error)
        elif isinstance(error, UnknownExport):
            self._call.fail(Unavailable(f"{self._call.label}: the role {QUEUE!r} of this app keeps no jobs."))
        else:
            self._call.fail(error)

    def _try_again(self, error: CallError) -> None:
        if monotonic() >= self._until:
            self._call.fail(error)
        elif self._peer.control.is_closed:
            self._call.fail(Unavailable(f"{self._call.label}: the app {self._peer.context.app!r} has ended."))
        else:
            self._peer.context.reactor.call(self._wait)

    def _wait(self) -> None:
        """Try again when the roster has changed, for it tells that the keeper has come; on the loop's thread."""
        self._peer.control.changes.listeners.append(self._wake)
        self._timer = self._peer.context.reactor.call_at(min(monotonic() + ASK_AGAIN, self._until), self._wake)

    def _wake(self) -> None:
        listeners = self._peer.control.changes.listeners
        if self._wake in listeners and self._timer is not None:
            listeners.remove(self._wake)
            self._peer.context.reactor.cancel(self._timer)
            self._attempt()


class _OnItsWay(msgspec.Struct):
    """A job on its way to the keeper."""

    row: tuple[Any, ...]
    size: int
    settle: Callable[[str], None]
    fail: Callable[[BaseException], None]


class Outbox:
    """The jobs of one process that are on their way to the keeper."""

    def __init__(self, peer: Outgoing) -> None:
        self._peer = peer
        self._waiting: deque[_OnItsWay] = deque()
        self._under_way = 0
        self._is_due = False
        self._prefix = secrets.token_hex(5)
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f"<Outbox, {len(self._waiting)} jobs wait, {self._under_way} messages under way>"

    def new_id(self) -> str:
        """Return an id that no job has, of any process. Later ones are greater, which keeps the file in order."""
        return f"{time_ns() // 1000:013x}{next(self._numbers) & 0xFFF:03x}{self._prefix}"

    def put(self, storing: _OnItsWay) -> None:
        """Have a job stored; from any thread."""
        self._waiting.append(storing)
        if not self._is_due:
            self._is_due = True
            self._peer.context.reactor.call(self._flush)

    def _flush(self) -> None:
        """Send what there is; on the loop's thread."""
        self._is_due = False
        while self._waiting and self._under_way < UNDER_WAY:
            batch: list[_OnItsWay] = []
            size = 0
            while self._waiting and len(batch) < MOST_JOBS and size < MOST_BYTES:
                batch.append(self._waiting.popleft())
                size += batch[-1].size
            self._under_way += 1
            call: Call[None] = Call(self._peer, "storing durable jobs", "")
            call.when_done(partial(self._handle_failed, batch))
            rows = [storing.row for storing in batch]
            KeeperRequest(self._peer, call, "put", (rows,), partial(self._handle_stored, call, batch))

    def _handle_stored(self, call: Call[None], batch: list[_OnItsWay], ids: list[str]) -> None:
        call.settle(None)
        for storing, id in zip(batch, ids, strict=True):
            storing.settle(id)

    def _handle_failed(self, batch: Iterable[_OnItsWay], call: Call[None]) -> None:
        self._under_way -= 1
        error = call.exception()
        if error is not None:
            for storing in batch:
                storing.fail(error)
        self._peer.context.reactor.call(self._flush)


_outboxes: WeakKeyDictionary[Outgoing, Outbox] = WeakKeyDictionary()


def _outbox(peer: Outgoing) -> Outbox:
    found = _outboxes.get(peer)
    if found is None:
        found = _outboxes.setdefault(peer, Outbox(peer))
    return found


def _row(id: str, role: str, target: str, args: bytes, kwargs: bytes | None, terms: _Terms) -> tuple[Any, ...]:
    key = "" if terms.key is None else f"{role}.{target}:{terms.key}"
    when = (terms.delay, terms.at)
    return (id, role, target, args, kwargs, *when, terms.priority, terms.retries, terms.backoff, key)


def store_message(peer: Outgoing, role: str, obj: Any, retries: int) -> Call[None]:
    """Have a message to any one of the role stored; the call is done when it has been."""
    outbox = _outbox(peer)
    body = lasting(peer, obj, "message", "a durable message")
    call: Call[None] = Call(peer, f"a durable message to {role!r}", "")
    row = _row(outbox.new_id(), role, "", body, None, _Terms(retries=retries))
    outbox.put(_OnItsWay(row, len(body), lambda _: call.settle(None), partial(_fail, call)))
    return call


def _fail(call: Call[Any], error: BaseException) -> None:
    """Each has an error of its own: it says which call it is that failed."""
    text = str(error).removeprefix("storing durable jobs: ")
    own = type(error)(f"{call.label}: {text}") if type(error) in (Unavailable, QueueFailed) else error
    call.fail(own)


# ------------------------------------------------------------------------------------------------------- the proxies


class DurableProxy:
    """A view of a proxy whose calls are durable: each gives a `Job`. Made by `proxy.options(durable=True)`.

    >>> back.options(durable=True, delay=60).remind("Ada")       # doctest: +SKIP
    """

    def __init__(self, proxy: Proxy, terms: _Terms) -> None:
        self._mob_proxy = proxy
        self._mob_terms = terms

    def options(self, **changes: Unpack[JobOptions]) -> DurableProxy:
        """A view that calls with other options: see `Proxy.options`.

        >>> back.options(durable=True).options(priority=5).resize(name)       # doctest: +SKIP
        """
        return durable_view(self, changes)

    def __getattr__(self, name: str) -> DurableExport:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        export = DurableExport(getattr(self._mob_proxy, name), self._mob_terms)
        self.__dict__[name] = export
        return export

    def __dir__(self) -> Iterable[str]:
        return dir(self._mob_proxy)

    def __repr__(self) -> str:
        return f"<durable {repr(self._mob_proxy)[1:]}"


def durable_view(view: Proxy | DurableProxy, changes: Mapping[str, Any]) -> DurableProxy:
    """Return a durable view of a proxy, or of a view of one, with other options."""
    if isinstance(view, DurableProxy):
        proxy, terms = view._mob_proxy, view._mob_terms  # pyright: ignore[reportPrivateUsage]
    else:
        proxy, terms = view, _Terms()
    return DurableProxy(proxy, _changed(terms, {name: each for name, each in changes.items() if name != "durable"}))


class DurableExport:
    """One exported function of a role, whose calls are durable."""

    __slots__ = ("_export", "_terms")

    def __init__(self, export: RemoteExport, terms: _Terms) -> None:
        self._export = export
        self._terms = terms

    def __repr__(self) -> str:
        return f"<durable {repr(self._export)[1:]}"

    def __call__(self, *args: Any, **kwargs: Any) -> Job[Any]:
        export = self._export
        peer = export.peer
        if peer.control.is_closed:
            peer.control.come_back()
        outbox = _outbox(peer)
        args_body, kwargs_body = peer.calling.encode_lasting(export, args, kwargs)
        id = outbox.new_id()
        job: Job[Any] = Job(peer, id, export.label, export.new_kept_call())
        row = _row(id, export.role, export.name, args_body, kwargs_body, self._terms)
        size = len(args_body) + len(kwargs_body or b"")
        outbox.put(_OnItsWay(row, size, job.settle, partial(_fail, job.stored)))
        return job
