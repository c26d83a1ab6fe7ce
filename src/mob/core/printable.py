"""Makes text of other processes safe for a terminal: lines, errors, titles, names, whatever their origin.

A terminal obeys what is in a text: it moves the cursor, erases, changes its title, fills the clipboard, answers as if
a user had typed. Of all that only colors stay (SGR of ECMA-48), and the ends of lines. Everything that goes to a
terminal goes through here. Pure; a text can be cleaned piece by piece or whole, and cleaning it twice changes nothing.
"""

from __future__ import annotations

import re

RESET = "\x1b[0m"
DOT = "·"
"""Replacement for characters that would overwrite what is there, or change its direction."""
_SGR = r"\x1b\[[0-9;:]{0,64}m"
_PARTS = re.compile(
    rf"({_SGR})"
    # strings, which end at BEL or ST; one without an end would swallow what follows, so it ends with its line
    r"|(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])[^\x07\x18\x1a\x1b\x9c\n]*(?:\x07|\x1b\\|[\x18\x1a\x9c])?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|\x1b[ -/]*[0-~]?"
    r"|\r+(?=\n|\Z)"
    r"|([\b\r\x85\u2028-\u202e\u2066-\u2069])"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]"
)
_LAST_SGR = re.compile(rf"(?s:.*)({_SGR})")
_RESETS = ("\x1b[0m", "\x1b[m")
_TO_LOOK_AT = re.compile(rb"[^\t\n\x20-\x7e]")
_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return text that sets colors, and does nothing else to a terminal; a line that ends in color is reset.

    >>> printable("\x1b]0;title\x07\x1b[2K\x1b[32m50%\x1b[0m\x1b[?25l\tdone\r\n")
    '\x1b[32m50%\x1b[0m\tdone\n'
    >>> printable("rm -rf\rls \x1b[31mred")
    'rm -rf·ls \x1b[31mred\x1b[0m'
    """
    if text.isascii() and text.isprintable():
        return text
    cleaned = _PARTS.sub(_kept, text)
    return "\n".join(map(_reset, cleaned.split("\n"))) if "\x1b" in cleaned else cleaned


def printable_bytes(data: bytes) -> bytes:
    r"""Return cleaned bytes of text in UTF-8; invalid bytes are replaced.

    >>> printable_bytes(b"50%\x9b2J\xe2\x82\xac\n").decode()
    '50%�2J€\n'
    """
    if _TO_LOOK_AT.search(data) is None:
        return data
    return printable(data.decode("utf-8", "replace")).encode()


def plain(text: str) -> str:
    r"""Return text for one cell of a table: on one line and without colors.

    >>> plain("\x1b[31mred\x1b[0m\tor\x07 \x1b[2Jnot")
    'red     or· not'
    """
    if text.isascii() and text.isprintable():
        return text
    return _PARTS.sub(_plain, text).replace("\n", DOT).expandtabs()


def json_printable(data: bytes) -> bytes:
    r"""Return JSON with the same meaning in which all characters that a terminal could obey are escaped.

    >>> json_printable('["\x9b2J"]'.encode())
    b'["\\u009b2J"]'
    """
    if data.isascii() and b"\x7f" not in data:
        return data
    return _JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", data.decode("utf-8", "replace")).encode()


def _kept(part: re.Match[str]) -> str:
    return part[1] or (DOT if part[2] else "")


def _plain(part: re.Match[str]) -> str:
    text = part[0]
    if part[2]:
        return DOT
    return DOT if len(text) == 1 and text not in "\x1b\r" else ""


def _reset(line: str) -> str:
    last = _LAST_SGR.match(line)
    return line if last is None or last[1] in _RESETS else line + RESET
