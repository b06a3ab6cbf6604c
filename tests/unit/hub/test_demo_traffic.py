"""The demo follows its messages by what the connectors' logs tell, in whatever order."""

import asyncio
import json

import pytest

from hub.demo import traffic as traffics
from hub.demo.traffic import Mail, Traffic


@pytest.fixture
def through():
    """The titles of the messages that were shown."""
    return []


@pytest.fixture
def traffic(through):
    return Traffic(lambda mail: through.append(mail.title), lambda traffic: None)


def hear(traffic, connector, event, **fields):
    traffic.hear(connector, json.dumps({"event": event, "connector": connector, **fields}).encode())


def accepted(traffic):
    hear(traffic, "kz", "message.accepted", message_id="a", to=["kg", "tj"], index=7)


def received(traffic, *codes):
    for code in codes:
        hear(traffic, code, "message.received", message_id="a", sender="kz", kind="k", title="")


def receipts(traffic, *codes):
    for code in codes:
        hear(traffic, "kz", "receipt.received", message_id="a", status="received", **{"from": code})


def test_a_message_is_through_when_every_receipt_is_back(traffic, through):
    traffic.expect(Mail("a", "kz", "Visit", "bulletin"))
    accepted(traffic)
    received(traffic, "kg", "tj")
    receipts(traffic, "kg")
    assert through == []

    receipts(traffic, "tj")

    assert through == ["Visit"]
    assert (traffic.accepted, traffic.refused, traffic.settled) == (1, 0, 1)
    assert (traffic.deliveries, traffic.receipts, traffic.wanted) == (2, 2, 2)


def test_the_logs_may_tell_of_a_message_before_its_sender_does(traffic, through):
    received(traffic, "kg", "tj")
    receipts(traffic, "kg", "tj")
    accepted(traffic)
    assert through == []

    traffic.expect(Mail("a", "kz", "Visit", "bulletin"))

    assert through == ["Visit"]


def test_a_receipt_that_refuses_is_none(traffic):
    accepted(traffic)
    received(traffic, "kg", "tj")
    hear(traffic, "kz", "receipt.received", message_id="a", status="refused", **{"from": "kg"})

    assert traffic.receipts == 0
    assert traffic.settled == 0


def test_a_copy_for_somebody_who_is_no_recipient_does_not_count(traffic):
    accepted(traffic)
    received(traffic, "kg", "tm")
    receipts(traffic, "tm")

    assert (traffic.deliveries, traffic.receipts) == (1, 0)


def test_a_refused_message_is_shown_and_over(traffic, through):
    traffic.expect(Mail("a", "kz", "Visit", "bulletin"))
    hear(traffic, "kz", "message.refused", message_id="a", code="quota", detail="Too many.")

    assert through == ["Visit"]
    assert (traffic.accepted, traffic.refused, traffic.settled) == (0, 1, 1)
    assert traffic.mails["a"].refusal == "quota: Too many."


def test_what_an_earlier_run_told_is_not_shown_again(traffic, through):
    accepted(traffic)
    received(traffic, "kg", "tj")
    receipts(traffic, "kg", "tj")
    traffic.remember()

    traffic.expect(Mail("a", "kz", "Visit", "bulletin"))

    assert through == []
    assert traffic.settled == 1


def test_an_alarm_is_kept_with_the_one_who_raised_it(traffic):
    hear(traffic, "tm", "alarm", kind="fork", sentence="The log forked.")

    assert traffic.alarms == ["tm: The log forked."]


def test_what_falls_short_is_said_in_sentences(traffic):
    traffic.expect(Mail("a", "kz", "Visit", "bulletin"))
    accepted(traffic)
    received(traffic, "kg", "tj")
    receipts(traffic, "kg")
    traffic.expect(Mail("b", "uz", "Report", "bulletin"))
    hear(traffic, "uz", "message.refused", message_id="b", code="quota", detail="Too many.")
    hear(traffic, "tm", "alarm", kind="fork", sentence="The log forked.")

    assert list(traffic.missing(3)) == [
        "Only 1 of 3 messages were accepted.",
        "a of kz (Visit) has no receipt from tj.",
        "The hub refused b (Report): quota: Too many.",
        "Alarm at tm: The log forked.",
    ]
    assert traffic.summary(9, verified=False) == (
        "demo: accepted=1 refused=1 deliveries=2/2 receipts=1/2 log=9"
    )


def test_when_nothing_falls_short_the_last_word_is_verified(traffic):
    traffic.expect(Mail("a", "kz", "Visit", "bulletin"))
    accepted(traffic)
    received(traffic, "kg", "tj")
    receipts(traffic, "kg", "tj")

    assert list(traffic.missing(1)) == []
    assert traffic.summary(9, verified=True) == (
        "demo: accepted=1 refused=0 deliveries=2/2 receipts=2/2 log=9 verified"
    )


@pytest.mark.parametrize("line", [b"Traceback (most recent call last):\n", b"{", b"[]", b"\xff"])
def test_a_line_that_is_no_event_is_passed_by(traffic, line):
    traffic.hear("kz", line)

    assert traffic.mails == {}


async def test_waiting_ends_with_the_news_that_was_waited_for(traffic):
    waiting = asyncio.create_task(traffic.until(lambda traffic: traffic.accepted == 1))
    await asyncio.sleep(0)
    assert not waiting.done()

    accepted(traffic)

    assert await waiting


async def test_waiting_ends_when_there_is_no_more_news(traffic, monkeypatch):
    monkeypatch.setattr(traffics, "PATIENCE", 0.01)

    assert not await traffic.until(lambda traffic: traffic.accepted == 1)
