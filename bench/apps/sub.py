"""Listens: counts messages, and tells the sender when a burst is complete."""

import mob

caller = mob.require("caller")


class Burst:
    size = 0
    arrived = 0


def expect(size):
    Burst.size, Burst.arrived = size, 0


@mob.on("message")
def count(message):
    Burst.arrived += 1
    if Burst.arrived == Burst.size:
        Burst.arrived = 0
        caller.done()
