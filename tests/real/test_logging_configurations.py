"""What mob logs is seen in a role that configures `logging` as many do."""

from __future__ import annotations

import pytest

from tests.patience import patient
from tests.running import Apps

CALLER = """
    import logging.config
    import mob

    back = mob.require("back")

    {configure}

    def ask():
        back.fail()
"""

AS_DICT = """
    logging.config.dictConfig({
        "version": 1,
        "formatters": {"short": {"format": "SHOWN %(name)s: %(message)s"}},
        "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "short"}},
        "root": {"level": "INFO", "handlers": ["out"]},
    })
"""

AS_FILE = """
    import io
    logging.config.fileConfig(io.StringIO("\\n".join([
        "[loggers]", "keys=root", "[handlers]", "keys=out", "[formatters]", "keys=short",
        "[logger_root]", "level=INFO", "handlers=out",
        "[handler_out]", "class=StreamHandler", "formatter=short", "args=()",
        "[formatter_short]", "format=SHOWN %(name)s: %(message)s",
    ])))
"""


@pytest.mark.parametrize("configure", [AS_DICT, AS_FILE], ids=["dictConfig", "fileConfig"])
def test_a_configuration_that_disables_existing_loggers_leaves_that_of_mob_alone(apps: Apps, configure: str) -> None:
    app = apps.start(
        '.role("caller", "./caller.py").role("back", "./back.py")',
        caller=CALLER.replace("{configure}", configure.strip()),
        back="""
            def fail():
                raise ValueError("seen")
        """,
    )
    app.wait_ready(2).require("caller").ask().result(patient(30))
    app.wait_for("SHOWN mob: back.fail failed and its result was never read: ValueError: seen")
