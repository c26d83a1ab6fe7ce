"""The state of `mob top`, and what each key does with it.

Pure: keys and news go in; out comes a `Action` if something is to be asked of the app. What is selected stays selected
when the order changes, and passes on to the successor when a mobster is replaced.
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
The table
  up down k j  the line before, the next one
  PgUp PgDn    a page (also Ctrl-B, Ctrl-F)
  Home End     the first line, the last one
  Tab  e       mobsters or exports
  /            only lines with these words: in role, pid, state or note; Esc: all
  s  <  >      the column to sort by: the next, the one to its left, to its right
  r            the other way round
  Sorted by name, the mobsters stand below their role; else they stand in one row.

The line that is selected: a mobster, or a role with all its mobsters
  R            restart: ends it, launches another (asks first)
  L            reload its role: new processes with new code, without a gap
  + -          one worker more for its role, one less
  l            what it prints, as it comes
  t            its stacks: where each thread and task stands, even if it is stuck

The app
  c            its reports of crashes, the latest first
  Ctrl-Z       back to the shell; `fg` returns
  q  Ctrl-C    leave; the app goes on

Columns
  hand         calls, messages and HTTP requests that were accepted and not finished
  queue        calls that wait until they may begin; of a role also those that wait at their callers, clients too
  calls/s      calls and HTTP requests that were served
  lag          how late the loop of the process came round, or for how long it has been stuck
  p50 p99      half of the calls, 99 of 100, took less; wait50, wait99: what they waited before
  flight       calls that run
  minute       calls per second in the last minute

Reading a text
  arrows       scroll, also sideways; PgUp, PgDn, Home, End too
  /            only lines with these words
  Esc q        back
"""


class View(StrEnum):
    """The two tables."""

    MOBSTERS = "mobsters"
    EXPORTS = "exports"


COLUMNS: Mapping[View, tuple[Column, ...]] = {View.MOBSTERS: MOBSTERS, View.EXPORTS: EXPORTS}


@dataclass(frozen=True)
class Action:
    """What is to be asked of the app: "restart", "reload", "scale", "logs", "stacks" or "crashes"; or "unfollow",
    "redraw", "quit" of this program."""

    what: str
    role: str = ""
    pid: int = 0
    """0: the role is meant."""
    count: int = 0
    node: str = ""
    """The machine; nothing if there is one only."""
    label: str = ""
    """As a person would say whom it is about."""

    @property
    def sentence(self) -> str:
        """What is being done."""
        if self.what == "scale":
            return f"{self.label} {self.count:+}"
        return f"{self.what} of {self.label}"


@dataclass
class Sorting:
    """How a table is sorted and filtered."""

    column: str = "name"
    reverse: bool = False
    filter: str = ""


@dataclass
class Top:
    """All that the screen shows."""

    app: str
    rates: Fleet = field(default_factory=Fleet)
    view: View = View.MOBSTERS
    orders: dict[View, Sorting] = field(default_factory=lambda: {view: Sorting() for view in View})
    selected: str = ""
    """The key of a line."""
    position: int = 0
    first: int = 0
    """The first line that is seen."""
    rows: int = 20
    """How many lines are seen; the screen says so."""
    prompt: str | None = None
    """The filter while it is being typed."""
    question: Action | None = None
    """What is done after a "y"."""
    status: str = ""
    is_error: bool = False
    under_way: list[Action] = field(default_factory=list[Action])
    """What the app was asked to do, and has not answered."""
    trouble: str = ""
    """Why nothing new comes, if so."""
    pager: Pager | None = None

    @property
    def order(self) -> Sorting:
        """That of the table that is seen."""
        return self.orders[self.view]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Those of the table that is seen."""
        first, *others = COLUMNS[self.view]
        return (first, *((NODE,) if self.rates.is_several else ()), *others)

    @property
    def filter(self) -> str:
        """The one that counts: of the text, or of the table."""
        return self.pager.filter if self.pager else self.order.filter

    # ------------------------------------------------------------------------------------------- the table

    def lines(self) -> list[TableLine]:
        """The lines of the table, filtered and sorted."""
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
        """Keeps what is selected among the lines, and in sight; the selected one."""
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
        """Whether it takes over from what was selected: a mobster in the same place; any one of the role."""
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
        """Another reading, of the machine here."""
        self.trouble = ""
        self.rates.add(at, metrics, node)

    def handle_other(self, at: float, metrics: Metrics, node: str) -> None:
        """A reading of another machine."""
        self.rates.add(at, metrics, node)

    def handle_other_gone(self, node: str, why: str) -> None:
        """Another machine has ended, or does not answer."""
        self.rates.drop(node)
        self.say(f"{node}: {why}", is_error=True)

    def handle_gone(self, why: str) -> None:
        """The app has ended, or does not answer."""
        self.trouble = why
        self.question = None

    def say(self, text: str, is_error: bool = False) -> None:
        """Something for the line of messages."""
        self.status, self.is_error = text, is_error

    def handle_answer(self, wish: Action, text: str, is_error: bool = False) -> None:
        """The app has done what it was asked for, or not."""
        if wish in self.under_way:
            self.under_way.remove(wish)
        self.say(text, is_error)

    # ---------------------------------------------------------------------------------------------- the keys

    def handle_key(self, key: str) -> Action | None:
        """A key was typed; what is to be asked of the app."""
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
        """The filter is being typed; it counts at once."""
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
        self.say("left as it is.")
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
        """One of the keys that move."""
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
            self.say("there is nothing selected.", is_error=True)
            return None
        node, pid = line.node, line.pid
        on = f" on {node}" if node else ""
        label = f"{line.name} (pid {pid}){on}" if pid else f"{line.role}{on}"
        if line.kind is RowKind.MOBSTER and not pid and key in "Rlt":
            self.say(f"{line.name} has no process yet: wait until it is there.", is_error=True)
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
"""Keys that do something with the line that is selected; "=" is "+" without Shift."""
