"""Notes of the calls that a mobster has begun, in memory that outlives it: other calls can go to another worker.

A mobster has a *page* with a *row* for each of its callers: the call whose arguments are being decoded, and `SLOTS`
words. Before the mobster begins a call, it writes the call's number into the word `number % SLOTS`, unless a higher one
is there. A caller never uses a number twice, and each is higher than those before. So a call whose word has a lower
number has not begun, and nothing makes a begun call look as if it had not, whatever begins later and in whatever order.
The opposite can happen: a call counts as begun if another one, sent a multiple of `SLOTS` later, began first.

For a pool, the page also shows which calls run at the moment, so that one of them can be killed with its process, and
no other one instead.

A caller can take back what has not begun, from a live mobster that may be blocked: it writes the highest number that it
sent there into its row. The mobster checks this word after it noted a call, and begins no call up to that number; the
caller checks the notes after it wrote the word. A memory barrier separates the writes from the checks (`barriers`), so
at least one of the two sees the other's write. If it is the caller, the call has begun or is refused, and its answer
will show which; otherwise the call never begins there.

Pages are found by uid, modulo their number, and contain the uid of their owner. If two mobsters would have the same
page, the first one has it while it lives, and nothing is known of the calls of the second; nor of those of callers that
got no row. Only its mobster writes a page, except for that one word of each row; callers read it when they take
something back, and when the mobster is dead.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from threading import Lock

from mob.rim import barriers

PAGES = 512
ROWS = 7
"""Number of callers of one mobster whose calls are noted."""
WORDS = 64
"""Number of words in a row, and in the head of a page."""
PAGE = WORDS * (1 + ROWS)
SIZE = PAGES * PAGE * 8
OWNER, IS_FULL, PID, GIVES_BACK, REVOKED, REVOKED_AT = range(6)
"""Words in the head of a page.

