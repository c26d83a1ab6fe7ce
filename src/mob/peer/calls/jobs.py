"""Durable calls at their caller: `back.options(durable=True).resize(name)` returns a `Job`.

The arguments are encoded in the line that calls. `outbox.py` brings the job to the keeper of the app's jobs
(`jobs/keeper.py`), which stores it, has it run and keeps its outcome.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, Unpack, cast

import msgspec
from msgspec import Raw

from mob.core.job_rows import DROPPED, RAISED, JobRow
from mob.core.jobs import BACKOFF, RETRIES, JobState
from mob.errors import CallError, CallTimeout, JobDropped, QueueFailed, Unavailable, UnknownExport, nearest
from mob.peer.calls.durable import lasting
from mob.peer.calls.outbox import STORE_TIMEOUT, KeeperRequest, OnItsWay, outbox_of
from mob.peer.results.call import Call
from mob.peer.results.checking import check_seconds
from mob.plan import QUEUE
from mob.wire.failures import Failure, rebuild

if TYPE_CHECKING:
    from mob.peer.calls.outgoing import Outgoing
    from mob.peer.calls.proxy import Proxy, RemoteExport

T = TypeVar("T")


class JobOptions(TypedDict, total=False):
    """The options of durable calls, by name; `Proxy.options` describes each.

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
    """The options with which a durable view of a proxy calls."""

    delay: float = 0.0
    at: float | None = None
    priority: int = 0
    retries: int = RETRIES
    backoff: float = BACKOFF
    key: str | None = None


def _changed(terms: _Terms, changes: Mapping[str, Any]) -> _Terms:
    """Return the options with changes applied; `TypeError` and `ValueError` as for `Proxy.options`."""
    for name in changes:
        if name not in _Terms.__struct_fields__:
            if name in ("wait", "timeout", "pid"):
                raise TypeError(
                    f"{name}= does not apply to a durable call: it waits for any worker, as long as it takes."
                )
            raise TypeError(f"a durable call has no option {name!r}. {nearest(name, _Terms.__struct_fields__)}")
    changes = dict(changes)
    at = changes.get("at")
    if at is not None and changes.get("delay"):
        raise ValueError(f"at={at!r} and delay={changes['delay']!r}: give only one of them, the time or the delay.")
    if isinstance(at, datetime):
        changes["at"] = at.timestamp()
    elif isinstance(at, str):
        raise TypeError(f"at={at!r} is text. Expected: a datetime or seconds since the epoch; for a delay, use delay=.")
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
    if at is not None:  # in a view of a view, the last option wins
        changes["delay"] = 0.0
    elif changes.get("delay"):
        changes["at"] = None
    return msgspec.structs.replace(terms, **changes)


def _finite(name: str, seconds: float) -> float:
    """Return seconds as they are stored; raise `ValueError` if they are infinite or nan."""
    try:
        found = float(seconds)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{name}={seconds!r} is not a finite number of seconds.")
    return found


def _check_key(key: object) -> None:
    if not isinstance(key, str | None):
        raise TypeError(f"key={key!r} is not text, as the key of a job must be.")
    try:
        (key or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"key={key!r} contains a lone surrogate, which is not text and cannot be stored.") from None


_DROP = "job.drop() drops it, whether it waits, runs or is dead."
_WHERE = "job.status() returns its state; job.outcome.done() says whether this process knows its outcome."
_WAIT = "job.result(timeout=60) waits for its end; in async code, `await job` does."
_OUTCOME = "job.outcome is a call, and has it."
_INSTEAD = {
    **dict.fromkeys(("abort", "cancel", "delete", "forget", "kill", "remove", "revoke"), _DROP),
    **dict.fromkeys(("done", "is_done", "ready", "running", "state", "successful"), _WHERE),
    **dict.fromkeys(("get", "join", "value", "wait"), _WAIT),
    **dict.fromkeys(("add_done_callback", "cancelled", "exception", "when_done"), _OUTCOME),
}
"""What to use instead of the methods of calls, futures and the jobs of task queues."""


