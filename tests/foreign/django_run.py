"""Runs Django's `runtests.py` with mob in the place of Django's server and behind its test client.

The live server is `served.Server`. The test client hands requests to Django's handler without HTTP; here each goes over
a connection to a server that calls that handler, so uploads pass the parser, the adapter and a thread. The answer that
the test sees is the handler's own, and what came over the connection must be the same.
"""

from __future__ import annotations

import http.client
import os
import runpy
import sys
import threading
from contextlib import contextmanager
from typing import Any
from unittest import TestLoader
from urllib.parse import quote

from django.db import connections
from django.test import client as clients, testcases
from django.test.runner import DiscoverRunner

from tests.foreign.counting import Result, kept
from tests.foreign.known import LEFT_OUT
from tests.foreign.served import Server


class LiveServer(testcases.LiveServerThread):
    """Django's thread, with another server."""

    def _create_server(self, connections_override: Any = None) -> Any:
        return Live((self.host, self.port), connections_override or {})


class Live(Server):
    """Has the database connections of the test in each thread, as Django's server has."""

    def __init__(self, address: tuple[str, int], override: dict[str, Any]) -> None:
        super().__init__(address, self._answer)
        self._override = override
        self._application: Any = None

    def set_app(self, application: Any) -> None:
        self._application = application

    def _answer(self, environ: Any, start_response: Any) -> Any:
        for alias, connection in self._override.items():
            connections[alias] = connection
        return self._application(environ, start_response)


class Bridge:
    """The server behind the test client, one for all."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Any, Any, dict[str, Any]]] = {}
        self._results: dict[str, Any] = {}
        self._server = Server(("127.0.0.1", 0), self._answer)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def ask(self, handler: Any, environ: dict[str, Any]) -> Any:
        number = str(len(self._results))
        shared = {alias: connections[alias] for alias in connections}
        self._waiting[number] = handler, environ, shared
        for each in shared.values():
            each.inc_thread_sharing()
        connection = http.client.HTTPConnection(*self._server.server_address, timeout=60)
        try:
            connection.request(environ["REQUEST_METHOD"], *_sent(environ, number))
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
            for each in shared.values():
                each.dec_thread_sharing()
        result = self._results[number]
        if isinstance(result, BaseException):
            raise result
        assert answer.status == result.status_code
        assert result.streaming or environ["REQUEST_METHOD"] == "HEAD" or body == result.content
        return result

    def _answer(self, served: dict[str, Any], start_response: Any) -> Any:
        number = served.pop("HTTP_X_BRIDGE")
        handler, environ, shared = self._waiting.pop(number)
        for alias, connection in shared.items():
            connections[alias] = connection
        taken = {key: value for key, value in served.items() if key in TAKEN or key.startswith("HTTP_")}
        kept = {key: value for key, value in environ.items() if key not in TAKEN}
        try:
            result = self._results[number] = handler({**taken, **kept})
        except BaseException as error:  # noqa: BLE001  raised again where the test waits
            self._results[number] = error
            start_response("500 Raised", [])
            return []
        start_response(f"{result.status_code} {result.reason_phrase}", [*result.items()])
        return [] if result.streaming else [result.content]


TAKEN = {"REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH", "wsgi.input"}


def _sent(environ: dict[str, Any], number: str) -> tuple[str, bytes, dict[str, str]]:
    path = quote(environ["PATH_INFO"].encode("latin-1"), safe="/%")
    query = environ.get("QUERY_STRING", "")
    length = int(environ.get("CONTENT_LENGTH") or 0)
    headers = {"X-Bridge": number, "Content-Type": environ.get("CONTENT_TYPE", "")}
    headers |= {
        key[5:].replace("_", "-"): value
        for key, value in environ.items()
        if key.startswith("HTTP_") and key not in ("HTTP_HOST", "HTTP_TRANSFER_ENCODING")
    }
    return f"{path}?{query}" if query else path, environ["wsgi.input"].read(length), headers


@contextmanager
def replaced() -> Any:
    bridge, handler = Bridge(), clients.ClientHandler.__call__
    clients.ClientHandler.__call__ = lambda self, environ: bridge.ask(lambda made: handler(self, made), environ)
    testcases.LiveServerTestCase.server_thread_class = LiveServer
    yield


if __name__ == "__main__":
    with replaced():
        sys.path.insert(0, os.getcwd())
        loader: Any = TestLoader
        found = loader.getTestCaseNames
        loader.getTestCaseNames = lambda self, case: kept(found(self, case), LEFT_OUT["django"])
        runner: Any = DiscoverRunner
        runner.get_resultclass = lambda self: Result
        sys.argv[0] = os.path.abspath("runtests.py")
        runpy.run_path(sys.argv[0], run_name="__main__")
