"""`mob run --watch`: a reload whenever a Python file of the app has changed.

The watcher is a process of its own, a client like any other, so nothing that happens to it can harm the Kingpin. It
ends with the Kingpin, however that ends: its standard input is a pipe from there. What a reload has brought, an error
too, the Kingpin tells; the watcher only says what has changed.

Limit: changes of the main script want a restart of the app, for the Kingpin has read it already.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path

import click

from mob import app as apps
from mob.client import connect
from mob.errors import AppNotRunning, MobError

STEP = 50
"""Milliseconds without a further change after which what has changed counts as one change: editors write in steps."""
LOOK = 200
"""Milliseconds between two looks at whether the watcher is to go on."""


def prepare() -> None:
    """From now on the app that this process runs is watched. `click.ClickException` if that cannot be."""
    if importlib.util.find_spec("watchfiles") is None:
        raise click.ClickException(
            "--watch needs the package watchfiles, which is not installed. Install it with "
            "`pip install 'mobsters[dev]'`, or run without --watch and reload with `mob reload`."
        )
    # Python takes a compiled file for current whose source has the same size and was changed within the same second.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    apps.before_run.append(start)


def start(app: apps.App) -> None:
    """Starts the watcher of an app that is about to run in this process."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, app.plan.name, app.plan.base], stdin=subprocess.PIPE, process_group=0
    )
    _watchers.append(process)


_watchers: list[subprocess.Popen[bytes]] = []
"""Kept as long as this process lives, and with each the other end of its standard input."""


def main(name: str, base: str) -> None:
    """The watcher's process."""
    from watchfiles import PythonFilter, watch  # here because it is wanted by those who watch only

    threading.Thread(target=_end_with_the_kingpin, daemon=True).start()
    is_watching = False
    changes = watch(base, watch_filter=PythonFilter(), step=STEP, rust_timeout=LOOK, yield_on_timeout=True)
    for changed in changes:
        if changed:
            _reload(name, sorted({os.path.relpath(path, base) for _, path in changed}))
        elif not is_watching:
            is_watching = True
            _say(f"watching {_short(base)} for changes of Python files.")


def _reload(name: str, changed: list[str]) -> None:
    _say(f"{', '.join(changed)} changed.")
    try:
        with connect(name) as client:
            client.reload()
    except AppNotRunning:
        pass  # it starts just now, and reads what is there; or it ends
    except MobError:
        pass  # the Kingpin has told it, with all that belongs to it


def _end_with_the_kingpin() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


def _say(text: str) -> None:
    print(f"mob | {text}", flush=True)


def _short(directory: str) -> str:
    """As it is shown: relative to where the user is, if it is there."""
    path = Path(directory)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else directory


if __name__ == "__main__":
    main(*sys.argv[1:])
