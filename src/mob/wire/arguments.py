"""The arguments of an exported function: from the bytes of a call to the values that the function is called with.

Strategy. `Parameters.of` looks at the function once and picks one of three ways. If the number of positional arguments
is all that matters, one compiled C decoder checks number and types at once; this covers nearly every call. Whatever
this decoder does not accept goes the general way: decoded untyped, then bound and converted parameter by parameter,
which also produces the error that names the parameter.

Wire shape: `args` is a MessagePack array of the positional arguments, `kwargs` a map; None or nil if there are none.

Limits. What cannot be found out about a function is not checked: parameters without annotations, or with annotations
that do not resolve, accept anything; a function without a signature accepts any number of them.
"""

from __future__ import annotations

import collections
import functools
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import msgspec

from mob.errors import ArgumentError, BadMessage, GarbageFrame, nearest
from mob.wire.annotations import loosen
from mob.wire.binary import asks_for_views, settled
from mob.wire.codec import Codec, Raw, blame_bytes
from mob.wire.extensions import WithTags
from mob.wire.misfits import BRIEF, said_of
from mob.wire.unions import Settle, has_choice, plain

BoundArguments = tuple[Sequence[Any], dict[str, Any]]
Fit = Callable[["_Parameter | None", Any], Any]
Decode = Callable[[Raw, Raw | None], BoundArguments]

_EMPTY = inspect.Parameter.empty
_kind: Callable[[Any], type[Any]] = type
_CALLABLE = typing.get_origin(Callable[[], None])
_LAZY: dict[str, Any] = {}  # for Pythons that evaluate annotations lazily: keep those that do not evaluate
if sys.version_info >= (3, 14):
    _LAZY["annotation_format"] = importlib.import_module("annotationlib").Format.FORWARDREF
_FORWARD = re.compile(r"ForwardRef\('([^']*)'[^)]*\)")  # how such Pythons write a name that does not resolve
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


_ANYTHING = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)


class _Parameter(msgspec.Struct, frozen=True, eq=False):
    name: str
    index: int  # among the positional ones; sys.maxsize for the others
    kind: Any
    default: Any
    annotation: Any  # in a form that msgspec can compile; Any if there is none
    shown: str  # "a: int", "*rest"
    convert: Callable[[Any], Any]
    as_views: bool
    """True if large buffers in it arrive as views of their memory."""
    settle: Settle | None
    """Function that settles tags, if the annotation has a union that needs them."""

    @property
    def is_required(self) -> bool:
        return self.default is _EMPTY and self.kind in (*_POSITIONAL, *_NAMED)


