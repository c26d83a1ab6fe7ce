"""Runs Python of a page, as a script or as an interactive session; also within a worker.

Tracebacks show the lines of the page. Code may `await` at its top level, as in a notebook.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import sys
from pathlib import Path
from typing import Any

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def run(page: str, line: int, text: str, names: dict[str, Any]) -> None:
    """Run code with these names, and add the names that it defines to them."""
    if ">>>" in text:
        _run_session(page, line, text, names)
        return
    code = compile("\n" * line + text, page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(code, names))
    else:
        exec(code, names)


def _run_session(page: str, line: int, text: str, names: dict[str, Any]) -> None:
    session = doctest.DocTestParser().get_doctest(text, names, Path(page).name, page, line)
    session.globs = names  # the parser made a copy
    told: list[str] = []
    if doctest.DocTestRunner(optionflags=OPTIONS).run(session, out=told.append, clear_globs=False).failed:
        raise AssertionError("".join(told))


def main() -> None:
    """Run the contents of a file: `python -m tests.docs.snippets PAGE LINE FILE`."""
    page, line, file = sys.argv[1:]
    run(page, int(line), Path(file).read_text("utf-8"), {"__name__": "__main__", "__file__": file})


if __name__ == "__main__":
    main()
