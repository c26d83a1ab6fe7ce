"""All other ways to ask a person: `input()`, `pdb.set_trace()`, `code.interact()`, `IPython.embed()`, `getpass()`.

They get the Kingpin's terminal as `breakpoint()` does. A module is changed when the application imports it, so an
application without it pays nothing; `input` is a built-in, and is replaced. In the child of a fork all is as it was.
"""

from __future__ import annotations

import builtins
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mob.mobster.debugger import debugging
from mob.mobster.debugger.debugging import BorrowedTerminal, Hook, place_of

if TYPE_CHECKING:
    from mob.peer.peer import Peer

STOPS: dict[str, tuple[str, ...]] = {
    "pdb": ("set_trace", "set_trace_async"),  # the second is there from Python 3.14 on
    "ipdb": ("set_trace",),
    "pudb": ("set_trace",),
    "IPython.core.debugger": ("set_trace",),
}
"""Functions by their modules that are another name for `breakpoint()`."""
SESSIONS = {
    "pdb": ("post_mortem",),
    "code": ("InteractiveConsole.interact",),
    "IPython.terminal.embed": ("InteractiveShellEmbed.interact",),
}
"""Functions that talk with a person until that one has had enough; without a terminal they are skipped."""
QUESTIONS = {"getpass": ("getpass",)}
"""Functions that need an answer; without a terminal they fail."""
MACHINERY = ("bdb", "cmd", "code", "getpass", "IPython", "ipdb", "pdb", "pudb")
"""Packages whose frames are not where the question was asked."""

_restore: list[Callable[[], None]] = []


def install(peer: Peer, hook: Hook) -> None:
    """From now on they ask for the terminal."""
    finder = _Finder(peer, hook)
    sys.meta_path.insert(0, finder)
    _restore.append(lambda: sys.meta_path.remove(finder))
    for name in finder.names:
        if name in sys.modules:  # imported before the fork
            finder.change(sys.modules[name])
    _put(builtins, "input", _asks_for_a_line(peer, input, sys.stdin))


def remove() -> None:
    """They are as in any Python again."""
    while _restore:
        _restore.pop()()


class _Finder(MetaPathFinder):
    """Finds those modules, and changes them when they have been loaded."""

    def __init__(self, peer: Peer, hook: Hook) -> None:
        self._peer = peer
        self._hook = hook
        self.names = {*STOPS, *SESSIONS, *QUESTIONS}

    def __repr__(self) -> str:
        return f"<_Finder of {', '.join(sorted(self.names))}>"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec, if it is one of them."""
        if fullname not in self.names:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            if self in sys.meta_path:  # not in the child of a fork
                self.change(module)

        spec.loader.exec_module = exec_module
        return spec

    def change(self, module: ModuleType) -> None:
        """Has its functions ask for the terminal."""
        name = module.__name__
        changes: list[tuple[tuple[str, ...], Callable[[str, Any], Any]]] = [
            (STOPS.get(name, ()), self._stop),
            (SESSIONS.get(name, ()), self._session),
            (QUESTIONS.get(name, ()), self._question),
        ]
        for paths, make in changes:
            for path in paths:
                place, _, attribute = path.rpartition(".")
                holder = getattr(module, place, None) if place else module
                if (original := getattr(holder, attribute, None)) is not None:
                    _put(holder, attribute, make(f"{name}.{path}()", original))

    def _stop(self, what: str, original: Any) -> Any:
        @wraps(original)
        def stop(*_: Any, header: str | None = None, **__: Any) -> None:
            self._hook.stop(sys._getframe(1), what, header)  # pyright: ignore[reportPrivateUsage]  as pdb itself does

        @wraps(original)
        async def stop_awaited(*_: Any, header: str | None = None, **__: Any) -> None:
            self._hook.stop(sys._getframe(1), what, header)  # pyright: ignore[reportPrivateUsage]  the one that awaits

        return stop_awaited if inspect.iscoroutinefunction(original) else stop

    def _session(self, what: str, original: Any) -> Any:
        what = {"code": "code.interact()", "IPython": "IPython.embed()"}.get(what.partition(".")[0], what)

        @wraps(original)
        def talk(*args: Any, **kwargs: Any) -> Any:
            terminal = _terminal(self._peer)
            if terminal is None:
                return original(*args, **kwargs)
            if terminal.borrow(_place(), what):
                try:
                    with terminal.asking():
                        return original(*args, **kwargs)
                except SystemExit:  # as exit() leaves it: the program goes on
                    return None
                finally:
                    terminal.give_back()
            return None

        return talk

    def _question(self, what: str, original: Any) -> Any:
        return _asks(self._peer, what, original)


def _asks_for_a_line(peer: Peer, original: Any, stdin: Any) -> Any:
    """`input`, for a process with that standard input; one that the application has put in its place is read."""
    asks = _asks(peer, "input()", original)

    @wraps(original)
    def line(prompt: object = "", /) -> str:
        is_own = sys.stdin is not stdin and not debugging.holders()
        return original(prompt) if is_own else asks(prompt)

    return line


def _asks(peer: Peer, what: str, original: Any) -> Any:
    @wraps(original)
    def ask(*args: Any, **kwargs: Any) -> Any:
        terminal = _terminal(peer)
        if terminal is None:
            return original(*args, **kwargs)
        place = _place()
        why = terminal.why_not(place, what)
        if why:
            raise EOFError(
                f"{what} at {place} has nobody to ask: {why}. Give the value in another way: an environment variable, "
                f"an argument of the call, `mob call`."
            )
        try:
            with terminal.asking():
                return original(*args, **kwargs)
        finally:
            terminal.give_back()

    return ask


def _terminal(peer: Peer) -> BorrowedTerminal | None:
    """One to borrow; None where this thread has it already, or where the process is not the mobster any more."""
    if debugging.has_terminal() or peer.context.pid != os.getpid():
        return None
    return BorrowedTerminal(peer)


def _place() -> str:
    """Where the application asks."""
    asked = frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]  as pdb itself does
    while frame is not None and _is_machinery(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return place_of(frame or asked)


def _is_machinery(module: str) -> bool:
    return module == __name__ or module.partition(".")[0] in MACHINERY


def _put(holder: Any, name: str, value: Any) -> None:
    before = getattr(holder, name)
    setattr(holder, name, value)
    _restore.append(lambda: setattr(holder, name, before))
