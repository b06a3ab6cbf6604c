"""Who of the hub's own people may see the body of a message: the whole table."""

import pytest

from hub.doors.access import Role
from hub.ledger import reading
from hub.ledger.reading import MIN_REASON, RIGHTS, Body
from schemas.vocabulary import MARKINGS
from tests import builders

NOW = builders.time(0)
WHY = "Complaint 7/26 of the sender"
SHOWN = None

TABLE = [
    # marking, the operator's answer without and with a reason; an auditor's is always "forbidden"
    ("TLP:CLEAR", SHOWN, SHOWN),
    ("TLP:GREEN", SHOWN, SHOWN),
    ("TLP:AMBER", "reason-needed", SHOWN),
    ("TLP:AMBER+STRICT", "reason-needed", SHOWN),
    ("TLP:RED", "forbidden", "forbidden"),
    (None, "reason-needed", SHOWN),
    ("TLP:WHITE", "reason-needed", SHOWN),
]


def code(who, body, reason):
    refused = reading.refusal(who, body, reason, NOW)
    return None if refused is None else refused.code


@pytest.mark.parametrize(("marking", "without", "given"), TABLE)
def test_the_marking_and_the_reason_decide_for_an_operator(marking, without, given):
    assert code("operator", Body(marking), "") == without
    assert code("operator", Body(marking), WHY) == given


@pytest.mark.parametrize(("marking", "without", "given"), TABLE)
def test_an_auditor_sees_no_body_whatever_the_reason(marking, without, given):
    assert code("auditor", Body(marking), "") == "forbidden"
    assert code("auditor", Body(marking), WHY) == "forbidden"


def test_every_marking_stands_in_the_table_for_every_reader():
    assert {who: set(rights) for who, rights in RIGHTS.items()} == {
        "operator": set(MARKINGS),
        "auditor": set(MARKINGS),
    }


@pytest.mark.parametrize("marking", MARKINGS)
def test_what_is_sealed_is_never_shown(marking):
    assert code("operator", Body(marking, sealed=True), WHY) == "forbidden"


@pytest.mark.parametrize("marking", ["TLP:CLEAR", "TLP:AMBER"])
def test_what_has_expired_is_not_shown_from_that_moment_on(marking):
    assert code("operator", Body(marking, expires=builders.time(1)), WHY) is SHOWN
    assert code("operator", Body(marking, expires=NOW), WHY) == "expired"


def test_that_it_has_expired_does_not_open_what_is_closed():
    assert code("operator", Body("TLP:RED", expires=NOW), WHY) == "forbidden"


@pytest.mark.parametrize(
    ("reason", "answer"),
    [
        ("x" * MIN_REASON, SHOWN),
        ("x" * (MIN_REASON - 1), "reason-needed"),
        (" " * MIN_REASON + "x" * (MIN_REASON - 1) + "\n\t", "reason-needed"),
    ],
)
def test_the_spaces_around_a_reason_do_not_make_it_longer(reason, answer):
    assert code("operator", Body("TLP:AMBER"), reason) == answer


@pytest.mark.parametrize(
    ("who", "body", "says"),
    [
        ("operator", Body("TLP:AMBER"), "Say with `reason` why"),
        ("operator", Body("TLP:RED"), "Nobody at the hub may read it: ask its sender"),
        ("auditor", Body("TLP:GREEN"), "ask its sender, one of its receivers, or an operator"),
        ("operator", Body(sealed=True), "It is sealed."),
        ("operator", Body(), "It has no marking."),
    ],
)
def test_the_refusal_says_what_to_do(who, body, says):
    refused = reading.refusal(who, body, "", NOW)
    assert refused is not None
    assert says in refused.detail


@pytest.mark.parametrize(
    ("roles", "who"),
    [
        ({Role.OPERATOR}, "operator"),
        ({Role.OPERATOR, Role.AUDITOR}, "operator"),
        ({Role.AUDITOR, Role.LOG}, "auditor"),
        ({Role.LOG}, "auditor"),
    ],
)
def test_an_operator_who_audits_reads_as_an_operator(roles, who):
    assert reading.reader(roles) == who


def test_the_body_is_described_by_what_the_sender_signed():
    later = builders.time(60)
    made = builders.message(marking="TLP:AMBER", expires=later)
    signed = builders.signed(made, builders.key("kz"))
    assert reading.body_of(signed) == Body("TLP:AMBER", False, later)
    made["sealed"] = {"to": []}
    assert reading.body_of(builders.signed(made, builders.key("kz"))).sealed


@pytest.mark.parametrize(
    "payload", [{"marking": "TLP:WHITE"}, {"marking": 7}, [], {}, b"\xff", b"{"]
)
def test_what_says_nothing_of_its_marking_has_none(payload):
    raw = payload if isinstance(payload, bytes) else builders.signed(payload, builders.key("kz"))
    assert reading.body_of(raw) == Body()
