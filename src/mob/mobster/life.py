"""The life of a mobster: import the role's module, become ready, serve, drain, end.

The loop runs in a helper thread while the module is imported, because the module may block forever (a server's
`serve_forever`) while the mobster must still receive and answer. If the import returns, the loop moves to the main
thread. Whatever ends the life (the Kingpin, SIGTERM, the Kingpin's death, `sys.exit`) leads to `begin_stop`, once.
"""

from __future__ import annotations

import asyncio
import faulthandler
import importlib
import os
import socket
import threading
import warnings
from contextvars import copy_context
from functools import partial
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING

import msgspec
import uvloop

from mob.core.draining import LINK_FLUSH_TIMEOUT
from mob.errors import MobError
from mob.mobster import api, ending, loading, output, preloading, records, skipped, tracebacks
from mob.mobster.debugger import asking, debugging
from mob.mobster.drain import Drain
from mob.mobster.health.liveness import Liveness
from mob.mobster.health.vitals import Vitals
from mob.mobster.listening import Listening
from mob.mobster.readiness import Readiness
from mob.mobster.sigterm import Sigterm
from mob.mobster.standby import UNFIT, Standby
from mob.peer.calls.proxy import OWN
from mob.peer.links.contact import Contact
from mob.peer.peer import Peer
from mob.peer.serving.early import Early
from mob.peer.serving.selection import exports_of, is_marked
from mob.plan import place_name
from mob.rim import canary, descendants, forks, processes, titles
from mob.rim.link import Link
from mob.rim.listeners import PortSharing
from mob.rim.reactor import Reactor
from mob.wire import messages as m

if TYPE_CHECKING:
    from mob.mobster.http.server import Web
    from mob.mobster.inheriting import Heritage


