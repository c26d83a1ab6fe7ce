"""Runs other projects' own tests against mob: `python -m tests.foreign`, or with the names of some suites.

Their sources are fetched once, as the packages that they publish, into `.foreign/`; none of their code is kept here.
HTTP is always served by mob's adapter on mob's server: `served.py` for suites that want a server in their own process,
an app of mob's for the others. The tests that are left out, and those that have to fail, are in `known.py`.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import NamedTuple

from tests.foreign import counting, published
from tests.foreign.counting import Counts

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".foreign"
OF_CPYTHON = ("_test_multiprocessing", "test_concurrent_futures")
"""The modules of its package `test` that are run."""
AT_ONCE = 2
"""How many suites run at the same time; most of the time they wait."""


# ----------------------------------------------------------------------------------- where the tests come from


@contextmanager
def fetching() -> Iterator[None]:
    """Have one process at a time look into the cache, or put something there."""
    CACHE.mkdir(exist_ok=True)
    with open(CACHE / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@fetching()
def source(package: str) -> Path:
    """Return the unpacked source of a package, in the version that is installed; fetched if it is not there yet."""
    wanted = f"{package}-{version(package)}"
    directory = CACHE / wanted
    if not directory.is_dir():
        fetch = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(CACHE)]
        subprocess.run([sys.executable, "-m", "pip", *fetch, f"{package}=={version(package)}"], check=True)
        with tarfile.open(CACHE / f"{wanted}.tar.gz") as archive:
            if hasattr(tarfile, "data_filter"):  # not before Python 3.11.4
                archive.extractall(CACHE, filter="data")
            else:
                archive.extractall(CACHE)
    return directory


@fetching()
def tests_of_cpython() -> Path:
    """Return a directory with the package `test` of the running Python.

    What the Python has not brought along comes from Debian's package of the same version.
    """
    made = CACHE / f"cpython-{platform.python_version()}"
    if not made.is_dir():
        parts = [Path(path) for path in import_module("test").__path__]
        if not all(find_spec(f"test.{name}") for name in OF_CPYTHON):
            parts.append(tests_of_debian(f"python{sys.version_info.major}.{sys.version_info.minor}"))
        (made / "test").mkdir(parents=True)
        for path in (path for part in parts for path in part.iterdir() if path.name != "__pycache__"):
            if not (made / "test" / path.name).exists():
                (made / "test" / path.name).symlink_to(path)
    return made


def tests_of_debian(python: str) -> Path:
    """Return where Debian's tests of a Python are, such as `python3.11`; fetched if they are not there yet."""
    package = f"lib{python}-testsuite"
    directory = CACHE / package
    if not directory.is_dir():
        subprocess.run(["apt-get", "download", package], cwd=CACHE, check=True)
        (archive,) = CACHE.glob(f"{package}_*.deb")
        subprocess.run(["dpkg", "-x", archive, directory], check=True)
    return directory / "usr" / "lib" / python / "test"


# --------------------------------------------------------------------------------------------------- the suites


def run(command: list[str], directory: Path, *path: Path) -> int:
    """Run a command of Python; return its exit status. `path`: directories with modules that it needs."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}
    print("$ python", " ".join(command), flush=True)
    return subprocess.run([sys.executable, *command], cwd=directory, env=environment, check=False).returncode


def pytest(suite: str, *arguments: str) -> list[str]:
    """Return the command that runs the tests of a suite with pytest."""
    options = ["-q", "--rootdir=.", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=", "--timeout=60"]
    return ["-m", "pytest", *options, "-p", "counting", f"--known={suite}", *arguments]


def werkzeug() -> int:
    """Werkzeug's tests of its development server: each starts one in a process, which is an app of mob's here."""
    tests = source("werkzeug") / "tests"
    shutil.copy(HERE / "werkzeug_run.py", tests / "live_apps" / "run.py")
    return run(pytest("werkzeug", "tests/test_serving.py", "-m", "dev_server"), tests.parent, HERE)


def django() -> int:
    """Django's tests of its live server, of WSGI, and of uploads by its test client, which go over HTTP here."""
    tests = source("django") / "tests"
    return run([str(HERE / "django_run.py"), "servers", "wsgi", "file_uploads", "--parallel=1"], tests)


