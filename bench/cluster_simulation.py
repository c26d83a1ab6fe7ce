"""How a cluster behaves that is larger than what is at hand: 200 machines, 10,000 mobsters, on a fake clock.

python -m bench.cluster_simulation    # takes minutes; writes the table and picture of docs/internals/cluster-scale.md
python -m bench.cluster_simulation --quick  # smaller clusters, and only says what it finds

The membership is that of the Kingpin and the letters are its bytes; NATS is a latency of 1 to 1.5 ms and a loss that is
drawn (`tests.simulation.cluster`). Times are those of the fake clock, so they do not depend on the machine; CPU is that
of this machine, measured around the membership alone.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from mob.core.membership import Membership
from tests.simulation.cluster import Machines, Node

SIZES = (10, 50, 100, 200)
MOBSTERS = 50
LOSS = 0.01
ROUNDS = 15
STEADY = 10.0
DOC = Path(__file__).parent.parent / "docs" / "internals" / "cluster-scale.md"
PICTURE = DOC.parent.parent / "pictures" / "cluster-scale.svg"
BEGIN, END = "<!-- measured -->\n", "<!-- end -->\n"


@dataclass
class Found:
    """What was measured of one size; times in seconds."""

    nodes: int
    start: float
    start_bytes: float
    death: float
    successor: float
    join: float
    join_letters: float
    vanish: float
    reload: float
    reload_bytes: float
    sent: float
    sent_bytes: float
    received: float
    received_bytes: float
    cpu: float
    lossy: float
    lossy_worst: float


class Stopwatch:
    """The CPU time of all memberships."""

    def __init__(self) -> None:
        self.seconds = 0.0
        for name in ("handle_letter", "handle_wake"):
            setattr(Membership, name, self._timed(getattr(Membership, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            begun = process_time()
            try:
                return method(*args)
            finally:
                self.seconds += process_time() - begun

        return timed


def until_all(machines: Machines, knows: Callable[[Node], bool], but: Node | None = None) -> float:
    """The time until every node knows something."""
    pending = [node for node in machines.nodes if node is not but]

    def all_know() -> bool:
        while pending and knows(pending[-1]):
            pending.pop()
        return not pending

    return machines.run_until(all_know)


def knows_all_of(subject: Node) -> Callable[[Node], bool]:
    """Whether a node knows all members of another as they are."""
    own = {member.uid: member for member in subject.own()}

    def knows(node: Node) -> bool:
        neighbour = node.membership.neighbours.get(subject.number)
        return neighbour is not None and neighbour.members == own

    return knows


def totals(machines: Machines) -> list[int]:
    """Letters and bytes, sent and received, of all nodes."""
    each = [node.traffic for node in machines.nodes]
    return [sum(getattr(one, name) for one in each) for name in ("sent", "sent_bytes", "received", "received_bytes")]


def deaths(machines: Machines) -> tuple[list[float], list[float]]:
    """How long it takes until all know that a mobster has died, and that its successor is ready."""
    gone, ready = [], []
    for _ in range(ROUNDS):
        node = machines.clock.pick(machines.nodes)
        member = machines.clock.pick(node.own())
        node.replace(member, boot=0.5)
        gone.append(until_all(machines, lambda other, uid=member.uid: uid not in other.crew.roster))
        machines.run(0.5 - gone[-1] if gone[-1] < 0.5 else 0.0)
        ready.append(until_all(machines, knows_all_of(node), but=node))
        machines.run(machines.clock.between(0.2, 1.2))
    return gone, ready


def reload(machines: Machines) -> tuple[float, float]:
    """A role of 50 on one machine, ten at a time; the time after its last step, and bytes received by each node."""
    node, before = machines.nodes[0], totals(machines)
    for number, member in enumerate(node.own()):
        machines.clock.after(0.1 * (number // 10), node.replace, member)
    machines.run(0.6)  # the last is ready at 0.43
    machines.run_until(lambda: machines.clock.now > 0)
    after = [now - then for now, then in zip(totals(machines), before, strict=True)]
    last = node.launch("back", 99, "ready")
    seconds = until_all(machines, knows_all_of(node), but=node)
    node.lose(last)
    machines.run(1.0)
    return seconds, after[3] / len(machines.nodes)


def measure(size: int, watch: Stopwatch) -> Found:
    """One size."""
    machines = Machines(size, roles=(("back", MOBSTERS),))
    delays = [machines.clock.luck() for _ in range(size)]
    for delay in delays:
        machines.clock.after(delay, machines.join)
    machines.run(max(delays))
    start = until_all(machines, lambda node: len(node.crew.roster) == size * MOBSTERS)
    start_bytes = totals(machines)[3] / size
    machines.run(5.0)
    before, cpu = totals(machines), watch.seconds
    machines.run(STEADY)
    rates = [(now - then) / size / STEADY for now, then in zip(totals(machines), before, strict=True)]
    cpu = (watch.seconds - cpu) / size / STEADY
    gone, ready = deaths(machines)
    reloaded, reload_bytes = reload(machines)
    before = totals(machines)
    came = machines.join()
    join = until_all(machines, knows_all_of(came), but=came)
    join = max(join, join + machines.run_until(lambda: len(came.crew.roster) == (size + 1) * MOBSTERS))
    join_letters = came.traffic.sent + came.traffic.received
    machines.run(2.0)
    came.vanish()
    vanish = until_all(machines, lambda node: came.number not in node.membership.neighbours)
    machines.letters.loss = LOSS
    _, lossy = deaths(machines)
    return Found(
        size, start, start_bytes, median(gone), median(ready), join, join_letters, vanish, reloaded, reload_bytes,
        *rates, cpu, median(lossy), max(lossy),  # pyright: ignore[reportCallIssue]
    )  # fmt: skip


# --- what is written --------------------------------------------------------------------------------------------------


def ms(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def kb(count: float) -> str:
    return f"{count / 1000:,.1f} kB" if count < 1e6 else f"{count / 1e6:,.1f} MB"


ROWS: list[tuple[str, Callable[[Found], str]]] = [
    ("mobsters", lambda it: f"{it.nodes * MOBSTERS:,}"),
    ("**until all rosters agree, after**", lambda _: ""),
    ("a mobster has died", lambda it: ms(it.death)),
    ("its successor is ready", lambda it: ms(it.successor)),
    (
        f"the same, {LOSS:.0%} of the letters lost (worst of {ROUNDS})",
        lambda it: f"{ms(it.lossy)} ({ms(it.lossy_worst)})",
    ),
    (f"the last step of a reload of {MOBSTERS}", lambda it: ms(it.reload)),
    ("a machine has joined", lambda it: ms(it.join)),
    ("a machine has vanished", lambda it: ms(it.vanish)),
    ("the last of all machines has started, within a second", lambda it: ms(it.start)),
    ("**for each machine, at rest**", lambda _: ""),
    ("letters sent a second", lambda it: f"{it.sent:.1f}"),
    ("bytes sent a second", lambda it: f"{it.sent_bytes:.0f}"),
    ("letters received a second", lambda it: f"{it.received:.0f}"),
    ("bytes received a second", lambda it: kb(it.received_bytes)),
    ("CPU of the membership", lambda it: f"{it.cpu:.2%}"),
    ("**for each machine, once**", lambda _: ""),
    ("bytes received when all start at once", lambda it: kb(it.start_bytes)),
    (f"bytes received while {MOBSTERS} mobsters of another are reloaded", lambda it: kb(it.reload_bytes)),
    ("letters of a machine that joins, sent and received", lambda it: f"{it.join_letters:.0f}"),
]


def table(found: list[Found]) -> str:
    """What was found, as Markdown."""
    lines = ["| machines | " + " | ".join(str(it.nodes) for it in found) + " |", "|---|" + "---:|" * len(found)]
    lines += [f"| {name} | " + " | ".join(tell(it) for it in found) + " |" for name, tell in ROWS]
    return "\n".join(lines) + "\n"


STYLE = """
text { font: 13px system-ui, sans-serif; fill: #444 } .title { font-weight: 600; fill: #111 }
.axis { stroke: #999; stroke-width: 1 } .grid { stroke: #ddd; stroke-width: 1 } path { fill: none; stroke-width: 2.5 }
.a { stroke: #0b7285 } .b { stroke: #d9480f } .la { fill: #0b7285 } .lb { fill: #d9480f }
@media (prefers-color-scheme: dark) {
text { fill: #bbb } .title { fill: #eee } .axis { stroke: #777 } .grid { stroke: #333 }
.a { stroke: #3bc9db } .b { stroke: #ff922b } .la { fill: #3bc9db } .lb { fill: #ff922b } }
"""
Line = tuple[str, Callable[[Found], float]]


def panel(left: int, title: str, unit: str, found: list[Found], lines: list[Line]) -> str:
    """One diagram: 300 by 180, below its title."""
    width, height, top = 300, 180, 50
    most = max(value(it) for _, value in lines for it in found) * 1.15
    step = next(s for e in range(7) for s in (10**e, 2 * 10**e, 5 * 10**e) if most / s <= 5)
    widest = max(it.nodes for it in found)
    parts = [f'<text class="title" x="{left}" y="{top - 24}">{title}</text>']
    for number in range(int(most // step) + 1):
        y = top + height * (1 - number * step / most)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = f"{number * step} {unit}" if number else "0"
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for it in found:
        x = left + width * it.nodes / widest
        parts.append(f'<text x="{x:.1f}" y="{top + height + 18}" text-anchor="middle">{it.nodes}</text>')
    parts.append(f'<text x="{left}" y="{top + height + 36}">machines</text>')
    for kind, (name, value) in zip("ab", lines, strict=False):
        points = [(left + width * it.nodes / widest, top + height * (1 - value(it) / most)) for it in found]
        path = " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<path class="{kind}" d="M{path}"/>')
        x, y = points[-1]
        parts.append(f'<text class="l{kind}" x="{x:.1f}" y="{y - 8:.1f}" text-anchor="end">{name}</text>')
    return "\n".join(parts)


def picture(found: list[Found]) -> str:
    """Two diagrams, for light and for dark."""
    times: list[Line] = [
        (f"{LOSS:.0%} of the letters lost", lambda it: 1000 * it.lossy),
        ("no letter lost", lambda it: 1000 * it.successor),
    ]
    rates: list[Line] = [("received", lambda it: it.received_bytes / 1000), ("sent", lambda it: it.sent_bytes / 1000)]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 280" width="800" height="280" role="img" '
        'aria-label="Time until all know of a new worker, and bytes a second, by the number of machines">\n'
        f"<style>{STYLE}</style>\n"
        f"{panel(70, 'Until all know of a new worker', 'ms', found, times)}\n"
        f"{panel(470, 'A machine at rest, bytes a second', 'kB', found, rates)}\n</svg>\n"
    )


def main() -> None:
    """Measures, and writes it down."""
    is_quick = "--quick" in sys.argv[1:]
    watch, found = Stopwatch(), list[Found]()
    for size in (5, 20) if is_quick else SIZES:
        found.append(measure(size, watch))
        print(f"{size} machines: {found[-1]}", file=sys.stderr)
    print(table(found))
    if not is_quick:
        text = DOC.read_text("utf-8")
        between = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
        DOC.write_text(between.sub(lambda _: BEGIN + table(found) + END, text), "utf-8")
        PICTURE.write_text(picture(found), "utf-8")


if __name__ == "__main__":
    main()