class Life:
    """One mobster, from its first instruction to its exit status."""

    lingers = True
    """True if its loop may wait actively for an answer that is about to arrive."""
    is_process = True
    """True if the process ends with this mobster."""
    pulse = Liveness
    """Class of its liveness thread."""

    def __init__(self, order: m.Fork, control: socket.socket, liveness: socket.socket) -> None:
        self.order: m.Fork = order
        self.reactor: Reactor = Reactor(_new_loop(order.role.loop), lingers=self.lingers)
        self.peer: Peer = Peer(
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
        self.peer.serving.begun.notes_running = order.role.pool
        self.peer.context.gives_back = order.role.pool
        if order.role.callers:
            self.peer.admit_only(order.role.callers)
        self._accept = self.peer.put_in_front(self._accept_in_place) if order.index < 0 else None
        self.early: Early = Early(self.peer.serving, order.role.name, self._collect_exports)
        is_watched = order.role.hang_timeout is not None or order.role.max_workers is not None
        asked = Listening(self.peer.control)
        self.sharing: PortSharing = PortSharing(asked.ask, asked.give_back, self._handle_listening, asked.leave)
        self.standby: Standby = Standby(self.reactor, order.index < 0)
        self.readiness: Readiness = Readiness(self.reactor, self.sharing, self._handle_serving, order.role.boot_timeout)
        self.vitals: Vitals = Vitals(self.peer, not is_watched, self.sharing.count_connections)
        self.liveness: Liveness = self.pulse(
            liveness,
            order.grace,
            self._handle_beat,
            self.vitals.stacks,
            self._handle_kingpin_gone,
            order.until,
            self.vitals.counted,
        )
        self.sigterm: Sigterm = Sigterm(self.reactor.call, self._end_by_itself)
        self.drain: Drain = Drain(self.peer, self.sharing, self.sigterm, lambda: self.importing, self._give_at_end)
        self._heritage: Heritage | None = None
        self.peer.handlers.on_handing_over = self._handle_handing_over
        self.peer.handlers.on_ready_failed = self._handle_ready_failed
        self.peer.handlers.on_hearing = self._handle_hearing
        self.module: ModuleType | None = None
        self.web: Web | None = None
        self.has_begun: bool = False
        self.importing: bool = False
        self.is_ready: bool = False
        self.stopping: bool = False
        self.is_orphan: bool = False
        """True if the Kingpin is dead."""
        self.status: int = 0
        self._reported: tuple[tuple[m.ExportInfo, ...], bool] = ((), False)  # to the Kingpin: exports, are they all
        self._has_left = False  # True in a forked child

    def __repr__(self) -> str:
        state = "stopping" if self.stopping else "importing" if self.importing else "serving"
        return f"<Life of {self.peer.context.name}, {state}>"

    def run(self) -> int:
        """Run the mobster; return the exit status."""
        reactor, peer = self.reactor, self.peer
        peer.control.on_stop = self.begin_stop
        peer.control.on_gone = self._handle_kingpin_gone
        peer.control.on_promoted = self._handle_promoted
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
        if self.is_process and self.order.role.spare:
            self._send_out_canaries()
        self.liveness.start()
        if not self.stopping and self._set_up() and self._import() and not self.stopping:
            if self.sigterm.regain() and self.is_ready:  # a server of the module ran until a SIGTERM
                self._end_by_itself()
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

    def _send_out_canaries(self) -> None:
        """Let the Kingpin notice the end of this process as soon as it begins, because a spare can take its place."""
        if ends := canary.send_out():
            self.peer.control.post_with(m.CanariesSent(len(ends)), ends)

    def _enter_process(self) -> None:
        """Install everything that makes this process the mobster's own."""
        api.enter(self.peer, self.be_ready)
        forks.guard(self._leave)
        self.sigterm.install()
        self.sharing.install()
        asking.install(self.peer, debugging.install(self.peer))

    def _leave(self) -> None:
        """Remove everything of a mobster in a forked child (of multiprocessing, say), which is not one."""
        if self._has_left:
            return
        self._has_left = True
        api.leave()
        debugging.remove()
        asking.remove()
        self.sharing.remove()
        self.sigterm.leave()
        self.liveness.abandon()

    def _end_child(self) -> None:
        """End the process if it is a forked child in which code of the application has returned."""
        if self.peer.context.is_abandoned:
            forks.end()

    # --------------------------------------------------------------------------------------------- the import

    def _set_up(self) -> bool:
        """Start tracing, if configured, and run the plan's setup functions; return whether that succeeded.

        This happens after the fork, because tracing uses threads.
        """
        try:
            if self.order.trace is not None:
                self.peer.context.tracing = importlib.import_module("mob.mobster.tracing").start(self.order)
            for each in self.order.setup:
                module, _, function = each.partition(":")
                getattr(importlib.import_module(module), function)(self.peer)
        except Exception as error:  # noqa: BLE001  any exception of the application or its packages
            self.status = 1
            self._report(loading.traceback_of(error))
        return self.status == 0

    def _import(self) -> bool:
        """Run the role's module, with the loop in a helper thread; return whether the import finished."""
        self.has_begun = self.importing = self.sigterm.can_wake = True
        helper = threading.Thread(target=copy_context().run, args=(self.reactor.run,), name="mob-loop", daemon=True)
        is_done = False
        try:
            if self.order.role.serve is None:  # a role that serves an application becomes ready later
                self.readiness.begin()
                self.sharing.on_accepted = self.readiness.handle_accepted
            helper.start()
            self.module = self._load()
            self._end_child()
            is_done = True
        except SystemExit as error:
            self._end_child()
            if self.stopping:  # SIGTERM ended its server, whose sockets are still open: expected
                warnings.simplefilter("ignore", ResourceWarning)
            else:
                self.status = ending.status_of(error)
                self._report(f"SystemExit: the module called sys.exit({error.code!r}) while it was imported.")
        except BaseException as error:  # noqa: BLE001  any exception is reported, and the process ends
            self._end_child()
            if not self.stopping:
                self.status = 1
                self._report(loading.traceback_of(error))
        finally:
            self.importing = self.sigterm.can_wake = False
            self.readiness.end()
            self.sharing.on_accepted = None
            self.reactor.stop()
            helper.join()
            try:
                self._collect_exports()
            except Exception as error:  # noqa: BLE001  an export is invalid
                if is_done:
                    self.status, is_done = 1, False
                    self._report(loading.traceback_of(error))
            self.early.end()
            self.peer.serving.find_export = self.peer.serving.exports.get  # they are complete now
        return is_done

    def _say_what_is_skipped(self) -> None:
        """Warn once for a role whose module has a block for `__main__`, which does not run here."""
        module, role = self.module, self.order.role
        if module is None or role.serve is not None or self.order.index or self.order.generation > 1:
            return
        is_busy = (
            self.sharing.holds_any()
            or any(self.peer.handlers.of(event) for event in ("start", "ready"))
            or any(is_marked(each) for each in exports_of(module).values())
        )
        if message := skipped.message_of(module, role, self.order.base, is_busy):
            self.peer.context.log.warning("%s", message)

    def _load(self) -> ModuleType:
        def begin(module: ModuleType) -> None:
            self.module = module  # its exports count while it still runs

        return loading.load(self.order.base, self.order.role, begin)

    def _handle_listening(self) -> None:
        """Handle a socket that was bound or listens. On any thread."""
        self.readiness.look_soon()

    def _report(self, report: str) -> None:
        self.peer.control.post(m.BootFailed(report))

    # ------------------------------------------------------------------------------------------------ exports

    def _collect_exports(self) -> None:
        exports = self.peer.serving.exports
        for name, function in exports_of(self.module).items() if self.module else ():
            known = exports.get(name)
            if known is None and name in OWN:
                self.peer.context.log.warning(
                    "the export %r cannot be called as %s.%s(), because proxies have a method %r of their own. "
                    "Call it with mob.any(%r).call.%s(), or rename it.",
                    name, self.peer.context.role, name, name, self.peer.context.role, name,
                )  # fmt: skip
            if known is None or known.origin is not function:
                exports[name] = self.peer.serving.new_export(self.order.role.name, name, function)

    def be_ready(self) -> None:
        """Report that the module is ready; from any thread. In a spare, wait here for a place."""
        if self.standby.is_waiting:
            self.readiness.end()
            self._say_booted()
            self.standby.block()
        if not self.standby.is_waiting:  # else it was reported on the loop, and the place follows later
            self.say_ready()

    def _handle_serving(self) -> None:
        """Handle that the module waits for connections. On the loop's thread."""
        if not self.standby.is_waiting:
            self.say_ready()
        elif not self.stopping:
            self.peer.control.post(m.BootFailed(UNFIT, is_unfit=True))
            self._end_by_itself(1)

    def _say_booted(self) -> None:
        """Report to the Kingpin that this spare waits for a place."""
        self._collect_exports()
        self._reported = self.peer.serving.describe_exports(), not self.importing
        self.peer.control.post(m.Ready(self.peer.context.pid, *self._reported))

    def _accept_in_place(self, link: Link, contact: Contact, message: m.Invoke | m.Message) -> None:
        """Accept a call or message in this process, which is or was a spare.

        The sender knows that it has a place; this process was informed earlier, but may not have read that yet.
        """
        if self.standby.is_waiting:
            self.peer.control.catch_up()
        if self._accept is not None:
            self._accept(link, contact, message)

    def _handle_promoted(self, index: int, generation: int) -> None:
        """Take the place that this spare was given. On the loop's thread."""
        context = self.peer.context
        context.index, context.generation = index, generation
        self.order = msgspec.structs.replace(self.order, index=index, generation=generation)
        if self.is_process:
            records.move(index)
            _set_title(self.order)
        if context.tracing is not None:
            context.tracing.move(index)
        self.standby.end()

    def say_ready(self) -> None:
        """Report to the Kingpin that this mobster can be given work, and what it exports; from any thread."""
        self._collect_exports()
        if not self.is_ready:
            self.readiness.end()
            self.sharing.keep()
        self.is_ready = True
        for each in self.peer.before_ready:
            each()
        infos = self.peer.serving.describe_exports()
        self._reported = infos, not self.importing
        hears = bool(self.peer.handlers.of("message"))
        self.peer.control.post(m.Ready(self.peer.context.pid, infos, not self.importing, hears))

    def _handle_hearing(self) -> None:
        """Handle the registration of the first handler of messages."""
        if self.is_ready:
            self.say_ready()

    async def _get_ready(self) -> None:
        """After the import, on the main thread, run the start handlers and the server of the role, and become ready."""
        try:
            if self.order.inherits:
                await self.heritage().take()
            self.peer.may_ask_inherited = True
            await self.peer.handlers.run_start()
            if self.standby.is_waiting and not await self._wait_for_place():
                return
            if self.order.role.serve is not None and not self.stopping:
                await self._serve()
        except Exception as error:  # noqa: BLE001  any exception is reported, and the process ends
            self._end_child()
            self.peer.handlers.report("start", error)
            if not self.stopping:
                self.status = 1
                self._report(loading.traceback_of(error))
                self.begin_stop(self.order.grace)
            return
        self.say_ready()
        self.reactor.flush()  # the handlers may take long
        self.peer.fire("ready")

    def heritage(self) -> Heritage:
        """Return the object that hands over and inherits; imported here, because few roles need it."""
        found = self._heritage
        if found is None:
            found = self._heritage = importlib.import_module("mob.mobster.inheriting").Heritage(self.peer)
        return found

    async def _give_at_end(self, seconds: float) -> None:
        if self._heritage is not None and self.is_ready:
            await self._heritage.give_at_end(seconds)

    def _handle_handing_over(self) -> None:
        """Handle the registration of a handler of `hand_over`."""
        if self.order.role.serve is not None:
            raise MobError(
                f"role {self.order.role.name!r} serves HTTP (serve=), so it cannot hand over: requests could change "
                f"what the handler returned. Keep the data in a separate role, and call that."
            )
        self.heritage()
        self.peer.control.post(m.HandsOver())

    async def _wait_for_place(self) -> bool:
        """Do everything that needs no place, then wait for one; return whether this spare has one."""
        if self.order.role.serve is not None:
            importlib.import_module("mob.mobster.http.server")
        m.decode_peer(m.encode([]))  # creates the decoder, so that the first message need not wait for it
        self._say_booted()
        return await self.standby.wait()

    def _handle_ready_failed(self, error: BaseException) -> None:
        """End the process, which is then replaced, because a handler of `ready` raised. On the loop's thread."""
        if not self.stopping:
            self._report(loading.traceback_of(error))
            self._end_by_itself(1)

    async def _serve(self) -> None:
        """Serve the application of the role; imported here, because only such roles need uvicorn."""
        web = importlib.import_module("mob.mobster.http.server")
        server = web.Web(self.peer, self.order, self.module)
        self.web, self.vitals.requests = server, server.requests
        await server.start()

    # ---------------------------------------------------------------------------------------------- the end

    def _handle_beat(self) -> m.Beat | None:
        """Return the beat of this second; on the liveness thread."""
        peer = self.peer
        if peer.is_untidy:
            self.reactor.call(peer.tidy)
        if self.importing and self.is_ready:
            self.reactor.call(self._tell_new_exports)
        self.readiness.handle_beat()
        self.vitals.blocked = self.peer.context.waits_for or self.readiness.hint()
        self.sharing.sweep()
        peer.references.cool(monotonic())
        return self.vitals.next_beat()

    def _tell_new_exports(self) -> None:
        self._collect_exports()
        if len(self._reported[0]) != len(self.peer.serving.describe_exports()):
            self.say_ready()

    def _handle_kingpin_gone(self) -> None:
        """Begin to stop, because the Kingpin is dead. On any thread."""
        if self.is_process and not self.is_orphan:
            output.detach_when_unread()
        self.is_orphan = True
        self.reactor.call(partial(self.begin_stop, self.order.grace))

    def end_in_order(self, status: int) -> None:
        """End with that status after finishing what is in hand, because the role called `mob.exit`; from any thread."""
        self.reactor.call(partial(self._end_by_itself, status, True))

    def _end_by_itself(self, status: int = 0, by_itself: bool = False) -> None:
        """End without being asked by the Kingpin: after a SIGTERM or, with `by_itself`, at the role's own request."""
        if not self.stopping:
            self.status = status or self.status
            self.peer.control.post(m.Draining(by_itself))
            self.begin_stop(self.order.grace)

    def begin_stop(self, grace: float) -> None:
        """Finish what is in progress and end, within `grace` seconds; on the loop's thread."""
        if self.stopping:
            return
        self.stopping = True
        if self._heritage is not None:
            self._heritage.begin_end()
        self.standby.give_up()
        try:
            self.drain.begin(grace, self.web, self.is_process)
        finally:
            if self.importing:
                self._wake_module()
            elif self.has_begun:
                self.reactor.loop.create_task(self._drain())

    def _wake_module(self) -> None:
        self.drain.wake_module()

    async def _drain(self) -> None:
        await self.drain.run()
        if self.drain.exit is not None:
            self.status = ending.status_of(self.drain.exit)
        self._close_control()
        self.reactor.loop.stop()

    def _close_control(self) -> None:
        self.liveness.say_last(self.vitals.beat)
        control = self.peer.control
        control.on_gone = lambda: None  # this side closes the link
        control.close(LINK_FLUSH_TIMEOUT)


def _set_title(order: m.Fork) -> None:
    role = order.role.name
    titles.set_title(titles.MOBSTER, order.app, role=role, label=place_name(role, order.index))


def main(order: m.Fork, control: int, liveness: int) -> int:
    """Run a freshly forked process; return its exit status."""
    _set_title(order)
    faulthandler.enable()
    processes.answer_with_stacks()
    records.install(order)
    if order.log_format == "json":
        tracebacks.install()
    loading.name_process(order.role)
    preloading.reseed()
    life = Life(order, socket.socket(fileno=control), socket.socket(fileno=liveness))
    status = life.run()
    ending.end_interpreter(life.drain.seconds_at_exit(), status)
    output.finish()
    descendants.end_own()
    if life.is_orphan:
        _take_children_along()
    return status


def _new_loop(kind: str) -> asyncio.AbstractEventLoop:
    return uvloop.new_event_loop() if kind == "uvloop" else asyncio.SelectorEventLoop()


def _take_children_along() -> None:
    """Kill the process group, because the Kingpin is dead and perhaps also the fork server, which would do it."""
    processes.kill_group(os.getpid())
