"""Membership: letter by letter, what a Kingpin learns of the others."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from msgspec import Raw

from mob.core import decisions as d
from mob.core.crew import Crew
from mob.core.decisions import Decision
from mob.core.membership import BEAT, CHECK, GATHER, NODE_TIMEOUT, ROLL_CALL_RETRY, UNCONNECTED, WAKE_DELAY, Membership
from mob.plan import Plan, RolePlan
from mob.wire import messages as m
from tests.core.world import FOO, changes

ME, YOU = 7, 9
NOW = 1024.0
MINE = int(NOW * 1000)
"""The first version."""


def member(node: int, number: int, state: str = "ready", role: str = "back") -> m.Member:
    return m.Member((node << m.NODE_SHIFT) + number, 100 + number, role, 0, 1, state)


def letter(words: m.Words, sender: int = YOU, name: str = "you", protocol: int = m.PROTOCOL) -> bytes:
    return m.pack(m.Letter(protocol, sender, name, Raw(m.pack(words))))


def words_of(decisions: list[Decision]) -> list[tuple[int, m.Words]]:
    return [(each.node, each.words) for each in decisions if isinstance(each, d.Write)]


def told(decisions: list[Decision]) -> list[str]:
    return [each.text for each in decisions if isinstance(each, d.Tell)]


def without_talk(decisions: list[Decision]) -> list[Decision]:
    return [each for each in decisions if not isinstance(each, d.Tell | d.Write | d.WakeAt)]


class Me:
    """A Kingpin that is connected, with two roles: "back" runs here, "far" does not."""

    def __init__(self, connected: bool = True) -> None:
        self.crew = Crew(Plan("app", "/", (RolePlan("back", "back", 2), RolePlan("far", "far", 0))))
        self.crew.last_uid = ME << m.NODE_SHIFT
        self.membership = Membership(self.crew, "me", NOW)
        self.membership.start(NOW)
        if connected:
            self.membership.handle_connected("", NOW)

    def hears(self, words: m.Words, now: float = NOW, **more: object) -> list[Decision]:
        return self.membership.handle_letter(letter(words, **more), now)  # type: ignore[arg-type]

    def wakes(self, now: float) -> list[Decision]:
        return self.membership.handle_wake(now)

    def changes(self, *changed: m.Member, now: float = NOW) -> list[Decision]:
        for each in changed:
            self.crew.roster.put(each)
        return self.membership.handle_decisions([d.Announce(m.MemberIs(each)) for each in changed], now)

    def uids(self) -> set[int]:
        return {each.uid for each in self.crew.roster}


@pytest.fixture
def me() -> Me:
    return Me()


@pytest.fixture
def met(me: Me) -> Me:
    """Return a Kingpin that knows another node at version 3, with one member."""
    me.hears(m.Everything(3, (member(YOU, 1),), (m.RoleInfo("far", FOO, True, workers=4),)))
    me.wakes(NOW)
    return me


# --- one's own --------------------------------------------------------------------------------------------------------


def test_who_comes_tells_everything_and_wants_everything() -> None:
    me = Me(connected=False)
    assert me.membership.cut == UNCONNECTED
    me.changes(member(ME, 1))
    decisions = me.membership.handle_connected("", NOW)
    assert told(decisions) == ["this machine, 'me', takes part in the cluster."]
    ((to, everything),) = words_of(decisions)
    roles = (me.crew.roster.roles["back"],)
    assert (to, everything) == (0, m.Everything(MINE + 1, (member(ME, 1),), roles, wanted=True))
    assert d.Announce(m.Cut("")) in decisions
    assert me.membership.handle_connected("", NOW) == []


def test_changes_are_gathered_into_one_letter(me: Me) -> None:
    assert me.changes(member(ME, 1, "launching")) == [d.WakeAt(NOW + GATHER)]
    assert me.changes(member(ME, 1), member(ME, 2)) == []
    gone = member(ME, 3)
    assert (
        me.membership.handle_decisions([d.Announce(m.MemberIs(gone)), d.Announce(m.MemberGone(gone.uid, "went"))], NOW)
        == []
    )
    role = msgspec.structs.replace(me.crew.roster.roles["back"], workers=3)
    me.crew.roster.put_role(role)
    me.membership.handle_decisions([d.Announce(m.RoleIs(role))], NOW)
    changed = m.Changed(MINE + 1, (member(ME, 1), member(ME, 2)), ((gone.uid, "went"),), (role,))
    assert words_of(me.wakes(NOW + GATHER)) == [(0, changed)]
    assert words_of(me.wakes(NOW + 2 * GATHER)) == []
    assert [type(words) for _, words in words_of(me.wakes(NOW + GATHER + CHECK))] == [m.Alive]


def test_a_call_because_of_which_a_member_was_killed_is_told_once(me: Me) -> None:
    gone, overrun = member(ME, 3), m.Overrun(caller=3, number=44, mark=99, limit=2.5)
    me.membership.handle_decisions([d.Announce(m.MemberGone(gone.uid, "was killed", overrun))], NOW)
    changed = m.Changed(MINE + 1, gone=((gone.uid, "was killed"),), overran={gone.uid: overrun})
    assert words_of(me.wakes(NOW + GATHER)) == [(0, changed)]
    me.membership.handle_decisions([d.Announce(m.MemberGone(member(ME, 4).uid, "went"))], NOW)
    assert words_of(me.wakes(NOW + 2 * GATHER)) == [(0, m.Changed(MINE + 2, gone=((member(ME, 4).uid, "went"),)))]


def test_a_call_because_of_which_a_far_member_was_killed_is_known_here(met: Me) -> None:
    gone, overrun = member(YOU, 1).uid, m.Overrun(caller=3, number=44, mark=99, limit=2.5)
    news = met.hears(m.Changed(4, gone=((gone, "was killed"),), overran={gone: overrun}))
    assert d.Announce(m.MemberGone(gone, "was killed", overrun)) in news


def test_what_others_do_is_not_told_on(met: Me) -> None:
    learned = met.hears(m.Changed(4, (member(YOU, 2),), roles=(m.RoleInfo("far", (), True, workers=4),)))
    assert changes(m.RoleIs, learned)
    assert met.membership.handle_decisions(learned, NOW) == []


def test_a_role_that_runs_here_no_more_is_told_once(me: Me) -> None:
    role = msgspec.structs.replace(me.crew.roster.roles["back"], workers=0)
    me.crew.roster.put_role(role)
    assert me.membership.handle_decisions([d.Announce(m.RoleIs(role))], NOW) == [d.WakeAt(NOW + GATHER)]
    assert words_of(me.wakes(NOW + GATHER)) == [(0, m.Changed(MINE + 1, roles=(role,)))]
    assert me.membership.handle_decisions([d.Announce(m.RoleIs(role))], NOW) == []


def test_a_beat_a_second(me: Me) -> None:
    assert words_of(me.wakes(NOW + BEAT / 2)) == []
    early = BEAT - 1 / 512
    assert words_of(me.wakes(NOW + early)) == [(0, m.Alive(MINE, early))]
    assert words_of(me.wakes(NOW + BEAT)) == []
    assert words_of(me.wakes(NOW + 2 * BEAT)) == [(0, m.Alive(MINE, 2 * BEAT))]
    assert me.membership.leave() == [d.Write(0, m.Leaving())]


@pytest.mark.parametrize(("seconds", "words"), [(NODE_TIMEOUT - 0.1, m.Alive), (NODE_TIMEOUT, m.Everything)])
def test_after_a_long_cut_everything_is_told(me: Me, seconds: float, words: type) -> None:
    lost = me.membership.handle_connected("lost", NOW)
    assert told(lost) == ["cannot reach the other machines: lost"]
    assert d.Announce(m.Cut("lost")) in lost
    assert [type(each) for _, each in words_of(me.membership.handle_connected("", NOW + seconds))] == [words]


# --- the others -------------------------------------------------------------------------------------------------------


def test_everything_of_a_stranger(me: Me) -> None:
    role = m.RoleInfo("far", FOO, True, workers=4)
    decisions = me.hears(m.Everything(3, (member(YOU, 1),), (role,), wanted=True))
    assert told(decisions) == ["the machine 'you' joined the cluster."]
    assert without_talk(decisions) == [
        d.Announce(m.NodeIs(m.Node(YOU, "you", (("far", 4),)))),
        d.Announce(m.RoleIs(m.RoleInfo("far", FOO, True, workers=0))),
        d.Announce(m.MemberIs(member(YOU, 1))),
    ]
    assert me.crew.roster.places("far") == [("me", 0), ("you", 4)]
    ((to, words),) = [each for each in words_of(me.wakes(NOW + GATHER)) if isinstance(each[1], m.Everything)]
    assert to == YOU
    assert not words.wanted  # type: ignore[union-attr]


def test_a_stranger_of_whom_nothing_is_known(me: Me) -> None:
    (written,) = words_of(me.hears(m.Alive(3, 1.0)))
    assert written[0] == YOU
    assert written[1].wanted  # type: ignore[union-attr]
    assert words_of(me.hears(m.Alive(3, 2.0), now=NOW + ROLL_CALL_RETRY)) == [(YOU, m.WantEverything())]


def test_a_node_without_roles_is_a_node(me: Me) -> None:
    assert without_talk(me.hears(m.Everything(3, (), ()))) == [d.Announce(m.NodeIs(m.Node(YOU, "you")))]


def test_many_who_want_everything_get_one_letter(met: Me) -> None:
    for number in (20, 21, 22, 23):
        met.hears(m.Everything(1, (), (), wanted=True), sender=number, name=f"n{number}")
    assert [to for to, words in words_of(met.wakes(NOW + GATHER)) if isinstance(words, m.Everything)] == [0]


def test_changes_in_order(met: Me) -> None:
    change = m.Changed(4, (member(YOU, 2),), ((member(YOU, 1).uid, "was killed"),), (m.RoleInfo("far", workers=5),))
    assert without_talk(met.hears(change)) == [
        d.Announce(m.NodeIs(m.Node(YOU, "you", (("far", 5),)))),
        d.Announce(m.MemberIs(member(YOU, 2))),
        d.Announce(m.MemberGone(member(YOU, 1).uid, "was killed")),
    ]
    assert met.uids() == {member(YOU, 2).uid}
    assert met.hears(change) == []


@pytest.mark.parametrize("words", [m.Changed(5, (member(YOU, 2),)), m.Alive(4, 1.0)])
def test_who_has_missed_something_asks_once_in_a_while(met: Me, words: m.Words) -> None:
    assert met.hears(words, now=NOW + ROLL_CALL_RETRY) == [d.Write(YOU, m.WantEverything())]
    assert met.hears(words, now=NOW + ROLL_CALL_RETRY + 0.5) == []
    assert met.hears(words, now=NOW + 2 * ROLL_CALL_RETRY) == [d.Write(YOU, m.WantEverything())]
    everything = m.Everything(5, (member(YOU, 2),), ())
    assert without_talk(met.hears(everything)) == [
        d.Announce(m.NodeIs(m.Node(YOU, "you"))),
        d.Announce(m.MemberIs(member(YOU, 2))),
        d.Announce(m.MemberGone(member(YOU, 1).uid, "is no longer there")),
    ]
    assert met.hears(m.Alive(5, 1.0), now=NOW + 4) == []


def test_old_news_is_not_believed(met: Me) -> None:
    met.hears(m.Changed(4, gone=((member(YOU, 1).uid, "went"),)))
    assert met.hears(m.Everything(3, (member(YOU, 1),), ())) == []
    assert met.hears(m.Changed(3, (member(YOU, 1),))) == []
    assert met.uids() == set()


def test_nobody_speaks_for_another(met: Me) -> None:
    met.hears(m.Changed(4, (member(ME, 1), member(55, 1)), ((member(55, 1).uid, "went"),)))
    assert met.uids() == {member(YOU, 1).uid}


def test_silence(met: Me) -> None:
    met.hears(m.Alive(3, 1.0), now=NOW + 1)
    for second in (1, 2, 3):
        assert told(met.wakes(NOW + second)) == []
    decisions = met.wakes(NOW + 1 + NODE_TIMEOUT)
    why = "was silent for 3 s"
    assert told(decisions) == [f"the machine 'you' {why}."]
    gone = d.Announce(m.MemberGone(member(YOU, 1).uid, f"is out of reach because its machine 'you' {why}"))
    assert without_talk(decisions) == [gone, d.Announce(m.NodeGone(YOU, why))]
    assert list(met.crew.roster.nodes) == [ME]


def test_leaving(met: Me) -> None:
    decisions = met.hears(m.Leaving())
    assert told(decisions) == ["the machine 'you' has ended."]
    assert met.uids() == set()
    assert met.hears(m.Leaving()) == []


def test_who_has_stood_still_blames_nobody(met: Me) -> None:
    late = NOW + BEAT + WAKE_DELAY + 100
    decisions = met.wakes(late)
    assert told(decisions) == []
    assert [type(words) for _, words in words_of(decisions)] == [m.Everything]
    assert told(met.wakes(late + 1)) == []


def test_and_what_it_hears_first_does_not_count_for_longer(met: Me) -> None:
    late = NOW + 100
    met.hears(m.Alive(3, 100.0), now=late)
    met.wakes(late)
    for second in (1, 2):
        assert told(met.wakes(late + second)) == []
    assert told(met.wakes(late + NODE_TIMEOUT)) == ["the machine 'you' was silent for 3 s."]


# --- namesakes, strangers ---------------------------------------------------------------------------------------------


def test_the_older_of_two_namesakes_keeps_the_name(me: Me) -> None:
    assert me.hears(m.Alive(1, 5.0), now=NOW + 10, name="me") == [d.Write(YOU, m.Alive(MINE, 10.0))]
    assert me.membership.namesake_at is None
    hello = m.Everything(1, (member(YOU, 1),), (), wanted=True)
    assert me.hears(hello, now=NOW + 10, name="me") == []
    assert me.hears(hello, now=NOW + 11, name="me") == [d.Write(YOU, m.Alive(MINE, 11.0))]
    assert me.uids() == set()


@pytest.mark.parametrize(("rival", "stays"), [(5, True), (9, False)])
def test_two_that_both_think_that_they_are_older(me: Me, rival: int, stays: bool) -> None:
    answers = [me.hears(m.Alive(1, second - 0.001), NOW + second, sender=rival, name="me") for second in (1, 2, 3, 4)]
    assert len(answers[0]) == 1
    assert (me.membership.namesake_at is None) == stays


def test_whoever_is_kept_outside_does_not_weigh_it_again(me: Me) -> None:
    for second in range(20):
        me.hears(m.Alive(1, 0.0 if second > 0 else 99.0), NOW + second, sender=5, name="me")
        me.wakes(NOW + second)
    assert me.membership.namesake_at == NOW + 19


def test_only_who_keeps_one_outside_frees_the_name(me: Me) -> None:
    me.hears(m.Alive(1, 99.0), name="me")
    assert me.hears(m.Leaving(), now=NOW + 2, sender=50, name="me") == []
    assert me.membership.namesake_at == NOW


def test_of_two_of_one_age_the_higher_number_keeps_it(me: Me) -> None:
    me.hears(m.Alive(1, 0.0), name="me")
    assert me.membership.namesake_at == NOW


def test_the_younger_stays_outside(met: Me) -> None:
    decisions = met.hears(m.Alive(1, 99.0), sender=50, name="me")
    why = "another machine of the cluster is called 'me'"
    assert told(decisions) == [
        f"this machine stays outside the cluster: {why}. Give it a name of its own (--node, MOB_NODE).",
        "the machine 'you' is out of reach.",
    ]
    assert words_of(decisions) == [(0, m.Leaving())]
    assert met.crew.roster.cut == why
    assert met.uids() == set()
    met.changes(member(ME, 1))
    assert words_of(met.wakes(NOW + 1)) == []
    assert met.hears(m.Alive(3, 1.0)) == []
    assert met.hears(m.Alive(1, 100.0), sender=50, name="me") == []


@pytest.mark.parametrize("leaves", [True, False])
def test_and_comes_in_when_the_older_has_gone(me: Me, leaves: bool) -> None:
    me.hears(m.Alive(1, 99.0), name="me")
    assert told(me.wakes(NOW + 2)) == []
    decisions = me.hears(m.Leaving(), now=NOW + 2, name="me") if leaves else me.wakes(NOW + NODE_TIMEOUT)
    assert told(decisions) == ["the other machine with this one's name has left."]
    assert isinstance(words_of(decisions)[0][1], m.Everything)
    assert me.crew.roster.cut == ""


def test_one_of_another_version_is_told_so_once(me: Me) -> None:
    (tell,) = me.hears(m.Alive(1, 1.0), protocol=m.PROTOCOL + 1)
    assert isinstance(tell, d.Tell)
    assert tell.text.startswith("not admitted: the machine 'you' uses version 4 of mob's protocol, this one version 3.")
    assert "Update the older machine" in tell.text
    assert me.hears(m.Alive(2, 2.0), protocol=m.PROTOCOL + 1) == []
    assert not me.membership.neighbours


@pytest.mark.parametrize(
    "words",
    [
        m.Everything(1, (member(YOU, 1),), ()),
        m.WantEverything(),
        m.Changed(1, (), (), ()),
        m.Leaving(),
        m.Alive(1, 99.0),
    ],
    ids=lambda words: type(words).__name__,
)
@pytest.mark.parametrize("name", ["you", "me"])
@pytest.mark.parametrize("protocol", [m.PROTOCOL - 1, m.PROTOCOL + 1])
def test_nothing_is_taken_from_it_and_nothing_written(me: Me, words: m.Words, name: str, protocol: int) -> None:
    decisions = me.hears(words, name=name, protocol=protocol)
    assert [type(each) for each in decisions] == [d.Tell]
    assert words_of(me.wakes(NOW + GATHER)) == []
    assert me.membership.namesake_at is None
    assert me.uids() == set()


def test_each_stranger_is_told_of(me: Me) -> None:
    for sender in (50, 51):
        assert len(me.hears(m.Alive(1, 1.0), sender=sender, name=f"node-{sender}", protocol=1)) == 1
        assert me.hears(m.Leaving(), sender=sender, protocol=1) == []


def test_the_words_of_a_stranger_need_make_no_sense(me: Me) -> None:
    data = m.pack(m.Letter(m.PROTOCOL + 1, YOU, "you", Raw(m.pack({"tomorrow's": "words"}))))  # pyright: ignore[reportArgumentType]
    assert [type(each) for each in me.membership.handle_letter(data, NOW)] == [d.Tell]


@pytest.mark.parametrize("protocol", [m.PROTOCOL, m.PROTOCOL + 1])
def test_letters_of_another_app_are_ignored_and_told_of_once(me: Me, protocol: int) -> None:
    for name in ("you", "me"):
        data = m.pack(m.Letter(protocol, sum(map(ord, name)), name, Raw(m.pack(m.Alive(1, 99.0))), "shop.eu"))
        (text,) = told(me.membership.handle_letter(data, NOW))
        assert text.startswith(
            f"ignoring the machine {name!r} of another app, 'shop.eu', which writes to the subjects of this one"
        )
        assert me.membership.handle_letter(data, NOW) == []
    assert me.membership.namesake_at is None
    assert me.uids() == set()


def test_letters_of_this_app_and_of_versions_that_do_not_say_which_are_read(me: Me) -> None:
    for number, app in ((YOU, "app"), (YOU + 1, "")):
        me.membership.handle_letter(m.pack(m.Letter(m.PROTOCOL, number, "x", Raw(m.pack(m.Alive(1, 9.0))), app)), NOW)
    assert set(me.membership.neighbours) == {YOU, YOU + 1}


def test_one_does_not_hear_oneself(me: Me) -> None:
    assert me.hears(m.Alive(1, 1.0), sender=ME, name="me") == []


@settings(max_examples=200)
@given(st.binary(max_size=80) | st.binary(max_size=40).map(lambda body: m.pack(m.Letter(2, YOU, "you", Raw(body)))))
def test_garbage_is_not_read(data: bytes) -> None:
    try:
        Me().membership.handle_letter(data, NOW)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AssertionError("it was read") from error


# --- an upgrade -------------------------------------------------------------------------------------------------------


def test_a_successor_goes_on(met: Me) -> None:
    roster = met.crew.roster
    after = Membership(met.crew, "me", NOW + 5)
    after.start(NOW + 5)
    after.adopt(list(roster.nodes.values()), NOW, NOW + 5)
    assert [repr(each) for each in after] == ["<Neighbour you, 1 members at version 0>"]
    ((to, words),) = words_of(after.handle_connected("", NOW + 5))
    assert to == 0
    assert isinstance(words, m.Everything)
    assert words.wanted
    assert words.version > MINE + 1000
    gone = after.handle_letter(letter(m.Everything(9, (), ())), NOW + 5)
    assert d.Announce(m.MemberGone(member(YOU, 1).uid, "is no longer there")) in gone


def test_a_letter_that_is_nested_too_deep_is_not_read() -> None:
    deep = b"\x95" + msgspec.msgpack.encode(m.PROTOCOL) + b"\x02\xa3you" + b"\x91" * 5000 + b"\xc0\xa3app"
    assert Me().membership.handle_letter(deep, NOW) == []


def test_who_is_behind_is_told_everything(met: Me) -> None:
    met.hears(m.WantEverything(), NOW + ROLL_CALL_RETRY)
    told_to = [(node, type(words)) for node, words in words_of(met.wakes(NOW + 2 * ROLL_CALL_RETRY))]
    assert (YOU, m.Everything) in told_to


def test_a_lease_that_is_given_back_is_sought(met: Me) -> None:
    assert met.hears(m.LeaseFree("far")) == [d.SeekLease("far")]


def test_a_crash_elsewhere_is_passed_on_to_those_who_listen_here(met: Me) -> None:
    assert met.hears(m.CrashedHere(b"{}")) == [d.PassOn(b"{}")]
    assert met.hears(m.CrashedHere(b"{}"), sender=55, name="stranger") == []


def test_how_far_timers_are_elsewhere_is_noted(met: Me) -> None:
    words = m.TimersAt("back", {"tick": 5.0})
    assert met.hears(words) == [d.HearTimers(words)]
    assert met.hears(words, sender=55, name="stranger") == []


def test_the_kingpin_after_this_one_knows_the_members_of_the_others() -> None:
    me = Me()
    for each in (member(ME, 1), member(YOU, 1)):
        me.crew.roster.put(each)
    me.membership.adopt([m.Node(ME, "me"), m.Node(YOU, "you")], NOW, NOW)
    (you,) = me.membership
    assert you.members == {member(YOU, 1).uid: member(YOU, 1)}


def test_a_second_reason_why_nobody_is_reached_is_not_said_again() -> None:
    me = Me()
    assert told(me.membership.handle_connected("no route", NOW)) == ["cannot reach the other machines: no route"]
    assert told(me.membership.handle_connected("refused", NOW)) == []


def test_of_three_of_one_name_the_younger_ones_stay_outside_and_say_nothing(me: Me) -> None:
    me.hears(m.Alive(1, 99.0), sender=50, name="me")
    assert me.hears(m.Alive(1, 200.0), sender=51, name="me") == []
    me.membership.handle_connected("no route", NOW)
    assert words_of(me.membership.handle_connected("", NOW + NODE_TIMEOUT)) == []
