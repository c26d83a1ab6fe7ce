"""The life of a mobster: import the role's module, be ready, serve, drain, end.

The loop runs in a helper thread while the module is imported, for the module may block for ever (a server's
`serve_forever`), and the mobster must hear and answer all the same. If the import returns, the loop moves to the main
thread. Whatever ends the life (the Kingpin, SIGTERM, the Kingpin's death, `sys.exit`) leads to `begin_stop`, once.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import inspect
import math
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Awaitable
from contextvars import copy_context
from functools import partial
from time import monotonic
from types import FrameType, ModuleType
from typing import TYPE_CHECKING

import setproctitle
import uvloop

from mob.mobster import api, ending, loading, output, preloading, records, skipped, tracebacks
from mob.mobster.closing import LAST, Closing
from mob.mobster.debugger import asking, debugging
from mob.mobster.health.liveness import Liveness
from mob.mobster.health.vitals import Vitals
from mob.mobster.listening import Listening
from mob.mobster.readiness import Readiness
from mob.peer.calls import calling
from mob.peer.calls.proxy import OWN
from mob.peer.links import contacts, control
from mob.peer.peer import Peer
from mob.peer.references import buffers, functions
from mob.peer.serving.early import Early
from mob.peer.serving.exports import MARK, functions_of
from mob.rim import descendants, forks, link, processes
from mob.rim.listeners import Sharing
from mob.rim.reactor import Reactor
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.mobster.http.server import Web

FAREWELL_TIME = 1.0
"""Seconds to wait for the others to have noticed that this process drains."""
LOOK = 0.005
"""Seconds between two looks at whether the connections of a draining process have become quiet. The kernel tells of
their state when it is asked, and of no change of it."""
ANSWERED = 0.005
"""Seconds that a handler gets for what it does with the last answer that it has waited for."""
BRIEF = 1.0
"""Seconds that threads and `atexit` get in a process that was not asked to end: it failed, or said sys.exit()."""
SENDING = frozenset(module.__file__ for module in (link, calling, functions, buffers, contacts, control))
"""Files whose work must not be broken off in the middle."""


class Life:
    """One mobster, from its first instruction to its exit status."""

    lingers = True
    """Whether its loop may wait awake for an answer that is about to come."""
    is_process = True
    """Whether the process ends with it."""
    pulse = Liveness
    """What its liveness thread is."""

    def __init__(self, order: m.Fork, control: socket.socket, liveness: socket.socket) -> None:
        self.order = order
        self.reactor = Reactor(_new_loop(order.role.loop), lingers=self.lingers)
        self.peer = Peer(
            self.reactor,
            control,
            role=order.role.name,
            index=order.index,
            generation=order.generation,
            frame_limit=order.frame_limit,
            threads=order.role.threads or 1,
            concurrency=order.role.concurrency,
            queue=order.role.queue,
            shared_memory=order.role.shared_memory,
            metrics=order.metrics,
        )
        self.peer.context.uid = order.uid
        if order.role.callers:
            self.peer.admit_only(order.role.callers)
        self.early = Early(self.peer.serving, order.role.name, self._collect_exports)
        is_watched = order.role.hang_timeout is not None or order.role.max_workers is not None
        asked = Listening(self.peer.control)
        self.sharing = Sharing(asked.ask, asked.give_back, self._handle_listening, asked.leave)
        self.readiness = Readiness(self.reactor, self.sharing, self.say_ready, order.role.boot_timeout)
        self.vitals = Vitals(self.peer, not is_watched, self.sharing.count_connections)
        self.liveness = self.pulse(
            liveness, order.grace, self._handle_beat, self.vitals.stacks, self._handle_kingpin_gone, order.until
        )
        self.closing = Closing(self.sharing)
        self.peer.handlers.on_ready_failed = self._handle_ready_failed
        self.peer.handlers.on_hearing = self._handle_hearing
        self.module: ModuleType | None = None
        self.web: Web | None = None
        self.has_begun = False
        self.importing = False
        self.is_ready = False
        self.stopping = False
        self.is_orphan = False
        """Whether the Kingpin has gone."""
        self.status = 0
        self._told: tuple[tuple[m.ExportInfo, ...], bool] = ((), False)  # as the Kingpin knows it: exports, all of them
        self._deadline = math.inf  # of the stop
        self._has_left = False  # whether this is a forked child
        self._waking = False  # whether the SIGTERM that comes is ours, to wake the module

    @property
    def should_exit(self) -> bool:
        """Whether the end has begun. Libraries look for this in the object that handles SIGTERM, as uvicorn's does."""
        return self.stopping

    def __repr__(self) -> str:
        state = "stopping" if self.stopping else "importing" if self.importing else "serving"
        return f"<Life of {self.peer.context.name}, {state}>"

    def run(self) -> int:
        """Lives; the exit status."""
        reactor, peer = self.reactor, self.peer
        peer.control.on_stop = self.begin_stop
        peer.control.on_gone = self._handle_kingpin_gone
        peer.serving.early = self.early
        peer.serving.find_export = self.early.find
        reactor.on_exit = peer.exits.handle
        peer.end_in_order = self.end_in_order
        reactor.claim()
        peer.control.start()
        reactor.drive(lambda: peer.control.welcomed or peer.control.is_closed)
        if peer.control.is_closed:
            return 0
        self._enter_process()
        self.liveness.start()
        if not self.stopping and self._set_up() and self._import() and not self.stopping:
            if self._has_lost_sigterm() and self.is_ready:  # a server of the module's own ran and was told to end
                self._handle_asked_by_signal()
            else:
                self._say_what_is_skipped()
                reactor.loop.create_task(self._get_ready())
        elif self.stopping:
            reactor.loop.create_task(self._drain())
        else:
            self._close_control()
            return self.status
        reactor.run()
        return self.status

    def _enter_process(self) -> None:
        """All that makes this process the mobster's own."""
        api.enter(self.peer, self.say_ready)
        forks.guard(self._leave)
        signal.signal(signal.SIGTERM, self._handle_sigterm)
        self.sharing.install()
        asking.install(self.peer, debugging.install(self.peer))

    def _has_lost_sigterm(self) -> bool:
        """Whether a loop that handled SIGTERM itself has run in the module and ended. From now on it is ours again."""
        lost = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if lost:
            signal.signal(signal.SIGTERM, self._handle_sigterm)
        return lost

    def _leave(self) -> None:
        """In the child of a fork (multiprocessing, say): it is no mobster, and nothing of one is left in it."""
        if self._has_left:
            return
        self._has_left = True
        api.leave()
        debugging.remove()
        asking.remove()
        self.sharing.remove()
        forks.restore_signals(lambda handler: handler == self._handle_sigterm)
        self.liveness.abandon()

    def _end_child(self) -> None:
        """Code of the application has returned: if it has forked and this is its child, the child ends here."""
        if self.peer.context.is_abandoned:
            forks.end()

    # --------------------------------------------------------------------------------------------- the import

    def _set_up(self) -> bool:
        """Traces, if they are wanted: after the fork, for they have threads; and what the plan names. Whether that went
        well."""
        try:
            if self.order.trace is not None:
                self.peer.context.tracing = importlib.import_module("mob.mobster.tracing").start(self.order)
            for each in self.order.setup:
                module, _, function = each.partition(":")
                getattr(importlib.import_module(module), function)(self.peer)
        except Exception as error:  # noqa: BLE001  the application's, or of what it has installed
            self.status = 1
            self._report(loading.traceback_of(error))
        return self.status == 0

    def _import(self) -> bool:
        """Runs the role's module with the loop in a helper thread; whether it came to its end."""
        self.has_begun = self.importing = True
        helper = threading.Thread(target=copy_context().run, args=(self.reactor.run,), name="mob-loop", daemon=True)
        try:
            if self.order.role.serve is None:  # who serves an application is ready later
                self.readiness.begin()
                self.sharing.on_accepted = self.readiness.handle_accepted
            helper.start()
            self.module = self._load()
            self._end_child()
            return True
        except SystemExit as error:
            self._end_child()
            if self.stopping:  # woken out of its server, whose sockets are still open: that is no fault of its own
                warnings.simplefilter("ignore", ResourceWarning)
            else:
                self.status = _status_of(error)
                self._report(f"SystemExit: the module has called sys.exit({error.code!r}) while it was imported.")
        except BaseException as error:  # noqa: BLE001  whatever the module does, it is reported and the process ends
            self._end_child()
            if not self.stopping:
                self.status = 1
                self._report(loading.traceback_of(error))
        finally:
            self.importing = False
            self.readiness.end()
            self.sharing.on_accepted = None
            self.reactor.stop()
            helper.join()
            self._collect_exports()
            self.early.end()
            self.peer.serving.find_export = self.peer.serving.exports.get  # they are complete now
        return False

    def _say_what_is_skipped(self) -> None:
        """Once for a role: its module has a block for `__main__`, which does nothing here."""
        module, role = self.module, self.order.role
        if module is None or role.serve is not None or self.order.index or self.order.generation > 1:
            return
        is_busy = (
            self.sharing.holds_any()
            or any(self.peer.handlers.of(event) for event in ("start", "ready"))
            or any(hasattr(function, MARK) for function in functions_of(module).values())
        )
        if message := skipped.message_of(module, role, self.order.base, is_busy):
            self.peer.context.log.warning("%s", message)

    def _load(self) -> ModuleType:
        def begin(module: ModuleType) -> None:
            self.module = module  # its exports count while it still runs

        return loading.load(self.order.base, self.order.role, begin)

    def _handle_listening(self) -> None:
        """Something was bound, or listens. On any thread."""
        self.readiness.look_soon()

    def _report(self, report: str) -> None:
        self.peer.control.post(m.BootFailed(report))

    # ------------------------------------------------------------------------------------------------ exports

    def _collect_exports(self) -> None:
        exports = self.peer.serving.exports
        for name, function in functions_of(self.module).items() if self.module else ():
            known = exports.get(name)
            if known is None and name in OWN:
                self.peer.context.log.warning(
                    "the export %r cannot be called as %s.%s(), because proxies have a method %r of their own; "
                    "mob.any(%r).call.%s() calls it. Better give it another name.",
                    name, self.peer.context.role, name, name, self.peer.context.role, name,
                )  # fmt: skip
            if known is None or known.function is not function:
                exports[name] = self.peer.serving.new_export(self.order.role.name, name, function)

    def say_ready(self) -> None:
        """Tells the Kingpin that this mobster may be given work, and what it exports; from any thread."""
        self._collect_exports()
        if not self.is_ready:
            self.readiness.end()
            self.sharing.keep()
        self.is_ready = True
        infos = self.peer.serving.describe_exports()
        self._told = infos, not self.importing
        hears = bool(self.peer.handlers.of("message"))
        self.peer.control.post(m.Ready(self.peer.context.pid, infos, not self.importing, hears))

    def _handle_hearing(self) -> None:
        """The first handler of messages has been registered."""
        if self.is_ready:
            self.say_ready()

    async def _get_ready(self) -> None:
        """After the import, on the main thread: the start handlers, the server of the role, then ready."""
        try:
            for handler in self.peer.handlers.of("start"):
                value = self.peer.handlers.call(handler)
                if inspect.isawaitable(value):
                    await value
                self._end_child()
            if self.order.role.serve is not None and not self.stopping:
                await self._serve()
        except Exception as error:  # noqa: BLE001  reported, and the process ends
            self._end_child()
            self.peer.handlers.report("start", error)
            if not self.stopping:
                self.status = 1
                self._report(loading.traceback_of(error))
                self.begin_stop(self.order.grace)
            return
        self.say_ready()
        self.reactor.flush()  # the handlers may take their time
        self.peer.fire("ready")

    def _handle_ready_failed(self, error: BaseException) -> None:
        """A handler of `ready` has raised: the process ends, and another comes in its place. On the loop's thread."""
        if self.stopping:
            return
        self.status = 1
        self._report(loading.traceback_of(error))
        self.peer.control.post(m.Draining())
        self.begin_stop(self.order.grace)

    async def _serve(self) -> None:
        """Serves the application of the role; imported here, for only who serves needs uvicorn."""
        web = importlib.import_module("mob.mobster.http.server")
        server = web.Web(self.peer, self.order, self.module)
        self.web, self.vitals.requests = server, server.requests
        await server.start()

    # ---------------------------------------------------------------------------------------------- the end

    def _handle_beat(self) -> m.Beat | None:
        """On the liveness thread, once a second."""
        peer = self.peer
        if peer.is_untidy:
            self.reactor.call(peer.tidy)
        if self.importing and self.is_ready:
            self.reactor.call(self._tell_new_exports)
        self.readiness.handle_beat()
        self.vitals.blocked = self.readiness.hint()
        self.sharing.sweep()
        peer.references.cool(monotonic())
        return self.vitals.next_beat()

    def _tell_new_exports(self) -> None:
        self._collect_exports()
        if len(self._told[0]) != len(self.peer.serving.exports):
            self.say_ready()

    def _handle_kingpin_gone(self) -> None:
        """On any thread."""
        self.is_orphan = True
        self.reactor.call(partial(self.begin_stop, self.order.grace))

    def _handle_sigterm(self, signum: int, frame: FrameType | None) -> None:
        """Between two instructions of the main thread, which may be deep in the application's code, or in mob's.

        Nothing here may take a lock, for the interrupted code may hold it.
        """
        if not self.importing or not self._waking:  # somebody from outside: first what is under way is finished
            self.reactor.call(self._handle_asked_by_signal)
        elif _is_sending(frame):  # to stop here would leave half a frame on a link: the loop's thread sends it back
            self.reactor.call(lambda: os.kill(os.getpid(), signal.SIGTERM))
        else:
            raise SystemExit(0)

    def _handle_asked_by_signal(self) -> None:
        if not self.stopping:
            self.peer.control.post(m.Draining())
            self.begin_stop(self.order.grace)

    def end_in_order(self, status: int) -> None:
        """The role has said `mob.exit`: finishes what is in hand and ends with that status; from any thread."""
        self.reactor.call(partial(self._handle_asked_by_role, status))

    def _handle_asked_by_role(self, status: int) -> None:
        if not self.stopping:
            self.status = status
            self.peer.control.post(m.Draining(by_itself=True))
            self.begin_stop(self.order.grace)

    def begin_stop(self, grace: float) -> None:
        """Finishes what is under way and ends, within so many seconds; on the loop's thread."""
        if self.stopping:
            return
        self.stopping = True
        now = monotonic()
        self._deadline = now + grace
        self.peer.serving.inviting.end()
        self.closing.begin(now, self._deadline)
        self.peer.handlers.is_leaving = self.web is None and not self.importing
        if self.web is not None:
            self.web.begin_to_end(now, self.is_process)
        try:
            self.peer.fire("drain")
        finally:
            if self.importing:
                self._wake_module()
            elif self.has_begun:
                self.reactor.loop.create_task(self._drain())

    def _wake_module(self) -> None:
        """The module blocks: SIGTERM wakes it, when nobody is left who would miss an answer."""
        has_own_handler = signal.getsignal(signal.SIGTERM) != self._handle_sigterm
        if not self.importing:
            return
        if self.closing.is_over(monotonic(), finishes_by_itself=has_own_handler):
            self._waking = True
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            self.reactor.loop.call_later(LOOK, self._wake_module)

    def _pass_sigterm(self) -> None:
        """Call the handler for SIGTERM that the role has installed, as it expects at a stop. A module that still blocks
        in its import gets the signal itself."""
        if not self._waking and signal.getsignal(signal.SIGTERM) not in (*_NOT_OF_THE_ROLE, self._handle_sigterm):
            ending.pass_sigterm(self.peer.context.log)

    async def _drain(self) -> None:
        peer = self.peer
        self._pass_sigterm()
        requests = None
        if self.web is not None:  # their connections end while calls are still finished
            requests = asyncio.ensure_future(self._finish_requests(self.web))
        else:
            peer.handlers.is_leaving = True
        await self._become_quiet(monotonic() + FAREWELL_TIME)
        if self.web is not None and requests is not None:
            await self._end_web(self.web, requests)
        while peer.exits.asked is None and not self.closing.is_over(monotonic()):
            await asyncio.sleep(LOOK)
        await peer.handlers.finish_drain(self._time_left() if peer.exits.asked is None else 0.0)
        await peer.handlers.end_standing(self._time_left())
        for handler in peer.handlers.of("stop"):
            try:
                value = peer.handlers.call(handler)
                if inspect.isawaitable(value):
                    await self._end_stop_handler(handler, value)
                self._end_child()
            except Exception as error:
                self._end_child()
                peer.handlers.report("stop", error)
                peer.context.log.exception("a handler of 'stop' raised")
        if peer.exits.asked is not None:
            self.status = _status_of(peer.exits.asked)
        peer.serving.cancel_all()
        await ending.end_tasks(self._time_left(), peer.context.log, peer.serving.cancelling)
        await peer.hooks.finish(self._time_left())
        peer.tidy()
        peer.calling.leave()
        peer.context.complaints.flush()
        peer.serving.refuse_all(f"{peer.context.name} has ended.")
        for each in peer.contacts.links():
            each.close_after_flush(1.0)
        self._close_control()
        self.reactor.loop.stop()

    async def _end_stop_handler(self, handler: object, value: Awaitable[object]) -> None:
        """Wait for an `async def` handler of `stop` as long as the grace time allows, and not for its cancellation."""
        task = asyncio.ensure_future(value)
        await asyncio.wait({task}, timeout=self._time_left())
        if task.done():
            task.result()
        else:
            task.cancel()
            self.peer.context.log.error("a handler of 'stop' has not ended within the grace time: %r", handler)

    async def _become_quiet(self, farewells: float) -> None:
        """Wait for the calls in hand, for those that a handler waits for, and until that time for the farewells that
        may still come. The sys.exit() of a handler waits for nothing, as anywhere."""
        peer, last = self.peer, self._deadline - LAST
        awaited = peer.contacts.unanswered() if peer.handlers.has_standing else []
        if awaited:
            while peer.exits.asked is None and monotonic() < last and not all(call.done() for call in awaited):
                await self.reactor.change(last)
            await asyncio.sleep(ANSWERED)
        while peer.exits.asked is None:
            now = monotonic()
            if not peer.serving.in_hand and (now >= farewells or self._has_heard_farewells()):
                return
            await self.reactor.change(farewells if now < farewells else None)

    async def _finish_requests(self, web: Web) -> None:
        """Until then messages are heard, which may be what the answers are made of."""
        try:
            await web.finish(self._deadline - LAST)
        finally:
            self.peer.handlers.is_leaving = True
            self.reactor.note()

    async def _end_web(self, web: Web, requests: Awaitable[None]) -> None:
        try:
            await requests
            await web.end(self._deadline - LAST)
        except TimeoutError:
            self.peer.context.log.error("the lifespan of the application has not ended within the grace time")
        except Exception:
            self.peer.context.log.exception("the lifespan of the application has not ended well")

    def _time_left(self) -> float:
        """Seconds that the application may still take."""
        return max(0.1, self._deadline - LAST - monotonic())

    def time_to_end(self) -> float:
        """Return how many seconds threads and `atexit` have: what is left of the grace time, when all else is over."""
        if math.isinf(self._deadline) or self.peer.exits.asked is not None:
            return BRIEF
        return max(0.1, self._deadline - monotonic() - LAST / 2)

    def _close_control(self) -> None:
        self.liveness.say_last(self.vitals.beat)
        control = self.peer.control
        control.on_gone = lambda: None  # it is this end that goes
        control.close(1.0)

    def _has_heard_farewells(self) -> bool:
        peer = self.peer
        return peer.control.is_closed or all(
            contact.heard_farewell or contact.link is None or contact.uid == peer.context.uid
            for contact in peer.contacts
        )


