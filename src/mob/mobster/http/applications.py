"""The application that a role serves: finds it by name in the module, and detects its interface.

The interface follows from the number of required arguments: three are ASGI (scope, receive, send), two are WSGI
(environ, start_response), one is the old ASGI 2. Optional arguments count only if that decides nothing, and a coroutine
function is always ASGI. If an application takes any arguments, the role must say what it is. No part of this knows
servers, sockets or requests.
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
WANTED = (
    "Expected an application: ASGI, with arguments (scope, receive, send), or WSGI, with (environ, start_response)."
)


def find(module: ModuleType, name: str) -> Any:
    """Return the object of that name, which may have dots; call it if the name ends in parentheses."""
    path = name.removesuffix("()")
    found: Any = module
    for part in path.split("."):
        if not hasattr(found, part):
            raise PlanError(f"{module.__name__} has no {path!r}. {nearest(part, _public(found))}")
        found = getattr(found, part)
    return found() if path != name else found


def interface_of(application: Any, name: str) -> str:
    """Return the interface of an application: "asgi3", "asgi2" or "wsgi"; `PlanError` if it is not an application."""
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
    hint = f"If it makes the application, write '{name.rpartition('.')[2]}()'." if count == 0 else ""
    raise PlanError(f"{name} is {_shown(application)}, which takes {_counted(count)}. {WANTED} {hint}".rstrip())


def _is_coroutine_function(application: Callable[..., Any]) -> bool:
    while isinstance(application, partial):
        application = application.func
    if inspect.isclass(application):
        return False
    return inspect.iscoroutinefunction(application) or inspect.iscoroutinefunction(type(application).__call__)


def _parameters(application: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return the positional parameters; None if they cannot be determined.

    A decorator that takes any arguments may pass all of them on, or something else: the decorated function counts if it
    can be an application. (`werkzeug.Request.application` passes on one request.)
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
