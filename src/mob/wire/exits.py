"""What a SystemExit says to who has called the function that raised it.

An export that parses arguments says `sys.exit(2)`, and its number alone helps nobody. argparse and optparse have
printed the reason, which is still known in the last frame of the traceback. So has click, which keeps the error whose
text it is there or, in older versions, raises its exit while it handles that error. All others say their own code.
"""

from __future__ import annotations

from types import FrameType

PARSERS = {"argparse": "message", "optparse": "msg"}
"""Modules whose `exit` prints a reason and leaves, and the name that the reason has there."""
CLICK = "click.core"
"""The module that does so with an error, of which it keeps the method `show` as `report`."""


def text_of(error: SystemExit) -> str:
    """Return what the exit says, with its reason if that can be known.

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
    """The text of the error that was being handled when the exit was raised."""
    handled = error.__context__
    return "" if handled is None or not error.code else str(handled).strip()
