"""Which calls a mobster has begun, in memory that outlives it: what had only waited there can go to another worker.

A mobster has a *page*, and on it a *row* for each of its callers: the call whose arguments are being decoded, and
`SLOTS` words. Before it begins a call it writes the call's number into the word `number % SLOTS`, unless a higher one
is there. A caller never uses a number twice, and each is higher than those before. So a call whose word has a lower
number has not begun, and nothing makes one that has begun look as if it had not, whatever begins later and in whatever
order. It may be the other way round: a call is taken for begun if one that was sent a multiple of `SLOTS` later was
begun first.

Of a pool the page says as well which calls run at this moment, so that one of them can be killed with its process and
no other in its place.

A caller can take back what has not begun, from a mobster that lives and whatever that does: in its row it writes the
highest number that it has sent there. The mobster looks at this word when it has noted a call, and begins none up to
that number; the caller looks at the notes when it has written. A memory barrier is between the two looks and the two
words (`barriers`), so at least one of the two sees the other's. If it is the caller, the call has begun or is refused,
which its answer will tell; if it does not, the call never begins there.

Pages are found by uid, modulo their number, and say whose they are. If two mobsters would have the same one, the older
has it while it lives, and the callers of the younger know nothing; neither do those for whom there was no row. A page
is written by its mobster, but for that one word of each row; callers read it when they take something back, and when
the mobster is dead.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from threading import Lock

from mob.rim import barriers

PAGES = 512
ROWS = 7
"""Callers of one mobster whose calls are noted."""
WORDS = 64
"""Of a row; the head of a page takes as much."""
PAGE = WORDS * (1 + ROWS)
SIZE = PAGES * PAGE * 8
OWNER, IS_FULL, PID, GIVES_BACK, REVOKED, REVOKED_AT = range(6)
"""In the head of a page: the uid of its mobster; a caller has got no row; its mobster's pid; it begins nothing that was
taken back; how many calls were revoked, and the last of them. What follows them are those that run. A call is two
words: its caller's uid and its number."""
REVOKED_KEPT = 8
RUNNING_AT = REVOKED_AT + 2 * REVOKED_KEPT
MOST_RUNNING = (WORDS - RUNNING_AT) // 2
"""Calls of a mobster that are known to run. More are not noted, and cannot be killed."""
CALLER, MOBSTER, DECODING, ENDED, SLOTS_AT = 0, 1, 2, 3, 4
"""In a row: whose calls of whom it has, the call that is being decoded, and the highest that has ended."""
SLOTS = WORDS - SLOTS_AT - 1
TAKEN_BACK = SLOTS
"""Behind the slots: calls up to this number, which its caller writes, must not begin any more."""


_EMPTY = memoryview(array("Q", bytes(PAGE * 8)))


