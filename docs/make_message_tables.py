"""Makes the tables of messages in docs/internals/wire.md from `mob.wire.messages`, so that they cannot lie.

python docs/make_message_tables.py            # prints them
python docs/make_message_tables.py --write    # puts them into docs/internals/wire.md, between the two markers
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec

from mob.wire import messages as m
from mob.wire.failures import Failure
from mob.wire.references import Handle, Reference
from mob.wire.sharing import BufferLocation

WIRE = Path(__file__).parent / "internals" / "wire.md"
BEGIN = "<!-- message tables: made by docs/make_message_tables.py --write -->\n"
END = "<!-- end of the message tables -->\n"

CONVERSATIONS: list[tuple[str, Any]] = [
    ("Peer to peer", m.PeerMessage),
    ("To the Kingpin", m.Up),
    ("From the Kingpin", m.Down),
    ("The liveness thread", m.Vital | m.Heed),
    ("Kingpin and fork server", m.ForkOrder | m.ForkReport),
    ("What Kingpins write to one another", m.Words),
]
PARTS = (
    Failure,
    Reference,
    Handle,
    BufferLocation,
    m.Member,
    m.Node,
    m.ExportInfo,
    m.RoleInfo,
    m.SocketAddress,
    m.Row,
    m.Line,
    m.LeaseRecord,
)


def markdown() -> str:
    """A table for each conversation, and one of what messages are made of."""
    return "".join(line + "\n" for line in _lines())


def inserted(text: str) -> str:
    """The text with the tables between its markers."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{WIRE} lacks the lines {BEGIN!r} and {END!r}, between which the tables belong.")
    return before + BEGIN + "\n" + markdown() + end + after


def _lines() -> Iterator[str]:
    for title, union in CONVERSATIONS:
        yield from (f"### {title}", "", "| tag | message | fields | meaning |", "|--:|---|---|---|")
        for kind in sorted(get_args(union), key=_tag):
            yield f"| {_tag(kind)} | `{kind.__name__}` | {_fields(kind)} | {_meaning(kind)} |"
        yield ""
    yield from ("### What they are made of", "", "| part | fields | meaning |", "|---|---|---|")
    for kind in PARTS:
        yield f"| `{kind.__name__}` | {_fields(kind)} | {_meaning(kind)} |"
    yield ""


def _tag(kind: type[m.Base]) -> int:
    return int(kind.__struct_config__.tag or 0)


def _fields(kind: Any) -> str:
    """The names in the order of the array; what may be left out at the end stands in brackets."""
    if issubclass(kind, msgspec.Struct):
        named = [(each.name, each.required) for each in msgspec.structs.fields(kind)]
    else:  # a NamedTuple
        named = [(name, name not in kind._field_defaults) for name in kind._fields]
    return ", ".join(f"`{name}`" if required else f"[`{name}`]" for name, required in named) or "-"


def _meaning(kind: type) -> str:
    """The docstring, in one line."""
    return re.sub(r"\s+", " ", inspect.getdoc(kind) or "").replace("|", "\\|")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        WIRE.write_text(inserted(WIRE.read_text("utf-8")), "utf-8")
    else:
        print(markdown(), end="")
