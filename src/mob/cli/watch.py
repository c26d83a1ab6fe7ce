"""`mob run --watch`: reloads whenever a Python file of the app changes.

The watcher is a separate process, an ordinary client, so nothing that happens to it can harm the Kingpin. It ends with
the Kingpin, however that ends: its standard input is a pipe from there. The Kingpin reports the outcome of a reload,
including errors; the watcher only reports what changed.

Files below the base that are not the app's are ignored: virtual environments, caches, version control. If the watcher
exits while the app continues, this is reported, because the user waits for reloads that do not come.

Limit: changes of the main script require a restart of the app, because the Kingpin has read it already.
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
"""Milliseconds without a further change after which changes count as one: editors write in steps."""
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
"""Directories whose content is never edited by hand."""
ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")
"""Entries in the top directory of a Python environment."""
WATCH_INTERVAL = 200
"""Milliseconds between two checks of whether the watcher should continue."""


def prepare() -> None:
    """Watch the app that this process is about to run. `click.ClickException` if watchfiles is missing."""
    if importlib.util.find_spec("watchfiles") is None:
        raise click.ClickException(
            "--watch needs the package watchfiles, which is not installed. Install it with "
            "`pip install 'mobsters[dev]'`, or run without --watch and reload with `mob reload`."
        )
    # Python considers a compiled file current if its source has the same size and changed within the same second.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    apps.before_run.append(start)


def start(app: apps.App) -> None:
    """Start the watcher of an app that is about to run in this process."""
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
"""Kept as long as this process lives, each with the other end of its standard input."""


def _tell_end(alive: int) -> None:
    """Wait until the watcher exits, and report it; in the Kingpin's process.

    The watcher outlives the Kingpin, so nothing is reported at a stop.
    """
    os.read(alive, 1)
    os.close(alive)
    _say("the watcher exited: changed files no longer cause a reload. Restart the app, or use `mob reload`.")


def is_of_the_app(base: str, path: str) -> bool:
    """Return whether a file below the base can be code of the app, outside of caches and Python environments.

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
    """Run the watcher in this process."""
    from watchfiles import Change, PythonFilter, watch  # here because only the watcher needs it

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
        pass  # it is starting and will read the current files; or it is stopping
    except MobError:
        pass  # the Kingpin has reported it with all details


def _end_with_the_kingpin() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


def _say(text: str) -> None:
    print(f"mob | {text}", flush=True)


def _short(directory: str) -> str:
    """Return a path relative to the current directory, if it lies below it."""
    path = Path(directory)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else directory


if __name__ == "__main__":
    main(*sys.argv[1:])