class BegunCalls:
    """The pages of all mobsters, in shared memory."""

    __slots__ = ("_taken", "_taking_back", "_words")

    def __init__(self, words: memoryview) -> None:
        self._words = words
        self._taken: list[BegunRow] = []
        self._taking_back = Lock()

    def __repr__(self) -> str:
        return f"<BegunCalls of {sum(uid > 0 for uid in self._words[OWNER::PAGE])} mobsters>"

    def claim(self, uid: int, pid: int = 0) -> None:
        """Have an empty page, as a mobster that begins; or none, if one has it that lives."""
        page = self._page(uid)
        if page[OWNER] != uid and not (page[OWNER] and _is_alive(page[PID])):
            page[OWNER] = 0  # until it is empty it is nobody's
            page[:] = _EMPTY
            page[PID] = pid
            page[OWNER] = uid

    def give_back(self, uid: int) -> None:
        """Let callers take back what has not begun, as a mobster that looks for that, and expects barriers."""
        page = self._page(uid)
        if page[OWNER] == uid:
            page[GIVES_BACK] = 1

    def take_row(self, uid: int, caller: int, is_there: Callable[[int], object]) -> BegunRow | None:
        """Return the row in which a mobster notes the calls of a caller; None if there is none. `is_there` tells of the
        uid of a caller if calls may still come from it.
        """
        page = self._page(uid)
        rows = [page[at : at + WORDS] for at in range(WORDS, PAGE, WORDS)] if page[OWNER] == uid else []
        for row in rows:
            is_his = row[MOBSTER] == uid and row[CALLER] == caller
            if is_his or row[MOBSTER] != uid or not is_there(row[CALLER]):
                if not is_his:  # else what he has taken back, or had begun, stays so
                    row[MOBSTER] = 0
                    row[:] = memoryview(array("Q", [caller, 0] + [0] * (WORDS - 2)))
                    row[MOBSTER] = uid
                self._taken.append(taken := BegunRow(row))
                return taken
        if rows:
            page[IS_FULL] = 1
        return None

    def enter(self, uid: int, place: int, caller: int, number: int) -> bool:
        """Note, as its mobster, that a call runs now, in one of `MOST_RUNNING` places; return False if it must not."""
        page, at = self._page(uid), RUNNING_AT + 2 * place
        if page[OWNER] != uid:
            return True
        page[at], page[at + 1] = caller, number
        kept = min(page[REVOKED], REVOKED_KEPT)
        places = range(REVOKED_AT, REVOKED_AT + 2 * kept, 2)
        return all((page[each], page[each + 1]) != (caller, number) for each in places)

    def leave(self, uid: int, place: int) -> None:
        """Note that it has ended."""
        page = self._page(uid)
        if page[OWNER] == uid:
            page[RUNNING_AT + 2 * place + 1] = 0

    def is_running(self, uid: int, caller: int, number: int) -> bool:
        """Return whether a mobster runs a call; it is stopped, so it does not end it meanwhile."""
        page = self._page(uid)
        running = ((page[at], page[at + 1]) for at in range(RUNNING_AT, WORDS, 2))
        return page[OWNER] == uid and (caller, number) in running

    def has_ended(self, uid: int, caller: int, number: int) -> bool:
        """Return whether a mobster has ended a call, or, if it runs several at once, one that was sent later."""
        row = self._row(uid, caller)
        return row is None or row[ENDED] >= number

    def revoke(self, uid: int, caller: int, number: int) -> None:
        """Have a mobster, which is stopped, not begin a call. The last `REVOKED_KEPT` are kept: the links of older ones
        have been told as well.
        """
        page = self._page(uid)
        if page[OWNER] == uid:
            at = REVOKED_AT + 2 * (page[REVOKED] % REVOKED_KEPT)
            page[at], page[at + 1] = caller, number
            page[REVOKED] += 1

    def take_back(self, uid: int, caller: int, numbers: Sequence[int]) -> list[int]:
        """Have a mobster begin no call of a caller up to the highest of these numbers; return those of them that it has
        not begun, and never will. Of the others it is not known: they begin, or are refused. From any thread.
        """
        page, row = self._page(uid), self._row(uid, caller)
        if row is None or not page[GIVES_BACK] or not numbers:
            return []
        with self._taking_back:
            mark = row[SLOTS_AT + TAKEN_BACK] = max(*numbers, row[SLOTS_AT + TAKEN_BACK])
            if not barriers.impose():
                return []
            left = [number for number in numbers if not _has_begun(row, number)]
            is_his = page[OWNER] == uid and (row[MOBSTER], row[CALLER]) == (uid, caller)
            return left if is_his and row[SLOTS_AT + TAKEN_BACK] == mark else []

    def may_have_begun(self, uid: int, caller: int, number: int) -> bool:
        """Return False if a mobster is known not to have begun that call, at this moment if it lives."""
        page, row = self._page(uid), self._row(uid, caller)
        return page[OWNER] != uid or (bool(page[IS_FULL]) if row is None else _has_begun(row, number))

    def _row(self, uid: int, caller: int) -> memoryview | None:
        page = self._page(uid)
        rows = (page[at : at + WORDS] for at in range(WORDS, PAGE, WORDS))
        return next((row for row in rows if row[CALLER] == caller and row[MOBSTER] == uid), None)

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
        """The highest number that has begun, by the number modulo `SLOTS`; then what was taken back (`TAKEN_BACK`)."""

    def __repr__(self) -> str:
        return f"<BegunRow of {self._row[CALLER]}, {max(self.slots[:SLOTS])} is the highest begun>"

    @classmethod
    def apart(cls) -> BegunRow:
        """Return one that nobody reads."""
        return cls(memoryview(array("Q", bytes(WORDS * 8))))

    def begin(self, number: int) -> None:
        """Note that a call begins now. An item of a chunk has a number below 0: its chunk is the call."""
        if number > self.slots[number % SLOTS]:
            self.slots[number % SLOTS] = number

    def end(self, number: int) -> None:
        """Note that a call has ended."""
        if number > self._row[ENDED]:
            self._row[ENDED] = number

    def is_taken_back(self, number: int) -> bool:
        """Return whether a call that was noted as begun must not begin, because its caller has taken it back."""
        return 0 <= number <= self.slots[TAKEN_BACK]  # items of a chunk have numbers below 0

    def close(self) -> None:
        """Let go of the memory."""
        self.slots.release()
        self._row.release()

    def decode(self, number: int) -> None:
        """Note that the arguments of a call are decoded, which may end the process, though it begins later."""
        self._row[DECODING] = max(0, number)


def _has_begun(row: memoryview, number: int) -> bool:
    return row[SLOTS_AT + number % SLOTS] >= number or row[DECODING] == number


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return pid > 0
