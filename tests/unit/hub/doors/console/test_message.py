"""What a message's page says of everybody, and in which order."""

import json

from hub.doors.console import message
from hub.ledger.queries import DeliveryRow, Event
from schemas import entry as entries
from tests import builders

NAMES = {"tm": "<Ombudsman> of Turkmenistan"}

ACCEPTED = {
    "envelope": "x" * 43,
    "kind": "activity_bulletin.v1",
    "marking": "TLP:AMBER",
    "thread": None,
    "recipients": {
        "kg": {"position": 4, "reason": "named"},
        "tj": {"position": 2, "reason": "group:region"},
        "uz": {"position": 3, "reason": "group:region"},
    },
    "left_out": {"tm": "suspended"},
}


def rows():
    private = json.dumps(ACCEPTED).encode()
    entry = builders.entry(
        entries.MESSAGE_ACCEPTED, builders.message_id(), actor="kz", private=private
    )
    copies = [
        DeliveryRow("kg", 4, "received", 93, builders.time(5), None),
        DeliveryRow("tj", 2, "waiting", None, None, None),
        DeliveryRow("uz", 3, "refused", 95, builders.time(6), "the <disk> is full"),
    ]
    event = Event(90, entries.encode(entry), private)
    return message.rows([event], copies, builders.directory(), NAMES)


def said(row):
    return "; ".join(map(str, row.clauses))


def test_everybody_has_a_row_and_whoever_lacks_the_message_comes_first():
    found = rows()
    assert {row.code for row in found} == builders.ROLES.keys()
    assert [(row.code, row.stands) for row in found][:5] == [
        ("uz", "refused"),
        ("tj", "waiting"),
        ("tm", "left out"),
        ("kg", "received"),
        ("guest", "not in the audience"),
    ]


def test_a_sentence_has_the_name_the_time_and_the_others_words_as_a_page_shows_them():
    by_code = {row.code: row for row in rows()}
    assert said(by_code["tm"]) == (
        '<bdi dir="auto">&lt;Ombudsman&gt; of Turkmenistan</bdi> did not receive it: '
        "it was suspended at that time"
    )
    assert "&lt;disk&gt;" in said(by_code["uz"])
    assert "2026-07-01 09:05 UTC</time>" in said(by_code["kg"])


def test_a_receipt_is_the_entry_that_says_so():
    by_code = {row.code: row for row in rows()}
    kg, tj = by_code["kg"], by_code["tj"]
    assert (kg.position, kg.time, kg.receipt) == (4, builders.time(5), 93)
    assert (tj.position, tj.time, tj.receipt) == (2, None, None)