def httpbin() -> int:
    """httpbin's tests; its client asks an app of mob's that serves httpbin."""
    tests = source("httpbin") / "tests"
    shutil.copy(HERE / "httpbin_conftest.py", tests / "conftest.py")
    return run(pytest("httpbin", "tests/test_httpbin.py"), tests.parent, HERE)


def managers() -> int:
    """CPython's tests of managers: their containers, and classes that a manager registers. The objects live in an app
    of mob's."""
    return run([str(HERE / "multiprocessing_run.py")], ROOT, tests_of_cpython())


def executors(*options: str) -> int:
    """CPython's tests of executors of processes, with a pool of mob."""
    return run([str(HERE / "executors_run.py"), *options], ROOT, tests_of_cpython())


def script(name: str, *options: str) -> int:
    """Run tests that a script of this directory finds."""
    return run([str(HERE / name), *options], ROOT)


class Suite(NamedTuple):
    """The tests of another project that run against mob."""

    title: str
    """What the table in `docs/internals/foreign.md` calls them."""
    run: Callable[[], int]
    """Runs them, and returns the exit status."""


SUITES = {
    "django": Suite("Django: live server, WSGI, uploads", django),
    "executors": Suite("CPython: executors, with a `mob.Pool`", executors),
    "executors-killed": Suite("the same while random workers are killed, with `retries`", partial(executors, "--kill")),
    "werkzeug": Suite("Werkzeug: its development server", werkzeug),
    "httpbin": Suite("httpbin", httpbin),
    "joblib": Suite("joblib: `Parallel`, on the backend `mob`", partial(script, "joblib_run.py")),
    "dask": Suite("Dask: bags, delayed functions, with a `mob.Pool`", partial(script, "dask_run.py")),
    "sklearn": Suite("scikit-learn as loky computes it", partial(script, "sklearn_run.py")),
    "dask-killed": Suite(
        "Dask while random workers are killed, with `retries`", partial(script, "dask_run.py", "--kill")
    ),
    "sklearn-killed": Suite("scikit-learn the same way", partial(script, "sklearn_run.py", "--kill")),
    "joblib-killed": Suite("joblib the same way", partial(script, "joblib_run.py", "--kill")),
    "managers": Suite("CPython: managers of multiprocessing", managers),
}
"""By name; those that last longest begin."""


# ------------------------------------------------------------------------------------------------------ the run


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        print(f"unknown: {', '.join(unknown)}. There are: {', '.join(SUITES)}.", file=sys.stderr)
        return 2
    if len(names) == 1:
        return SUITES[names[0]].run()
    chosen = names or list(SUITES)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        results = dict(zip(chosen, threads.map(run_apart, chosen), strict=True))
    for name, result in results.items():
        if not result:
            print(f"{name} has failed beside another suite; once more, alone:", flush=True)
            results[name] = run_apart(name)
    counts = {SUITES[name].title: result for name, result in results.items() if result}
    print(published.table(counts) if counts else "", end="")
    if failed := [name for name, result in results.items() if not result]:
        print(f"failed against mob: {', '.join(failed)}", flush=True)
        return 1
    print("all passed against mob", flush=True)
    if not names and published.publish(counts):
        print(f"{published.PAGE} has new numbers", flush=True)
    return 0


def run_apart(name: str) -> Counts | None:
    """Run a suite in a process of its own, and show its output at the end. None: a test has failed."""
    began = monotonic()
    with TemporaryDirectory() as directory:
        path = Path(directory) / "counts"
        ended = subprocess.run(
            [sys.executable, "-m", "tests.foreign", name],
            cwd=ROOT,
            env={**os.environ, counting.VARIABLE: str(path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        print(f"===== {name}, {monotonic() - began:.0f} s\n{ended.stdout}", flush=True)
        return None if ended.returncode else counting.told(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
