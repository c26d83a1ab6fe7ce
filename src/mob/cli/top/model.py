"""The state of `mob top`, and the effect of each key.

Pure: keys and news go in; an `Action` comes out if the app has to be asked. The selected line stays selected when the
order changes; when a worker is replaced, its successor becomes selected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mob.cli.top.columns import EXPORTS, MOBSTERS, NODE, Column
from mob.cli.top.fleet import Fleet
from mob.cli.top.pager import Pager
from mob.cli.top.rates import RowKind, TableLine, place
from mob.wire.messages import Metrics

HELP = """\
Table
  up down k j  previous line, next line
  PgUp PgDn    previous page, next page (also Ctrl-B, Ctrl-F)
  Home End     first line, last line
  Tab  e       switch between workers and exports
  /            filter: only lines with these words in role, pid, state or note; Esc: all
  s  <  >      sort by the next column, the one to the left, the one to the right
  r            reverse the order
  Sorted by name, workers are grouped by role; otherwise they form one list.

Selected line: a worker, or a role with all its workers
  R            restart: stops it and starts a new one (asks first)
  L            reload its role: new processes with new code, without downtime
  + -          one more worker for its role, one less
  l            its output, as it is printed
  t            its stacks: what each thread and task is executing, even if it is stuck

App
  c            crash reports, the latest first
  Ctrl-Z       back to the shell; `fg` returns
  q  Ctrl-C    quit; the app keeps running

Columns
  hand         calls, messages and HTTP requests accepted and not finished
  queue        calls waiting to start; for a role also those waiting at their callers and clients
  calls/s      calls and HTTP requests served per second
  lag          delay of the event loop, or for how long it has been blocked
  p50 p99      half of the calls, 99 %, took less; wait50, wait99: their waiting time
  flight       calls that are running
  minute       calls per second in the last minute

Reading a text
  arrows       scroll, also sideways; PgUp, PgDn, Home, End too
  /            filter: only lines with these words
  Esc q        back
