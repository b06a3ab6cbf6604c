"""The daemon's pace: how long it waits after failures."""

import pytest

from connectors.daemon import Pace, backoff

PACE = Pace(first=1, longest=300)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (1000, 300)]
)
def test_it_waits_twice_as_long_after_each_failure_up_to_the_longest(failures, seconds):
    assert backoff(failures, PACE, chance=1.0) == seconds


def test_chance_takes_up_to_half_of_it_so_that_not_all_come_back_at_once():
    assert backoff(3, PACE, chance=0.0) == 2
    assert backoff(3, PACE, chance=0.5) == 3
