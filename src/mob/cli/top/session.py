"""How `mob top` talks to the app: in threads, so that the screen never waits for an answer.

Results are posted as functions that the main thread calls with the state. When the app ends, the session tries to
connect until it is back. Each other machine of its cluster has its own connection and thread, so one that does not
answer does not delay the others; a request goes to the machine of its line.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic

from mob import client
from mob.cli.machines import Everywhere
from mob.cli.top.model import Action, Top
from mob.cli.top.pager import MOST, Pager, PagerLine
from mob.errors import AppNotRunning, MobError
from mob.plan import place_name
from mob.rim.crashes import MOST as KEPT, Crashes
from mob.wire.messages import Lines

TopChange = Callable[[Top], None]
RECONNECT_INTERVAL = 0.3
"""Seconds between two attempts to connect to an app that has ended."""
PAST_LINES = 1000
"""Number of past lines that logs start with."""
JOIN_TIME = 0.5
"""Seconds to wait at the end for a request that is still running."""


class LineFeed:
    """Lines on their way from the client's thread to a pager; at most as many as the pager keeps."""

    def __init__(self, pager: Pager, post: Callable[[TopChange], None], end: str) -> None:
        self._pager = pager
        self._post = post
        self._end = end
        self._lines: deque[PagerLine] = deque(maxlen=MOST)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<LineFeed of {self._pager}, {len(self._lines)} lines wait>"

    def put(self, lines: Lines) -> None:
        """Add lines; in the client's thread."""
        with self._lock:
            is_known = bool(self._lines)
            if lines.dropped:
                self._lines.append(PagerLine("mob", f"{lines.dropped:,} lines are missing here.", is_error=True))
            for line in lines.lines:
                self._lines.append(PagerLine(place_name(line.role, line.index), line.text, line.is_error))
            if lines.is_end:
                self._lines.append(PagerLine("mob", self._end))
            is_new = bool(self._lines) and not is_known
        if is_new:
            self._post(self._take)

    def _take(self, _top: Top) -> None:
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
        self._pager.add(lines)


