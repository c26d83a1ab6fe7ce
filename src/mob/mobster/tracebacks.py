"""Prints tracebacks and warnings as one JSON object each, if the logs of the app are JSON.

Python prints them line by line: those of threads, of `print_exc`, of errors in `__del__`. Here they become one piece,
and the streams of the mobster (`output`) write any text with a traceback in it as one object. That includes the output
of `logging` handlers with a format of their own, and `print(traceback.format_exc())`. A hook set by the application
stays, and what it prints to a stream of its own is not changed.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import Any, TextIO

from mob.mobster.output import WholeLines
from mob.mobster.records import JsonFormatter

_FORMATTER = JsonFormatter()
_HEAD = re.compile(rf"^.*{re.escape(WholeLines.TRACEBACK)}", re.MULTILINE)


def install() -> None:
    """Print tracebacks of this process as one object each from now on."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, WholeLines):
            stream.as_object = object_of
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _handle_uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _handle_in_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _handle_unraisable
    if warnings.showwarning is warnings._showwarning_orig:  # type: ignore[attr-defined]
        warnings.showwarning = _show_warning
    traceback.TracebackException.print = _print  # type: ignore[method-assign]


def object_of(text: str) -> str:
    r"""Return a text that contains a traceback as a JSON object; the text before it, or the error, is the message.

    >>> object_of("failed\nTraceback (most recent call last):\n  ...\nValueError: no\n")  # doctest: +ELLIPSIS
    '{"time":"...","level":"ERROR","logger":"traceback","message":"failed","exc_info":"Traceback ...ValueError: no"}\n'
    """
    head = _HEAD.search(text)
    start = 0 if head is None else head.start()
    trace = text[start:].rstrip("\n")
    return _object("traceback", logging.ERROR, text[:start].strip() or trace.rpartition("\n")[2].strip(), trace)


def _object(logger: str, level: int, message: str, trace: str) -> str:
    record = logging.getLogRecordFactory()(logger, level, "", 0, "%s", (message,), None)
    record.exc_text = trace
    return _FORMATTER.format(record) + "\n"


def _say(logger: str, level: int, message: str, trace: str = "") -> None:
    if sys.stderr is not None:  # type: ignore[comparison-overlap]  # an application may have set it to None
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(_object(logger, level, message, trace))


def _text_of(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> str:
    return "".join(traceback.format_exception(kind, error, trace)).rstrip("\n")


def _handle_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = _text_of(kind, error, trace)
    _say("traceback", logging.CRITICAL, text.rpartition("\n")[2], text)


def _handle_in_thread(args: threading.ExceptHookArgs) -> None:
    if issubclass(args.exc_type, SystemExit):
        return
    name = threading.get_ident() if args.thread is None else args.thread.name
    text = _text_of(args.exc_type, args.exc_value, args.exc_traceback)
    _say("threading", logging.ERROR, f"Exception in thread {name}", text)


def _handle_unraisable(args: sys.UnraisableHookArgs) -> None:
    message = args.err_msg or "Exception ignored in"
    with contextlib.suppress(Exception):  # its repr() is code of the application
        message = message if args.object is None else f"{message}: {args.object!r}"
    _say("unraisable", logging.ERROR, message, _text_of(args.exc_type, args.exc_value, args.exc_traceback))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = warnings.formatwarning(message, category, filename, lineno, line)  # type: ignore[arg-type]
    if file is None:
        _say("py.warnings", logging.WARNING, text.strip())
    else:
        file.write(text)


_printed = traceback.TracebackException.print


def _print(self: traceback.TracebackException, *, file: Any = None, chain: bool = True, **options: Any) -> None:
    """Replace the method in which `traceback.print_exc` and similar functions end."""
    stream = sys.stderr if file is None else file
    if isinstance(stream, WholeLines):
        stream.write("".join(self.format(chain=chain)))
    else:
        _printed(self, file=file, chain=chain, **options)
