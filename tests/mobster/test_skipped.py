"""Warnings about a block under `if __name__ == "__main__":` in a module that a mobster imports."""

from __future__ import annotations

import importlib.util
import itertools
import textwrap
from pathlib import Path

import pytest

from mob.mobster import skipped
from mob.plan import RolePlan
from tests.running import Apps

NUMBERS = itertools.count()

ASGI = """
async def app(scope, receive, send): ...
def make_app(): return app
"""

SERVED = {
    "uvicorn.run": ('import uvicorn\nif __name__ == "__main__":\n    uvicorn.run(app)', "app", "127.0.0.1:8000"),
    "the other way round": ("import uvicorn\nif '__main__' == __name__: uvicorn.run(app)", "app", "127.0.0.1:8000"),
    "and something": (
        "import sys, uvicorn\nif __name__ == '__main__' and sys.argv: uvicorn.run(app)",
        "app",
        "127.0.0.1:8000",
    ),
    "elif": (
        "import uvicorn\nif not __name__: pass\nelif __name__ == '__main__': uvicorn.run(app)",
        "app",
        "127.0.0.1:8000",
    ),
    "by its string": (
        "import uvicorn\nif __name__ == '__main__':\n    uvicorn.run('shop:app', host='0.0.0.0', port=9000)",
        "app",
        "0.0.0.0:9000",
    ),
    "a factory": (
        "import uvicorn as u\nif __name__ == '__main__': u.run('shop:make_app', factory=True, host='::1')",
        "make_app()",
        "[::1]:8000",
    ),
    "made there": (
        "from uvicorn import run\nif __name__ == '__main__':\n    run(make_app(), port=int('1'))",
        "make_app()",
        "127.0.0.1:8000",
    ),
    "in main": (
        "def main():\n    import uvicorn\n    uvicorn.run(app, port=1)\nif __name__ == '__main__':\n    main()",
        "app",
        "127.0.0.1:1",
    ),
    "in main of main": (
        """
        import sys, uvicorn
        def start(): uvicorn.run(app)
        def main(): return start()
        if __name__ == '__main__': sys.exit(main())
        """,
        "app",
        "127.0.0.1:8000",
    ),
    "uvicorn.Server": (
        """
        import asyncio, uvicorn
        async def main():
            config = uvicorn.Config(app, port=5000)
            server = uvicorn.Server(config)
            await server.serve()
        if __name__ == '__main__':
            asyncio.run(main())
        """,
        "app",
        "127.0.0.1:5000",
    ),
    "flask": (
        "import flask\nshop = flask.Flask(__name__)\nif __name__ == '__main__':\n    shop.run(debug=True)",
        "shop",
        "127.0.0.1:5000",
    ),
    "flask by a factory": (
        "from flask import Flask\ndef create(): return Flask('a')\nif __name__ == '__main__': create().run(port=80)",
        "create()",
        "127.0.0.1:80",
    ),
    "a class of one's own": (
        "import flask\nclass Shop(flask.Flask): ...\nshop = Shop('a')\nif __name__ == '__main__': shop.run()",
        "shop",
        "127.0.0.1:5000",
    ),
    "waitress": (
        "if __name__ == '__main__':\n    from waitress import serve\n    serve(app, listen='*:1')",
        "app",
        "127.0.0.1:8080",
    ),
    "hypercorn": (
        """
        def main():
            import asyncio
            from hypercorn.asyncio import serve
            from hypercorn.config import Config
            asyncio.run(serve(app, Config()))
        if __name__ == '__main__': main()
        """,
        "app",
        "127.0.0.1:8000",
    ),
    "granian": (
        "if __name__ == '__main__':\n    from granian import Granian\n    Granian('shop:app', port=8).serve()",
        "app",
        "127.0.0.1:8",
    ),
}

ELSEWHERE = {
    "web.run_app": (
        "from aiohttp import web\nshop = web.Application()\nif __name__ == '__main__':\n    web.run_app(shop)",
        "web.run_app",
    ),
    "http.server": (
        """
        from http.server import HTTPServer, BaseHTTPRequestHandler
        if __name__ == '__main__':
            with HTTPServer(('127.0.0.1', 0), BaseHTTPRequestHandler) as server:
                print('serving')
                server.serve_forever()
        """,
        "server.serve_forever",
    ),
    "asyncio": (
        """
        import asyncio
        async def main():
            server = await asyncio.start_server(print, '127.0.0.1', 0)
            async with server:
                await server.serve_forever()
        if __name__ == '__main__':
            asyncio.run(main())
        """,
        "asyncio.run",
    ),
    "grpc": (
        """
        def main():
            import grpc
            server = grpc.server(None)
            server.start()
        if __name__ == '__main__': main()
        """,
        "main",
    ),
}

