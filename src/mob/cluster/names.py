"""The names that an app has on NATS: subjects, streams, buckets, consumers. All of them, and no two apps share one.

NATS divides subjects at dots, has wildcards, and lets streams and buckets have letters, digits, "-" and "_" only. A
name of those stays as it is, so that it is found where it was. Any other is written out with escapes between two "_",
with which no name of an app or role begins. Pure.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_ESCAPED = re.compile(r"[^A-Za-z0-9-]")
DEAD = "-dead"
"""The end of the name of the stream for what was put aside; so it is that of no other stream."""


def token(name: str) -> str:
    """Return a name as a part of a subject, or of the name of a stream or bucket: of two names, two.

    >>> token("shop"), token("shop_eu"), token("shop.eu")
    ('shop', 'shop_eu', '_shop_-eu_')
    """
    return name if _PLAIN.fullmatch(name) else f"_{_ESCAPED.sub(_escaped, name)}_"


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return {"_": "__", ".": "_-"}.get(character) or f"_{ord(character):x}_"


class NatsNames:
    """Those of one app."""

    def __init__(self, app: str) -> None:
        own = token(app)
        if own.endswith(DEAD):  # its stream would be the one that the app without that ending has for the dead
            own = f"_{_ESCAPED.sub(_escaped, app)}_"
        self.prefix: str = f"mob.{own}"
        self.all: str = f"{self.prefix}.all"
        """The subject of letters to all Kingpins."""
        self.stored: str = f"{self.prefix}.stored"
        """The subject of the word that there are durable messages."""
        self.stream: str = f"mob-{own}"
        """The stream of durable messages."""
        self.dead_stream: str = f"{self.stream}{DEAD}"
        """The stream of those that were put aside."""
        self.bucket: str = f"mob_{own}_leases"
        """The bucket of the leases."""
        self.left_bucket: str = f"mob_{own}_left"
        """The object store of what singletons have left to the machine that runs them next."""
        self.jobs_stream: str = f"mob_{own}_jobs"
        """The stream of durable jobs; the names of other streams do not begin so."""

    def __repr__(self) -> str:
        return f"<NatsNames {self.prefix}>"

    def node(self, number: int) -> str:
        """Return the subject of letters to one Kingpin."""
        return f"{self.prefix}.node.{number}"

    def gateway(self, uid: int) -> str:
        """Return the subject of packets to one gateway."""
        return f"{self.prefix}.gateway.{uid}"

    def job(self, kind: str, id: str) -> str:
        """Return a subject of a job, whatever its id; without one, a subject of all jobs."""
        return f"{self.prefix}.jobs.{kind}.{token(id)}" if id else f"{self.prefix}.jobs.{kind}"

    def durable(self, role: str) -> str:
        """Return the subject of durable messages to a role; "*" is all roles."""
        return f"{self.prefix}.durable.{role if role == '*' else token(role)}"

    def dead(self, role: str) -> str:
        """Return the subject of those that were put aside; "*" is all roles."""
        return f"{self.prefix}.dead.{role if role == '*' else token(role)}"
