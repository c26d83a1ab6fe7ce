"""Attempts that the system refuses for now are retried, and reported once."""

from __future__ import annotations

import errno
import resource

import pytest

from mob.kingpin.shortage import ALL, RESERVE, Shortage, is_reserved
from tests.kingpin.members import Room


class Scarce:
    """A resource that is only sometimes available."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.attempts = 0

    def take(self) -> None:
        self.attempts += 1
        if self.number:
            raise OSError(self.number, errno.errorcode[self.number])


def test_what_waits_is_said_once_and_shown_as_long_as_it_waits(room: Room) -> None:
    said: list[str] = []
    shortage = Shortage(room.reactor, said.append)
    scarce = Scarce(errno.ENOSPC)
    for _ in range(2):
        shortage.attempt("a thing is not available", scarce.take)
    assert said == ["a thing is not available: ENOSPC. Retrying every 1 s."]
    assert shortage.text() == "a thing is not available: ENOSPC"
    shortage.attempt("another is not available", Scarce(errno.EAGAIN).take)
    assert shortage.text() == "a thing is not available: ENOSPC; another is not available: EAGAIN"
    scarce.number = 0
    shortage.attempt("a thing is not available", scarce.take)
    assert shortage.text() == "another is not available: EAGAIN"
    shortage.forget()
    assert (shortage.text(), scarce.attempts) == ("", 3)


def test_it_is_tried_again_by_itself(room: Room) -> None:
    shortage = Shortage(room.reactor, lambda text: None)
    scarce = Scarce(errno.EMFILE)

    def take() -> None:
        scarce.take()
        room.reactor.loop.stop()

    shortage.attempt("a thing is not available", take)
    scarce.number = 0
    room.reactor.run()
    assert (shortage.text(), scarce.attempts) == ("", 2)


def test_an_error_of_another_kind_is_raised_unless_all_are_to_be_borne(room: Room) -> None:
    shortage = Shortage(room.reactor, lambda text: None)
    with pytest.raises(PermissionError):
        shortage.attempt("a thing is not available", Scarce(errno.EACCES).take)
    shortage.attempt("a thing is not available", Scarce(errno.EACCES).take, ALL)
    assert shortage.text() == "a thing is not available: EACCES"


@pytest.mark.parametrize(("limit", "first"), [(1000, 1000 - RESERVE), (200, 150)])
def test_the_last_descriptors_are_not_for_visitors(limit: int, first: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        assert [is_reserved(number) for number in (first - 1, first)] == [False, True]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