They are: the uid of its mobster; 1 if a caller got no row; the mobster's pid; 1 if it begins nothing that was taken
back; the number of revoked calls, followed by the last ones, and then by the running calls. A call takes two words: its
caller's uid and its number.
"""
REVOKED_KEPT = 8
RUNNING_AT = REVOKED_AT + 2 * REVOKED_KEPT
MOST_RUNNING = (WORDS - RUNNING_AT) // 2
"""Maximum number of running calls of a mobster that are noted. Others cannot be killed."""
CALLER, MOBSTER, DECODING, ENDED, SLOTS_AT = 0, 1, 2, 3, 4
"""Words of a row: the uids of its caller and mobster, the call that is being decoded, and the highest ended one."""
SLOTS = WORDS - SLOTS_AT - 1
TAKEN_BACK = SLOTS
"""Word after the slots, written by the caller: calls up to this number must not begin any more."""


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
        """Claim an empty page for a mobster that starts; unless a live mobster has that page."""
        page = self._page(uid)
        if page[OWNER] != uid and not (page[OWNER] and _is_alive(page[PID])):
            page[OWNER] = 0  # no owner until it is empty
            page[:] = _EMPTY
            page[PID] = pid
            page[OWNER] = uid

    def give_back(self, uid: int) -> None:
        """Allow callers to take back calls, for a mobster that checks for that and expects barriers."""
        page = self._page(uid)
        if page[OWNER] == uid:
            page[GIVES_BACK] = 1

    def take_row(self, uid: int, caller: int, is_there: Callable[[int], object]) -> BegunRow | None:
        """Return the row in which a mobster notes the calls of a caller, or None if there is no free row.

        `is_there` returns true for the uid of a caller from which calls may still come.
        """
        page = self._page(uid)
        rows = [page[at : at + WORDS] for at in range(WORDS, PAGE, WORDS)] if page[OWNER] == uid else []
        for row in rows:
            is_match = row[MOBSTER] == uid and row[CALLER] == caller
            if is_match or row[MOBSTER] != uid or not is_there(row[CALLER]):
                if not is_match:  # otherwise its notes stay
                    row[MOBSTER] = 0
                    row[:] = memoryview(array("Q", [caller, 0] + [0] * (WORDS - 2)))
                    row[MOBSTER] = uid
                self._taken.append(taken := BegunRow(row))
                return taken
        if rows:
            page[IS_FULL] = 1
        return None

    def enter(self, uid: int, place: int, caller: int, number: int) -> bool:
        """Note that a call runs now, in one of `MOST_RUNNING` places; return False if it was revoked."""
        page, at = self._page(uid), RUNNING_AT + 2 * place
        if page[OWNER] != uid:
            return True
        page[at], page[at + 1] = caller, number
        kept = min(page[REVOKED], REVOKED_KEPT)
        places = range(REVOKED_AT, REVOKED_AT + 2 * kept, 2)
        return all((page[each], page[each + 1]) != (caller, number) for each in places)

    def leave(self, uid: int, place: int) -> None:
        """Note that a call ended."""
        page = self._page(uid)
        if page[OWNER] == uid:
            page[RUNNING_AT + 2 * place + 1] = 0

    def is_running(self, uid: int, caller: int, number: int) -> bool:
        """Return True if a mobster runs a call. The mobster is stopped, so the call cannot end meanwhile."""
        page = self._page(uid)
        running = ((page[at], page[at + 1]) for at in range(RUNNING_AT, WORDS, 2))
        return page[OWNER] == uid and (caller, number) in running

    def has_ended(self, uid: int, caller: int, number: int) -> bool:
        """Return True if a mobster ended a call, or, if it runs several at once, one that was sent later."""
        row = self._row(uid, caller)
        return row is None or row[ENDED] >= number

    def revoke(self, uid: int, caller: int, number: int) -> None:
        """Keep a stopped mobster from beginning a call.

        The last `REVOKED_KEPT` revocations are kept; older ones have reached their links by then.
        """
        page = self._page(uid)
        if page[OWNER] == uid:
            at = REVOKED_AT + 2 * (page[REVOKED] % REVOKED_KEPT)
            page[at], page[at + 1] = caller, number
            page[REVOKED] += 1

    def take_back(self, uid: int, caller: int, numbers: Sequence[int]) -> list[int]:
        """Keep a mobster from beginning calls of a caller up to the highest of these numbers; from any thread.

        Return those of the numbers that it has not begun, and never will. The others either begin or are refused.
        """
        page, row = self._page(uid), self._row(uid, caller)
        if row is None or not page[GIVES_BACK] or not numbers:
            return []
        with self._taking_back:
            mark = row[SLOTS_AT + TAKEN_BACK] = max(*numbers, row[SLOTS_AT + TAKEN_BACK])
            if not barriers.impose():
                return []
            left = [number for number in numbers if not _has_begun(row, number)]
            is_match = page[OWNER] == uid and (row[MOBSTER], row[CALLER]) == (uid, caller)
            return left if is_match and row[SLOTS_AT + TAKEN_BACK] == mark else []

    def may_have_begun(self, uid: int, caller: int, number: int) -> bool:
        """Return False if a mobster is known not to have begun that call (so far, if it is alive)."""
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
        """Release the memory and all rows."""
        self._words.release()
        for row in self._taken:
            row.close()


class BegunRow:
    """The notes of a mobster on the calls of one caller. Two threads must not write at once."""

    __slots__ = ("_row", "slots")

    def __init__(self, row: memoryview) -> None:
        self._row = row
        self.slots: memoryview = row[SLOTS_AT:]
        """Highest begun number, by the number modulo `SLOTS`; then the word for what was taken back (`TAKEN_BACK`)."""

    def __repr__(self) -> str:
        return f"<BegunRow of {self._row[CALLER]}, {max(self.slots[:SLOTS])} is the highest begun>"

    @classmethod
    def apart(cls) -> BegunRow:
        """Return a row in private memory, which no other process reads."""
        return cls(memoryview(array("Q", bytes(WORDS * 8))))

    def begin(self, number: int) -> None:
        """Note that a call begins. An item of a chunk has a negative number: its chunk is the call."""
        if number > self.slots[number % SLOTS]:
            self.slots[number % SLOTS] = number

    def end(self, number: int) -> None:
        """Note that a call ended."""
        if number > self._row[ENDED]:
            self._row[ENDED] = number

    def is_taken_back(self, number: int) -> bool:
        """Return True if a call that was noted as begun must not begin, because its caller took it back."""
        return 0 <= number <= self.slots[TAKEN_BACK]  # items of a chunk have negative numbers

    def close(self) -> None:
        """Release the memory."""
        self.slots.release()
        self._row.release()

    def decode(self, number: int) -> None:
        """Note that the arguments of a call are being decoded: that may end the process before the call begins."""
        self._row[DECODING] = max(0, number)


def _has_begun(row: memoryview, number: int) -> bool:
    return row[SLOTS_AT + number % SLOTS] >= number or row[DECODING] == number


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return pid > 0