def main(order: m.Fork, control: int, liveness: int) -> int:
    """The body of a freshly forked process; its exit status."""
    setproctitle.setproctitle(f"{order.app} - {order.role.name} (mobster)")
    faulthandler.enable()
    processes.answer_with_stacks()
    records.install(order)
    if order.log_format == "json":
        tracebacks.install()
    loading.name_process(order.role)
    preloading.reseed()
    life = Life(order, socket.socket(fileno=control), socket.socket(fileno=liveness))
    status = life.run()
    ending.end_interpreter(life.time_to_end(), status)
    output.finish()
    descendants.end_own()
    if life.is_orphan:
        _take_children_along()
    return status


def _new_loop(kind: str) -> asyncio.AbstractEventLoop:
    return uvloop.new_event_loop() if kind == "uvloop" else asyncio.SelectorEventLoop()


_NOT_OF_THE_ROLE = (signal.SIG_DFL, signal.SIG_IGN, None)
"""What `signal.getsignal` says when no handler in Python is installed."""


def _take_children_along() -> None:
    """The Kingpin has gone, perhaps the fork server too, who else would end this process's children."""
    processes.kill_group(os.getpid())


def _is_sending(frame: FrameType | None) -> bool:
    """Whether the interrupted code is in the middle of sending."""
    while frame is not None:
        if frame.f_code.co_filename in SENDING:
            return True
        frame = frame.f_back
    return False


def _status_of(error: BaseException) -> int:
    code = getattr(error, "code", 1)
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1
