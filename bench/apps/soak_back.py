"""Answers of every kind."""

import gc


def echo(value):
    return value


async def aecho(value):
    return value


async def call_back(function, value):
    return await function(value)


def items(count):
    yield from range(count)


def collect():
    gc.collect()
