"""Other ways to ask the user: `input()`, `pdb.set_trace()`, `code.interact()`, `IPython.embed()`, `getpass()`.

They get the Kingpin's terminal as `breakpoint()` does. A module is patched when the application imports it, so other
applications pay nothing; `input` is a built-in, and is replaced. In the child of a fork everything is restored.
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
    "pdb": ("set_trace", "set_trace_async"),  # the second exists since Python 3.14
    "ipdb": ("set_trace",),
    "pudb": ("set_trace",),
    "IPython.core.debugger": ("set_trace",),
}
"""Functions by module that do the same as `breakpoint()`."""
SESSIONS = {
    "pdb": ("post_mortem",),
    "code": ("InteractiveConsole.interact",),
    "IPython.terminal.embed": ("InteractiveShellEmbed.interact",),
}
"""Functions that run a dialogue with the user; without a terminal they are skipped."""
QUESTIONS = {"getpass": ("getpass",)}
"""Functions that need an answer; without a terminal they fail."""
MACHINERY = ("bdb", "cmd", "code", "getpass", "IPython", "ipdb", "pdb", "pudb")
"""Packages whose frames are not where the application asked."""

_restore: list[Callable[[], None]] = []


def install(peer: Peer, hook: Hook) -> None:
    """Let these functions ask for the terminal from now on."""
    finder = _Finder(peer, hook)
    sys.meta_path.insert(0, finder)
    _restore.append(lambda: sys.meta_path.remove(finder))
    for name in finder.names:
        if name in sys.modules:  # imported before the fork
            finder.change(sys.modules[name])
    _put(builtins, "input", _asks_for_a_line(peer, input, sys.stdin))


def remove() -> None:
    """Restore these functions."""
    while _restore:
        _restore.pop()()


class _Finder(MetaPathFinder):
    """Finds those modules, and patches them after they are loaded."""

    def __init__(self, peer: Peer, hook: Hook) -> None:
        self._peer = peer
        self._hook = hook
        self.names = {*STOPS, *SESSIONS, *QUESTIONS}

    def __repr__(self) -> str:
        return f"<_Finder of {', '.join(sorted(self.names))}>"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of one of the modules; None for others."""
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
        """Let the functions of a module ask for the terminal."""
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
                except SystemExit:  # exit() ends only the dialogue; the program continues
                    return None
                finally:
                    terminal.give_back()
            return None

        return talk

    def _question(self, what: str, original: Any) -> Any:
        return _asks(self._peer, what, original)


def _asks_for_a_line(peer: Peer, original: Any, stdin: Any) -> Any:
    """Return `input` for a process with that standard input; a stream that the application put in its place is read."""
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
                f"{what} at {place} cannot ask the user: {why}. Pass the value in another way: an environment "
                f"variable, an argument of the call, or `mob call`."
            )
        try:
            with terminal.asking():
                return original(*args, **kwargs)
        finally:
            terminal.give_back()

    return ask


def _terminal(peer: Peer) -> BorrowedTerminal | None:
    """Return a terminal to borrow; None if this thread has it already, or in the child of a fork."""
    if debugging.has_terminal() or peer.context.pid != os.getpid():
        return None
    return BorrowedTerminal(peer)


def _place() -> str:
    """Return where the application asks."""
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
