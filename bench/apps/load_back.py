"""Answers: at once, or after a while in which it does nothing else."""

import time


def echo(value):
    return value


def work(seconds):
    time.sleep(seconds)
