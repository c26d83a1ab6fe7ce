"""Which metrics an application may declare: names, labels, buckets, and the errors about the others.

Names follow Prometheus (https://prometheus.io/docs/concepts/data_model), with its client libraries' convention that a
counter is exposed as `name_total`. Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import cache

from mob.errors import nearest
from mob.wire.messages import MetricSpec

NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
MOST_CHARACTERS = 200
"""Maximum length of a name, and of the value of a label; a longer value is cut."""
MOST_HELP = 1000
"""Maximum characters of a help text."""
MOST_LABELS = 10
MOST_BUCKETS = 100
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""The default buckets of prometheus_client, in seconds."""
ACROSS = ("sum", "max", "min", "each")
OWN_LABELS = ("role", "index", "pid", "le", "quantile")
"""Labels that mob or Prometheus sets."""
PARTS: dict[str, tuple[str, ...]] = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count", ""),
}
"""The suffixes of the names under which a metric of each kind is exposed."""
OWN = {
    "queue_attempts": "counter",
    "queue_jobs": "gauge",
    "store_bytes": "gauge",
    "store_evictions": "counter",
    "store_hits": "counter",
    "store_keys": "gauge",
    "store_lock_waits": "gauge",
    "store_locks": "gauge",
    "store_misses": "counter",
    "store_watchers": "gauge",
}
"""The metrics that mob's own roles declare, with their kinds: no application may use one of these names.

All other metrics of mob begin with `mob_`.
"""
OTHER = "other"
"""The value of all labels for what is counted beyond the limit."""


def spec_of(
    kind: str,
    name: str,
    help: str = "",
    labels: Iterable[str] = (),
    buckets: Iterable[float] = (),
    across: str = "",
    is_own: bool = False,
) -> MetricSpec:
    """Return a valid declaration, or raise `ValueError` or `TypeError`.

    `is_own`: the metric is one of mob's, and must be in `OWN`.

    >>> spec_of("counter", "orders_total").name
    'orders'
    """
    what = f"mob.{kind}({name!r})"
    _check_name(what, name)
    if kind == "counter":
        name = name.removesuffix("_total") or name
    if not isinstance(help, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{what}: help must be a string, not {type(help).__name__}.")
    if kind == "gauge" and across not in ACROSS:
        raise ValueError(f"{what}: unknown across={across!r}. {nearest(across, ACROSS)}")
    spec = MetricSpec(
        name, kind, help[:MOST_HELP], _checked_labels(what, labels), _checked_buckets(what, buckets), across
    )
    if is_own:
        assert OWN.get(name) == kind, f"{what} is missing in OWN"
    elif not names_of(spec).isdisjoint(_own_names()):
        raise ValueError(
            f"{what}: mob has a metric of that name. Choose another. Reserved are {', '.join(OWN)}, and all names that "
            f"begin with 'mob_'."
        )
    return spec


def _check_name(what: str, name: str) -> None:
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{what}: the name must be a string, not {type(name).__name__}.")
    if not NAME.fullmatch(name) or len(name) > MOST_CHARACTERS:
        raise ValueError(
            f"{what}: not a valid metric name. Use ASCII letters, digits and underscores, at most {MOST_CHARACTERS}, "
            f"and no digit at the beginning."
        )
    if name.startswith(("mob_", "__")):
        raise ValueError(f"{what}: names that begin with {name[: name.index('_') + 1]!r} are reserved. Choose another.")


def _checked_labels(what: str, labels: Iterable[str]) -> tuple[str, ...]:
    if isinstance(labels, str):
        raise TypeError(f"{what}: labels must be a list of names, not a string. Write labels=[{labels!r}].")
    names = tuple(labels)
    if len(names) > MOST_LABELS or len(set(names)) < len(names):
        raise ValueError(f"{what}: labels={list(names)!r}. Use at most {MOST_LABELS} names, each only once.")
    for each in names:
        if not isinstance(each, str) or not NAME.fullmatch(each) or each.startswith("__"):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(
                f"{what}: {each!r} is not a valid label name. Use ASCII letters, digits and underscores, "
                f"and neither a digit nor two underscores at the beginning."
            )
        if each in OWN_LABELS:
            raise ValueError(f"{what}: the label {each!r} is reserved; mob or Prometheus sets it. Choose another name.")
    return names


def _checked_buckets(what: str, buckets: Iterable[float]) -> tuple[float, ...]:
    bounds = tuple(float(each) for each in buckets)
    bounds = bounds[:-1] if bounds[-1:] == (math.inf,) else bounds
    if len(bounds) > MOST_BUCKETS:
        raise ValueError(f"{what}: {len(bounds)} buckets. Use at most {MOST_BUCKETS}.")
    if not all(map(math.isfinite, bounds)) or list(bounds) != sorted(set(bounds)):
        raise ValueError(f"{what}: buckets={list(bounds)!r}. They must be finite numbers in ascending order.")
    return bounds


def shown(spec: MetricSpec) -> str:
    """Return a declaration as people read it.

    >>> shown(MetricSpec("orders", "counter", labels=("payment",)))
    "mob.counter('orders', labels=['payment'])"
    """
    more = f", labels={list(spec.labels)!r}" if spec.labels else ""
    more += f", buckets={list(spec.bounds)!r}" if spec.bounds not in ((), BUCKETS) else ""
    more += f", across={spec.across!r}" if spec.across not in ("", "sum") else ""
    return f"mob.{spec.kind}({spec.name!r}{more})"


def is_same(one: MetricSpec, other: MetricSpec) -> bool:
    """Return True if the numbers of both can be added up; their help texts may differ."""
    same = (one.name, one.kind, one.labels, one.bounds, one.across)
    return same == (other.name, other.kind, other.labels, other.bounds, other.across)


def clash(spec: MetricSpec, others: Iterable[MetricSpec]) -> MetricSpec | None:
    """Return the metric next to which this one cannot be exposed.

    It is declared otherwise, or one of its names is taken (`size` as a histogram has `size_count`).
    """
    names = names_of(spec)
    for other in others:
        if other.name == spec.name:
            if not is_same(other, spec):
                return other
        elif not names.isdisjoint(names_of(other)):
            return other
    return None


def names_of(spec: MetricSpec) -> set[str]:
    """Return the names under which a metric is exposed.

    >>> sorted(names_of(MetricSpec("size", "histogram")))
    ['size', 'size_bucket', 'size_count', 'size_sum']
    """
    return {spec.name + part for part in PARTS[spec.kind]}


@cache
def _own_names() -> frozenset[str]:
    """Return the names under which mob's own metrics are exposed, and those that they are declared by."""
    return frozenset(OWN).union(*(names_of(MetricSpec(name, kind)) for name, kind in OWN.items()))


def is_whole(values: Sequence[str], spec: MetricSpec) -> bool:
    """Return True if there is a value for each label."""
    return len(values) == len(spec.labels)
