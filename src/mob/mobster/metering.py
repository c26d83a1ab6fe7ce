"""Metrics of the application's own: `mob.counter`, `mob.gauge` and `mob.histogram`.

The objects may be made anywhere, at the top of a module, in a preload, in a function, and used from any thread. They
hold no numbers: each use finds the mobster that this process is, and counts there. In a process that is none (the
Kingpin, a client, a test that imports the module, a child of multiprocessing) a use checks its arguments and does
nothing more.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from threading import Lock
from time import perf_counter
from types import TracebackType
from typing import Any, Self, SupportsFloat, SupportsIndex, TypeVar, cast

from mob.core.declared import BUCKETS, spec_of
from mob.mobster import api
from mob.peer.serving.measure.meters import Meter, Meters
from mob.rim.lasting import readable
from mob.wire import messages as m

F = TypeVar("F", bound=Callable[..., Any])
_opening = Lock()


class _Metric:
    """What the three have in common."""

    __slots__ = ("_key", "_spec")

    def __init__(self, spec: m.MetricSpec, key: tuple[str, ...] | None = None) -> None:
        self._spec = spec
        self._key: tuple[str, ...] | None = key if spec.labels else ()
        if key is None:
            self._meter()

    def __repr__(self) -> str:
        labels = dict(zip(self._spec.labels, self._key or (), strict=False))
        return f"<mob.{self._spec.kind} {self._spec.name!r}{f' {labels}' if labels else ''}>"

    def labels(self, *values: object, **labels: object) -> Self:
        """Return this metric with its labels set, to be used without them.

        Args:
            values: the values of all labels, in the order of the declaration; or
            labels: the value of each label by its name. Values are converted by `str()`.

        Raises:
            ValueError: the labels are not those of the declaration.

        Example:
            >>> mob.counter("orders", labels=["payment"]).labels("card").inc()         # doctest: +SKIP
        """
        if self._key is not None:
            raise ValueError(
                f"{self!r} has no labels to set." if not self._spec.labels else f"{self!r} has its labels."
            )
        if values:
            if labels or len(values) != len(self._spec.labels):
                raise self._wrong([*map(str, values), *labels])
            return type(self)(self._spec, tuple(map(str, values)))
        return type(self)(self._spec, self._key_of(labels))

    def _key_of(self, labels: dict[str, Any]) -> tuple[str, ...]:
        if self._key is not None and not labels:
            return self._key
        names = self._spec.labels
        if self._key is None and len(labels) == len(names):
            try:
                return tuple([str(labels[name]) for name in names])
            except KeyError:
                pass
        raise self._wrong(list(labels))

    def _wrong(self, given: list[str]) -> ValueError:
        wanted = ", ".join(self._spec.labels) or "none"
        return ValueError(f"{self!r} has the labels {wanted}, and was given {', '.join(given) or 'none'}.")

    def _meter(self) -> Meter | None:
        """Return where this process counts; None if it is no mobster."""
        peer = api.find()
        if peer is None:
            return None
        meters = peer.meters
        if meters is None:
            with _opening:
                meters = peer.meters = peer.meters or Meters(functools.partial(peer.context.log.warning, "%s"))
        return meters.of(self._spec)

    def _number(self, method: str, value: object) -> float:
        """Return a value as a number; `TypeError` says how labels are given, in case that it was meant as one."""
        if type(value) in (int, float) or isinstance(value, SupportsFloat | SupportsIndex):
            return float(cast("float", value))
        first = "" if method in ("inc", "dec") else "value, "
        label = f"{self._spec.labels[0]}={value!r}" if self._spec.labels and self._key is None else ""
        meant = f" A label is given by its name: .{method}({first}{label})." if label else ""
        raise TypeError(f"{self!r}.{method}() takes a number, and was given {value!r}.{meant}")

    def _finite(self, method: str, value: object) -> float:
        number = self._number(method, value)
        if number != number:
            raise ValueError(f"{self!r} was given NaN, which cannot be added up.")
        return number


class Counter(_Metric):
    """A number that only grows: orders, bytes, failures. Made by `mob.counter`."""

    __slots__ = ()

    def inc(self, amount: float = 1, /, **labels: object) -> None:
        """Add to the counter; from any thread.

        Args:
            amount: how much, at least 0.
            labels: the value of each label, unless `labels()` has set them.

        Raises:
            ValueError: the amount is negative, NaN or infinite, or the labels are not those of the declaration.
        """
        number = self._number("inc", amount)
        if not 0 <= number < math.inf:
            raise ValueError(f"{self!r} cannot grow by {amount!r}: a counter takes finite numbers of at least 0.")
        key = self._key_of(labels)
        if (meter := self._meter()) is not None:
            meter.grow(key, number)


class Gauge(_Metric):
    """A number that goes up and down: open sessions, the length of a queue. Made by `mob.gauge`."""

    __slots__ = ()

    def set(self, value: float, /, **labels: object) -> None:
        """Set the value in this worker; from any thread.

        Args:
            value: the new value.
            labels: the value of each label, unless `labels()` has set them.
        """
        number, key = self._finite("set", value), self._key_of(labels)
        if (meter := self._meter()) is not None:
            meter.set(key, number)

    def inc(self, amount: float = 1, /, **labels: object) -> None:
        """Add to this worker's value, which begins at 0; from any thread."""
        number, key = self._finite("inc", amount), self._key_of(labels)
        if (meter := self._meter()) is not None:
            meter.set(key, number, is_change=True)

    def dec(self, amount: float = 1, /, **labels: object) -> None:
        """Subtract from this worker's value; from any thread."""
        self.inc(-self._number("dec", amount), **labels)


