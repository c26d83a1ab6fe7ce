"""Answers."""

import time


def echo(value):
    return value


async def aecho(value):
    return value


def cpu():
    return time.process_time()
