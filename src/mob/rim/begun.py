"""Which calls a mobster has begun, in memory that outlives it: what had only waited there can go to another worker.

A mobster has a *page*, and on it a *row* for each of its callers: the call whose arguments are being decoded, and
`SLOTS` words. Before it begins a call it writes the call's number into the word `number % SLOTS`, unless a higher one
is there. A caller never uses a number twice, and each is higher than those before. So a call whose word has a lower
number has not begun, and nothing makes one that has begun look as if it had not, whatever begins later and in whatever
order. It may be the other way round: a call is taken for begun if one that was sent a multiple of `SLOTS` later was
begun first.

Pages are found by uid, modulo their number, and say whose they are. If two mobsters have the same one, the callers of
the older know nothing, and neither do those for whom there was no row. A page has one writer, its mobster; callers read
it when that is dead.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

PAGES = 512
ROWS = 7
"""Callers of one mobster whose calls are noted."""
WORDS = 64
"""Of a row; the head of a page takes as much."""
PAGE = WORDS * (1 + ROWS)
SIZE = PAGES * PAGE * 8
OWNER, IS_FULL = 0, 1
"""In the head of a page: the uid of its mobster; a caller has got no row."""
CALLER, MOBSTER, DECODING, SLOTS_AT = 0, 1, 2, 4
"""In a row: whose calls of whom it has, and the call that is being decoded."""
SLOTS = WORDS - SLOTS_AT


_EMPTY = memoryview(array("Q", bytes(PAGE * 8)))


class BegunCalls:
    """The pages of all mobsters, in shared memory."""

    __slots__ = ("_taken", "_words")

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._taken: list[BegunRow] = []

    def __repr__(self) -> str:
        return f"<BegunCalls of {sum(uid > 0 for uid in self._words[OWNER::PAGE])} mobsters>"

    def claim(self, uid: int) -> None:
        """Have an empty page, as a mobster that begins."""
        page = self._page(uid)
        if page[OWNER] != uid:
            page[OWNER] = 0  # until it is empty it is nobody's
            page[:] = _EMPTY
            page[OWNER] = uid

    def take_row(self, uid: int, caller: int, is_there: Callable[[int], object]) -> BegunRow | None:
        """Return the row in which a mobster notes the calls of a caller; None if there is none. `is_there` tells of the
        uid of a caller if calls may still come from it."""
        page = self._page(uid)
        rows = [page[at : at + WORDS] for at in range(WORDS, PAGE, WORDS)] if page[OWNER] == uid else []
        for row in rows:
            if row[MOBSTER] != uid or row[CALLER] == caller or not is_there(row[CALLER]):
                row[MOBSTER] = 0
                row[:] = memoryview(array("Q", [caller, 0] + [0] * (WORDS - 2)))
                row[MOBSTER] = uid
                self._taken.append(taken := BegunRow(row))
                return taken
        if rows:
            page[IS_FULL] = 1
        return None

    def may_have_begun(self, uid: int, caller: int, number: int) -> bool:
        """Return False if a mobster, which is dead, is known not to have begun that call."""
        page = self._page(uid)
        has_begun = bool(page[IS_FULL])
        for row in (page[at : at + WORDS] for at in range(WORDS, PAGE, WORDS)):
            if row[CALLER] == caller and row[MOBSTER] == uid:
                has_begun = row[SLOTS_AT + number % SLOTS] >= number or row[DECODING] == number
                break
        return has_begun or page[OWNER] != uid

    def _page(self, uid: int) -> memoryview:
        at = uid % PAGES * PAGE
        return self._words[at : at + PAGE]

    def close(self) -> None:
        """Let go of the memory, with all rows."""
        self._words.release()
        for row in self._taken:
            row.close()


class BegunRow:
    """What a mobster notes of the calls of one caller. Two threads must not write at once."""

    __slots__ = ("_row", "slots")

    def __init__(self, row: memoryview) -> None:
        self._row = row
        self.slots: memoryview = row[SLOTS_AT:]
        """The highest number that has begun, by the number modulo `SLOTS`."""

    def __repr__(self) -> str:
        return f"<BegunRow of {self._row[CALLER]}, {max(self.slots)} is the highest begun>"

    @classmethod
    def apart(cls) -> BegunRow:
        """Return one that nobody reads."""
        return cls(memoryview(array("Q", bytes(WORDS * 8))))

    def begin(self, number: int) -> None:
        """Note that a call begins now. An item of a chunk has a number below 0: its chunk is the call."""
        if number > self.slots[number % SLOTS]:
            self.slots[number % SLOTS] = number

    def close(self) -> None:
        """Let go of the memory."""
        self.slots.release()
        self._row.release()

    def decode(self, number: int) -> None:
        """Note that the arguments of a call are decoded, which may end the process, though it begins later."""
        self._row[DECODING] = max(0, number)
