"""httpbin's test client, which asks an app of mob's that serves httpbin. Copied beside its tests by the runner."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpbin  # pyright: ignore[reportMissingImports]  only `make foreign` installs it
import pytest
from werkzeug.test import Client


@pytest.fixture(autouse=True, scope="session")
def served() -> Iterator[None]:
    app = subprocess.Popen([sys.executable, "-c", APP], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert app.stdout is not None
    for line in app.stdout:
        if match := re.search(r"serving on http://127\.0\.0\.1:(\d+)", line):
            break
    else:
        raise AssertionError("the app does not start")
    port = int(match[1])
    threading.Thread(target=app.stdout.read, daemon=True).start()  # it must not wait for a reader

    def forward(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        path = quote(environ["PATH_INFO"].encode("latin-1"), safe="/:@!$&'()*+,;=~")
        query = environ["QUERY_STRING"]
        headers = {
            key[5:].replace("_", "-"): value for key, value in environ.items() if key.startswith("HTTP_") and value
        }
        headers |= {name: environ[key] for key, name in ENDS.items() if environ.get(key)}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = environ["wsgi.input"].read()
        connection.request(environ["REQUEST_METHOD"], f"{path}?{query}" if query else path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
        left = [(name, value) for name, value in answer.getheaders() if name.lower() not in OWN]
        start_response(f"{answer.status} {answer.reason}", left)
        connection.close()
        return [content]

    httpbin.app.test_client = lambda: Client(forward, httpbin.app.response_class)  # pyright: ignore[reportAttributeAccessIssue]
    yield
    app.terminate()
    app.wait(60)


APP = """
import os, mob
mob.start(f"httpbin-{os.getpid()}").role("web", "httpbin:app", workers=2, serve="127.0.0.1:0").run()
"""
ENDS = {"CONTENT_TYPE": "Content-Type"}
OWN = ("connection", "transfer-encoding", "date", "server")
