"""Tagged results, for exports annotated to return a union with indistinguishable members (see `wire.unions`).

Such an export is called through a function of the same kind that tags what it returns or yields. All others are called
directly, so they pay nothing for it.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from functools import partial, wraps
from typing import Any

from mob.wire.arguments import result_of
from mob.wire.codec import Codec
from mob.wire.kinds import is_stream
from mob.wire.unions import has_choice


def with_tags(function: Callable[..., Any], codec: Codec) -> Callable[..., Any]:
    """Return the function itself, or a wrapper if its results need tags."""
    annotation = result_of(function)
    if isinstance(annotation, str) or not has_choice(annotation):
        return function
    if inspect.isgeneratorfunction(function):
        return _generator(function, partial(codec.tagged, root="item"))
    if inspect.isasyncgenfunction(function):
        return _async_generator(function, partial(codec.tagged, root="item"))
    if inspect.iscoroutinefunction(function):
        return _coroutine(function, partial(codec.tagged, root="result"))
    return _plain(function, partial(codec.tagged, root="result"))


Tag = Callable[[Any], Any]


def _generator(function: Callable[..., Any], tag: Tag) -> Callable[..., Any]:
    @wraps(function)
    def tagged(*args: Any, **kwargs: Any) -> Generator[Any]:
        with closing(function(*args, **kwargs)) as items:
            for item in items:
                yield tag(item)

    return tagged


def _async_generator(function: Callable[..., Any], tag: Tag) -> Callable[..., Any]:
    @wraps(function)
    async def tagged(*args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        async with aclosing(function(*args, **kwargs)) as items:
            async for item in items:
                yield tag(item)

    return tagged


def _coroutine(function: Callable[..., Any], tag: Tag) -> Callable[..., Any]:
    @wraps(function)
    async def tagged(*args: Any, **kwargs: Any) -> Any:
        return tag(await function(*args, **kwargs))

    return tagged


def _plain(function: Callable[..., Any], tag: Tag) -> Callable[..., Any]:
    @wraps(function)
    def tagged(*args: Any, **kwargs: Any) -> Any:
        value = function(*args, **kwargs)
        return value if inspect.isawaitable(value) or is_stream(value) else tag(value)

    return tagged
