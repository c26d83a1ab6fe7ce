"""Single calls of a function that takes lists (`@mob.export(batch=...)`): their signature and their argument lists.

Pure. The function is annotated for lists: `def score(texts: list[str]) -> list[float]`. Its callers pass a `str` and
get a `float`. So parameters and result of a single call have the types of the items.

Limits. A parameter's default is the item of each call that omits it. `*args` and `**kwargs` are refused: calls could
differ in their number of values.
"""

from __future__ import annotations

import collections.abc
import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

from mob.wire.arguments import BoundArguments, signature_of, text_of

_EMPTY = inspect.Parameter.empty
_LISTS: tuple[Any, ...] = (
    list,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Singles:
    """The single-call form of a function that takes lists. Raises `TypeError` if there is none."""

    __slots__ = ("_defaults", "_keywords", "_positional", "single")

    def __init__(self, function: Callable[..., Any], label: str) -> None:
        signature = signature_of(function)
        if signature is None:
            raise TypeError(f"Python finds no signature for {label}, so mob cannot make batches for it.")
        parameters = [_item_of_parameter(each, label) for each in signature.parameters.values()]
        result = _item(signature.return_annotation, f"the result of {label}")
        self.single: Callable[..., Any] = _stub(
            function, signature.replace(parameters=parameters, return_annotation=result)
        )
        """A function with the signature of a single call, only for inspection."""
        self._positional = [each.name for each in parameters if each.kind in _POSITIONAL]
        self._keywords = [each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY]
        self._defaults = {each.name: each.default for each in parameters if each.default is not _EMPTY}

    def __repr__(self) -> str:
        return f"<Singles{inspect.signature(self.single)}>"

    def lists(self, calls: Sequence[BoundArguments]) -> tuple[list[list[Any]], dict[str, list[Any]]]:
        """Return the arguments of single calls as those of one call with lists.

        >>> def add(a: list[int], b: list[int] = 5): ...  # type: ignore[assignment]
        >>> Singles(add, "back.add").lists([((1, 2), {}), ((3,), {})])
        ([[1, 3], [2, 5]], {})
        """
        defaults, positional = self._defaults, self._positional
        columns: list[list[Any]] = [[] for _ in positional]
        named: dict[str, list[Any]] = {name: [] for name in self._keywords}
        for args, kwargs in calls:
            for column, value in zip(columns, args, strict=False):
                column.append(value)
            for name, column in zip(positional[len(args) :], columns[len(args) :], strict=True):
                column.append(kwargs[name] if name in kwargs else defaults[name])
            for name, column in named.items():
                column.append(kwargs[name] if name in kwargs else defaults[name])
        return columns, named


def _stub(function: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    def single() -> None:
        """Do nothing; it is never called."""

    single.__doc__ = inspect.getdoc(function)
    single.__signature__ = signature  # type: ignore[attr-defined]
    return single


def _item_of_parameter(parameter: inspect.Parameter, label: str) -> inspect.Parameter:
    if parameter.kind in _VARIABLE:
        raise TypeError(
            f"{label} has the parameter {parameter}, which @mob.export(batch=...) does not support: name each "
            f"parameter."
        )
    return parameter.replace(annotation=_item(parameter.annotation, f"{label}: its parameter {parameter.name!r}"))


def _item(annotation: Any, what: str) -> Any:
    """Return the annotation of an item of a list; raise `TypeError` if something other than a list is annotated."""
    if annotation is _EMPTY or annotation is Any or text_of(annotation) is not None:
        return annotation
    if typing.get_origin(annotation) is typing.Annotated:
        return _item(typing.get_args(annotation)[0], what)
    origin, args = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
    if origin is tuple and len(args) == 2 and args[1] is ...:
        return args[0]
    if any(origin is kind for kind in _LISTS):
        return args[0] if args else _EMPTY
    shown = inspect.formatannotation(annotation)
    raise TypeError(
        f"{what} is annotated as {shown}. With @mob.export(batch=...) the function takes and returns lists, one item "
        f"for each call: annotate list[{shown}]."
    )
