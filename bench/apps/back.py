"""Answers. No annotations: nothing is converted, as with the peers."""

import os


def echo(value):
    return value


async def aecho(value):
    return value


def pid():
    return os.getpid()
