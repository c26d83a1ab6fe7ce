"""Which changes are announced, to which members and when."""

from __future__ import annotations

from mob.core.news import LONGEST, SLOW, SWIFT, News
from mob.wire import messages as m


def member(uid: int, state: str = "ready") -> m.MemberIs:
    return m.MemberIs(m.Member(uid, 1000 + uid, "back", uid, 1, state))


def test_what_changes_again_is_told_once_as_it_is_then() -> None:
    news = News()
    news.add(member(1, "launching"))
    news.add(member(2, "launching"))
    news.add(member(1, "booting"))
    news.add(member(1, "ready"))
    assert news.untold(SWIFT) == [member(2, "launching"), member(1, "ready")]


def test_one_that_came_and_went_between_two_tellings_has_gone() -> None:
    news = News()
    news.add(member(1))
    news.add(m.MemberGone(1, "was killed"))
    assert news.untold(SWIFT) == [m.MemberGone(1, "was killed")]


def test_members_roles_and_machines_of_one_number_are_not_mixed_up() -> None:
    news = News()
    changes = [member(1), m.RoleIs(m.RoleInfo("1")), m.NodeIs(m.Node(1, "1")), m.Cut("why")]
    for change in changes:
        news.add(change)
    assert news.untold(SLOW) == changes
    news.add(m.NodeGone(1, "silent"))
    news.add(m.Cut(""))
    assert news.untold(SLOW) == [*changes[:2], m.NodeGone(1, "silent"), m.Cut("")]


def test_each_lane_hears_everything_once() -> None:
    news = News()
    news.add(member(1))
    news.handle_told(SWIFT, 5, 10.0, 10.0)
    assert not news.has_news(SWIFT)
    news.add(member(2))
    assert news.untold(SWIFT) == [member(2)]
    assert news.untold(SLOW) == [member(1), member(2)]
    assert news.untold_of(SWIFT, 1) is None
    assert news.untold_of(SLOW, 1) == member(1)
    news.handle_told(SLOW, 5, 10.0, 10.0)
    assert len(news) == 1  # what all members know is not kept
    news.handle_told(SWIFT, 5, 10.0, 10.0)
    assert (len(news), news.untold(SWIFT), news.untold(SLOW)) == (0, [], [])


def test_few_are_told_at_once_and_many_wait_for_the_next_telling() -> None:
    news = News()
    assert news.due(SWIFT) == 0.0
    news.handle_told(SWIFT, 4, 10.0, 10.0)
    assert 10.0 < news.due(SWIFT) < 10.001
    news.handle_told(SWIFT, 1000, 10.0, 10.0)
    assert news.due(SWIFT) >= 10.1
    assert news.due(SLOW) == 0.0
    news.handle_told(SLOW, 1000, 10.0, 10.0)
    assert news.due(SLOW) == 10.0 + LONGEST


def test_a_telling_that_takes_long_puts_off_the_next_but_not_for_ever() -> None:
    news = News()
    news.handle_told(SWIFT, 1, 10.0, 10.03)
    assert news.due(SWIFT) > 10.3
    news.handle_told(SWIFT, 1, 10.0, 20.0)
    assert news.due(SWIFT) == 20.0 + LONGEST


def test_the_number_of_words_grows_with_the_changes_and_not_with_their_square() -> None:
    """A thousand workers start, ten in each hundredth of a second, and are announced by the clock."""
    news, words, now = News(), 0, 0.0
    for uid in range(1000):
        for state in ("launching", "booting", "ready"):
            now += 0.0003
            news.add(member(uid, state))
            for lane in (SWIFT, SLOW):
                if news.due(lane) <= now:
                    listeners = uid if lane == SLOW else 1
                    words += listeners
                    news.handle_told(lane, listeners, now, now + listeners * 5e-6)
    assert words < 20 * 1000  # one by one it would have been 1,500,000
