"""Answers. No annotations: nothing is converted, as with the peers."""

import os
import resource


def echo(value):
    return value


async def aecho(value):
    return value


def pid():
    return os.getpid()


def spent():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
