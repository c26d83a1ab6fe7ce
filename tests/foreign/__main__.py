"""Runs other projects' own tests against mob: `python -m tests.foreign`, or with the names of some suites.

Their sources are fetched once, as the packages that they publish, into `.foreign/`; none of their code is kept here.
What serves is always mob's adapter on mob's server: `served.py` for suites that want a server in their own process, an
app of mob's for the others. A test that is left out stands here with its reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".foreign"

WERKZEUG = {
    "test_server[reloader]": "werkzeug's reloader; mob has `mob run --watch`",
    "test_reloader_sys_path[stat]": "werkzeug's reloader",
    "test_reloader_sys_path[watchdog]": "werkzeug's reloader",
    "test_chunked_request[False]": "mob says the length of a body in chunks in CONTENT_LENGTH, as waitress does",
    "test_chunked_request[True]": "a request with both lengths is refused with 400, as RFC 9112 advises",
    "test_streaming_close_response[]": "werkzeug's server speaks HTTP/1.0 here, without chunks; mob's sends chunks",
    "test_streaming_close_response[crash]": "the same; with chunks the client sees that the answer is cut",
    "test_multiple_headers_concatenated": "wants blanks at the end of a value; gunicorn and waitress strip them",
    "test_multiline_header_folding": "folded headers are refused with 400, as RFC 9112 demands",
}
DJANGO = {
    "test_closes_connections": "tests the class of Django's own server, which is replaced",
    "test_server_class": "tests the class of Django's own server",
    "test_set_up_class": "tests how Django's own server fails to start",
    "test_port_bind": "starts a second server of Django's own class",
    "test_specified_port_bind": "starts a server of Django's own class",
    "test_closes_connection_without_content_length": "Django's server closes where mob sends chunks",
    "test_keep_alive_on_connection_with_content_length": "wants a connection kept that the client asks to close",
    "test_keep_alive_connection_clears_previous_request_data": "the same",
}
if os.geteuid() == 0:
    DJANGO["test_readonly_root"] = "root may write everywhere, whatever serves"
HTTPBIN = {
    "HttpbinTestCase::test_post_chunked": "its client announces chunks and sends none, which is a 400",
}
CPYTHON: dict[str, str] = {}
"""By suite: the tests that are left out, and why."""


def source(package: str) -> Path:
    """The unpacked source of a package, in the version that is installed; fetched if it is not there yet."""
    wanted = f"{package}-{version(package)}"
    directory = CACHE / wanted
    if not directory.is_dir():
        CACHE.mkdir(exist_ok=True)
        fetch = ["download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(CACHE)]
        subprocess.run([sys.executable, "-m", "pip", *fetch, f"{package}=={version(package)}"], check=True)
        with tarfile.open(CACHE / f"{wanted}.tar.gz") as archive:
            archive.extractall(CACHE, filter="data")
    return directory


def run(command: list[str], directory: Path, *path: Path) -> int:
    """The exit status of a command. `path`: directories with modules that it needs."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}
    print("$", " ".join(command), flush=True)
    return subprocess.run([sys.executable, *command], cwd=directory, env=environment, check=False).returncode


def pytest(left_out: dict[str, str], file: str) -> list[str]:
    """The command that runs the tests of a file, but for some."""
    options = ["-q", "--rootdir=.", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=", "--timeout=60"]
    return ["-m", "pytest", *options, *(f"--deselect={file}::{name}" for name in left_out), file]


def werkzeug() -> int:
    """Werkzeug's tests of its development server: each starts one in a process, which is an app of mob's here."""
    tests = source("werkzeug") / "tests"
    shutil.copy(HERE / "werkzeug_run.py", tests / "live_apps" / "run.py")
    return run([*pytest(WERKZEUG, "tests/test_serving.py"), "-m", "dev_server"], tests.parent)


def django() -> int:
    """Django's tests of its live server, of WSGI, and of uploads by its test client, which go over HTTP here."""
    tests = source("django") / "tests"
    return run([str(HERE / "django_run.py"), "servers", "wsgi", "file_uploads", "--parallel=1"], tests)


def httpbin() -> int:
    """httpbin's tests; its client asks an app of mob's that serves httpbin."""
    tests = source("httpbin") / "tests"
    shutil.copy(HERE / "httpbin_conftest.py", tests / "conftest.py")
    return run(pytest(HTTPBIN, "tests/test_httpbin.py"), tests.parent)


def cpython() -> int:
    """CPython's tests of managers: their containers, and classes that a manager registers. The objects live in an app
    of mob's."""
    return run([str(HERE / "multiprocessing_run.py")], ROOT, *tests_of_cpython())


def tests_of_cpython() -> list[Path]:
    """Where the tests of the running Python are, if it has not brought them along: those of Debian's package."""
    if find_spec("test._test_multiprocessing") is not None:
        return []
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    package = f"lib{python}-testsuite"
    directory = CACHE / package
    if not directory.is_dir():
        CACHE.mkdir(exist_ok=True)
        subprocess.run(["apt-get", "download", package], cwd=CACHE, check=True)
        (archive,) = CACHE.glob(f"{package}_*.deb")
        subprocess.run(["dpkg", "-x", archive, directory], check=True)
    return [directory / "usr" / "lib" / python]


SUITES: dict[str, Callable[[], int]] = {
    "werkzeug": werkzeug,
    "django": django,
    "httpbin": httpbin,
    "cpython": cpython,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        print(f"unknown: {', '.join(unknown)}. There are: {', '.join(SUITES)}.", file=sys.stderr)
        return 2
    failed = [name for name in names or SUITES if SUITES[name]()]
    print(f"failed against mob: {', '.join(failed)}" if failed else "all passed against mob", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
