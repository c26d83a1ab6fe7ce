"""A trunk is complete and in order, or both ends learn that it ended, whatever the carrier does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from mob.core.trunk import (
    ACK,
    ACK_DELAY,
    ACK_EVERY,
    AGAIN,
    ALONE,
    DATA,
    FIRST_WINDOW,
    GROWTH,
    HEAD,
    LEAST_WINDOW,
    LOST_AFTER,
    PROBE,
    PROBE_AFTER,
    RESEND_AFTER,
    RESEND_LIMIT,
    SLOW,
    STALL_GAP,
    WINDOW,
    Packet,
    Trunk,
)
from tests.core.carriers import LATENCY, Carrier, End, Faults, check_agreed, joined

QUIET = 3 * LOST_AFTER
PART = 64 * 1024


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
    assert repr(Trunk(1)) == "<Trunk 1 to no session yet, 0 bytes under way>"


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


def test_to_a_stranger_goes_one_packet_and_no_more() -> None:
    one, other = Trunk(5), Trunk(9)
    assert not one.is_full
    packet = one.send(b"abc", 0.0)
    assert one.is_full
    answer = other.receive(packet, 0.0).answers[0]
    again = one.receive(answer, 0.0).answers
    assert not one.is_full, "it is known now"
    assert payloads(list(again)) == [b"abc"]
    one.restart()
    assert not one.is_full
    one.send(b"x", 0.0)
    assert one.is_full


def test_a_packet_begins_with_its_prefix_and_comes_without_it() -> None:
    one, other = Trunk(5, b"to 9"), Trunk(9, b"to 5")
    hello = other.receive(memoryview(one.acknowledge())[4:], 0.0)
    one.receive(memoryview(other.acknowledge())[4:], 0.0)
    assert hello.answers == ()
    packet = one.send(b"abc", 0.0)
    assert packet == b"to 9" + HEAD.pack(5, 9, 1, 0, DATA) + b"abc"
    assert one.acknowledge() == b"to 9" + HEAD.pack(5, 9, 0, 0, ACK)
    assert one.unacked_bytes == 3
    payload = other.receive(memoryview(packet)[4:], 0.0).payload
    assert isinstance(payload, memoryview)
    assert payload == b"abc"


def test_a_payload_may_be_a_part_of_something_larger() -> None:
    one, other = met()
    packet = one.send(memoryview(b"a whole")[2:], 0.0)
    assert other.receive(packet, 0.0).payload == b"whole"
    assert payloads(one.resend(0.0)) == [b"whole"]
    assert repr(Packet(3, bytes(1234), 0.0)) == "<Packet 3, 1,234 bytes>"


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
    packets = [one.send(bytes(FIRST_WINDOW // 4), 0.0) for _ in range(4)]
    assert one.is_full
    other.receive(packets[0], 0.0)
    one.receive(other.acknowledge(), 0.0)
    assert not one.is_full


def size_of_window(one: Trunk, other: Trunk, now: float) -> int:
    """Return how much may be under way, by filling the window; all of it arrives and is acknowledged at once."""
    size = 0
    while not one.is_full:
        other.receive(one.send(bytes(1024), now), now)
        size += 1024
    one.resend(now)  # so these count for nothing
    one.receive(other.acknowledge(), now)
    return size


def say(one: Trunk, other: Trunk, size: int, sent_at: float, now: float) -> None:
    other.receive(one.send(bytes(size), sent_at), now)
    one.receive(other.acknowledge(), now)


def test_the_window_grows_by_what_is_acknowledged_in_time() -> None:
    one, other = met()
    assert size_of_window(one, other, 10.0) == FIRST_WINDOW
    say(one, other, PART, 10.0, 10.0 + SLOW)
    assert size_of_window(one, other, 11.0) == FIRST_WINDOW + PART
    for _ in range(200):
        say(one, other, PART, 11.0, 11.1)
    assert size_of_window(one, other, 12.0) == WINDOW


def test_it_shrinks_when_that_takes_long_and_grows_slowly_from_then_on() -> None:
    one, other = met()
    say(one, other, 1024, 10.0, 10.1 + SLOW)
    assert size_of_window(one, other, 11.0) == FIRST_WINDOW // 2
    say(one, other, PART, 11.0, 11.1)
    assert size_of_window(one, other, 11.0) == FIRST_WINDOW // 2 + PART // GROWTH


def test_it_shrinks_once_for_all_that_is_under_way_and_never_to_nothing() -> None:
    one, other = met()
    packets = [one.send(b"x", 10.0) for _ in range(4)]
    for packet, now in zip(packets, (11.0, 11.1, 11.2, 11.3), strict=True):
        other.receive(packet, now)
        one.receive(other.acknowledge(), now)
    assert size_of_window(one, other, 12.0) == FIRST_WINDOW // 2
    for now in range(20, 40, 2):
        say(one, other, 1, float(now), now + 1.5)
    assert size_of_window(one, other, 50.0) == LEAST_WINDOW


def test_what_was_sent_twice_says_nothing_about_the_line() -> None:
    one, other = met()
    packet = one.send(b"x", 10.0)
    one.resend(11.0)
    other.receive(packet, 12.0)
    one.receive(other.acknowledge(), 12.0)
    assert size_of_window(one, other, 12.0) == FIRST_WINDOW


# --- time -------------------------------------------------------------------------------------------------------------


def test_what_is_not_acknowledged_is_sent_again_less_and_less_often_and_then_given_up() -> None:
    one, _ = met()
    one.send(b"x", 0.0)
    sent: list[float] = []
    now = 0.0
    while (packets := one.wake(now)) is not None:
        sent += [now] * len(packets)
        now = round(now + 0.05, 2)
    assert sent == [RESEND_AFTER, 0.75, 1.75, 2.75]
    assert sent[-1] - sent[-2] == RESEND_LIMIT
    assert now == LOST_AFTER


def test_only_the_first_is_sent_again_and_the_answer_says_what_is_lost() -> None:
    one, other = met()
    one.wake(9.9)
    packets = [one.send(b"%d" % number, 10.0) for number in range(4)]
    other.receive(packets[1], 10.0)  # the others are lost, and so is what it requests then
    (alone,) = one.wake(10.3) or []
    assert alone == HEAD.pack(5, 9, 1, 0, ALONE) + b"0"
    received = other.receive(alone, 10.3)
    assert received == (b"0", (HEAD.pack(9, 5, 1, 1, AGAIN),), False)
    resent = one.receive(received.answers[0], 10.3).answers
    assert payloads(list(resent)) == [b"1", b"2", b"3"]
    assert [other.receive(packet, 10.3).payload for packet in resent] == [b"1", b"2", b"3"]
    one.receive(other.acknowledge(), 10.3)
    assert not one.is_waiting


def test_what_was_only_late_is_not_sent_again_nor_what_was_said_since() -> None:
    one, other = met()
    one.wake(9.9)
    packets = [one.send(b"%d" % number, 10.0) for number in range(3)]
    (alone,) = one.wake(10.3) or []
    packets += [alone, one.send(b"3", 10.3)]
    came = [other.receive(packet, 10.4) for packet in packets]
    assert [each.payload for each in came] == [b"0", b"1", b"2", None, b"3"]
    assert came[3].answers == (HEAD.pack(9, 5, 1, 3, AGAIN),)
    assert one.receive(came[3].answers[0], 10.4).answers == ()
    assert one.is_waiting, "the last one is under way"
    one.receive(other.acknowledge(), 10.4)
    assert not one.is_waiting


def test_alone_or_not_a_packet_is_taken_once() -> None:
    one, other = met()
    one.wake(9.9)
    one.send(b"x", 10.0)
    (alone,) = one.wake(10.3) or []
    assert other.receive(alone, 10.3).payload == b"x"
    assert other.receive(alone, 10.3) == (None, (HEAD.pack(9, 5, 1, 1, AGAIN),), False)


def test_who_is_used_to_wait_waits_longer_before_anything_is_sent_again() -> None:
    one, other = met()
    for now in range(10, 20):
        one.wake(float(now))
        say(one, other, 1, float(now), now + 0.4)
    one.send(b"x", 20.0)
    assert one.wake(20.7) == []
    assert len(one.wake(20.9) or ()) == 1


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


def test_when_the_carrier_is_back_both_ends_learn_at_once_that_the_other_is_there() -> None:
    one, other = met()
    one.wake(0.0, is_used=True)
    other.wake(0.0, is_used=True)
    late = LOST_AFTER - 0.01
    for tenth in range(1, int(10 * late)):  # looks whose probes are lost
        assert one.wake(tenth / 10, is_used=True) is not None
        assert other.wake(tenth / 10, is_used=True) is not None
    (probe,) = one.resume(late, is_used=True)
    (answer,) = other.receive(probe, late).answers
    assert one.receive(answer, late).answers == ()
    for end in (one, other):
        assert end.wake(late + PROBE_AFTER, is_used=True) == [HEAD.pack(end.session, end._other, 0, 0, PROBE)]
    assert met()[0].resume(0.0, is_used=False) == []


@pytest.mark.parametrize("is_idle", [True, False])
def test_one_that_stood_still_does_not_blame_the_other(is_idle: bool) -> None:
    one, _ = met(now=0.0)
    if not is_idle:
        one.send(b"x", 0.0)
    one.wake(0.1, is_used=True)
    assert one.wake(0.1 + STALL_GAP + LOST_AFTER, is_used=True) is not None
    assert one.wake(0.2 + STALL_GAP + LOST_AFTER, is_used=True) is not None


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


def test_two_that_begin_anew_in_turn_find_each_other() -> None:
    one, other = met()
    one.restart()
    other.receive(one.send(b"said", 1.0), 1.0)  # what that answers is lost
    other.restart()  # no packet has reached it; `one` has not heard of it
    (again,) = one.receive(other.acknowledge(), 2.0).answers
    assert other.receive(again, 2.0).payload == b"said"


def test_acknowledgements_are_not_answered() -> None:
    one, other = met()
    assert one.receive(other.acknowledge(), 0.0).answers == ()
    one.restart()
    one.receive(HEAD.pack(20, 3, 0, 0, ACK), 0.0)  # to a session of long ago
    assert one.receive(HEAD.pack(20, 3, 0, 0, ACK), 0.0).answers == ()


# --- any carrier ------------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.05, 0.3]),
    repetition=st.sampled_from([0.0, 0.3]),
    delay=st.sampled_from([0.0, 0.01, 0.5]),
    rate=st.sampled_from([0.0, 0.0, 100_000.0]),
    steps=st.lists(st.sampled_from(["left", "right", "left ends", "right ends", "cut", "time"]), max_size=40),
)
def test_all_comes_once_and_in_order_or_both_learn_that_it_ended(
    seed: int, loss: float, repetition: float, delay: float, rate: float, steps: list[str]
) -> None:
    carrier, left, right = joined(seed, Faults(loss, repetition, delay, rate=rate))
    for step in steps:
        end = left if step.startswith("left") else right
        match step:
            case "left" | "right":
                for _ in range(carrier.random.randrange(1, 6)):
                    end.say(carrier.random.choice([0, 0, 10_000]))
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


@settings(max_examples=50)
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
    left.give_up()  # its packet is lost
    carrier.faults.is_cut = False
    carrier.run(PROBE_AFTER + 0.2)
    assert right.epoch == 1


def say_much(end: End, size: int) -> None:
    """Send that many bytes, in packets."""
    for _ in range(size // PART):
        end.say(PART)


def run_until_agreed(carrier: Carrier, left: End, right: End, limit: float) -> float:
    """Return the seconds until everything has arrived."""
    begun = carrier.now
    while left.unsent or right.unsent or left.trunk.is_waiting or right.trunk.is_waiting:
        assert carrier.now < begun + limit, f"{left} and {right} have not done it"
        carrier.run(0.1)
    check_agreed(left, right)
    assert left.epoch == right.epoch == 0, "nothing has ended"
    return carrier.now - begun


@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("rate", [250_000.0, 2_500_000.0])
def test_a_thin_line_with_a_long_queue(rate: float, both: bool) -> None:
    carrier, left, right = joined(1, Faults(rate=rate))
    size = int(12 * rate)
    for end in (left, right) if both else (left,):
        say_much(end, size)
    carrier.run(9.0)
    left.most_under_way = 0
    seconds = 9.0 + run_until_agreed(carrier, left, right, limit=10.0)
    assert seconds < 1.2 * size / rate, "the line is used"
    assert left.most_under_way <= max(LEAST_WINDOW + PART, 0.7 * rate)
    again, parts = left.parts_again + right.parts_again, left.parts + right.parts
    assert again <= max(6, 0.02 * parts)


def test_what_is_said_on_a_thin_line_that_is_full_is_not_long_behind() -> None:
    rate = 2_500_000.0
    carrier, left, right = joined(1, Faults(rate=rate))
    say_much(left, int(12 * rate))
    carrier.run(9.0)
    left.said -= len(left.unsent)
    left.unsent.clear()
    left.say()
    assert run_until_agreed(carrier, left, right, limit=5.0) < 2 * SLOW


def test_a_fast_line_gets_the_whole_window() -> None:
    carrier, left, right = joined(1, Faults(rate=500e6))
    say_much(left, 20 * WINDOW)
    assert run_until_agreed(carrier, left, right, limit=5.0) < 1.0
    assert WINDOW <= left.most_under_way <= WINDOW + PART
    assert left.parts_again == 1, "only what was sent before the ends knew each other"


def test_a_line_that_was_slow_for_a_while_gets_it_again() -> None:
    carrier, left, right = joined(1, Faults(rate=2_500_000.0))
    say_much(left, 5_000_000)
    run_until_agreed(carrier, left, right, limit=5.0)
    carrier.faults.rate = 500e6
    left.most_under_way = 0
    say_much(left, 40 * WINDOW)
    assert run_until_agreed(carrier, left, right, limit=10.0) < 3.0
    assert left.most_under_way >= WINDOW


@pytest.mark.parametrize("pause", [0.3, 0.8, 2.0])
def test_after_a_short_cut_little_time_is_lost(pause: float) -> None:
    carrier, left, right = joined(1, Faults(rate=50e6))
    left.say()
    carrier.run(1.0)
    say_much(left, 20_000_000)
    carrier.run(0.1)
    carrier.faults.is_cut = True
    carrier.run(pause)
    carrier.faults.is_cut = False
    assert run_until_agreed(carrier, left, right, limit=10.0) < 0.4 + RESEND_LIMIT + 0.6


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_single_loss_is_repaired_fast(lost: int) -> None:
    carrier, left, right = joined()
    left.say()
    carrier.run(1.0)
    for number in range(4):
        carrier.faults.is_cut = number == lost
        left.say()
    carrier.faults.is_cut = False
    most = 0.1 if lost < 3 else RESEND_AFTER + 0.1
    assert run_until_agreed(carrier, left, right, limit=1.0) <= most + 0.1
    assert left.parts_again <= 1 + 4 - lost


def test_a_pause_of_the_other_end_costs_next_to_nothing_twice() -> None:
    carrier, left, right = joined(1, Faults(rate=50e6))
    say_much(left, 1_000_000)
    run_until_agreed(carrier, left, right, limit=1.0)
    before = left.parts_again
    say_much(left, 20_000_000)
    carrier.run(0.1)
    carrier.stand_still(right, 0.6)
    run_until_agreed(carrier, left, right, limit=3.0)
    assert left.parts_again - before <= 2


@pytest.mark.parametrize("seed", range(5))
def test_the_window_is_never_exceeded_by_more_than_a_packet(seed: int) -> None:
    size = WINDOW // 10
    carrier, left, right = joined(seed, Faults(loss=0.1))
    say_much(left, 2 * WINDOW)
    carrier.run(20.0)
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


def test_a_packet_is_a_part_of_the_window() -> None:
    trunk = Trunk(5)
    assert 0 < 4 * trunk.packet_limit <= trunk._window
