"""`mob run --watch`: a reload whenever a Python file of the app has changed.

The watcher is a process of its own, a client like any other, so nothing that happens to it can harm the Kingpin. It
ends with the Kingpin, however that ends: its standard input is a pipe from there. What a reload has brought, an error
too, the Kingpin tells; the watcher only says what has changed.

What lies below the base and is not the app's is left alone: virtual environments, caches, what a version control keeps.
If the watcher ends although the app goes on, this is said, because the user waits for reloads that do not come.

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
CACHES = frozenset(
    {
        "__pycache__",
        "__pypackages__",
        "node_modules",
        "site-packages",
        ".cache",
        ".eggs",
        ".git",
        ".hg",
        ".hypothesis",
        ".idea",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".tox",
        ".venv",
    }
)
"""Directories whose content is nobody's code to be edited."""
ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")
"""What the top directory of an environment of Python has in it."""
WATCH_INTERVAL = 200
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
    alive, watchers_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, app.plan.name, app.plan.base],
        stdin=subprocess.PIPE,
        process_group=0,
        pass_fds=(watchers_end,),
    )
    os.close(watchers_end)
    _watchers.append(process)
    threading.Thread(target=_tell_end, args=(alive,), name="mob-watcher", daemon=True).start()


_watchers: list[subprocess.Popen[bytes]] = []
"""Kept as long as this process lives, and with each the other end of its standard input."""


def _tell_end(alive: int) -> None:
    """In the Kingpin's process: wait until the watcher has ended, and say so. It outlives the Kingpin, so this is not
    said at a stop."""
    os.read(alive, 1)
    os.close(alive)
    _say("the watcher has ended: changes of files reload nothing any more. Start the app again, or use `mob reload`.")


def is_of_the_app(base: str, path: str) -> bool:
    """Return whether a file below the base can be code of the app: it lies in no cache and no environment of Python.

    >>> is_of_the_app("/app", "/app/shop/cart.py"), is_of_the_app("/app", "/app/.tox/py311/x.py")
    (True, False)
    """
    directory = Path(base)
    for name in Path(os.path.relpath(path, base)).parts[:-1]:
        directory /= name
        if name in CACHES or any((directory / mark).exists() for mark in ENVIRONMENTS):
            return False
    return True


def main(name: str, base: str) -> None:
    """The watcher's process."""
    from watchfiles import Change, PythonFilter, watch  # here because it is wanted by those who watch only

    threading.Thread(target=_end_with_the_kingpin, daemon=True).start()
    is_watching, is_python = False, PythonFilter()

    def is_meant(change: Change, path: str) -> bool:
        return is_python(change, os.path.relpath(path, base)) and is_of_the_app(base, path)

    changes = watch(
        base,
        watch_filter=is_meant,
        step=STEP,
        rust_timeout=WATCH_INTERVAL,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
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