class Job(Generic[T]):
    """A durable call: `await` it or ask for its `result`, in this or any other process, now or after a restart.

    It exists once it is `stored`; before that it is a call under way like any other. Its outcome is kept for a day
    (`App.queue(keep=)`). See docs/jobs.md.

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
        return f"<Job {self.id}>" if self._label == _named(self.id) else f"<Job {self.id} {self._label}>"

    @property
    def id(self) -> str:
        """The id by which any process finds the job: `mob.job(id)`.

        With `key=` it is final when the job is stored: if another job has the key, this is that job, with its id.
        """
        return self._id

    @property
    def stored(self) -> Call[str]:
        """A call that is done, with the id, when the job is on disk; it fails if the job could not be stored."""
        return self._stored

    def __await__(self) -> Generator[Any, None, T]:
        return self.outcome.__await__()

    def result(self, timeout: float | None = None) -> T:
        """Wait for the end of the job and return what the export returned, or raise what its last attempt raised.

        Args:
            timeout: Seconds to wait. Default: None, no limit.

        Returns:
            The return value of the export.

        Raises:
            CallTimeout: The job did not end within `timeout` seconds; it goes on.
            JobDropped: The job was dropped.
            UnknownJob: There is no such job, or its result is no longer kept.

        Example:
            >>> job.result(timeout=60)                            # doctest: +SKIP
        """
        return self.outcome.result(timeout)

    @property
    def outcome(self) -> Call[T]:
        """The outcome of the job as a call, for `mob.wait`, `asyncio.gather` and all else that takes a call."""
        with self._making:
            if self._outcome is None:
                self._outcome = cast("Call[T]", self._new_call(self._peer, self._label, ""))
                self.stored.when_done(self._ask_for_outcome)
        return self._outcome

    def status(self) -> Call[str]:
        """Ask for the state of the job.

        Returns:
            A call whose result is "waiting" (for a worker), "later", "running", "dead" (it failed too often), "done" or
            "dropped". It fails with `UnknownJob` if nothing is known of the job.

        Example:
            >>> await job.status()                                # doctest: +SKIP
            'running'
        """
        return self._ask("status")

    def drop(self) -> Call[bool]:
        """Drop the job, whether it waits, runs or is dead.

        A `def` that runs already runs to its end; its result is discarded.

        Returns:
            A call whose result is True if the job existed.

        Example:
            >>> await job.drop()                                  # doctest: +SKIP
            True
        """
        return self._ask("drop")

    def retry(self) -> Call[bool]:
        """Try the job again now, if it is dead or waits for its time.

        Returns:
            A call whose result is True if the job is tried again, and False if it runs, is over, or another job has its
                key.

        Example:
            >>> await job.retry()                                 # doctest: +SKIP
            True
        """
        return self._ask("retry")

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Explain what a job has instead, unless Python or a library looks for a protocol."""
            if name[:1] == "_":
                raise AttributeError(name)
            known = [each for each in dir(Job) if each[0] != "_" and each != "settle"]
            raise AttributeError(f"a Job has no {name!r}. {_INSTEAD.get(name) or nearest(name, known)}")

    # ------------------------------------------------------------------------------------------- internals

    def settle(self, id: str) -> None:
        """Take the id under which the job is stored."""
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
            again = f" When it runs again, app.job({self.id!r}).result() waits for the end of the job."
            afterwards = again if call is self._outcome else ""
            KeeperRequest(self._peer, call, what, (self.id,), settle, timeout, afterwards)

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


def _named(id: str) -> str:
    """Return the label of a job of which this process knows only the id."""
    return f"the job {id}"


def job_of(peer: Outgoing, id: str) -> Job[Any]:
    """Return the job with that id in this app."""
    if not isinstance(id, str) or not id:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"mob.job({id!r}): expected the id of a job, as its .id returns it.")
    job: Job[Any] = Job(peer, id, _named(id))
    job.settle(id)
    return job


def jobs_of(peer: Outgoing, states: Sequence[str], role: str, most: int) -> tuple[JobRow, ...]:
    """Return the jobs of the app in these states (none: all) and of this role ("": all), oldest first."""
    known = [str(state) for state in JobState]
    for state in states:
        if state not in known:
            raise ValueError(f"jobs have no state {state!r}. {nearest(state, known)}")
    if QUEUE not in peer.context.roster.roles:
        return ()
    call: Call[Any] = Call(peer, "asking for the durable jobs", "")
    KeeperRequest(peer, call, "listing", (list(states), role, most), call.settle, STORE_TIMEOUT)
    return tuple(JobRow(**row) for row in call.result(STORE_TIMEOUT))


