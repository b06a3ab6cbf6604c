"""The meter keeps a participant from filling the log with refusals."""

from datetime import timedelta

from hub.intake.meter import RefusalMeter
from tests.builders import NOW

A_MINUTE = timedelta(minutes=1)


def test_logs_so_many_refusals_one_by_one_and_counts_the_rest():
    meter = RefusalMeter(2)
    assert [meter.note("kz", NOW) for _ in range(5)] == [True, True, False, False, False]
    assert meter.overdue(NOW + A_MINUTE) == {"kz": 3}


def test_counts_each_participant_apart():
    meter = RefusalMeter(1)
    assert meter.note("kz", NOW)
    assert meter.note("kg", NOW)


def test_tells_nothing_before_the_minute_is_over():
    meter = RefusalMeter(1)
    for _ in range(3):
        meter.note("kz", NOW)
    assert meter.overdue(NOW + A_MINUTE - timedelta(milliseconds=1)) == {}


def test_tells_each_count_once():
    meter = RefusalMeter(1)
    for _ in range(3):
        meter.note("kz", NOW)
    assert meter.overdue(NOW + A_MINUTE) == {"kz": 2}
    assert meter.overdue(NOW + A_MINUTE) == {}


def test_tells_nothing_of_who_stayed_within_the_limit():
    meter = RefusalMeter(2)
    meter.note("kz", NOW)
    assert meter.overdue(NOW + A_MINUTE) == {}


def test_begins_anew_after_the_minute():
    meter = RefusalMeter(1)
    meter.note("kz", NOW)
    assert not meter.note("kz", NOW)
    meter.overdue(NOW + A_MINUTE)
    assert meter.note("kz", NOW + A_MINUTE)