"""


class View(StrEnum):
    """The two tables."""

    MOBSTERS = "workers"
    EXPORTS = "exports"


COLUMNS: Mapping[View, tuple[Column, ...]] = {View.MOBSTERS: MOBSTERS, View.EXPORTS: EXPORTS}


@dataclass(frozen=True)
class Action:
    """A request to the app ("restart", "reload", "scale", "logs", "stacks", "crashes") or to this program.

    The latter are "unfollow", "redraw" and "quit".
    """

    what: str
    role: str = ""
    pid: int = 0
    """Pid of the worker; 0 for the whole role."""
    count: int = 0
    node: str = ""
    """Name of the machine; empty if there is only one."""
    label: str = ""
    """Name of the target as shown to users."""

    @property
    def sentence(self) -> str:
        """Description of what is being done."""
        if self.what == "scale":
            return f"{self.label} {self.count:+}"
        return f"{self.what} of {self.label}"


@dataclass
class Sorting:
    """Sort order and filter of a table."""

    column: str = "name"
    reverse: bool = False
    filter: str = ""


@dataclass
class Top:
    """Everything that the screen shows."""

    app: str
    rates: Fleet = field(default_factory=Fleet)
    view: View = View.MOBSTERS
    orders: dict[View, Sorting] = field(default_factory=lambda: {view: Sorting() for view in View})
    selected: str = ""
    """Key of the selected line."""
    position: int = 0
    first: int = 0
    """Number of the first visible line."""
    rows: int = 20
    """Number of visible lines; set by the screen."""
    prompt: str | None = None
    """Filter while it is being typed."""
    question: Action | None = None
    """Action that "y" starts."""
    status: str = ""
    is_error: bool = False
    under_way: list[Action] = field(default_factory=list[Action])
    """Requests that the app has not answered yet."""
    trouble: str = ""
    """Why there are no new readings; empty if there are."""
    pager: Pager | None = None

    @property
    def order(self) -> Sorting:
        """Order of the visible table."""
        return self.orders[self.view]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the visible table."""
        first, *others = COLUMNS[self.view]
        return (first, *((NODE,) if self.rates.is_several else ()), *others)

    @property
    def filter(self) -> str:
        """Filter in effect: that of the text, or of the table."""
        return self.pager.filter if self.pager else self.order.filter

    # ------------------------------------------------------------------------------------------- the table

    def lines(self) -> list[TableLine]:
        """Return the lines of the table, filtered and sorted."""
        if self.view is View.EXPORTS:
            return self._sorted([line for line in self.rates.exports if self._is_wanted(line)])
        mobsters = [line for line in self.rates.mobsters if self._is_wanted(line)]
        if self.order.column != "name":
            return self._sorted(mobsters)
        groups: list[TableLine] = []
        roles = self.rates.roles[::-1] if self.order.reverse else self.rates.roles
        for role in roles:
            members = [line for line in mobsters if (line.role, line.node) == (role.role, role.node)]
            if members or self._is_wanted(role):
                groups += [role, *self._sorted(members)]
        return groups

    def settle(self, lines: list[TableLine]) -> TableLine | None:
        """Keep the selection among the lines and in view; return the selected line."""
        keys = [line.key for line in lines]
        if self.selected in keys:
            self.position = keys.index(self.selected)
        else:
            heirs = [number for number, line in enumerate(lines) if self._is_heir(line)]
            self.position = heirs[0] if heirs else max(0, min(self.position, len(lines) - 1))
        chosen = lines[self.position] if lines else None
        if chosen:
            self.selected = chosen.key
        self.first = max(0, min(self.first, self.position, len(lines) - self.rows))
        self.first = max(self.first, self.position - self.rows + 1)
        return chosen

    def _is_heir(self, line: TableLine) -> bool:
        """Return whether a line succeeds the selected one: a worker in the same place, or any worker of the role."""
        what, _, role = self.selected.partition(" ")
        if what == RowKind.ROLE:
            return place(line.node, line.role) == role
        return line.kind is RowKind.MOBSTER and place(line.node, line.name) == what

    def _is_wanted(self, line: TableLine) -> bool:
        return all(word in line.text for word in self.order.filter.lower().split())

    def _sorted(self, lines: list[TableLine]) -> list[TableLine]:
        order = self.order
        column = next((each for each in self.columns if each.name == order.column), NODE)
        if column.name == "minute":
            return self._by(lines, lambda line: sum(line.values["minute"]), not order.reverse)
        return self._by(
            lines,
            lambda line: line.values.get(column.name, "" if column is NODE else 0),
            order.reverse == column.is_text,
        )

    @staticmethod
    def _by(lines: list[TableLine], key: Callable[[TableLine], Any], down: bool) -> list[TableLine]:
        lines = sorted(lines, key=lambda line: line.values["name"])
        return sorted(lines, key=key, reverse=down)

    # ---------------------------------------------------------------------------------------------- the news

    def handle_metrics(self, at: float, metrics: Metrics, node: str = "") -> None:
        """Take a reading of this machine."""
        self.trouble = ""
        self.rates.add(at, metrics, node)

    def handle_other(self, at: float, metrics: Metrics, node: str) -> None:
        """Take a reading of another machine."""
        self.rates.add(at, metrics, node)

    def handle_other_gone(self, node: str, why: str) -> None:
        """Remove another machine, which ended or does not answer."""
        self.rates.drop(node)
        self.say(f"{node}: {why}", is_error=True)

    def handle_gone(self, why: str) -> None:
        """Show that the app ended or does not answer."""
        self.trouble = why
        self.question = None

    def say(self, text: str, is_error: bool = False) -> None:
        """Show a text in the line of messages."""
        self.status, self.is_error = text, is_error

    def handle_answer(self, wish: Action, text: str, is_error: bool = False) -> None:
        """Show the outcome of a request."""
        if wish in self.under_way:
            self.under_way.remove(wish)
        self.say(text, is_error)

    # ---------------------------------------------------------------------------------------------- the keys

    def handle_key(self, key: str) -> Action | None:
        """Handle a key; return the action that it starts."""
        if key == "redraw":
            return Action("redraw")
        if self.prompt is not None:
            self._edit(key, self.prompt)
            return None
        if self.question is not None:
            return self._answer(key, self.question)
        self.say("")
        if key == "/":
            self.prompt = self.filter
            return None
        return self._read(key, self.pager) if self.pager else self._choose(key)

    def _edit(self, key: str, typed: str) -> None:
        """Edit the filter, which takes effect at once."""
        if key == "enter":
            self.prompt = None
            return
        if key in ("up", "down", "pgup", "pgdn"):
            self._step(key)
            return
        if key == "esc":
            self.prompt, typed = None, ""
        else:
            changes = {"backspace": typed[:-1], "clear": ""}
            typed = changes.get(key, typed + key if len(key) == 1 else typed)
            self.prompt = typed
        if self.pager:
            self.pager.look_for(typed)
        else:
            self.order.filter = typed

    def _answer(self, key: str, question: Action) -> Action | None:
        self.question = None
        if key.lower() == "y":
            return self._begin(question)
        self.say("cancelled.")
        return None

    def _read(self, key: str, pager: Pager) -> Action | None:
        if key == "esc" and pager.filter:
            pager.look_for("")
        elif key in ("esc", "q"):
            self.pager = None
            return Action("unfollow") if pager.follows else None
        else:
            pager.handle_key(key)
        return None

    def _choose(self, key: str) -> Action | None:
        if key == "q":
            return Action("quit")
        if key == "c":
            line = self.settle(self.lines())
            node = line.node if line else ""
            where = f"{self.app}{node and ' on '}{node}"
            return self._open(Action("crashes", node=node, label=where), f"crashes of {where}")
        if key in ("?", "h"):
            self.pager = Pager("help", HELP)
        elif key in ("tab", "shift-tab", "e"):
            self.view = View.MOBSTERS if self.view is View.EXPORTS else View.EXPORTS
        elif key == "esc":
            self.order.filter = ""
        elif key in ("s", "<", ">"):
            self._sort(-1 if key == "<" else 1)
        elif key == "r":
            self.order.reverse = not self.order.reverse
        elif key in ACTIONS:
            return self._act(key)
        else:
            self._step(key)
        return None

    def _step(self, key: str) -> None:
        """Handle a key that moves the selection."""
        page = max(1, self.rows - 1)
        far = 1_000_000
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -page, "pgdn": page, "home": -far, "end": far}
        lines = self.lines()
        self.settle(lines)
        if key in steps and lines:
            self.position = max(0, min(self.position + steps[key], len(lines) - 1))
            self.selected = lines[self.position].key

    def _sort(self, step: int) -> None:
        names = [column.name for column in self.columns]
        order = self.order
        order.column = names[(names.index(order.column) + step) % len(names)]
        order.reverse = False

    def _act(self, key: str) -> Action | None:
        line = self.settle(self.lines())
        if line is None:
            self.say("nothing is selected.", is_error=True)
            return None
        node, pid = line.node, line.pid
        on = f" on {node}" if node else ""
        label = f"{line.name} (pid {pid}){on}" if pid else f"{line.role}{on}"
        if line.kind is RowKind.MOBSTER and not pid and key in "Rlt":
            self.say(f"{line.name} has no process yet. Try again when it has one.", is_error=True)
            return None
        match key:
            case "R":
                self.question = Action(
                    "restart", line.role, pid, node=node, label=label if pid else f"all workers of {line.role}{on}"
                )
            case "L":
                return self._begin(Action("reload", line.role, node=node, label=f"{line.role}{on}"))
            case "l":
                return self._open(
                    Action("logs", line.role, pid, node=node, label=label), f"logs of {label}", follows=True
                )
            case "t":
                return self._open(Action("stacks", line.role, pid, node=node, label=label), f"stacks of {label}")
            case _:
                change = -1 if key == "-" else 1
                return self._begin(Action("scale", line.role, count=change, node=node, label=f"{line.role}{on}"))
        return None

    def _begin(self, wish: Action) -> Action:
        self.under_way.append(wish)
        return wish

    def _open(self, wish: Action, title: str, follows: bool = False) -> Action:
        self.pager = Pager(title, follows=follows)
        return wish


ACTIONS = ("R", "L", "l", "t", "+", "=", "-")
"""Keys that act on the selected line; "=" is "+" without Shift."""
