"""Which interface an application has, detected by its arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flask
import pytest
import starlette.applications
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.middleware.shared_data import SharedDataMiddleware
from werkzeug.wrappers import Request, Response

from mob.errors import PlanError
from mob.mobster.http.applications import interface_of


def plain(environ: Any, start_response: Any) -> Any: ...
def with_more(environ: Any, start_response: Any, more: Any = None) -> Any: ...
def lenient(environ: Any, start_response: Any = None) -> Any: ...
def keywords(environ: Any, start_response: Any, *, log: bool = False, **rest: Any) -> Any: ...
def three(prefix: str, environ: Any, start_response: Any) -> Any: ...
async def modern(scope: Any, receive: Any, send: Any) -> None: ...
async def anything_async(*args: Any) -> None: ...
def returns_a_coroutine(scope: Any, receive: Any, send: Any) -> Any: ...
def old(scope: Any) -> Any: ...
def anything(*args: Any, **kwargs: Any) -> Any: ...


class Instance:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...

    def method(self, environ: Any, start_response: Any) -> Any: ...


class Iterable:
    """The class itself is the application, as in PEP 3333."""

    def __init__(self, environ: Any, start_response: Any) -> None: ...

    def __iter__(self) -> Any: ...


class Async:
    async def __call__(self, *args: Any) -> None: ...


class Anything:
    def __call__(self, *args: Any) -> Any: ...


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


FLASK = flask.Flask("shop")
WSGI = {
    "a function": plain,
    "one that takes more": with_more,
    "a default": lenient,
    "keywords": keywords,
    "an instance": Instance(),
    "a method": Instance().method,
    "a class": Iterable,
    "a partial": functools.partial(three, "/shop"),
    "decorated": decorated(plain),
    "decorated twice": decorated(decorated(plain)),
    "Flask": FLASK,
    "Flask's wsgi_app": FLASK.wsgi_app,
    "ProxyFix": ProxyFix(FLASK.wsgi_app),
    "dispatched": DispatcherMiddleware(FLASK, {"/b": FLASK}),
    "with files": SharedDataMiddleware(FLASK, {}),
}
ASGI = {
    "a function": modern,
    "takes anything": anything_async,
    "returns a coroutine": returns_a_coroutine,
    "an instance": Async(),
    "a partial": functools.partial(anything_async, 1),
    "decorated": decorated(modern),
    "Starlette": starlette.applications.Starlette(),
}


@pytest.mark.parametrize("kind", WSGI)
def test_wsgi_is_seen(kind: str) -> None:
    assert interface_of(WSGI[kind], "shop.app") == "wsgi"


@pytest.mark.parametrize("kind", ASGI)
def test_asgi_is_seen(kind: str) -> None:
    assert interface_of(ASGI[kind], "shop.app") == "asgi3"


def test_the_asgi_of_old_is_seen() -> None:
    assert interface_of(old, "shop.app") == "asgi2"


@Request.application
def of_a_request(request: Request) -> Response: ...


@pytest.mark.parametrize("application", [anything, Anything(), functools.partial(anything, 1), of_a_request])
def test_one_that_takes_anything_is_to_be_named(application: Any) -> None:
    with pytest.raises(PlanError, match=r'Set serve_options=\{"interface": "wsgi"\}, or "asgi3"\.'):
        interface_of(application, "shop.app")
