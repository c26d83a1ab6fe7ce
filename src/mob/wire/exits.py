"""The text of a `SystemExit`, for the caller of the function that raised it.

An export that parses arguments raises `sys.exit(2)`, and the number alone explains nothing. argparse and optparse print
the reason first; it can still be read from the last frame of the traceback. click keeps the error whose text it shows
or, in older versions, raises its exit while it handles that error. For any other exit the text is its own code.
"""

from __future__ import annotations

from types import FrameType

PARSERS = {"argparse": "message", "optparse": "msg"}
"""Modules whose `exit` prints a reason and exits, and the local variable that holds the reason there."""
CLICK = "click.core"
"""The module of click that exits with an error; the error's method `show` is its local variable `report`."""


def text_of(error: SystemExit) -> str:
    """Return the text of an exit, with the reason if it can be found.

    >>> text_of(SystemExit("no such file")), text_of(SystemExit(2)), text_of(SystemExit())
    ('no such file', 'sys.exit(2)', 'sys.exit()')
    """
    if isinstance(error.code, str):
        return error.code
    said = "sys.exit()" if error.code is None else f"sys.exit({error.code!r})"
    reason = _printed_by_a_parser(error) or _handled(error)
    return f"{said}: {reason}" if reason else said


def _printed_by_a_parser(error: SystemExit) -> str:
    frame: FrameType | None = None
    step = error.__traceback__
    while step is not None:
        frame, step = step.tb_frame, step.tb_next
    if frame is None:
        return ""
    module, names = str(frame.f_globals.get("__name__", "")), frame.f_locals
    if frame.f_code.co_name == "exit" and module in PARSERS:
        text = names.get(PARSERS[module])
        return text.strip() if isinstance(text, str) else ""
    if module == CLICK:
        shown = getattr(names.get("report"), "__self__", None)
        return str(shown).strip() if isinstance(shown, Exception) else ""
    return ""


def _handled(error: SystemExit) -> str:
    """Return the text of the error that was being handled when the exit was raised."""
    handled = error.__context__
    return "" if handled is None or not error.code else str(handled).strip()
