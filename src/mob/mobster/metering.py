"""The application's own metrics: `mob.counter`, `mob.gauge` and `mob.histogram`.

The objects can be created anywhere (at the top of a module, in a preload, in a function) and used from any thread. They
hold no numbers: each use finds the mobster of this process, and counts there. In a process that is not a mobster (the
Kingpin, a client, a test that imports the module, a child of multiprocessing) a use only checks its arguments.
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
    """Common parts of the three kinds."""

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
        """Return this metric with its labels set; using it then needs no labels.

        Args:
            values: Values of all labels, in the order of the declaration; or
            labels: the value of each label by its name. Values are converted with `str()`.

        Raises:
            ValueError: The labels are not those of the declaration.

        Example:
            >>> mob.counter("orders", labels=["payment"]).labels("card").inc()         # doctest: +SKIP
        """
        if self._key is not None:
            raise ValueError(
                f"{self!r} has no labels to set." if not self._spec.labels else f"{self!r} already has its labels."
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
        return ValueError(f"{self!r} expects the labels {wanted}, got {', '.join(given) or 'none'}.")

    def _meter(self) -> Meter | None:
        """Return where this process counts; None if it is not a mobster."""
        peer = api.find()
        if peer is None:
            return None
        meters = peer.meters
        if meters is None:
            with _opening:
                meters = peer.meters = peer.meters or Meters(functools.partial(peer.context.log.warning, "%s"))
        return meters.of(self._spec)

    def _number(self, method: str, value: object) -> float:
        """Return a value as a number; the `TypeError` explains how to pass labels, in case it was meant as one."""
        if type(value) in (int, float) or isinstance(value, SupportsFloat | SupportsIndex):
            return float(cast("float", value))
        first = "" if method in ("inc", "dec") else "value, "
        label = f"{self._spec.labels[0]}={value!r}" if self._spec.labels and self._key is None else ""
        meant = f" Pass a label by its name: .{method}({first}{label})." if label else ""
        raise TypeError(f"{self!r}.{method}() takes a number, got {value!r}.{meant}")

    def _finite(self, method: str, value: object) -> float:
        number = self._number(method, value)
        if number != number:
            raise ValueError(f"{self!r} got NaN, which cannot be added up.")
        return number


class Counter(_Metric):
    """A number that only grows: orders, bytes, failures. Made by `mob.counter`."""

    __slots__ = ()

    def inc(self, amount: float = 1, /, **labels: object) -> None:
        """Add to the counter; from any thread.

        Args:
            amount: Amount to add, at least 0 (default 1).
            labels: Value of each label, unless `labels()` has set them.

        Raises:
            ValueError: The amount is negative, NaN or infinite, or the labels are not those of the declaration.
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
            value: The new value.
            labels: Value of each label, unless `labels()` has set them.

        Raises:
            ValueError: The value is NaN, or the labels are not those of the declaration.
        """
        number, key = self._finite("set", value), self._key_of(labels)
        if (meter := self._meter()) is not None:
            meter.set(key, number)

    def inc(self, amount: float = 1, /, **labels: object) -> None:
        """Add to this worker's value, which starts at 0; from any thread.

        Args:
            amount: Amount to add (default 1).
            labels: Value of each label, unless `labels()` has set them.
        """
        number, key = self._finite("inc", amount), self._key_of(labels)
        if (meter := self._meter()) is not None:
            meter.set(key, number, is_change=True)

    def dec(self, amount: float = 1, /, **labels: object) -> None:
        """Subtract from this worker's value, which starts at 0; from any thread.

        Args:
            amount: Amount to subtract (default 1).
            labels: Value of each label, unless `labels()` has set them.
        """
        self.inc(-self._number("dec", amount), **labels)


class Histogram(_Metric):
    """Counts of values by range: seconds, sizes. Made by `mob.histogram`."""

    __slots__ = ()

    def observe(self, value: float, /, **labels: object) -> None:
        """Count a value; from any thread.

        Args:
            value: Seconds, bytes, or whatever the buckets are bounds of.
            labels: Value of each label, unless `labels()` has set them.

        Raises:
            ValueError: The value is NaN, or the labels are not those of the declaration.
        """
        number, key = self._finite("observe", value), self._key_of(labels)
        if (meter := self._meter()) is not None:
            meter.observe(key, number)

    def time(self, **labels: object) -> Stopwatch:
        """Return a context manager and decorator that observes how many seconds a block or function takes.

        The time is observed even if the block raises.

        Example:
            >>> with mob.histogram("packing_seconds").time(): ...                     # doctest: +SKIP
            >>> @mob.histogram("packing_seconds").time()                              # doctest: +SKIP
            ... async def pack(order): ...
        """
        return Stopwatch(self if self._key is not None and not labels else self.labels(**labels))


class Stopwatch:
    """Observes how long something takes. Made by `Histogram.time`; can be used many times, and by many threads."""

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
        """Return the function with its duration observed; for `async def`, the time until the coroutine ends."""
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
    """Declare a counter of the application, which appears in the metrics of the app.

    The Kingpin adds up the counts of all workers, so a total outlives its workers, a reload and an upgrade. A use takes
    about a microsecond; once a second the worker reports the changes to the Kingpin. Outside of a mobster a use does
    nothing.

    Args:
        name: Letters, digits and underscores; exposed as `name_total`, as by prometheus_client. A second declaration of
            the same name returns the same counter.
        help: A sentence for readers of the metrics.
        labels: Names of labels. Each set of values is a time series: use few values, never ids. At most 1,000 sets.

    Returns:
        The counter, with the method `inc()`.

    Raises:
        ValueError: The name or a label is invalid or reserved, or this process has declared the name differently.

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
    """Declare a gauge of the application, which appears in the metrics of the app.

    Each worker has its own value, which ends with the worker.

    Args:
        name: Letters, digits and underscores. A second declaration of the same name returns the same gauge.
        help: A sentence for readers of the metrics.
        labels: Names of labels, as in `mob.counter`.
        across: How the values of a role's workers are combined: "sum" (default), "max" or "min"; or "each", for a time
            series for each worker, with the labels `index` and `pid`. Like `multiprocess_mode` of prometheus_client.

    Returns:
        The gauge, with the methods `set()`, `inc()` and `dec()`.

    Raises:
        ValueError: As in `mob.counter`; or `across` is not one of these values.

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
    """Declare a histogram of the application, which appears in the metrics of the app.

    Args:
        name: Letters, digits and underscores; exposed as `name_bucket`, `name_sum` and `name_count`. A second
            declaration of the same name returns the same histogram.
        help: A sentence for readers of the metrics.
        labels: Names of labels, as in `mob.counter`.
        buckets: Upper bounds in ascending order, at most 100; by default those of prometheus_client, from 5 ms to 10 s.

    Returns:
        The histogram, with the methods `observe()` and `time()`.

    Raises:
        ValueError: As in `mob.counter`; or the buckets are not in ascending order.

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
