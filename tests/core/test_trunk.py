"""A trunk is whole and in order, or both ends learn that it has ended: whatever the carrier does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from mob.core.trunk import (
    ACK,
    ACK_DELAY,
    ACK_EVERY,
    AGAIN,
    DATA,
    HEAD,
    LATE,
    LOST_AFTER,
    PROBE,
    PROBE_AFTER,
    RESEND_AFTER,
    RESEND_LIMIT,
    WINDOW,
    Trunk,
)
from tests.core.carriers import LATENCY, Faults, check_agreed, joined

QUIET = 3 * LOST_AFTER


def met(now: float = 0.0) -> tuple[Trunk, Trunk]:
    """Two ends that know each other."""
    one, other = Trunk(5), Trunk(9)
    other.receive(one.acknowledge(), now)
    one.receive(other.acknowledge(), now)
    other.receive(one.acknowledge(), now)
    return one, other


def payloads(packets: list[bytes]) -> list[bytes]:
    return [packet[HEAD.size :] for packet in packets]


# --- byte by byte -----------------------------------------------------------------------------------------------------


def test_a_packet() -> None:
    one, other = met()
    assert one.send(b"abc", 0.0) == HEAD.pack(5, 9, 1, 0, DATA) + b"abc"
    assert one.send(b"de", 0.0) == HEAD.pack(5, 9, 2, 0, DATA) + b"de"
    assert one.unacked_bytes == 5
    assert other.acknowledge() == HEAD.pack(9, 5, 0, 0, ACK)
    assert repr(one) == "<Trunk 5 to 9, 5 bytes under way>"
    assert repr(Trunk(1)) == "<Trunk 1 to nobody yet, 0 bytes under way>"


def test_what_is_said_to_a_stranger_comes_when_the_two_have_met() -> None:
    one, other = Trunk(5), Trunk(9)
    first = other.receive(one.send(b"abc", 0.0), 0.0)
    assert first == (None, (HEAD.pack(9, 5, 0, 0, ACK),), False)
    again = one.receive(first.answers[0], 0.0)
    assert again.answers == (HEAD.pack(5, 9, 1, 0, DATA) + b"abc",)
    assert other.receive(again.answers[0], 0.0).payload == b"abc"
    assert other.owes_word
    assert one.receive(other.acknowledge(), 0.0) == (None, (), False)
    assert not other.owes_word
    assert not one.is_waiting


def test_what_is_said_carries_the_acknowledgement() -> None:
    one, other = met()
    other.receive(one.send(b"question", 0.0), 0.0)
    answer = other.send(b"answer", 0.0)
    assert not other.owes_word
    assert one.receive(answer, 0.0).payload == b"answer"
    assert not one.is_waiting


def test_much_is_acknowledged_at_once() -> None:
    one, other = met()
    assert other.receive(one.send(bytes(ACK_EVERY - 1), 0.0), 0.0).answers == ()
    assert other.receive(one.send(b"x", 0.0), 0.0).answers == (HEAD.pack(9, 5, 0, 2, ACK),)


def test_a_gap_is_asked_for_once() -> None:
    one, other = met()
    packets = [one.send(b"%d" % number, 0.0) for number in range(4)]
    assert other.receive(packets[0], 0.0).payload == b"0"
    assert other.receive(packets[2], 0.0) == (None, (HEAD.pack(9, 5, 0, 1, AGAIN),), False)
    assert other.receive(packets[3], 0.0) == (None, (HEAD.pack(9, 5, 0, 1, ACK),), False)
    resent = one.receive(HEAD.pack(9, 5, 0, 1, AGAIN), 0.0).answers
    assert payloads(list(resent)) == [b"1", b"2", b"3"]
    assert [other.receive(packet, 0.0).payload for packet in resent] == [b"1", b"2", b"3"]


def test_what_comes_twice_is_taken_once_and_acknowledged_twice() -> None:
    one, other = met()
    packet = one.send(b"x", 0.0)
    assert other.receive(packet, 0.0).payload == b"x"
    assert other.receive(packet, 0.0) == (None, (HEAD.pack(9, 5, 0, 1, ACK),), False)


def test_a_full_window() -> None:
    one, other = met()
    packets = [one.send(bytes(WINDOW // 4), 0.0) for _ in range(4)]
    assert one.is_full
    answers = [answer for packet in packets for answer in other.receive(packet, 0.0).answers]
    one.receive(answers[0], 0.0)
    assert not one.is_full


# --- time -------------------------------------------------------------------------------------------------------------


def test_what_is_not_acknowledged_is_sent_again_less_and_less_often_and_then_given_up() -> None:
    one, _ = met()
    one.send(b"x", 0.0)
    sent, now = [], 0.0
    while (packets := one.wake(now)) is not None:
        sent += [now] * len(packets)
        now = round(now + 0.05, 2)
    assert sent == [RESEND_AFTER, 0.75, 1.75, 2.75]
    assert sent[-1] - sent[-2] == RESEND_LIMIT
    assert now == LOST_AFTER


def test_progress_gives_time() -> None:
    one, other = met()
    packets = [one.send(b"x", 0.0) for _ in range(2)]
    for now in range(2):
        one.wake(float(now))
    other.receive(packets[0], 2.5)
    one.receive(other.acknowledge(), 2.5)
    assert one.wake(3.0) is not None
    assert one.wake(4.0) is not None
    assert one.wake(5.5) is None


def test_an_idle_trunk_says_nothing_unless_it_is_used() -> None:
    one, _ = met()
    assert not one.is_waiting
    assert all(one.wake(now / 10) == [] for now in range(100))


def test_a_used_one_asks_whether_the_other_is_there() -> None:
    one, other = met(now=0.0)
    asked: list[bytes] = []
    for tenth in range(1, 50):
        packets = one.wake(tenth / 10, is_used=True)
        assert packets is not None
        for packet in packets:
            asked.append(packet)
            for answer in other.receive(packet, tenth / 10).answers:
                assert one.receive(answer, tenth / 10).answers == ()
    assert asked == [HEAD.pack(5, 9, 0, 0, PROBE)] * 4


def test_and_gives_up_if_there_is_no_answer() -> None:
    one, _ = met(now=0.0)
    for tenth in range(1, 30):
        assert one.wake(tenth / 10, is_used=True) is not None
    assert one.wake(LOST_AFTER + PROBE_AFTER, is_used=True) is None


@pytest.mark.parametrize("is_idle", [True, False])
def test_one_that_stood_still_does_not_blame_the_other(is_idle: bool) -> None:
    one, _ = met(now=0.0)
    if not is_idle:
        one.send(b"x", 0.0)
    one.wake(0.1, is_used=True)
    assert one.wake(0.1 + LATE + LOST_AFTER, is_used=True) is not None
    assert one.wake(0.2 + LATE + LOST_AFTER, is_used=True) is not None


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_who_begins_anew_is_understood() -> None:
    one, other = met()
    other.receive(one.send(b"old", 0.0), 0.0)
    one.restart()
    assert one.session == 6
    received = other.receive(one.acknowledge(), 1.0)
    assert received.has_ended
    assert other.session == 10
    assert not one.receive(other.acknowledge(), 1.0).has_ended
    assert other.receive(one.send(b"new", 1.0), 1.0) == (b"new", (), False)


def test_what_was_said_before_is_not_heard_and_answered_by_what_is_now() -> None:
    one, other = met()
    late = other.send(b"late", 0.0)
    one.restart()
    answer = one.receive(late, 0.0)
    assert answer == (None, (HEAD.pack(6, 0, 0, 0, ACK),), False)
    assert other.receive(answer.answers[0], 0.0).has_ended


def test_a_late_packet_of_an_older_session_ends_nothing() -> None:
    one, other = met()
    late = one.acknowledge()
    one.restart()
    other.receive(one.acknowledge(), 0.0)
    one.receive(other.acknowledge(), 0.0)
    assert not other.receive(late, 0.0).has_ended
    assert other.receive(one.send(b"x", 0.0), 0.0).payload == b"x"


def test_both_begin_anew_at_once() -> None:
    one, other = met()
    one.restart()
    other.restart()
    hello, answer = one.acknowledge(), other.acknowledge()
    assert not one.receive(answer, 0.0).has_ended
    assert not other.receive(hello, 0.0).has_ended
    assert other.receive(one.send(b"x", 0.0), 0.0).payload == b"x"


def test_acknowledgements_are_not_answered() -> None:
    one, other = met()
    assert one.receive(other.acknowledge(), 0.0).answers == ()
    one.restart()
    one.receive(HEAD.pack(20, 3, 0, 0, ACK), 0.0)  # to somebody who was here long ago
    assert one.receive(HEAD.pack(20, 3, 0, 0, ACK), 0.0).answers == ()


# --- any carrier ------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.05, 0.3]),
    repetition=st.sampled_from([0.0, 0.3]),
    delay=st.sampled_from([0.0, 0.01, 0.5]),
    steps=st.lists(st.sampled_from(["left", "right", "left ends", "right ends", "cut", "time"]), max_size=40),
)
def test_all_comes_once_and_in_order_or_both_learn_that_it_ended(
    seed: int, loss: float, repetition: float, delay: float, steps: list[str]
) -> None:
    carrier, left, right = joined(seed, Faults(loss, repetition, delay))
    for step in steps:
        end = left if step.startswith("left") else right
        match step:
            case "left" | "right":
                for _ in range(carrier.random.randrange(1, 6)):
                    end.say()
            case "left ends" | "right ends":
                end.give_up()
            case "cut":
                carrier.faults.is_cut = True
                carrier.run(carrier.random.random() * 5)
                carrier.faults.is_cut = False
            case _:
                carrier.run(carrier.random.random())
        carrier.run(carrier.random.random() / 50)
    carrier.faults = Faults()
    carrier.run(QUIET)
    check_agreed(left, right)
    left.say()
    right.say()
    carrier.run(QUIET)
    check_agreed(left, right)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), talk=st.lists(st.sampled_from(["left", "right", "left ends", "right ends"])))
def test_two_ends_that_have_nothing_to_say_fall_silent(seed: int, talk: list[str]) -> None:
    carrier, left, right = joined(seed, Faults(0.3, 0.3, 0.5), is_used=False)
    for step in talk:
        end = left if step.startswith("left") else right
        end.give_up() if step.endswith("ends") else end.say()
        carrier.run(0.1 * carrier.random.random())
    carrier.faults = Faults()
    carrier.run(QUIET)
    before = carrier.packets
    carrier.run(100.0)
    assert carrier.packets == before


def test_under_constant_talk_and_seldom_loss_nothing_ends() -> None:
    carrier, left, right = joined(3, Faults(loss=0.02, repetition=0.01, delay=0.002))
    for _ in range(2000):
        left.say()
        right.say()
        carrier.run(0.005)
    carrier.run(QUIET)
    check_agreed(left, right)
    assert left.epoch == right.epoch == 0
    assert left.said == 2000


def test_one_end_falls_silent_and_the_other_learns_it_though_it_has_nothing_to_say() -> None:
    carrier, left, right = joined()
    left.say()
    carrier.run(1.0)
    carrier.faults.is_cut = True
    left.give_up()  # its word is lost
    carrier.faults.is_cut = False
    carrier.run(PROBE_AFTER + 0.2)
    assert right.epoch == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_window_is_never_exceeded_by_more_than_a_packet(seed: int) -> None:
    size = WINDOW // 10
    carrier, left, right = joined(seed, Faults(loss=0.1))
    for _ in range(35):
        left.say(size)
    carrier.run(40.0)
    check_agreed(left, right)
    assert left.most_under_way <= WINDOW + size
    assert left.epoch == 0


def test_a_question_and_its_answer_cost_few_packets() -> None:
    carrier, left, right = joined(is_used=False)
    left.say()
    carrier.run(1.0)
    before = carrier.packets
    for _ in range(100):
        left.say()
        carrier.run(LATENCY)
        right.say()
        carrier.run(2 * LATENCY)
    carrier.run(2 * ACK_DELAY)
    assert carrier.packets - before <= 220


# --- garbage ----------------------------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_garbage_is_survived(data: bytes) -> None:
    one, _ = met()
    one.send(b"x", 0.0)
    one.receive(data, 0.0)
    assert one.send(b"y", 0.0)


@pytest.mark.parametrize("acknowledged", [3, 2**60])
def test_what_was_never_sent_cannot_be_acknowledged(acknowledged: int) -> None:
    one, _ = met()
    one.send(b"x", 0.0)
    one.send(b"y", 0.0)
    one.receive(HEAD.pack(9, 5, 0, acknowledged, ACK), 0.0)
    assert one.unacked_bytes == 2


def test_an_unknown_kind_is_not_heard() -> None:
    one, _ = met()
    assert one.receive(HEAD.pack(9, 5, 0, 0, 77), 0.0) == (None, (), False)
