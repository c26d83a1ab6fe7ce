"""The application that a role serves: found by its name in the module, and made ASGI if it is WSGI.

Which of the two it is, is seen by how many arguments it takes: three are ASGI (scope, receive, send), two are WSGI
(environ, start_response), one is the ASGI of old. Knows nothing of servers, sockets and requests.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from mob.errors import PlanError, nearest

WSGI_THREADS = 10
"""Requests that a WSGI application answers at once where the role does not say `threads`."""
INTERFACES = {1: "asgi2", 2: "wsgi", 3: "asgi3"}
WANTED = "Wanted is an application: ASGI, which takes (scope, receive, send), or WSGI, (environ, start_response)."


def find(module: ModuleType, name: str) -> Any:
    """The object of that name, dots and all; made by calling it if the name ends in parentheses."""
    path = name.removesuffix("()")
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            raise PlanError(f"{module.__name__} has no {path!r}. {nearest(part, _public(found))}")
        found = getattr(found, part)
    return found() if path != name else found


def interface_of(application: Any, name: str) -> str:
    """What it speaks: "asgi3", "asgi2" or "wsgi". `PlanError` if it is no application."""
    if not callable(application):
        raise PlanError(f"{name} is {_shown(application)}, which cannot be called. {WANTED}")
    count = _arguments(application)
    if count in INTERFACES:
        return INTERFACES[count]
    if inspect.iscoroutinefunction(application):
        return "asgi3"
    hint = f"Does it make the application? Then write '{name.rpartition('.')[2]}()'." if count == 0 else ""
    raise PlanError(f"{name} is {_shown(application)}, which takes {_counted(count)}. {WANTED} {hint}".rstrip())


def asgi_of_wsgi(application: Callable[..., Any], threads: int) -> Any:
    """A WSGI application as an ASGI one; it runs on threads of its own, so many."""
    try:
        from a2wsgi import WSGIMiddleware
    except ImportError:
        raise PlanError("a WSGI application needs a2wsgi. Try: pip install 'mobsters[web]'") from None
    return WSGIMiddleware(application, workers=threads if threads > 1 else WSGI_THREADS)  # type: ignore[arg-type]


def _arguments(application: Callable[..., Any]) -> int | None:
    """How many it takes and must be given; None if it takes any number."""
    try:
        parameters = inspect.signature(application).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return None
    return sum(
        each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) and each.default is each.empty
        for each in parameters
    )


def _public(found: Any) -> list[str]:
    return [name for name in dir(found) if not name.startswith("_")]


def _counted(count: int | None) -> str:
    return "any number of arguments" if count is None else f"{count} arguments" if count else "no arguments"


def _shown(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind}"
