"""Webhook subscriptions as commands ask for them, and as a person is shown them."""

import pytest

from schemas import jsontext, subscription
from schemas.jsontext import Json
from schemas.refusal import Refused
from schemas.subscription import Table

WISH: dict[str, Json] = {
    "id": "019f1c3a-7c00-7000-8000-000000000001",
    "owner": "undp",
    "url": "https://hooks.undp.org/nhri",
    "filter": {"senders": ["kz", "kg"], "kinds": [], "sdgs": [16, "16.3"]},
    "ordered": True,
    "state": "failing",
    "failing_since": "2026-07-01T09:00:00.000Z",
    "created": "2026-06-01T09:00:00.000Z",
    "key": "whpk_x",
}
ATTEMPT: dict[str, Json] = {
    "message": "m",
    "attempt": 1,
    "time": "2026-07-01T09:00:00.000Z",
    "status": 500,
    "error": None,
    "excerpt": None,
}


def said(answer):
    """The lines of a subscription by their names."""
    return {row[0]: row[1] for row in subscription.one(answer).rows}


def test_of_a_filter_what_was_given_is_asked_for_and_a_goal_is_a_number():
    given = {"sender": ("kz", "kg"), "sdg": ("16", "16.3", "²"), "kind": ()}
    assert subscription.filter_of(given) == {"senders": ["kz", "kg"], "sdgs": [16, "16.3", "²"]}


def test_an_id_leads_to_no_other_path():
    assert subscription.path("../members", "/end") == "/v1/subscriptions/..%2Fmembers/end"


def test_a_subscription_is_shown_with_what_it_wants():
    shown = said(WISH)
    assert shown["wants"] == "senders: kz, kg; sdgs: 16, 16.3"
    assert (shown["order"], shown["failing since"]) == ("by thread", WISH["failing_since"])
    whole = said(WISH | {"filter": {}, "ordered": False})
    assert whole["wants"] == "everything that its owner may have"
    assert whole["order"] == "none"


def test_what_endpoints_answered_is_a_column_where_the_hub_tells_it():
    bare = subscription.attempted({"attempts": [ATTEMPT]})
    assert isinstance(bare, Table)
    assert "answer" not in bare.headings
    told = subscription.attempted({"attempts": [ATTEMPT | {"excerpt": "Oh no."}, ATTEMPT]})
    assert isinstance(told, Table)
    assert told.headings[-1] == "answer"
    assert [row[-1] for row in told.rows] == ["Oh no.", None]


@pytest.mark.parametrize(
    ("show", "nothing"),
    [
        (subscription.listed, {"subscriptions": []}),
        (subscription.attempted, {"attempts": []}),
        (subscription.set_aside, {"dead": []}),
    ],
)
def test_where_there_are_no_rows_a_sentence_says_so(show, nothing):
    assert show(nothing).endswith(".")


def test_what_an_endpoint_made_of_a_challenge_is_a_sentence():
    proven = subscription.Tested(proven=True, state="active", excerpt="the text")
    assert proven.sentence == "The endpoint answered the challenge; the subscription is active."
    failed = subscription.Tested(proven=False, state="unproven", error="The endpoint answered 404.")
    assert failed.sentence == "The endpoint answered 404. The subscription is unproven."
    told = subscription.Tested(proven=False, state="unproven", error="No.", excerpt="Not found")
    assert told.sentence == "No. It answered “Not found”. The subscription is unproven."


def test_a_dry_run_says_how_much_of_it_is_shown_and_was_looked_at():
    match = {"id": "m", "sender": "kz", "kind": "k", "marking": "TLP:CLEAR", "accepted": "now"}
    tried = {"since": "June", "whole": True, "matched": 1, "messages": [match]}

    def sentence(**others):
        return jsontext.convert(tried | others, subscription.Tried).sentence

    assert sentence() == "1 messages since June."
    assert sentence(matched=7).endswith("June. Only the first 1 are shown.")
    assert sentence(whole=False).endswith(
        "June. There were so many that only the newest were looked at."
    )


def test_another_answer_is_refused_and_one_that_says_more_is_not():
    with pytest.raises(Refused, match="url"):
        subscription.one({name: value for name, value in WISH.items() if name != "url"})
    assert subscription.one(WISH | {"warned": None, "colour": "blue"}) == subscription.one(WISH)