GENERAL = {
    "work": "def main(): ...\nif __name__ == '__main__': main()",
    "an object that runs": "class Job:\n    def run(self): ...\njob = Job()\nif __name__ == '__main__': job.run()",
    "its own run": "def run(): ...\nif __name__ == '__main__': run()",
    "a program": "import subprocess\nif __name__ == '__main__': subprocess.run(['true'])",
}

SILENT = {
    "nothing": "x = 1",
    "tests": "def f(): ...\nif __name__ == '__main__':\n    import unittest\n    unittest.main()",
    "printed": "def f(): ...\nif __name__ == '__main__': print(f())",
    "at the top": "def run(app): ...\nuvicorn = None\nrun(1)",
    "in a text": "'''if __name__ == '__main__': uvicorn.run(app)'''",
    "only when imported": "def serve_forever(): ...\nif __name__ != '__main__': serve_forever()",
}


def said(directory: Path, source: str, is_busy: bool = False) -> str:
    """Return the warning about a module with this source."""
    file = directory / "shop.py"
    file.write_text(ASGI + textwrap.dedent(source))
    spec = importlib.util.spec_from_file_location(f"shop{next(NUMBERS)}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return skipped.message_of(module, RolePlan("web", str(file)), str(directory), is_busy)


@pytest.mark.parametrize("case", SERVED)
def test_an_application_is_served_by_one_line(tmp_path: Path, case: str) -> None:
    source, application, address = SERVED[case]
    message = said(tmp_path, source)
    assert message.startswith("shop.py starts its server only as a script (")
    assert f'.role("web", "./shop.py:{application}", serve="{address}"), or call ' in message
    assert said(tmp_path, source, is_busy=True) == ""


@pytest.mark.parametrize("case", ELSEWHERE)
def test_another_server_is_to_be_started_elsewhere(tmp_path: Path, case: str) -> None:
    source, call = ELSEWHERE[case]
    message = said(tmp_path, source)
    assert message.startswith("shop.py starts its server only as a script (")
    assert message.endswith(f"so nothing is served: call {call}(...) outside of that block.")


@pytest.mark.parametrize("case", GENERAL)
def test_what_starts_no_server_is_named_in_general(tmp_path: Path, case: str) -> None:
    message = said(tmp_path, GENERAL[case])
    assert message.startswith("the block under `if __name__")
    assert "does not run in a worker" in message


@pytest.mark.parametrize("case", SILENT)
def test_what_is_of_no_importance_is_not_named(tmp_path: Path, case: str) -> None:
    assert said(tmp_path, SILENT[case]) == ""


def test_the_whole_line(tmp_path: Path) -> None:
    assert said(tmp_path, 'import uvicorn\nif __name__ == "__main__":\n    uvicorn.run(app)') == (
        'shop.py starts its server only as a script (`if __name__ == "__main__":`, line 5), but a worker imports it, '
        'so nothing is served: use .role("web", "./shop.py:app", serve="127.0.0.1:8000"), or call uvicorn.run(...) '
        "outside of that block."
    )


APPLICATION = """
    import mob
    import uvicorn

    async def app(scope, receive, send): ...

    MORE

    if __name__ == "__main__":
        uvicorn.run(app, port=8000)
    """
MORE = {
    "": 1,
    "def price(): ...": 1,
    "@mob.on('message')\n    def hear(text): ...": 1,
    "@mob.on('start')\n    def start(): ...": 0,
    "@mob.export\n    def price(): ...": 0,
    "server = mob.listen('127.0.0.1', 0)": 0,
}


@pytest.mark.parametrize("more", MORE)
def test_it_is_said_once_for_a_role_that_does_nothing_else(apps: Apps, more: str) -> None:
    app = apps.start('.role("web", "./shop.py", workers=2)', shop=APPLICATION.replace("MORE", more))
    client = app.wait_ready()
    client.reload()
    app.stop()
    lines = [line for line in app.lines if "only as a script" in line]
    assert len(lines) == MORE[more]
    assert all(line.startswith("web.0 ") and 'serve="127.0.0.1:8000")' in line for line in lines)


def test_nothing_is_said_where_the_application_is_served(apps: Apps) -> None:
    app = apps.start('.role("web", "./shop.py:app", serve="127.0.0.1:0")', shop=APPLICATION.replace("MORE", ""))
    app.wait_for("serving on")
    app.stop()
    assert "only as a script" not in app.output
