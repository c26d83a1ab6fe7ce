"""The incoming half of a process: a mobster that boots, serves, hangs, drains and ends.

A model in small of `peer/serving/inbox.py`, `serving.py`, `life.py` and `liveness.py`. What an export does is to take
time: on the loop, which stands still meanwhile, or as a task, or as a generator with the credit of `core.streams`. Whom
it invites, and what it writes on the board, is the product's.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from copy import copy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from mob.core.draining import DrainProgress, DrainStage, Over, Use, WaitUntil
from mob.core.invitations import WorkerLoad
from mob.core.lanes import FREE, LOOP, Lane
from mob.peer.serving.begun import Begun
from mob.peer.serving.inviting import Inviting
from mob.rim.board import mark_of
from mob.wire.messages import Beat, Cancel, Declined, ExportInfo, Invoke, Waiting
from tests.simulation.calls import EXPORTS, IDEMPOTENT, TASKS, Call, Generator
from tests.simulation.clock import claim
from tests.simulation.links import END, Link, Pipe
from tests.simulation.peer import Peer

if TYPE_CHECKING:
    from mob.plan import RolePlan
    from tests.simulation.kingpin import Kingpin

Key = tuple[Link, int]
FLUSH = 0.0001
LATE = 0.05
"""How often what is written on the board comes too late."""
ENDED = 0
FAILED = 1
KILLED = -9


class Mobster(Peer):
    """A worker."""

    def __init__(self, kingpin: Kingpin, uid: int, plan: RolePlan, index: int) -> None:
        super().__init__(kingpin, uid, plan.name, index)
        self.plan = plan
        self.pid = 0
        self.control_in = Pipe(self.clock, self)
        """What the Kingpin tells it."""
        self.is_ready = False
        self.is_stopping = False
        self.is_mute = False
        """Whether its liveness thread stands still as well."""
        self.stuck_since: float | None = None
        self.status: int | None = None
        self.inbox: deque[tuple[Link, int, Call]] = deque()
        self.line: OrderedDict[Key, Call] = OrderedDict()
        self.tasks: dict[Key, Call] = {}
        self.nested: dict[Key, Call] = {}
        self.streams: dict[Key, Generator] = {}
        self.served = 0
        self.running = ""
        """The export on the loop, as the board has it."""
        self.quarantined: dict[str, int] = {}
        self.board = copy(kingpin.board)
        """The same memory, and what this process alone knows of it."""
        self.context, self.blocking = self, SimpleNamespace(calls=())
        me: Any = self
        self.notes = Begun(me, cast(Any, self.contacts), has_threads=False)
        self.inviting = Inviting(me, now=lambda: self.clock.now)
        self.lanes = dict.fromkeys(EXPORTS, LOOP) | {name: Lane(plan.concurrency, True) for name in TASKS}
        self.lanes["count"] = FREE
        self._pace = 0.0
        self.begun = 0
        """How many calls have begun or were refused."""
        self._draining: DrainProgress | None = None
        self._looks_again_at = 0.0
        self._must_look = False

    # ------------------------------------------------------------------------------------------------- life

    def fork(self, pid: int) -> None:
        """The process is there."""
        self.pid, self.is_alive = pid, True
        self.board.begun.claim(self.uid)
        faults, clock = self.kingpin.faults, self.clock
        clock.after(0, self.handle_readable, self.control_in)
        boot = clock.between(0.05, 0.6)
        if clock.is_lucky(faults.slow_boots):
            boot = clock.between(2.0, 6.0)
        if self.role in faults.bad_code or clock.is_lucky(faults.failing_boots):
            clock.after(boot, self.fail_to_boot)
        else:
            clock.after(boot, self.get_ready)
        clock.after(clock.between(0.5, 1.0), self.beat)

    def get_ready(self) -> None:
        """The module is imported."""
        if self.is_alive and not self.is_stopping:
            self.is_ready = True
            self.control.post(("ready", tuple(self._info(name) for name in EXPORTS)))
            self.work()

    def _info(self, name: str) -> ExportInfo:
        lane = self.lanes[name]
        return ExportInfo(name, "()", "", name in IDEMPOTENT, lane.width, lane.is_beside)

    def fail_to_boot(self) -> None:
        """The module raises."""
        if self.is_alive and not self.is_stopping:
            self.control.post(("boot failed", "ValueError: bad code"))
            self.control.flush()
            self.exit(FAILED)

    def beat(self) -> None:
        """Once a second, from a thread of its own."""
        if not self.is_alive:
            return
        if not self.is_mute:
            stuck = 0.0 if self.stuck_since is None else self.clock.now - self.stuck_since
            parked = {route.role: route.waiting for route in self.routes if route.waiting}
            self.kingpin.handle_beat(self, Beat(self.served, stuck=stuck, in_hand=self.in_hand, parked=parked))
        self.clock.after(1.0, self.beat)

    def hang(self, seconds: float, is_mute: bool) -> None:
        """The loop stands still for so long, if nobody ends it before."""
        if self.stuck_since is None:
            self.stuck_since = self.clock.now
            self.is_mute = is_mute
            was_blocked, self.is_blocked = self.is_blocked, True
            self.clock.after(seconds, self.come_back, was_blocked)

    def come_back(self, is_blocked: bool) -> None:
        """It hangs no more."""
        if self.is_alive:
            self.stuck_since, self.is_mute = None, False
            if not is_blocked:
                self.turn()

    def exit(self, status: int) -> None:
        """The process is gone."""
        if self.is_alive:
            self.status = status
            self.leave()
            self.kingpin.handle_death(self)

    def handle_order(self, message: Any) -> None:
        """The Kingpin wants it to end, or a spare has a place."""
        match message:
            case ("promoted", index):
                self.index = index
            case _:
                self.begin_stop()

    def handle_kingpin_gone(self) -> None:
        """It is not known any more."""
        self.begin_stop()

    def sigterm(self) -> None:
        """Somebody else wants it to end."""
        if self.is_alive and not self.is_stopping and not self.is_blocked:
            self.control.post(("draining",))
            self.begin_stop()

    # What `core.draining` asks about, and what never holds anything up here.
    is_importing = finishes_by_itself = is_exit_asked = awaits_answers = has_requests = False

    @property
    def has_heard_farewells(self) -> bool:
        """Whether nothing can come any more."""
        return all(
            contact.heard_farewell or contact.link is None or contact.uid == self.uid
            for contact in self.contacts.values()
        )

    def uses(self) -> Iterable[Use]:
        """There are no shared ports."""
        return ()

    def begin_stop(self) -> None:
        """Finishes what it has."""
        if self.is_stopping:
            return
        self.is_stopping = True
        self.inviting.end()
        if not self.is_ready:
            self.control.post(("draining",))
            self.control.flush()
            self.clock.after(self.clock.between(0.001, 0.05), self.exit, ENDED)
            return
        self._draining = DrainProgress(self, self.clock.now, self.kingpin.plan.grace)
        self.look_soon()

    def look_soon(self) -> None:
        """Something has changed: it is looked whether all is done."""
        if self.is_stopping and not self._must_look:
            self._must_look = True
            self.clock.after(0.005, self.look_whether_done)

    def look_whether_done(self) -> None:
        """Goes through the stages of its end, of which only the last one does something here."""
        self._must_look = False
        if not self.is_alive or self.is_blocked or self._draining is None:
            return
        while not isinstance(decision := self._draining.decide(self.clock.now), Over):
            if isinstance(decision, WaitUntil):
                if self._looks_again_at != decision.until < math.inf:
                    self._looks_again_at = decision.until
                    self.clock.at(decision.until, self.look_whether_done)
                return
            if decision.stage is DrainStage.LINKS:
                self._close_links()

    def _close_links(self) -> None:
        self.has_left_in_order = self.has_heard_farewells
        self._refuse_all()
        for link in self.links:
            link.close(flush=True)
        self.control.flush()
        self.exit(ENDED)

    def _refuse_all(self) -> None:
        while self.inbox:
            link, number, call = self.inbox.popleft()
            self._fail(link, number, "Unavailable", "no", call)

    # -------------------------------------------------------------------------------------------- serving

    @property
    def in_hand(self) -> int:
        """Calls that were accepted and not finished."""
        return len(self.inbox) + len(self.line) + len(self.tasks) + len(self.streams) + (self.running != "")

    def handle_role(self, role: Any) -> None:
        """Which exports are in quarantine."""
        self.quarantined = dict(role.quarantined)

    def serve(self, link: Link, message: Any) -> None:
        """A caller says something."""
        match message:
            case Waiting(line=line, target=target):
                self.inviting.handle_waiting(link.contact, line, target)
            case Declined(line=line):
                self.inviting.handle_declined(link.contact, line)
            case Invoke(id=number, trace=call):
                self._take(link, number, cast(Any, call))
            case Cancel(id=number):
                self._cancel((link, number))
            case ("more", number, count):
                self._give_credit((link, number), count)
            case _:
                raise AssertionError(message)
        self.look_soon()

    def _take(self, link: Link, number: int, call: Call) -> None:
        if self.index < 0 and type(call.target) is str:
            for said in self.control_in.take(everything=True):  # who calls it has heard of its place after it was told
                if said is not END:
                    self.handle_control(said)
            claim(self.index >= 0 or self.is_stopping, "a spare gets no calls", self.uid)
        if self.inviting.known.expected:
            self.inviting.known.handle_call(link.contact.uid, call.target)
        if len(self.inbox) >= self.plan.queue and type(call.target) is str:
            self._fail(link, number, "Busy", "no", call)
        else:
            self.inbox.append((link, number, call))

    def work(self) -> None:
        """Starts what is here."""
        while self.inbox and not self.is_blocked and self.is_alive:
            link, number, call = self.inbox.popleft()
            if self.kingpin.may_die(self, "between reading and starting a call"):
                return
            self._start(link, number, call)
        if self.is_alive and not self.is_blocked:
            self.publish()
            self.inviting.invite()

    def _start(self, link: Link, number: int, call: Call) -> None:
        self.begun += 1
        if call.deadline is not None and self.clock.now >= call.deadline:
            self._fail(link, number, "CallTimeout", "no", call)
        elif self.quarantined and self.quarantined.get(str(call.target), self.uid) != self.uid:
            self._fail(link, number, "Quarantined", "no", call)
        elif call.target in TASKS:
            if len(self.tasks) >= self.plan.concurrency or self.line:
                self.line[link, number] = call
            else:
                self._start_task((link, number), call)
        elif not self._begins((link, number), call):
            return
        elif call.target == "count":
            self.streams[link, number] = stream = Generator(call)
            self.clock.after(0.0001, self.draw, (link, number), stream)
        else:
            self.is_blocked = True
            self.running = str(call.target)
            self.board.put_queued(self.uid, len(self.inbox) + 1)
            seconds = self.kingpin.slowness * (0.0001 + 0.002 * self.clock.luck() ** 3)
            self.clock.after(seconds, self.finish, link, number, call, seconds)

    def _begins(self, key: Key, call: Call) -> bool:
        link, number = key
        self.notes.note(cast(Any, link.contact), number)
        if self.kingpin.may_die(self, "between noting and starting a call"):
            return False
        self.ledger.handle_started(call, self)
        return True

    def finish(self, link: Link, number: int, call: Call, seconds: float) -> None:
        """An export on the loop returns; or kills its process."""
        if not self.is_alive:
            return
        if self.stuck_since is not None:
            self.clock.after(0.1, self.finish, link, number, call, seconds)
            return
        if call.target == "crash" and self.clock.is_lucky(self.kingpin.faults.crashes):
            self.kingpin.kill(self)
            return
        self.ledger.handle_finished(call)
        self.running = ""
        self._learn(call, seconds)
        self._pace += 0.1 * (seconds * 1e6 - self._pace)
        self._reply(link, number, call)
        if not self.kingpin.may_die(self, "after a reply"):
            self.turn()

    def turn(self) -> None:
        """The loop comes round."""
        self.is_blocked = False
        self.board.put_queued(self.uid, len(self.inbox))
        self.inviting.invite()
        self.look_soon()
        self.read_all()
        self.work()

    # ------------------------------------------------------------------------------------------- inviting

    def look(self, name: str) -> WorkerLoad:
        """How busy it is, as a call of an export would find it."""
        lane, cost = self.lanes[name], self.board.cost(mark_of(f"{self.role}.{name}"))
        if lane is FREE:
            return WorkerLoad("free", lane, 0, cost, cost)
        if lane.is_beside:
            return WorkerLoad("tasks", lane, len(self.tasks) + len(self.line), cost, cost)
        return WorkerLoad("loop", lane, len(self.inbox) + (self.running != ""), cost, int(self._pace))

    def publish(self) -> None:
        """Writes on the board what is in hand."""
        if self.clock.is_lucky(LATE):
            self.clock.after(0.001 * self.clock.luck(), self._write)
        else:
            self._write()

    def _write(self) -> None:
        queued, beside = len(self.inbox) + (self.running != ""), len(self.tasks) + len(self.streams)
        self.board.put(self.uid, queued, int(self._pace), len(self.line), beside)

    def _learn(self, call: Call, seconds: float) -> None:
        self.board.learn(mark_of(f"{self.role}.{call.target}"), seconds)

    def _reply(self, link: Link, number: int, call: Call) -> None:
        self.served += 1
        link.out.post(("reply", number, self._queue))
        self._give_back(link, call)

    @property
    def _queue(self) -> int:
        return len(self.inbox) + len(self.line) + self.inviting.known.waiting

    def _fail(self, link: Link, number: int, error: str, executed: str, call: Call) -> None:
        self.served += 1
        link.out.post(("failed", number, self._queue, error, executed))
        self._give_back(link, call)

    def _give_back(self, link: Link, call: Call) -> None:
        """What was in its arguments is dropped, read or not."""
        if call.reference:
            self.borrowed.drop(call.caller.uid, call.reference, 1)
            for owner, counts in self.borrowed.give_back().items():
                contact = self.contacts.get(owner)
                if contact is not None:
                    contact.post(("release", counts))

    # ---------------------------------------------------------------------------------------------- tasks

    def _start_task(self, key: Key, call: Call) -> None:
        if not self._begins(key, call):
            return
        self.tasks[key] = call
        call.begun = self.clock.now
        if call.deadline is not None:
            self.clock.at(call.deadline, self.end_late_task, key, call)
        if call.target == "ask" and self.is_welcomed and (inner := self._call_somebody(call)) is not None:
            self.nested[key] = inner
            inner.parent = lambda: self.clock.after(0.0001, self.finish_task, key, call)
            if not inner.is_done:
                return
        self.clock.after(0.001 + 0.1 * self.clock.luck() ** 3, self.finish_task, key, call)

    def _call_somebody(self, call: Call) -> Call | None:
        """A task calls somebody: the function that it was given, or another role."""
        contact = self.contacts.get(call.caller.uid)
        if call.reference and contact is not None:
            return self.call_one(contact, call.reference)
        roles = [role for role in self.roster.roles if role != self.role]
        chain = (*call.chain, call.caller.uid)
        return self.call(self.clock.pick(roles), "work", chain=chain) if roles else None

    def finish_task(self, key: Key, call: Call) -> None:
        """A task returns."""
        if not self.is_alive or self.tasks.get(key) is not call:
            return
        if self.is_blocked:
            self.clock.after(0.005 if self.stuck_since is None else 0.1, self.finish_task, key, call)
            return
        self._forget_task(key)
        self.ledger.handle_finished(call)
        self._learn(call, self.clock.now - call.begun)
        self._reply(*key, call)
        self._next_of_line()

    def end_late_task(self, key: Key, call: Call) -> None:
        """The time of a task is over."""
        if self.is_alive and self.tasks.get(key) is call and not self.is_blocked:
            self._cancel_task(key, "CallTimeout", "yes")

    def _cancel_task(self, key: Key, error: str, executed: str) -> None:
        call, inner = self.tasks[key], self.nested.get(key)
        self._forget_task(key)
        if inner is not None:
            inner.parent = None
            self.cancel(inner)
        self._fail(*key, error, executed, call)
        self._next_of_line()

    def _forget_task(self, key: Key) -> None:
        del self.tasks[key]
        self.board.put_running(self.uid, len(self.tasks) + len(self.streams))
        self.nested.pop(key, None)
        self.look_soon()

    def _next_of_line(self) -> None:
        while self.line and len(self.tasks) < self.plan.concurrency:
            key, call = self.line.popitem(last=False)
            self._start_task(key, call)
            self.publish()
        self.inviting.invite()

    # -------------------------------------------------------------------------------------------- streams

    def draw(self, key: Key, stream: Generator) -> None:
        """A generator yields, as far as it may."""
        if self.streams.get(key) is not stream or not self.is_alive:
            return
        if self.is_blocked:
            self.clock.after(0.005 if self.stuck_since is None else 0.1, self.draw, key, stream)
            return
        while stream.left and stream.credit.left:
            stream.credit.spend()
            stream.left -= 1
            key[0].out.post(("item", key[1]))
        stream.is_paused = stream.left > 0
        if not stream.left:
            self.ledger.handle_finished(stream.call)
            self._reply(*key, stream.call)
            self._forget_stream(key)

    def _give_credit(self, key: Key, count: int) -> None:
        stream = self.streams.get(key)
        if stream is not None:
            stream.credit.receive(count)
            if stream.is_paused:
                stream.is_paused = False
                self.clock.after(0.0001, self.draw, key, stream)

    def _forget_stream(self, key: Key) -> None:
        del self.streams[key]
        self.board.put_running(self.uid, len(self.tasks) + len(self.streams))
        self.look_soon()

    # ----------------------------------------------------------------------------------------- giving up

    def _cancel(self, key: Key) -> None:
        if key in self.tasks:
            self._cancel_task(key, "cancelled", "yes")
        elif key in self.streams:
            self._give_back(key[0], self.streams[key].call)
            self._forget_stream(key)
        elif key in self.line:
            self._give_back(key[0], self.line.pop(key))
        else:
            self._drop(lambda entry: entry[0] is key[0] and entry[1] == key[1])

    def _drop(self, is_dropped: Any) -> None:
        dropped = [entry for entry in self.inbox if is_dropped(entry)]
        if dropped:
            self.inbox = deque(entry for entry in self.inbox if not is_dropped(entry))
            for link, _, call in dropped:
                self._give_back(link, call)

    def drop_link(self, link: Link) -> None:
        """The caller has died: what it had asked for is not started, and what runs as a task is cancelled."""
        super().drop_link(link)
        self._drop(lambda entry: entry[0] is link)
        self.inviting.handle_lost(link.contact)
        for key in [key for key in (*self.line, *self.tasks, *self.streams) if key[0] is link]:
            self._cancel(key)

    def sizes(self) -> dict[str, int]:
        """The tables; all are empty when nothing is under way."""
        serving = {
            "inbox": len(self.inbox),
            "line": len(self.line),
            "tasks": len(self.tasks),
            "nested": len(self.nested),
            "streams": len(self.streams),
            "callers that wait": len(self.inviting.known),
            "invited": len(self.inviting.known.expected),
            "reserved": len(self.inviting.known._reserved),
        }
        return {**super().sizes(), **serving}