class Parameters:
    """The parameters of a function. `signature`, `doc` and `unread` are for people; `decode` is for calls."""

    __slots__ = (
        "_codec",
        "_extra",
        "_is_python",
        "_is_undecided",
        "_is_untyped",
        "_label",
        "_named",
        "_positional",
        "_required",
        "_rest",
        "decode",
        "doc",
        "signature",
        "takes_tags",
        "unread",
    )

    decode: Decode
    """Decode the arguments of a call.

    Raises `ArgumentError` if they do not fit, `GarbageFrame` if they are not MessagePack.
    """

    def __init__(self, fn: Callable[..., Any], codec: Codec, label: str) -> None:
        signature = signature_of(fn)
        parameters = _parameters(signature or _ANYTHING, codec)
        self.signature: str = "(...)" if signature is None else _shown(signature)
        self.doc: str = _doc(fn)
        self.unread: dict[str, str] = {} if signature is None else _unread(signature)
        """Annotations that mob cannot understand, by the names of their parameters."""
        self._codec = codec
        self._label = label or getattr(fn, "__qualname__", type(fn).__qualname__)
        self._is_python = inspect.isfunction(fn) or inspect.ismethod(fn)
        self._positional = [each for each in parameters if each.kind in _POSITIONAL]
        self._named = {each.name: each for each in parameters if each.kind in _NAMED}
        self._rest = next((each for each in parameters if each.kind is inspect.Parameter.VAR_POSITIONAL), None)
        self._extra = next((each for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD), None)
        self._is_untyped = all(each.annotation is Any for each in parameters)
        self._required = [each for each in parameters if each.is_required]
        self.takes_tags: bool = any(each.settle is not None for each in parameters)
        """True if callers must tag its arguments (see `unions`)."""
        self._is_undecided = self.takes_tags or any(each.as_views for each in parameters)
        self.decode = self._pick_way()

    @classmethod
    def of(cls, fn: Callable[..., Any], codec: Codec, label: str = "") -> Parameters:
        """Return the parameters of a function. `label` is its name in messages, for example "back.foo"."""
        return cls(fn, codec, label)

    def __repr__(self) -> str:
        return f"<Parameters of {self._label}{self.signature}>"

    # -- the three ways ----------------------------------------------------------------------------------------------

    def _pick_way(self) -> Decode:
        takes_named = any(each.kind is inspect.Parameter.KEYWORD_ONLY for each in self._required)
        if takes_named or any(_expects_function(each.annotation) for each in self._positional):
            return self._decode_in_general
        if self._rest is not None:
            if self._positional or self._rest.annotation is not Any:
                return self._decode_in_general
            return self._untyped_way(self._codec.fast_decoder(list[Any]))
        if not (self._is_python or all(each.is_required for each in self._positional)):
            return self._decode_in_general  # a builtin's own idea of its defaults may differ
        fast = self._codec.fast_decoder(_row(self._positional))
        is_untyped = all(each.annotation is Any for each in self._positional)
        return self._untyped_way(fast) if is_untyped else self._typed_way(fast)

    def _untyped_way(self, fast: Callable[[Raw], Any]) -> Decode:
        """Return a decoder for arguments of which only the number can be wrong, which is checked before decoding."""
        general, codec = self._decode_in_general, self._codec

        def decode(args: Raw, kwargs: Raw | None) -> BoundArguments:
            if kwargs is None:
                before = codec.references_read
                try:
                    return fast(args), {}
                except msgspec.ValidationError:
                    pass
                except Exception as failure:  # noqa: BLE001  translated there
                    codec.discard(args, codec.references_read - before)
                    self._refuse_body(failure)
            return general(args, kwargs)

        return decode

    def _typed_way(self, fast: Callable[[Raw], Any]) -> Decode:
        general = self._decode_in_general

        def decode(args: Raw, kwargs: Raw | None) -> BoundArguments:
            if kwargs is None:
                try:
                    return fast(args), {}
                except Exception:  # noqa: BLE001  the general way raises a better error
                    pass
            return general(args, kwargs)

        return decode

    def _decode_in_general(self, args: Raw, kwargs: Raw | None) -> BoundArguments:
        """Decode everything before checking anything, so that functions in refused arguments are given back too."""
        values: Any
        named: Any
        try:
            values, named = self._codec.decode_both(args, kwargs, self._is_undecided)
        except BadMessage as failure:
            self._refuse_body(failure)
        fit = self._fit
        if type(values) is WithTags:
            fit, values = self._fit_tagged, values.data
            named = named.data if type(named) is WithTags else named
        named = named or {}
        if type(values) is not list or type(named) is not dict:
            raise GarbageFrame(f"the arguments of a call of {self._label} are not an array and a map.")
        return self._bind(values, named, fit)  # pyright: ignore[reportUnknownArgumentType]

    # -- binding -----------------------------------------------------------------------------------------------------

    def _bind(self, values: list[Any], named: dict[str, Any], fit: Fit) -> BoundArguments:
        positional, rest, given = self._positional, self._rest, len(values)
        if given > len(positional) and rest is None:
            self._refuse_number(given)
        for name in named:
            parameter = self._named.get(name, self._extra)
            if parameter is None or parameter.index < given or type(name) is not str:
                self._refuse_name(name)
        if missing := [each for each in self._required if each.index >= given and not self._is_named(each, named)]:
            self._refuse_missing([each.name for each in missing])
        if self._is_untyped:
            return values, named
        for index, value in enumerate(values):
            values[index] = fit(positional[index] if index < len(positional) else rest, value)
        for name, value in named.items():
            named[name] = fit(self._named.get(name, self._extra), value)
        return values, named

    def _is_named(self, parameter: _Parameter, named: dict[str, Any]) -> bool:
        return parameter.name in named and parameter.name in self._named

    def _fit(self, parameter: _Parameter | None, value: Any) -> Any:
        if self._is_undecided:
            value = settled(value, parameter is not None and parameter.as_views)
        if parameter is None or parameter.annotation is Any or parameter.annotation is type(value):
            return value
        try:
            return parameter.convert(value)
        except msgspec.ValidationError as failure:
            self._refuse(f"({parameter.shown}): {said_of(failure, value, parameter.name)}", parameter.name, failure)

    def _fit_tagged(self, parameter: _Parameter | None, tree: Any) -> Any:
        if parameter is None or parameter.settle is None:
            return self._fit(parameter, plain(tree))
        tree = settled(tree, parameter.as_views)
        try:
            return parameter.convert(parameter.settle(tree, False))
        except msgspec.ValidationError as failure:
            self._refuse(
                f"({parameter.shown}): {said_of(failure, plain(tree), parameter.name)}", parameter.name, failure
            )
        except RecursionError as failure:
            self._refuse(f"({parameter.shown}): it is nested too deeply.", parameter.name, failure)

    # -- refusing ----------------------------------------------------------------------------------------------------

    def _refuse(self, text: str, argument: str | None = None, cause: Exception | None = None) -> NoReturn:
        raise ArgumentError(f"{self._label}{text}", executed="no", argument=argument) from cause

    def _refuse_body(self, failure: Exception) -> NoReturn:
        try:
            blame_bytes(failure)
        except BadMessage as reason:
            self._refuse(f"(): {reason}", None, reason)

    def _refuse_name(self, name: Any) -> NoReturn:
        if name in self._named:
            self._refuse(f"() got the argument {name!r} twice.", name)
        if any(each.name == name for each in self._positional):
            self._refuse(f"() takes the argument {name!r} by position only.", name)
        self._refuse(f"() got an unknown argument {name!r}. {nearest(str(name), self._named)}", str(name))

    def _refuse_missing(self, names: list[str]) -> NoReturn:
        listed = " and ".join(filter(None, [", ".join(map(repr, names[:-1])), repr(names[-1])]))
        self._refuse(f"() is missing the argument{'s' if names[1:] else ''} {listed}.", names[0])

    def _refuse_number(self, given: int) -> NoReturn:
        most = len(self._positional)
        least = sum(each.is_required for each in self._positional)
        names = ", ".join(each.name for each in self._positional)
        number = str(most) if least == most else f"{least} to {most}"
        kind = (
            "positional argument"
            if self._extra or any(each.index > most for each in self._named.values())
            else "argument"
        )
        takes = f"{number} {kind}{'' if number == '1' else 's'} ({names})" if most else f"no {kind}s"
        self._refuse(f"() takes {takes}, but {given} {'was' if given == 1 else 'were'} given.")


