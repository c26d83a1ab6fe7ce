"""MessagePack that is nested too deeply to be decoded here: what is too deep is sealed, and the rest can be read.

msgspec decodes by recursion, so how deep it can go depends on this process: on its recursion limit, and on the depth of
its stack when something arrives. One value that is too deep must not cost the other messages of its frame. `sealed`
replaces each container below a certain depth with an extension that has its bytes as data. Decoding such a value raises
an error, and the references in it can still be found.

Limits. Works on bytes, token by token, and is slow; it is for frames that could not be decoded. It does not look into
extensions. Malformed bytes raise `ValueError`.
"""

from __future__ import annotations

TOO_DEEP = 9
"""Code of the extension. It is never sent: the receiver puts it in."""

FIXED = {0xCA: 4, 0xCB: 8, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4} | {0xCC + n: 1 << n % 4 for n in range(8)}
"""Number of bytes that follow these marks: floats, the counts of long arrays and maps, ints."""
LONG = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""Number of bytes after these marks that give the length of what follows: binary, extensions, text."""
_COUNTED = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Long arrays and maps: the number of bytes of the count, and of values per item."""


def sealed(body: bytes | bytearray | memoryview, depth: int) -> bytes:
    """Return the MessagePack of the same values, with everything nested deeper than `depth` sealed.

    >>> sealed(bytes([0x92, 1, 0x91, 2]), 2).hex()
    '92019102'
    >>> sealed(bytes([0x92, 1, 0x91, 2]), 1).hex()
    '9201c900000002099102'
    """
    view = memoryview(body)
    parts: list[bytes | memoryview] = []
    kept, at = 0, 0  # where the part not copied yet begins, and where the next token is
    missing = [1]  # values still to come, by level
    while missing:
        if not missing[-1]:
            missing.pop()
            continue
        missing[-1] -= 1
        end, items = _token(view, at)
        if items and len(missing) > depth:
            end = _end_of(view, at)
            parts += (view[kept:at], b"\xc9", (end - at).to_bytes(4, "big"), bytes([TOO_DEEP]), view[at:end])
            kept = end
        elif items:
            missing.append(items)
        at = end
    return b"".join([*parts, view[kept:]])


def _end_of(body: memoryview, at: int) -> int:
    missing = 1
    while missing:
        at, items = _token(body, at)
        missing += items - 1
    return at


def _token(body: memoryview, at: int) -> tuple[int, int]:
    """Return where the token at that place ends, and how many of the values that follow belong to it."""
    if at >= len(body):
        raise ValueError("the bytes end in the middle of a value")
    mark = body[at]
    at += 1
    if 0x80 <= mark <= 0x9F:
        return at, (mark & 0x0F) * (2 if mark < 0x90 else 1)
    if mark in _COUNTED:
        length, each = _COUNTED[mark]
        return at + length, int.from_bytes(body[at : at + length], "big") * each
    if 0xA0 <= mark <= 0xBF:
        return at + mark - 0xA0, 0
    if 0xD4 <= mark <= 0xD8:
        return at + 1 + (1 << mark - 0xD4), 0
    if mark in LONG:
        length = LONG[mark]
        code = 1 if 0xC7 <= mark <= 0xC9 else 0
        return at + length + code + int.from_bytes(body[at : at + length], "big"), 0
    return at + FIXED.get(mark, 0), 0
