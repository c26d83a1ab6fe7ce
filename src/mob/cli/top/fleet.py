"""The readings of all machines of a cluster together: the tables and the header that `mob top` shows.

Each machine is read separately and has its own rates (`rates.py`), because machines answer and restart at different
times. An app that is not part of a cluster is a fleet of one machine with an empty name. Pure.
"""

from __future__ import annotations

from dataclasses import replace

from mob.beside import Look
from mob.cli.top.rates import Rates, TableLine, Totals
from mob.wire.messages import Metrics


class Fleet:
    """Rates by machine; the one that `mob top` connected to comes first."""

    def __init__(self) -> None:
        self._rates: dict[str, Rates] = {}

    def __repr__(self) -> str:
        return f"<Fleet of {len(self._rates)} machines>"

    @property
    def is_several(self) -> bool:
        """True if lines show their machine."""
        return any(self._rates)

    def add(self, at: float, metrics: Metrics, node: str = "") -> None:
        """Add a reading of a machine."""
        if node not in self._rates:
            self._rates[node] = Rates(node)
        self._rates[node].add(at, metrics)

    def drop(self, node: str) -> None:
        """Remove a machine that left the cluster."""
        self._rates.pop(node, None)

    @property
    def last(self) -> float:
        """Time of the last reading of this machine."""
        return next((rates.last for rates in self._rates.values()), 0.0)

    @property
    def looks(self) -> list[Look]:
        """Last reading of each machine."""
        return [(node, rates.metrics) for node, rates in self._rates.items() if rates.metrics is not None]

    @property
    def mobsters(self) -> tuple[TableLine, ...]:
        """Lines of all workers."""
        return tuple(line for rates in self._rates.values() for line in rates.mobsters)

    @property
    def roles(self) -> tuple[TableLine, ...]:
        """Lines of all roles of all machines."""
        return tuple(line for rates in self._rates.values() for line in rates.roles)

    @property
    def exports(self) -> tuple[TableLine, ...]:
        """Lines of all exports of all machines."""
        return tuple(line for rates in self._rates.values() for line in rates.exports)

    @property
    def totals(self) -> Totals | None:
        """Header: sums over all machines, with the Kingpin of this machine."""
        each = [rates.totals for rates in self._rates.values() if rates.totals is not None]
        if len(each) < 2:
            return each[0] if each else None
        return replace(
            each[0],
            ready=sum(totals.ready for totals in each),
            target=sum(totals.target for totals in each),
            calls=sum(totals.calls for totals in each),
            failures=sum(totals.failures for totals in each),
            queue=sum(totals.queue for totals in each),
            clients=sum(totals.clients for totals in each),
            dropped_lines=sum(totals.dropped_lines for totals in each),
            picture=tuple(
                max(sum(value for value in values if value >= 0), min(max(values), 0.0))
                for values in zip(*(totals.picture for totals in each), strict=True)
            ),
            machines=len(each),
        )
