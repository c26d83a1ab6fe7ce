"""What was typed: from the bytes of a terminal to the names of keys.

Pure. A key that is more than a character comes as an escape sequence, and the key Esc as the beginning of one: whoever
reads waits a moment, then asks for what is `left`.
"""

from __future__ import annotations

import codecs
import re

ESCAPE_TIME = 0.05
"""Seconds after which the beginning of a sequence was the key Esc."""
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
    """Takes bytes, gives keys; a character goes by itself ("j", "é"), the others by name ("up", "esc")."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._left = ""

    def __repr__(self) -> str:
        return f"<Keyboard, left {self._left!r}>"

    @property
    def is_within(self) -> bool:
        """Whether what has come may be the beginning of a key."""
        return bool(self._left)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are complete now."""
        text = self._left + self._decoder.decode(data)
        self._left = ""
        keys: list[str] = []
        at = 0
        while at < len(text):
            found = SEQUENCE.match(text, at)
            if found:
                name = SEQUENCES.get(re.sub(r"\A\x1b[\[O](?:1;\d)?", "", found[0]))
                keys += [name] if name else []  # one that is not known here is passed over whole
                at = found.end()
            elif UNFINISHED.match(text, at):
                self._left = text[at:]
                break
            else:
                keys += _key(text[at])
                at += 1
        return keys

    def left(self) -> list[str]:
        """No more comes: then it was Esc, and what stands after it."""
        text, self._left = self._left, ""
        return [key for character in text for key in _key(character)]


def _key(character: str) -> list[str]:
    if character == "\x1b":
        return ["esc"]
    if character in CHARACTERS:
        return [CHARACTERS[character]]
    return [character] if character.isprintable() else []
