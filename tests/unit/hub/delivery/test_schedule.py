"""Retries and giving up, under a clock that the test moves."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.delivery import schedule
from hub.delivery.schedule import (
    DELIVERY_MOVES,
    ENDPOINT_MOVES,
    DeliveryState,
    Due,
    Endpoint,
    EndpointState,
    Heard,
    Notice,
    after_answer,
    after_attempt,
    heard,
    rest,
)

NOW = datetime(2026, 7, 1, 9, tzinfo=UTC)
ACTIVE = Endpoint(EndpointState.ACTIVE)
DAY = timedelta(days=1)


def failing_for(lasted, warned=None):
    """An endpoint at ``NOW`` that has failed for so long; told so long ago."""
    state = EndpointState.FAILING if warned is None else EndpointState.WARNED
    return Endpoint(state, NOW - lasted, None if warned is None else NOW - warned)


def run(answers, jitter=0.0):
    """Deliver one message to answers (what, Retry-After): the seconds at which it was tried."""
    now, endpoint, tried, told = NOW, ACTIVE, [], []
    for attempts, (what, retry_after) in enumerate(answers, 1):
        tried.append((now - NOW).total_seconds())
        endpoint, notice = after_answer(endpoint, what, now)
        if notice:
            told.append(notice)
        due = after_attempt(attempts, what, now, jitter, rest(retry_after, now))
        if due.next is None:
            return due.state, tried, endpoint, told
        now = due.next
    raise AssertionError("the answers are not enough")


class TestAnAnswer:
    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    def test_of_2xx_takes_the_message(self, status):
        assert heard(status, None) is Heard.TAKEN

    @pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 307, 400, 404, 409, 429, 500, 503])
    def test_of_another_status_does_not(self, status):
        assert heard(status, None) is Heard.FAILED

    @pytest.mark.parametrize("error", [None, "It did not end in time."])
    def test_of_410_ends_it(self, error):
        assert heard(410, error) is Heard.GONE

    @pytest.mark.parametrize("status", [None, 200])
    def test_that_broke_off_does_not_take_it(self, status):
        assert heard(status, "The connection was cut.") is Heard.FAILED


class TestADelivery:
    def test_is_tried_ten_times_at_the_agreed_distances_and_is_dead_then(self):
        state, tried, endpoint, told = run([(Heard.FAILED, None)] * 10)
        assert state is DeliveryState.DEAD
        assert tried == [0, 5, 305, 2105, 9305, 27305, 63305, 113705, 185705, 272105]
        assert (endpoint.state, told) == (EndpointState.WARNED, [Notice.WILL_BE_DISABLED])

    def test_is_done_when_it_is_taken(self):
        answers = [(Heard.FAILED, None)] * 3 + [(Heard.TAKEN, None)]
        state, tried, endpoint, told = run(answers)
        assert (state, len(tried), endpoint, told) == (DeliveryState.DELIVERED, 4, ACTIVE, [])

    def test_is_dead_at_once_when_the_endpoint_is_gone(self):
        state, tried, endpoint, told = run([(Heard.GONE, None)])
        assert (state, tried) == (DeliveryState.DEAD, [0])
        assert (endpoint.state, told) == (EndpointState.DISABLED, [Notice.GONE])

    def test_waits_as_long_as_it_is_asked_to(self):
        answers = [(Heard.FAILED, "120"), (Heard.FAILED, "1"), (Heard.TAKEN, None)]
        assert run(answers)[1] == [0, 120, 420]

    @given(st.integers(1, 9), st.floats(0, 1))
    def test_is_never_early_and_never_more_than_a_tenth_late(self, attempts, jitter):
        due = after_attempt(attempts, Heard.FAILED, NOW, jitter)
        delay = schedule.RETRIES[attempts - 1]
        assert due.next is not None
        assert delay <= due.next - NOW <= delay * 1.1

    def test_moves_only_as_the_table_says(self):
        for what in Heard:
            due = after_attempt(1, what, NOW, 0)
            assert due.state is DELIVERY_MOVES[DeliveryState.WAITING, what]
            assert (due.next is not None) == (due.state is DeliveryState.WAITING)
        assert after_attempt(10, Heard.FAILED, NOW, 0) == Due(DeliveryState.DEAD, None)

    def test_that_has_ended_can_be_sent_again_whatever_its_end(self):
        ended = set(DeliveryState) - {DeliveryState.WAITING}
        assert {state for state, event in DELIVERY_MOVES if event == "replayed"} == ended


class TestTheRestAskedFor:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("0", 0),
            (" 7 ", 7),
            ("3600", 3600),
            ("86401", 86400),
            ("9" * 10_000, 86400),
            (format_datetime(NOW + timedelta(minutes=2), usegmt=True), 120),
            ("Wed, 01 Jul 2026 09:02:00 -0000", 120),
            (format_datetime(NOW - timedelta(minutes=2), usegmt=True), 0),
            (format_datetime(NOW + timedelta(days=400), usegmt=True), 86400),
            (None, 0),
            ("", 0),
            ("-5", 0),
            ("1.5", 0),
            ("٣", 0),
            ("soon", 0),
            ("Wed, 99 Jul 2026 09:02:00 GMT", 0),
            ("Wed, 01 Jul 99999999999999 09:02:00 GMT", 0),
        ],
    )
    def test_is_in_seconds_or_until_a_date_and_a_day_at_most(self, text, seconds):
        assert rest(text, NOW) == timedelta(seconds=seconds)

    @given(st.text())
    def test_is_nothing_worse_than_a_day_whatever_stands_there(self, text):
        assert timedelta() <= rest(text, NOW) <= DAY


class TestAnEndpoint:
    def test_that_fails_is_remembered_since_its_first_failure(self):
        first, _ = after_answer(ACTIVE, Heard.FAILED, NOW)
        second, _ = after_answer(first, Heard.FAILED, NOW + DAY)
        assert first == second == Endpoint(EndpointState.FAILING, NOW)

    def test_that_takes_something_is_as_new(self):
        failing = failing_for(2 * DAY)
        assert after_answer(failing, Heard.TAKEN, NOW) == (ACTIVE, None)

    def test_is_warned_of_once_after_three_days(self):
        before = after_answer(failing_for(3 * DAY - timedelta(seconds=1)), Heard.FAILED, NOW)
        assert before == (failing_for(3 * DAY - timedelta(seconds=1)), None)
        warned = after_answer(failing_for(3 * DAY), Heard.FAILED, NOW)
        assert warned == (failing_for(3 * DAY, timedelta()), Notice.WILL_BE_DISABLED)
        assert after_answer(warned[0], Heard.FAILED, NOW) == (warned[0], None)

    def test_is_disabled_after_five_days_with_a_notice(self):
        before = failing_for(5 * DAY - timedelta(seconds=1), 2 * DAY)
        assert after_answer(before, Heard.FAILED, NOW) == (before, None)
        ended, notice = after_answer(failing_for(5 * DAY, 2 * DAY), Heard.FAILED, NOW)
        assert (ended.state, notice) == (EndpointState.DISABLED, Notice.DISABLED)
        assert ended.failing_since == NOW - 5 * DAY

    def test_that_nothing_was_sent_to_meanwhile_is_warned_of_a_day_before(self):
        warned, notice = after_answer(failing_for(9 * DAY), Heard.FAILED, NOW)
        assert (warned.state, notice) == (EndpointState.WARNED, Notice.WILL_BE_DISABLED)
        soon = NOW + DAY - timedelta(seconds=1)
        assert after_answer(warned, Heard.FAILED, soon) == (warned, None)
        ended, notice = after_answer(warned, Heard.FAILED, NOW + DAY)
        assert (ended.state, notice) == (EndpointState.DISABLED, Notice.DISABLED)

    def test_that_was_warned_of_is_disabled_by_time_alone(self):
        quiet = failing_for(5 * DAY, 2 * DAY)
        before = NOW - timedelta(seconds=1)
        assert schedule.after_waiting(quiet, before) == (quiet, None)
        ended, notice = schedule.after_waiting(quiet, NOW)
        assert (ended.state, notice) == (EndpointState.DISABLED, Notice.DISABLED)

    @pytest.mark.parametrize(
        "endpoint",
        [
            ACTIVE,
            failing_for(9 * DAY),
            failing_for(9 * DAY, DAY - timedelta(seconds=1)),
            Endpoint(EndpointState.DISABLED, NOW - 9 * DAY, NOW - 5 * DAY),
        ],
        ids=["active", "failing", "warned-late", "disabled"],
    )
    def test_that_was_not_warned_of_a_day_before_is_not_moved_by_time(self, endpoint):
        assert schedule.after_waiting(endpoint, NOW) == (endpoint, None)

    def test_that_recovers_after_a_warning_says_so(self):
        assert after_answer(failing_for(4 * DAY, DAY), Heard.TAKEN, NOW) == (
            ACTIVE,
            Notice.RECOVERED,
        )

    @pytest.mark.parametrize(
        "endpoint", [ACTIVE, failing_for(DAY), failing_for(4 * DAY, DAY)], ids=lambda e: e.state
    )
    def test_that_is_gone_is_disabled_at_once_with_a_notice(self, endpoint):
        ended, notice = after_answer(endpoint, Heard.GONE, NOW)
        assert (ended.state, notice) == (EndpointState.DISABLED, Notice.GONE)

    @pytest.mark.parametrize("state", [EndpointState.DISABLED, EndpointState.UNPROVEN])
    @pytest.mark.parametrize("what", list(Heard))
    def test_that_is_not_sent_to_is_not_moved_by_a_late_answer(self, state, what):
        endpoint = Endpoint(state, NOW - 9 * DAY)
        assert after_answer(endpoint, what, NOW) == (endpoint, None)

    def test_is_proven_before_anything_is_sent_and_again_after_each_change(self):
        assert schedule.decided(Endpoint(), "proven") == ACTIVE
        for state in EndpointState:
            assert schedule.decided(Endpoint(state, NOW, NOW), "reset") == Endpoint()
        for state in set(EndpointState) - {EndpointState.UNPROVEN}:
            with pytest.raises(KeyError):
                schedule.decided(Endpoint(state), "proven")

    def test_that_is_not_sent_to_has_no_move_by_an_answer(self):
        moved = {state for state, event in ENDPOINT_MOVES if event not in {"proven", "reset"}}
        assert moved == schedule.SENT_TO

    @given(st.lists(st.tuples(st.sampled_from(Heard), st.integers(0, 4 * 24)), max_size=30))
    def test_is_disabled_for_failures_only_after_five_days_and_a_day_after_its_warning(self, story):
        now, endpoint, since, warned = NOW, ACTIVE, None, None
        for what, hours in story:
            now += timedelta(hours=hours)
            since = None if what is Heard.TAKEN else since or now
            warned = None if what is Heard.TAKEN else warned
            endpoint, notice = after_answer(endpoint, what, now)
            if notice is Notice.WILL_BE_DISABLED:
                assert warned is None
                warned = now
            if notice is Notice.DISABLED:
                assert since is not None
                assert warned is not None
                assert (now - since >= 5 * DAY, now - warned >= DAY) == (True, True)
            if endpoint.state not in schedule.SENT_TO:
                break

    def test_is_disabled_only_with_a_notice(self):
        for (_, event), (state, notice) in ENDPOINT_MOVES.items():
            assert (state is EndpointState.DISABLED) == (notice in {Notice.DISABLED, Notice.GONE})
            assert event != "overdue" or notice is not None
