"""Whoever is turned away without a name leaves so many lines in the log, and then a count."""

from datetime import timedelta

from structlog.testing import capture_logs

from hub.doors.strangers import Strangers
from schemas.refusal import Refused
from tests.builders import NOW

A_MINUTE = timedelta(minutes=1)
UNKNOWN = Refused("unauthenticated", "This token is not known or was revoked.")


def said(strangers, count, now, refusal=UNKNOWN):
    """The lines about so many who come at the same time."""
    with capture_logs() as logs:
        for _ in range(count):
            strangers.refused(refusal, "GET /v1/inbox", now)
    return logs


def told(strangers, now):
    with capture_logs() as logs:
        strangers.tell(now)
    return [(line["event"], line["code"], line["count"]) for line in logs]


def test_a_line_says_why_and_where():
    [line] = said(Strangers(), 1, NOW)
    assert line == {
        "event": "stranger.refused",
        "log_level": "info",
        "code": "unauthenticated",
        "detail": "This token is not known or was revoked.",
        "route": "GET /v1/inbox",
    }


def test_beyond_the_limit_there_is_one_line_a_minute_that_counts():
    strangers = Strangers(per_minute=3)
    assert len(said(strangers, 1_000, NOW)) == 3
    assert told(strangers, NOW + A_MINUTE / 2) == []
    assert told(strangers, NOW + A_MINUTE) == [("stranger.left-out", "unauthenticated", 997)]
    assert told(strangers, NOW + A_MINUTE) == []


def test_the_next_minute_begins_anew():
    strangers = Strangers(per_minute=3)
    said(strangers, 5, NOW)
    strangers.tell(NOW + A_MINUTE)
    assert len(said(strangers, 5, NOW + A_MINUTE)) == 3


def test_a_flood_of_one_reason_does_not_hide_another():
    strangers = Strangers(per_minute=3)
    said(strangers, 1_000, NOW)
    assert len(said(strangers, 1, NOW, Refused("unknown-invitation", "It is used."))) == 1
