"""The application that a role serves: found by its name in the module, and which interface it speaks.

That is seen by the arguments that it must be given: three are ASGI (scope, receive, send), two are WSGI (environ,
start_response), one is the ASGI of old. Those that it may be given count where that decides nothing, and a coroutine
function is ASGI whatever it takes. If an application takes anything, the role says what it is. Knows nothing of
servers, sockets and requests.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from mob.errors import PlanError, nearest

BY_POSITION = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)
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
    if _is_coroutine_function(application):
        return "asgi3"
    parameters = _parameters(application)
    if parameters is None:
        raise PlanError(
            f"{name} is {_shown(application)}, which takes any number of arguments, so mob cannot tell whether it is "
            f'WSGI or ASGI. Set serve_options={{"interface": "wsgi"}}, or "asgi3".'
        )
    count = sum(each.default is each.empty for each in parameters)
    if count < 2 <= len(parameters) <= 3 and parameters[0].name != "scope":  # (environ, start_response=None)
        count = len(parameters)
    if count in INTERFACES:
        return INTERFACES[count]
    hint = f"Does it make the application? Then write '{name.rpartition('.')[2]}()'." if count == 0 else ""
    raise PlanError(f"{name} is {_shown(application)}, which takes {_counted(count)}. {WANTED} {hint}".rstrip())


def _is_coroutine_function(application: Callable[..., Any]) -> bool:
    while isinstance(application, partial):
        application = application.func
    if inspect.isclass(application):
        return False
    return inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(type(application).__call__)


def _parameters(application: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return those that can be given by position; None if they cannot be known.

    A decorator that takes anything may hand on all of it, or something else: what it decorates counts if that can be an
    application. (`werkzeug.Request.application` hands on one request.)
    """
    for follow in (False, True):
        try:
            parameters = inspect.signature(application, follow_wrapped=follow).parameters.values()
        except (TypeError, ValueError):
            return None
        found = [each for each in parameters if each.kind in BY_POSITION]
        takes_anything = any(each.kind is each.VAR_POSITIONAL for each in found)
        if not takes_anything and (not follow or len(found) > 1):
            return found
    return None


def _public(found: Any) -> list[str]:
    return [name for name in dir(found) if not name.startswith("_")]


def _counted(count: int) -> str:
    return f"{count} arguments" if count else "no arguments"


def _shown(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind}"
