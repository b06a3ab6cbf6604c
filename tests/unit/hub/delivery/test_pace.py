"""How fast an endpoint is posted to: a burst, then an even pace, each endpoint for itself."""

from datetime import timedelta

import pytest

from hub.delivery.pace import BURST, PER_SECOND, Pace
from tests.builders import NOW

EACH = timedelta(seconds=1) / PER_SECOND


@pytest.fixture
def pace():
    return Pace()


def test_an_endpoint_that_was_left_alone_takes_a_burst(pace):
    assert pace.room("a", NOW) == BURST
    pace.take("a", BURST, NOW)
    assert pace.room("a", NOW) == 0
    assert pace.room("b", NOW) == BURST


def test_after_a_burst_there_is_room_for_one_at_a_time(pace):
    pace.take("a", BURST, NOW)
    assert pace.next("a", NOW) == NOW + EACH
    assert pace.room("a", NOW + EACH - timedelta(microseconds=1)) == 0
    assert pace.room("a", NOW + EACH) == 1
    assert pace.room("a", NOW + 7 * EACH) == 7


def test_over_a_longer_time_no_more_go_than_the_rate_and_one_burst(pace):
    now, gone = NOW, 0
    while now < NOW + timedelta(seconds=10):
        room = pace.room("a", now)
        pace.take("a", room, now)
        gone += room
        now = max(pace.next("a", now), now + timedelta(milliseconds=3))
    assert BURST + 9 * PER_SECOND < gone <= BURST + 10 * PER_SECOND


def test_where_there_is_room_the_next_may_go_now(pace):
    pace.take("a", BURST - 1, NOW)
    assert (pace.room("a", NOW), pace.next("a", NOW)) == (1, NOW)


def test_what_is_forgotten_was_of_no_more_use(pace):
    pace.take("a", 5, NOW)
    pace.forget(NOW + 4 * EACH)
    assert pace.room("a", NOW + 4 * EACH) == BURST - 1
    pace.forget(NOW + 5 * EACH)
    assert pace.room("a", NOW + 4 * EACH) == BURST


def test_a_clock_that_was_set_back_silences_nobody(pace):
    pace.take("a", BURST, NOW)
    before = NOW - timedelta(hours=1)
    assert (pace.room("a", before), pace.next("a", before)) == (BURST, before)
    pace.take("a", BURST, before)
    assert pace.room("a", before + 7 * EACH) == 7