def _row(id: str, role: str, target: str, args: bytes, kwargs: bytes | None, terms: _Terms) -> tuple[Any, ...]:
    key = "" if terms.key is None else f"{role}.{target}:{terms.key}"
    when = (terms.delay, terms.at)
    return (id, role, target, args, kwargs, *when, terms.priority, terms.retries, terms.backoff, key)


def store_message(peer: Outgoing, role: str, obj: Any, retries: int) -> Call[None]:
    """Store a message for any one worker of the role; the call is done when it is stored."""
    outbox = outbox_of(peer)
    body = lasting(peer, obj, "message", "a durable message")
    call: Call[None] = Call(peer, f"a durable message to {role!r}", "")
    row = _row(outbox.new_id(), role, "", body, None, _Terms(retries=retries))
    outbox.put(OnItsWay(row, len(body), lambda _: call.settle(None), partial(_fail, call)))
    return call


def _fail(call: Call[Any], error: BaseException) -> None:
    """Fail a call with an error of its own that names it."""
    text = str(error).removeprefix("storing durable jobs: ")
    if isinstance(error, CallError) and type(error) in (CallTimeout, QueueFailed, Unavailable):
        error = type(error)(f"{call.label}: {text}", executed=error.executed)
    call.fail(error)


# ------------------------------------------------------------------------------------------------------- the proxies


class DurableProxy:
    """A view of a proxy whose calls are durable: each returns a `Job`. Made by `proxy.options(durable=True)`.

    >>> back.options(durable=True, delay=60).remind("Ada")       # doctest: +SKIP
    """

    def __init__(self, proxy: Proxy, terms: _Terms) -> None:
        self._mob_proxy = proxy
        self._mob_terms = terms

    def options(self, **changes: Unpack[JobOptions]) -> DurableProxy:
        """Return a view that calls with other options; see `Proxy.options`.

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
    """Return a durable view of a proxy, or of another view, with other options."""
    if isinstance(view, DurableProxy):
        proxy, terms = view._mob_proxy, view._mob_terms  # pyright: ignore[reportPrivateUsage]
    else:
        proxy, terms = view, _Terms()
    return DurableProxy(proxy, _changed(terms, {name: each for name, each in changes.items() if name != "durable"}))


class DurableExport:
    """One exported function of a role whose calls are durable."""

    __slots__ = ("_export", "_terms")

    def __init__(self, export: RemoteExport, terms: _Terms) -> None:
        self._export = export
        self._terms = terms

    def __repr__(self) -> str:
        return f"<durable {repr(self._export)[1:]}"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Explain what an export can do, unless Python or a library looks for a protocol."""
            if name[:1] == "_":
                raise AttributeError(name)
            export = self._export
            view, call = f"{export.role}.options(durable=True)", f"{export.name}(...)"
            how = {
                "map": f"make a job for each item: view = {view}; [view.{export.name}(item) for item in items].",
                "options": f"give the options before the name, as in {view[:-1]}, delay=60).{call}.",
            }
            what = how.get(name, f"call it, as {view}.{call}; that returns a Job.")
            raise UnknownExport(f"durable {export.label} has no attribute {name!r}: {what}")

    def __call__(self, *args: Any, **kwargs: Any) -> Job[Any]:
        """Store the call as a job."""
        export = self._export
        peer = export.peer
        if peer.control.is_closed:
            peer.control.come_back()
        outbox = outbox_of(peer)
        args_body, kwargs_body = peer.calling.encode_lasting(export, args, kwargs)
        id = outbox.new_id()
        job: Job[Any] = Job(peer, id, export.label, export.new_kept_call())
        row = _row(id, export.role, export.name, args_body, kwargs_body, self._terms)
        size = len(args_body) + len(kwargs_body or b"")
        outbox.put(OnItsWay(row, size, job.settle, partial(_fail, job.stored)))
        return job
