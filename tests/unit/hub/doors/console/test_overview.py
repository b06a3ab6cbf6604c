"""What the overview says of those who wait, and the checkpoints' page of the witnesses."""

from hub.doors.console import checkpoints, overview
from hub.doors.console.overview import Signing
from hub.ledger.witnesses import Standing, Watcher
from tests import builders

DIRECTORY = builders.directory(kz="member", kg="member", tj="member")


def test_whoever_waits_longest_comes_first_by_name():
    oldest = {"kz": builders.time(2), "tj": builders.time(1)}
    rows = overview.waiting({"kg": 1, "kz": 2, "tj": 3}, oldest, DIRECTORY, "kk")
    assert [(row.code, row.name, row.copies) for row in rows] == [
        ("tj", "TJ", 3),
        ("kz", "KZ", 2),
        ("kg", "KG", 1),
    ]


def test_the_witness_furthest_behind_comes_first_and_who_never_came_too():
    standing = Standing(None, None, [Watcher("kz", 9, builders.time())], [])
    stands = Signing(True, 9, builders.time(), {"kg": 10, "kz": 1}, frozenset({"kg"}), None)
    rows = checkpoints.rows(standing, stands, {"kz": "KZ"}, {"kz": builders.NOW})
    assert [(row.code, row.name, row.size, row.lag, row.overdue) for row in rows] == [
        ("kg", "kg", 0, 10, True),
        ("kz", "KZ", 9, 1, False),
    ]
    assert [row.asked for row in rows] == [None, builders.time()]


def test_no_checkpoint_has_no_head():
    assert checkpoints.head(None) is None
