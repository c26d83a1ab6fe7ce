"""In the place of werkzeug's `live_apps/run.py`: the same applications, served by mob. Copied there by the runner."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path

from werkzeug.serving import make_ssl_devcert
from werkzeug.wrappers import Request, Response

HERE = Path(__file__).resolve().parent

if __name__ == "__main__":
    import mob

    name, options = sys.argv[1], json.loads(sys.argv[2])
    host = options.get("hostname", "127.0.0.1")
    address = f"unix:{host.removeprefix('unix://')}" if host.startswith("unix://") else f"{host}:{options['port']}"
    tls = options.get("ssl_context")
    if tls in ("adhoc", "custom"):
        tls = make_ssl_devcert(os.path.abspath("made"))
    files = {"ssl_certfile": tls[0], "ssl_keyfile": tls[1]} if tls else {}
    served = mob.start(f"werkzeug-{os.getpid()}", grace=5).base(HERE)
    served.role(
        "web", "./run.py:app", serve=address, serve_options={**files, "interface": "wsgi"}, env={"LIVE_APP": name}
    ).run()
else:
    sys.path.insert(0, str(HERE))
    module = import_module(f"{os.environ['LIVE_APP']}_app")

    @Request.application
    def app(request: Request) -> Response:
        if request.path == "/ensure":
            return Response()
        return Response.from_app(module.app, request.environ)