class Histogram(_Metric):
    """How often values fell into which range: seconds, sizes. Made by `mob.histogram`."""

    __slots__ = ()

    def observe(self, value: float, /, **labels: object) -> None:
        """Count a value; from any thread.

        Args:
            value: seconds, bytes, or whatever the buckets are bounds of.
            labels: the value of each label, unless `labels()` has set them.
        """
        number, key = self._finite("observe", value), self._key_of(labels)
        if (meter := self._meter()) is not None:
            meter.observe(key, number)

    def time(self, **labels: object) -> Stopwatch:
        """Return a context manager and decorator that observes the seconds that a block or function takes, whether it
        raises or not.

        Example:
            >>> with mob.histogram("packing_seconds").time(): ...                     # doctest: +SKIP
            >>> @mob.histogram("packing_seconds").time()                              # doctest: +SKIP
            ... async def pack(order): ...
        """
        return Stopwatch(self if self._key is not None and not labels else self.labels(**labels))


class Stopwatch:
    """Observes how long something takes. Made by `Histogram.time`; one can be used many times, and by many threads."""

    __slots__ = ("_begun", "_histogram")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._begun: ContextVar[tuple[float, ...]] = ContextVar("mob_stopwatch", default=())

    def __repr__(self) -> str:
        return f"<Stopwatch of {self._histogram!r}>"

    def __enter__(self) -> None:
        self._begun.set((*self._begun.get(), perf_counter()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        *outer, begun = self._begun.get()
        self._begun.set(tuple(outer))
        self._histogram.observe(perf_counter() - begun)

    def __call__(self, function: F) -> F:
        """Return the function with its time observed; of an `async def` one, the time until it has ended."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed_coroutine(*args: Any, **kwargs: Any) -> Any:
                with Stopwatch(self._histogram):
                    return await function(*args, **kwargs)

            return cast(F, timed_coroutine)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with Stopwatch(self._histogram):
                return function(*args, **kwargs)

        return cast(F, timed)


def counter(name: str, help: str = "", labels: Iterable[str] = ()) -> Counter:
    """Declare a counter of the application's own, which appears in the metrics of the app.

    The Kingpin adds up what all workers count, so a total outlives its workers, a reload and an upgrade. A use takes
    about a microsecond; once a second the worker tells the Kingpin what is new. Outside of a mobster a use does
    nothing.

    Args:
        name: letters, digits and underscores; exposed as `name_total`, as by prometheus_client. A second declaration of
            the same name gives the same counter.
        help: a sentence for people who read the metrics.
        labels: names of labels. Each set of values is a time series: use few values, never ids. At most 1,000 sets.

    Returns:
        The counter: `inc()`.

    Raises:
        ValueError: the name or a label is invalid or reserved, or this process has declared the name otherwise.

    Example:
        >>> ORDERS = mob.counter("orders", "Orders that were placed.", ["payment"])   # doctest: +SKIP
        >>> ORDERS.inc(payment="card")                                                # doctest: +SKIP
    """
    return Counter(spec_of("counter", name, _text(help), labels))


def gauge(
    name: str,
    help: str = "",
    labels: Iterable[str] = (),
    *,
    across: str = "sum",
) -> Gauge:
    """Declare a gauge of the application's own, which appears in the metrics of the app.

    Each worker has a value of its own, which ends with the worker.

    Args:
        name: letters, digits and underscores. A second declaration of the same name gives the same gauge.
        help: a sentence for people who read the metrics.
        labels: names of labels, as of `mob.counter`.
        across: how the values of a role's workers become one: "sum" (default), "max", "min"; or "each", for a time
            series for each worker, with the labels `index` and `pid`. As the `multiprocess_mode` of prometheus_client.

    Returns:
        The gauge: `set()`, `inc()`, `dec()`.

    Raises:
        ValueError: as `mob.counter`; or `across` is none of these.

    Example:
        >>> mob.gauge("sessions").set(17)                                             # doctest: +SKIP
    """
    return Gauge(spec_of("gauge", name, _text(help), labels, across=across))


def histogram(
    name: str,
    help: str = "",
    labels: Iterable[str] = (),
    *,
    buckets: Iterable[float] = BUCKETS,
) -> Histogram:
    """Declare a histogram of the application's own, which appears in the metrics of the app.

    Args:
        name: letters, digits and underscores; exposed as `name_bucket`, `name_sum` and `name_count`. A second
            declaration of the same name gives the same histogram.
        help: a sentence for people who read the metrics.
        labels: names of labels, as of `mob.counter`.
        buckets: upper bounds in ascending order, at most 100; the default is that of prometheus_client, from 5 ms to
            10 s.

    Returns:
        The histogram: `observe()`, `time()`.

    Raises:
        ValueError: as `mob.counter`; or the buckets do not ascend.

    Example:
        >>> with mob.histogram("packing_seconds").time(): ...                         # doctest: +SKIP
    """
    return Histogram(spec_of("histogram", name, _text(help), labels, buckets))


def own_counter(name: str, help: str, labels: Iterable[str] = ()) -> Counter:
    """Declare a counter of mob's own roles."""
    return Counter(spec_of("counter", name, help, labels, is_own=True))


def own_gauge(name: str, help: str, labels: Iterable[str] = ()) -> Gauge:
    """Declare a gauge of mob's own roles."""
    return Gauge(spec_of("gauge", name, help, labels, across="sum", is_own=True))


def _text(help: str) -> str:
    return readable(help) if isinstance(help, str) else help  # pyright: ignore[reportUnnecessaryIsInstance]
