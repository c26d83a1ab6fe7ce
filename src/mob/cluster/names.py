"""The names that an app has on NATS: all subjects, streams, buckets and consumers. No two apps share one.

NATS splits subjects at dots, has wildcards, and allows only letters, digits, "-" and "_" in the names of streams and
buckets. A name of those characters is used as it is, so that existing data is still found. Any other name is written
with escapes between two "_"; no name of an app or role begins with that. Pure.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_ESCAPED = re.compile(r"[^A-Za-z0-9-]")
DEAD = "-dead"
"""The end of the name of the stream for messages that were put aside; no other stream has it."""


def token(name: str) -> str:
    """Return a name as a part of a subject, stream or bucket; different names give different results.

    >>> token("shop"), token("shop_eu"), token("shop.eu")
    ('shop', 'shop_eu', '_shop_-eu_')
    """
    return name if _PLAIN.fullmatch(name) else f"_{_ESCAPED.sub(_escaped, name)}_"


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return {"_": "__", ".": "_-"}.get(character) or f"_{ord(character):x}_"


class NatsNames:
    """The names of one app."""

    def __init__(self, app: str) -> None:
        own = token(app)
        if own.endswith(DEAD):  # its stream would be the dead stream of the app without that ending
            own = f"_{_ESCAPED.sub(_escaped, app)}_"
        self.prefix: str = f"mob.{own}"
        self.all: str = f"{self.prefix}.all"
        """The subject of letters to all Kingpins."""
        self.stored: str = f"{self.prefix}.stored"
        """The subject on which gateways announce that durable messages exist."""
        self.stream: str = f"mob-{own}"
        """The stream of durable messages."""
        self.dead_stream: str = f"{self.stream}{DEAD}"
        """The stream of durable messages that were put aside."""
        self.bucket: str = f"mob_{own}_leases"
        """The bucket of the leases."""
        self.left_bucket: str = f"mob_{own}_left"
        """The object store of the data that singletons hand over to the next machine."""
        self.jobs_stream: str = f"mob_{own}_jobs"
        """The stream of durable jobs; no name of another stream begins like this."""

    def __repr__(self) -> str:
        return f"<NatsNames {self.prefix}>"

    def node(self, number: int) -> str:
        """Return the subject of letters to one Kingpin."""
        return f"{self.prefix}.node.{number}"

    def gateway(self, uid: int) -> str:
        """Return the subject of packets to one gateway."""
        return f"{self.prefix}.gateway.{uid}"

    def job(self, kind: str, id: str) -> str:
        """Return a subject of a job, for any id; without one, a subject of all jobs."""
        return f"{self.prefix}.jobs.{kind}.{token(id)}" if id else f"{self.prefix}.jobs.{kind}"

    def durable(self, role: str) -> str:
        """Return the subject of durable messages to a role; "*" is all roles."""
        return f"{self.prefix}.durable.{role if role == '*' else token(role)}"

    def dead(self, role: str) -> str:
        """Return the subject of messages that were put aside; "*" is all roles."""
        return f"{self.prefix}.dead.{role if role == '*' else token(role)}"
