"""Decides which faults a chaos run injects, and when: the same for the same seed. `attacks.py` carries them out.

Kinds are dealt like cards, so each occurs once before any occurs twice; the order, the pauses, the victims and the
durations are random. (The victims also depend on which processes run at the moment.)
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec

KINDS = {
    "kill": "SIGKILL of a worker",
    "kill several": "SIGKILL of several workers at once",
    "ask": "SIGTERM of a worker, which may still be starting",
    "freeze": "SIGSTOP of a worker, SIGCONT up to 3 s later",
    "memory": "a worker allocates a few hundred MiB",
    "descriptors": "a worker may open no more files",
    "garbage": "random bytes on a link",
    "fork server": "SIGKILL of the fork server",
    "freeze Kingpin": "SIGSTOP of the Kingpin for up to 4 s",
    "slow output": "a flood of output that is not read for seconds",
    "reload": "a role is replaced",
    "scale": "a role grows, and shrinks again",
    "scale storm": "a role grows and shrinks a dozen times at once",
    "upgrade": "the Kingpin is replaced by one with new code",
    "signals": "SIGHUP and SIGUSR2 to the Kingpin, SIGKILL of a worker between them",
    "Kingpin's descriptors": "the Kingpin may open no more files for up to 3 s",
    "strangers": "150 connections that send no handshake",
    "deaf client": "a client that sends 20,000 requests and reads no answer",
}
CLUSTER_KINDS = {
    "gateway": "SIGKILL of a gateway",
    "node": "SIGKILL of all processes of a node, which starts again later",
    "NATS": "SIGKILL of the NATS server, which starts again later",
    "freeze NATS": "SIGSTOP of the NATS server for up to 3 s",
}
"""Additional kinds with several nodes."""
FAULT_INTERVAL = 1.2
"""Average number of seconds between two faults."""
LEAST_PAUSE = 0.05


class ChaosFault(msgspec.Struct, frozen=True):
    """One fault: its time, kind and duration, and the number that selects the victims."""

    at: float
    kind: str
    seconds: float
    seed: int


def schedule(
    seed: int, seconds: float, kinds: tuple[str, ...] = tuple(KINDS), pause: float = FAULT_INTERVAL
) -> list[ChaosFault]:
    """Return the faults of a run, one every `pause` seconds on average.

    >>> schedule(7, 60) == schedule(7, 60)
    True
    """
    chance = random.Random(seed)
    cards = _cards(chance, kinds)
    faults: list[ChaosFault] = []
    at = 0.0
    while kinds:
        at += max(LEAST_PAUSE, chance.expovariate(1 / pause))
        if at >= seconds:
            break
        kind = next(cards)
        longest = {"freeze Kingpin": 4.0, "memory": 1.0, "scale": 5.0}.get(kind, 3.0)
        faults.append(ChaosFault(at, kind, chance.uniform(0.1, longest), chance.getrandbits(32)))
    return faults


def _cards(chance: random.Random, kinds: tuple[str, ...]) -> Iterator[str]:
    while True:
        yield from chance.sample(kinds, len(kinds))