def _row(parameters: Sequence[_Parameter]) -> Any:
    """Return one type for the positional arguments: a tuple, or a named tuple if defaults are to be filled in."""
    if all(each.is_required for each in parameters):
        return tuple[tuple(each.annotation for each in parameters)]  # type: ignore[misc]
    names = [f"p{index}" for index in range(len(parameters))]
    defaults = [each.default for each in parameters if not each.is_required]
    row: Any = collections.namedtuple("Row", names, defaults=defaults)  # pyright: ignore[reportUntypedNamedTuple]
    row.__annotations__ = {name: each.annotation for name, each in zip(names, parameters, strict=True)}
    return row


def _expects_function(annotation: Any) -> bool:
    """Return whether the C decoder would give up anyway."""
    return (typing.get_origin(annotation) or annotation) is _CALLABLE


# -- looking at functions ----------------------------------------------------------------------------------------------


class _Text:
    """Text that appears in a signature as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def signature_of(fn: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a function with its annotations evaluated one by one, None if it has no signature.

    A `_Text` replaces an annotation that mob cannot understand because it does not evaluate, or contains something that
    fails when it is looked at.
    """
    try:
        signature = inspect.signature(fn, **_LAZY)
    except Exception:  # noqa: BLE001  builtins have none, and function-like objects may raise anything
        return None
    names = _namespace(fn)
    return signature.replace(
        parameters=[
            each.replace(annotation=_evaluated(each.annotation, names)) for each in signature.parameters.values()
        ],
        return_annotation=_evaluated(signature.return_annotation, names),
    )


