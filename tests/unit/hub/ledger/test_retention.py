"""Retention: which messages are due, by kind, marking and age."""

from datetime import timedelta

import pytest

from hub.ledger import retention
from schemas.encoding import format_time
from schemas.kinds import KINDS
from tests.builders import NOW

BULLETIN = "activity_bulletin.v1"


def before(rules):
    """(kind, marking) -> the days after which such a message is due, and the rule."""
    found = retention.cutoffs(rules, NOW)
    return {(one.kind, one.marking): (one.before, one.rule) for one in found}


def days(number):
    return format_time(NOW - timedelta(days=number))


def test_without_rules_everything_is_kept():
    assert retention.cutoffs({}, NOW) == []


def test_a_marking_is_due_in_every_kind():
    found = before({"TLP:AMBER": 365})
    assert {marking for _, marking in found} == {"TLP:AMBER"}
    assert {kind for kind, _ in found} == set(KINDS)
    assert set(found.values()) == {(days(365), "TLP:AMBER = 365")}


def test_of_the_rules_that_fit_the_one_that_says_most_holds():
    found = before({"TLP:CLEAR": 30, BULLETIN: 60, f"{BULLETIN} TLP:CLEAR": 90})
    assert found[BULLETIN, "TLP:CLEAR"] == (days(90), f"{BULLETIN} TLP:CLEAR = 90")
    assert found[BULLETIN, "TLP:GREEN"] == (days(60), f"{BULLETIN} = 60")
    assert found["joint_action_notice.v1", "TLP:CLEAR"] == (days(30), "TLP:CLEAR = 30")
    assert ("joint_action_notice.v1", "TLP:GREEN") not in found


def test_the_two_words_of_a_rule_stand_in_any_order():
    assert before({f"TLP:CLEAR {BULLETIN}": 9})[BULLETIN, "TLP:CLEAR"][0] == days(9)


@pytest.mark.parametrize(
    "rule", ["", "AMBER", "TLP:AMBER ", "bulletin.v1", f"{BULLETIN} {BULLETIN}", "TLP:RED TLP:RED"]
)
def test_a_rule_that_can_fit_nothing_is_named(rule):
    with pytest.raises(ValueError, match="is neither a kind"):
        retention.check({rule: 1})


def test_rules_that_can_fit_are_taken():
    retention.check({"TLP:RED": 1, BULLETIN: 2, f"{BULLETIN} TLP:AMBER+STRICT": 3})
