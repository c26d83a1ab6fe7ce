"""Decodes the bytes of a terminal to names of keys.

Pure. A special key arrives as an escape sequence, and the key Esc looks like the beginning of one: after a short pause
the reader calls `left` to flush it.
"""

from __future__ import annotations

import codecs
import re

ESCAPE_TIME = 0.05
"""Seconds after which an unfinished sequence is the key Esc."""
SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~])")
UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")
SEQUENCES = {
    "A": "up",
    "B": "down",
    "C": "right",
    "D": "left",
    "H": "home",
    "F": "end",
    "Z": "shift-tab",
    "1~": "home",
    "3~": "delete",
    "4~": "end",
    "5~": "pgup",
    "6~": "pgdn",
    "7~": "home",
    "8~": "end",
}
CHARACTERS = {
    "\t": "tab",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x0c": "redraw",
    "\x15": "clear",
    "\x04": "pgdn",
    "\x06": "pgdn",
    "\x02": "pgup",
}


class Keyboard:
    """Converts bytes to keys: a character by itself ("j", "é"), other keys by name ("up", "esc")."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._left = ""

    def __repr__(self) -> str:
        return f"<Keyboard, left {self._left!r}>"

    @property
    def is_within(self) -> bool:
        """True if the bytes so far may be the beginning of a key."""
        return bool(self._left)

    def feed(self, data: bytes) -> list[str]:
        """Return the keys that are complete now."""
        text = self._left + self._decoder.decode(data)
        self._left = ""
        keys: list[str] = []
        at = 0
        while at < len(text):
            found = SEQUENCE.match(text, at)
            if found:
                name = SEQUENCES.get(re.sub(r"\A\x1b[\[O](?:1;\d)?", "", found[0]))
                keys += [name] if name else []  # unknown sequences are skipped
                at = found.end()
            elif UNFINISHED.match(text, at):
                self._left = text[at:]
                break
            else:
                keys += _key(text[at])
                at += 1
        return keys

    def left(self) -> list[str]:
        """Return the pending characters as keys: Esc and what follows it."""
        text, self._left = self._left, ""
        return [key for character in text for key in _key(character)]


def _key(character: str) -> list[str]:
    if character == "\x1b":
        return ["esc"]
    if character in CHARACTERS:
        return [CHARACTERS[character]]
    return [character] if character.isprintable() else []
