"""In the JSON log format a traceback is one object, whoever prints it."""

from __future__ import annotations

import json
from typing import Any

from tests.patience import patient
from tests.running import Apps

ROLE = """
    import asyncio, gc, logging, sys, threading, traceback, warnings

    def bad():
        try:
            {}["cause"]
        except KeyError as error:
            raise ValueError("bad\\nof two lines") from error

    def thread():
        thread = threading.Thread(target=bad, name="mine")
        thread.start()
        thread.join()

    def warning():
        warnings.warn("old", DeprecationWarning)

    def print_exc():
        try:
            bad()
        except ValueError:
            traceback.print_exc()

    def to_stdout():
        try:
            bad()
        except ValueError:
            traceback.print_exc(file=sys.stdout)

    def printed():
        try:
            bad()
        except ValueError:
            print(traceback.format_exc(), file=sys.stderr, end="")

    def excepthook():
        try:
            bad()
        except ValueError:
            sys.excepthook(*sys.exc_info())

    def logged():
        handler = logging.StreamHandler()
        logger = logging.Logger("own")
        logger.addHandler(handler)
        try:
            bad()
        except ValueError:
            logger.exception("failed")

    def group():
        try:
            raise ExceptionGroup("several", [ValueError("bad"), KeyError("key")])
        except ExceptionGroup:
            traceback.print_exc()

    async def loop():
        asyncio.get_running_loop().call_soon(bad)
        await asyncio.sleep(0)

    async def task():
        async def fail():
            bad()
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        del task
        gc.collect()

    def unraisable():
        class Bad:
            def __del__(self):
                bad()
        Bad()
        gc.collect()

    def elsewhere():
        import io
        out = io.StringIO()
        try:
            bad()
        except ValueError:
            traceback.print_exc(file=out)
        return out.getvalue()
    """


NAMES = ["thread", "print_exc", "to_stdout", "printed", "excepthook", "logged", "group", "loop", "task", "unraisable"]


def test_a_traceback_is_one_object(apps: Apps) -> None:
    app = apps.start('.logs(format="json").role("back", "./back.py", env={"PYTHONWARNINGS": "always"})', back=ROLE)
    back = app.wait_ready(1).require("back")
    found: dict[str, list[dict[str, Any]]] = {}
    for name in [*NAMES, "warning"]:
        before = len(app.lines)
        getattr(back, name)().result(patient(30))
        app.wait_for("ValueError|DeprecationWarning", 1 + sum(map(len, found.values())))
        found[name] = [json.loads(line) for line in app.lines[before:]]
        assert len(found[name]) == 1, (name, found[name])
    for name in NAMES:
        (each,) = found[name]
        assert each["level"] in ("ERROR", "CRITICAL"), name
        assert each["message"], name
        assert (each["role"], each["index"]) == ("back", 0), name
        assert "ValueError: bad" in each["exc_info"], name
        assert name == "group" or "KeyError: 'cause'" in each["exc_info"], name
        assert each["stream"] == ("stdout" if name == "to_stdout" else "stderr")
    assert found["thread"][0]["message"] == "Exception in thread mine"
    assert found["logged"][0]["message"] == "failed"
    assert found["unraisable"][0]["message"].startswith("Exception ignored in: <function unraisable.")
    (warned,) = found["warning"]
    assert (warned["level"], warned["logger"]) == ("WARNING", "py.warnings")
    assert "DeprecationWarning: old" in warned["message"]
    assert back.elsewhere().result(patient(30)).startswith("Traceback (most recent call last):\n")


def test_as_text_it_is_as_python_prints_it(apps: Apps) -> None:
    app = apps.start('.role("back", "./back.py")', back=ROLE)
    app.wait_ready(1).require("back").thread().result(patient(30))
    app.wait_for(r"\| of two lines$")
    texts = [line.partition(" | ")[2] for line in app.lines]
    assert texts[0] == "Exception in thread mine:"
    assert texts.count("Traceback (most recent call last):") == 2


def test_what_is_written_beside_a_progress_bar_is_one_object(apps: Apps) -> None:
    app = apps.start(
        '.role("back", "./back.py").logs(format="json")',
        back="""
        import logging, sys, traceback

        def work():
            for percent in (50, 60):
                print(f"\\r{percent}%", end="", file=sys.stderr, flush=True)
                logging.getLogger("mine").warning("at %d", percent)
            print("\\r70%", end="", file=sys.stderr, flush=True)
            try:
                raise ValueError("bad")
            except ValueError:
                traceback.print_exc()
        """,
    )
    app.wait_ready().require("back").work().result(patient(60))
    app.wait_for('"exc_info":"Traceback')
    objects: list[dict[str, Any]] = [json.loads(line) for line in app.output.splitlines() if line.startswith("{")]
    whole = [each for each in objects if each["role"] == "back" and not each.get("partial")]
    mine = [each["message"] for each in whole if each["stream"] == "stderr"]
    assert mine[-6:] == ["50%", "at 50", "60%", "at 60", "70%", "ValueError: bad"]
