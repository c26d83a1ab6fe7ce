"""Flask's hello, for the rows of WSGI in `bench/serving.py`."""

import os

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return "Hello, world!"


@app.get("/pid")
def pid():
    return str(os.getpid())
