"""The application's own metrics in one process: what was counted since the last message to the Kingpin.

Any thread counts; the liveness thread takes what is new (`take`). None of this exists in a process that declares no
metric. The lock is reentrant, because a signal handler or a finalizer may count, too.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import RLock
from typing import TypeAlias

from mob.core.custom import MOST_METRICS, MOST_SETS, full
from mob.core.declared import MOST_CHARACTERS, OTHER, clash, shown
from mob.rim.lasting import readable
from mob.wire import messages as m

MOST_SAMPLES = 400
"""Maximum number of samples in one message, which must fit into the socket at once."""
MOST_LENGTH = 24 * 1024
"""Approximate maximum number of characters of the texts in one message; a bucket counts as `BUCKET_LENGTH`."""
BUCKET_LENGTH = 6
Set: TypeAlias = tuple[str, ...]


class Meter:
    """One metric."""

    def __init__(self, spec: m.MetricSpec, lock: AbstractContextManager[object], warn: Callable[[str], None]) -> None:
        self.spec: m.MetricSpec = spec
        self.has_news: bool = True
        """True if the Kingpin must be sent something: at first, that this metric exists."""
        self._lock = lock
        self._warn = warn
        self._known: dict[Set, Set] = {}  # from labels as given to labels as counted
        self._grown: dict[Set, float] = {}  # growth since the last message; of a gauge, the new values
        if not spec.labels and spec.kind != "gauge":
            self._grown[()] = 0.0  # so that it is shown before its first use
        self._counts: dict[Set, dict[int, int]] = {}  # of a histogram
        self._values: dict[Set, float] = {}  # of a gauge
        self._is_full = False

    def __repr__(self) -> str:
        return f"<Meter {shown(self.spec)}>"

    def grow(self, labels: Set, amount: float) -> None:
        """Count `amount` more."""
        with self._lock:
            key = self._known.get(labels)
            if key is None and (key := self._admitted(labels)) is None:
                return
            self._grown[key] = self._grown.get(key, 0.0) + amount
            self.has_news = True

    def observe(self, labels: Set, value: float) -> None:
        """Add a value to a histogram."""
        with self._lock:
            key = self._known.get(labels)
            if key is None and (key := self._admitted(labels)) is None:
                return
            self._grown[key] = self._grown.get(key, 0.0) + value
            counts, place = self._counts.setdefault(key, {}), bisect_left(self.spec.bounds, value)
            counts[place] = counts.get(place, 0) + 1
            self.has_news = True

    def set(self, labels: Set, value: float, is_change: bool = False) -> None:
        """Set the value of a gauge, or change it by `value` if `is_change`."""
        with self._lock:
            key = self._known.get(labels)
            if key is None and (key := self._admitted(labels)) is None:
                return
            self._values[key] = self._grown[key] = self._values.get(key, 0.0) + value if is_change else value
            self.has_news = True

    def _admitted(self, labels: Set) -> Set | None:
        """Return the labels to count under, or None to count nothing: they are cut, and their number is limited."""
        key = tuple([readable(each[:MOST_CHARACTERS])[:MOST_CHARACTERS] for each in labels])
        if any(len(each) > MOST_CHARACTERS for each in labels):  # the uncut labels are not kept
            if (known := self._known.get(key)) is not None:
                return known
            labels = key
        if len(self._known) >= MOST_SETS - 1:  # one more is for all others
            if not self._is_full:
                self._is_full = True
                self._warn(full(self.spec))
            return None if self.spec.kind == "gauge" else (OTHER,) * len(labels)
        self._known[labels] = key
        return key

    def take(self, most: int, length: int) -> m.MetricNews:
        """Return what is new, at most `most` samples and about `length` characters."""
        with self._lock:
            samples: list[m.SampleNews] = []
            while self._grown and len(samples) < most and length > 0:
                labels, number = self._grown.popitem()
                samples.append(m.SampleNews(labels, number, self._counts.pop(labels, {})))
                length -= _length(samples[-1])
            self.has_news = bool(self._grown)
            return m.MetricNews(self.spec, tuple(samples))


class Meters:
    """The metrics of one process, by name."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._lock = RLock()
        self._meters: dict[str, Meter] = {}

    def __repr__(self) -> str:
        return f"<Meters: {', '.join(self._meters) or 'none'}>"

    def of(self, spec: m.MetricSpec) -> Meter:
        """Return the meter of a metric, made if it is new. `ValueError` if the metric clashes with another."""
        meter = self._meters.get(spec.name)
        if meter is not None and (meter.spec is spec or meter.spec == spec):
            return meter
        with self._lock:
            return self._declared(spec)

    def _declared(self, spec: m.MetricSpec) -> Meter:
        other = clash(spec, (each.spec for each in self._meters.values()))
        if other is not None:
            raise ValueError(f"{shown(spec)} clashes with {shown(other)} in this process. Rename one of them.")
        if spec.name in self._meters:
            return self._meters[spec.name]  # with another help text
        if len(self._meters) >= MOST_METRICS:
            raise ValueError(
                f"{shown(spec)}: this process already has {MOST_METRICS} metrics. Use labels instead of more names."
            )
        meter = self._meters[spec.name] = Meter(spec, self._lock, self._warn)
        return meter

    # ----------------------------------------------------------------------------------- on the liveness thread

    @property
    def has_news(self) -> bool:
        """True if there is something to send."""
        return any(each.has_news for each in list(self._meters.values()))

    def take(self) -> m.Counted | None:
        """Return what is new since the last time, as much as fits into a message; None for nothing."""
        news: list[m.MetricNews] = []
        most, length = MOST_SAMPLES, MOST_LENGTH
        for meter in list(self._meters.values()):
            if meter.has_news and most > 0 and length > 0:
                new = meter.take(most, length)
                news.append(new)
                most -= max(1, len(new.samples))
                length -= len(new.spec.help) + sum(map(_length, new.samples))
        return m.Counted(tuple(news)) if news else None


def _length(sample: m.SampleNews) -> int:
    return sum(map(len, sample.labels)) + BUCKET_LENGTH * len(sample.counts)
