"""The same for gunicorn."""

import os

if "PRELOAD" in os.environ:
    __import__(os.environ["PRELOAD"])


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getpid()]
