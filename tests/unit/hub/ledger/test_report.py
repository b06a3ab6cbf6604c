"""The figures of a report: a small log counted by hand, and what holds of any log."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.ledger.report import (
    Copy,
    Covered,
    Durations,
    Fate,
    Figures,
    Period,
    Refusal,
    SentMessage,
    fate,
    last_quarter,
    ranked,
)
from schemas.joint_action import ActionState, Answer
from tests import builders
from tests.builders import signed, time

HALF = Period(date(2026, 7, 1), date(2026, 12, 31))
COVERED = Covered(1_000, b"", time(60 * 24 * 10))


def sent(value=None, *copies, **others):
    """A message as the store gives it, accepted at NOW."""
    value = builders.message() if value is None else value
    fields = {"index": 7, "accepted": time(), "envelope": signed(value), "erased": None}
    return SentMessage(
        **{"sender": value["sender"], "kind": value["kind"], "copies": copies} | fields | others
    )


def copy(recipient="kg", state="received", received=None, expires=None):
    return Copy(recipient, state, expires, received)


def figures(*messages, period=HALF):
    made = Figures(period, COVERED)
    made.take(messages)
    return made


# --- Periods ---


@pytest.mark.parametrize(
    ("first", "last", "before"),
    [
        ((2026, 1, 1), (2026, 6, 30), ((2025, 7, 1), (2025, 12, 31))),
        ((2026, 3, 1), (2026, 3, 31), ((2026, 2, 1), (2026, 2, 28))),
        ((2024, 1, 1), (2024, 12, 31), ((2023, 1, 1), (2023, 12, 31))),
        ((2026, 2, 27), (2026, 3, 2), ((2026, 2, 23), (2026, 2, 26))),
        ((2026, 7, 1), (2026, 7, 1), ((2026, 6, 30), (2026, 6, 30))),
    ],
)
def test_the_period_before_has_as_many_months_or_days(first, last, before):
    start, end = before
    expected = Period(date(*start), date(*end))
    assert Period(date(*first), date(*last)).before() == expected


@pytest.mark.parametrize(
    ("today", "first", "last"),
    [
        ((2026, 1, 1), (2025, 10, 1), (2025, 12, 31)),
        ((2026, 6, 30), (2026, 1, 1), (2026, 3, 31)),
        ((2026, 7, 1), (2026, 4, 1), (2026, 6, 30)),
    ],
)
def test_the_last_quarter_is_over(today, first, last):
    assert last_quarter(date(*today)) == Period(date(*first), date(*last))


@pytest.mark.parametrize(
    ("first", "last", "steps", "one"),
    [
        ((2026, 2, 1), (2026, 2, 28), 28, "2026-02-14"),
        ((2026, 1, 15), (2026, 6, 2), 6, "2026-03"),
        ((2020, 1, 1), (2026, 12, 31), 7, "2024"),
    ],
)
def test_a_step_is_a_day_a_month_or_a_year(first, last, steps, one):
    found = Period(date(*first), date(*last)).steps()
    assert len(found) == steps
    assert one in found


def test_a_period_has_its_last_day_and_not_the_next():
    assert (HALF.since, HALF.until) == ("2026-07-01T00:00:00.000Z", "2027-01-01T00:00:00.000Z")


# --- Figures ---


def test_a_small_log_is_counted_as_by_hand():
    bulletin = builders.message(themes=["children", "climate"], sdgs=[16, "16.3", 5])
    other = builders.message(sender="kg", themes=["children"], sdgs=[])
    made = figures(
        sent(bulletin, copy("kg", received=time(1)), copy("tj", "waiting")),
        sent(other, copy("kz", received=time(3)), copy("tj", "refused", received=time(2))),
        sent(other, copy("kz", "erased"), envelope=None, erased=9, accepted=time(60 * 24 * 31)),
    )
    assert (made.messages, made.erased) == (3, 1)
    assert made.senders == {"kg": 2, "kz": 1}
    assert made.kinds == {"activity_bulletin.v1": 3}
    assert made.steps == {"2026-07": 2, "2026-08": 1}
    assert made.themes == {"children": 2, "climate": 1}
    assert made.goals == {16: 1, 5: 1}
    assert made.copies == {
        ("kg", Fate.RECEIVED): 1,
        ("tj", Fate.OVERDUE): 1,
        ("kz", Fate.RECEIVED): 1,
        ("tj", Fate.REFUSED): 1,
        ("kz", Fate.ERASED): 1,
    }
    assert {code: found.quantile(50) for code, found in made.times.items()} == {
        "kg": 60_000,
        "kz": 180_000,
        "tj": 120_000,
    }


def test_refusals_that_were_only_counted_count_each():
    made = figures()
    made.refuse([Refusal(1, "kz", "schema", 1), Refusal(2, "kz", "quota", 40)])
    made.refuse([Refusal(3, "kz", "schema", 1)])
    assert made.refusals == {("kz", "schema"): 2, ("kz", "quota"): 40}


@pytest.mark.parametrize(
    ("one", "erased", "became"),
    [
        (copy(received=time(1)), None, Fate.RECEIVED),
        (copy(state="read", received=time(1)), 9, Fate.RECEIVED),
        (copy(state="refused", received=time(1)), None, Fate.REFUSED),
        (copy(state="erased"), 999, Fate.ERASED),
        (copy(state="erased"), 1_000, Fate.OVERDUE),
        (copy(state="expired", expires=COVERED.time), None, Fate.EXPIRED),
        (copy(state="waiting", expires=time(60 * 24 * 11)), None, Fate.OVERDUE),
        (copy(state="received"), None, Fate.OVERDUE),
    ],
)
def test_a_copy_is_judged_by_what_is_under_the_checkpoint(one, erased, became):
    assert fate(sent(erased=erased), one, COVERED) == became


def test_a_copy_is_overdue_after_three_days_and_not_before():
    late = time(60 * 24 * 7)
    assert fate(sent(accepted=late), copy(state="waiting"), COVERED) == Fate.OVERDUE
    assert fate(sent(accepted=late[:-2] + "1Z"), copy(state="waiting"), COVERED) == Fate.WAITING


def test_a_joint_action_stands_as_its_answers_say():
    notice = builders.notice()
    answers = (Answer(8, time(10), "kg", "accept"), Answer(9, time(30), "tj", "decline"))
    steps = (Answer(10, time(40), "kz", "start"), Answer(11, time(50), "kz", "conclude"))
    made = figures(
        sent(notice),
        sent(notice, answers=answers),
        sent(notice, answers=(*answers, *steps)),
        sent(notice, envelope=None, answers=answers),
    )
    assert made.actions == {
        ActionState.PROPOSED: 1,
        ActionState.PARTLY_AGREED: 1,
        ActionState.CONCLUDED: 1,
        None: 1,
    }
    assert (len(made.answers), made.answers.quantile(50)) == (4, 600_000)
    assert made.answers.quantile(90) == 1_800_000


def test_an_envelope_that_was_edited_in_the_store_is_counted_without_its_content():
    made = figures(sent(envelope=b"{}"), sent(builders.notice(), envelope=b"nothing"))
    assert (made.messages, made.erased, made.actions) == (2, 2, {None: 1})


def test_what_occurs_in_either_period_is_ranked_by_the_later_one():
    assert ranked({"a": 1, "b": 2}, {"c": 9, "a": 1}) == ["b", "a", "c"]


# --- What holds of any log ---

copies = st.lists(
    st.builds(
        copy,
        recipient=st.sampled_from(["kg", "tj", "uz"]),
        state=st.sampled_from(["waiting", "received", "read", "refused", "expired", "erased"]),
        received=st.none() | st.integers(-5, 20_000).map(time),
        expires=st.none() | st.integers(1, 20_000).map(time),
    ),
    max_size=3,
)
messages = st.builds(
    lambda value, copies, index, erased: sent(value, *copies, index=index, erased=erased),
    st.sampled_from([builders.message(), builders.notice(), builders.message(sender="tm")]),
    copies,
    st.integers(0, 999),
    st.none() | st.integers(0, 2_000),
)


@given(st.lists(messages, max_size=6))
def test_totals_add_up(found):
    made = figures(*found)
    for counts in (made.steps, made.senders, made.kinds):
        assert counts.total() == made.messages == len(found)
    assert made.copies.total() == made.of_copies() == sum(len(each.copies) for each in found)
    assert sum(map(len, made.times.values())) == made.of_copies(Fate.RECEIVED, Fate.REFUSED)
    assert made.actions.total() == made.kinds["joint_action_notice.v1"]
    assert {*made.steps} <= {*made.period.steps()}


@given(st.lists(messages, max_size=6), st.integers(0, 6))
def test_it_does_not_matter_in_which_parts_they_are_read(found, at):
    parts = Figures(HALF, COVERED)
    parts.take(found[:at])
    parts.take(found[at:])
    whole = figures(*found)
    assert parts.copies == whole.copies
    assert parts.themes == whole.themes


@given(st.lists(st.integers(0, 10**9), min_size=1), st.integers(1, 100))
def test_a_quantile_is_the_nearest_rank_to_three_digits(found, share):
    made = Durations()
    for milliseconds in found:
        made.add(time(), time(milliseconds / 60_000))
    exact = sorted(found)[-(-len(found) * share // 100) - 1]
    assert made.quantile(share) <= exact
    assert made.quantile(share) >= exact * 0.989 - 1