def text_of(annotation: Any) -> str | None:
    """Return the text of an annotation that mob cannot understand; None for all others."""
    return annotation.text if _kind(annotation) is _Text else None


def result_of(fn: Callable[..., Any]) -> Any:
    """Return what a function is annotated to return: `Any` if nothing is said, text if mob cannot understand it."""
    signature = signature_of(fn)
    found = _EMPTY if signature is None else signature.return_annotation
    if found is _EMPTY:
        return Any
    return found.text if isinstance(found, _Text) else found


def _namespace(fn: Any) -> dict[str, Any]:
    """Return the globals of the function inside methods, partials, wrappers and callable objects."""
    for _ in range(20):
        fn = getattr(fn, "__wrapped__", None) or getattr(fn, "__func__", fn)
        fn = fn.func if isinstance(fn, functools.partial) else fn
    fn = fn if hasattr(fn, "__globals__") else getattr(_kind(fn), "__call__", None)  # noqa: B004  for its globals
    return getattr(fn, "__globals__", {})


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    if annotation is _EMPTY:
        return annotation

    def holder() -> None: ...

    holder.__annotations__ = {"it": annotation}
    try:
        found = typing.get_type_hints(holder, names, include_extras=True)["it"]
        _ = loosen(found), has_choice(found), asks_for_views(found), str(found)
    except Exception:  # noqa: BLE001  it may be any expression, of any objects
        return _Text(_text_of(annotation))
    return None if found is types.NoneType else found


def _text_of(annotation: Any) -> str:
    try:
        text = annotation.__qualname__ if isinstance(annotation, type) else str(annotation)
    except Exception:  # noqa: BLE001  a broken __repr__
        return _kind(annotation).__qualname__
    return _FORWARD.sub(r"\1", text)


def _parameters(signature: inspect.Signature, codec: Codec) -> list[_Parameter]:
    return [_parameter(index, each, codec) for index, each in enumerate(signature.parameters.values())]


def _parameter(index: int, parameter: inspect.Parameter, codec: Codec) -> _Parameter:
    annotation: Any = parameter.annotation
    whole = Any if annotation is _EMPTY or _kind(annotation) is _Text else annotation
    annotation = loosen(whole)
    return _Parameter(
        name=parameter.name,
        index=index if parameter.kind in _POSITIONAL else sys.maxsize,
        kind=parameter.kind,
        default=parameter.default,
        annotation=annotation,
        shown=str(parameter.replace(default=_EMPTY)),
        convert=codec.converter(annotation),
        as_views=asks_for_views(annotation),
        settle=codec.settling(whole) if has_choice(whole) else None,
    )


def _unread(signature: inspect.Signature) -> dict[str, str]:
    found = signature.parameters.values()
    return {each.name: each.annotation.text for each in found if _kind(each.annotation) is _Text}


def _shown(signature: inspect.Signature) -> str:
    """Return the text of a signature, with long defaults shortened."""
    parameters = [
        each if each.default is _EMPTY else each.replace(default=_Text(BRIEF.repr(each.default)))
        for each in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters))


def _doc(fn: Callable[..., Any]) -> str:
    while isinstance(fn, functools.partial):
        fn = fn.func
    try:
        return inspect.getdoc(fn) or ""
    except Exception:  # noqa: BLE001  a broken __doc__
        return ""