class Session:
    """The connection to an app; reconnects when the app comes back."""

    def __init__(
        self, app: client.Client, delay: float, post: Callable[[TopChange], None], only: str | None = None
    ) -> None:
        self.name: str = app.app
        self._only = only  # the only machine to watch
        self._others = Everywhere(self._handle_other_gone)
        self._delay = delay
        self._post = post
        self._app: client.Client | None = app
        self._ended = threading.Event()
        self._following: tuple[client.Client, int] | None = None
        self._thread = threading.Thread(target=self._poll, name="mob-top-poll", daemon=True)

    def __repr__(self) -> str:
        return f"<Session with {self.name!r}{'' if self._app else ', not connected'}>"

    def __enter__(self) -> Session:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(JOIN_TIME)
        app, self._app = self._app, None
        if app is not None:
            app.close()  # this ends the waits of the threads

    # ---------------------------------------------------------------------------------------------- to ask

    def handle(self, wish: Action, pager: Pager | None) -> None:
        """Send a request to the app; `pager` gets the text, if there is one."""
        self.unfollow()
        app = self._client_of(wish)
        if wish.what == "crashes" and pager:
            self._start(lambda: self._show(pager, lambda: self._crashes(wish, app)))
        elif wish.what == "unfollow":
            pass
        elif app is None:
            self._refuse(wish, pager)
        elif wish.what == "logs" and pager:
            self._follow(app, wish, pager)
        elif wish.what == "stacks" and pager:
            self._start(lambda: self._show(pager, lambda: _stacks(app, wish)))
        else:
            self._start(lambda: self._do(app, wish))

    def _client_of(self, wish: Action) -> client.Client | None:
        """Return the client of the machine that the request concerns."""
        near = self._app
        return near if near is None or wish.node in ("", near.node) else self._others.clients.get(wish.node)

    def unfollow(self) -> None:
        """Stop following logs."""
        if self._following is not None:
            app, number = self._following
            self._following = None
            app._steering.unfollow(number)  # pyright: ignore[reportPrivateUsage]

    # ------------------------------------------------------------------------------------------- in threads

    def _poll(self) -> None:
        while not self._ended.is_set():
            pause = self._delay
            try:
                if self._app is None:
                    self._app = client.connect(self.name, self._only)
                app = self._app
                metrics, node = app.metrics(), app.node
                at = monotonic()
                self._post(lambda top, at=at, metrics=metrics, node=node: top.handle_metrics(at, metrics, node))
                if self._only is None:
                    others = [machine for machine in app.nodes() if not machine.is_here]
                    self._others.look(app, others, self._poll_other)
            except AppNotRunning:
                pause = RECONNECT_INTERVAL
                self._lose()
            except TimeoutError:
                pass  # the time of the last reading shows how long there was no answer
            except MobError as error:
                self._post(lambda top, why=str(error): top.handle_gone(why))
            self._ended.wait(pause)

    def _poll_other(self, other: client.Client) -> None:
        """Read another machine until it ends."""
        node = other.node
        while not self._ended.is_set():
            metrics = other.metrics()
            at = monotonic()
            self._post(lambda top, at=at, metrics=metrics: top.handle_other(at, metrics, node))
            self._ended.wait(self._delay)

    def _handle_other_gone(self, name: str, why: str) -> None:
        self._post(lambda top: top.handle_other_gone(name, why))

    def _lose(self) -> None:
        app, self._app = self._app, None
        if app is not None and not self._ended.is_set():
            app.close()
        self._post(lambda top: top.handle_gone(f"waiting for {self.name!r} ..."))

    def _do(self, app: client.Client, wish: Action) -> None:
        try:
            text = _done(app, wish)
        except (MobError, TimeoutError) as error:
            text = _why(error)
            self._post(lambda top: top.handle_answer(wish, text, is_error=True))
        else:
            self._post(lambda top: top.handle_answer(wish, text))

    def _show(self, pager: Pager, ask: Callable[[], str]) -> None:
        try:
            text = ask()
        except (MobError, TimeoutError) as error:
            text = _why(error)
        self._post(lambda top: pager.show(text or "nothing."))

    def _follow(self, app: client.Client, wish: Action, pager: Pager) -> None:
        feed = LineFeed(pager, self._post, f"{wish.label if wish.pid else 'the app'} has ended.")
        role = "" if wish.pid else wish.role
        steering = app._steering  # pyright: ignore[reportPrivateUsage]  # `Client.logs` would need a thread
        self._following = (app, steering.follow(feed.put, role, wish.pid, PAST_LINES, goes_on=True))

    def _refuse(self, wish: Action, pager: Pager | None) -> None:
        text = f"{wish.node or self.name!r} is not connected at the moment."
        if pager:
            pager.show(text)
        else:
            self._post(lambda top: top.handle_answer(wish, text, is_error=True))

    def _crashes(self, wish: Action, app: client.Client | None) -> str:
        if app is None or (app is self._app and self._only is None):
            found = Crashes(self.name.partition("@")[0]).all()
        else:
            found = app.crashes(KEPT)
        reports = found[::-1]
        return "\n\n".join(report.text() for report in reports) or f"No crash of {self.name!r} is recorded."

    def _start(self, work: Callable[[], None]) -> None:
        threading.Thread(target=work, name="mob-top-ask", daemon=True).start()


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer from the Kingpin (supervisor); it may still carry out the request."
    return str(error)


def _done(app: client.Client, wish: Action) -> str:
    match wish.what:
        case "restart":
            return app.restart(wish.pid or wish.role)
        case "reload":
            return app.reload(wish.role)
        case _:
            return app.scale(wish.role, wish.count, relative=True)


def _stacks(app: client.Client, wish: Action) -> str:
    stacks = app.stacks(wish.pid or wish.role)
    names = {member.pid: place_name(member.role, member.index) for member in app.members(here=True)}
    return "\n\n".join(f"{names.get(pid, '')} (pid {pid})\n{text.rstrip()}" for pid, text in stacks.items())
