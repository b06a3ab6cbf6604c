"""Explaining: one sentence that says why somebody received a message, or why not."""

import json
from string import Formatter

import pytest

from hub.ledger import explain
from hub.ledger.queries import DeliveryRow, Event
from schemas import entry as entries
from schemas.refusal import Refused
from tests import builders
from tests.builders import message_id

ACCEPTED = {
    "envelope": "x" * 43,
    "kind": "activity_bulletin.v1",
    "marking": "TLP:AMBER",
    "thread": None,
    "recipients": {
        "kg": {"position": 4, "reason": "named"},
        "tj": {"position": 2, "reason": "group:region"},
    },
    "left_out": {"tm": "suspended", "undp": "marking", "kz": "sender"},
}


LATER = 90
"""An index at which everybody in the directory has joined."""


def event(kind, public=None, private=None, index=LATER):
    entry = builders.entry(kind, message_id(), public, actor="kz", private=private)
    raw = entries.encode(entry)
    return Event(index, raw, private)


def accepted(private=ACCEPTED, index=LATER):
    return event(entries.MESSAGE_ACCEPTED, private=json.dumps(private).encode(), index=index)


def copy(recipient, position, state, time=None, reason=None):
    return DeliveryRow(recipient, position, state, None if time is None else 12, time, reason)


COPIES = [copy("kg", 4, "waiting"), copy("tj", 2, "received", builders.time(5), "")]


def why(member, events=None, copies=COPIES):
    return explain.why(member, events or [accepted()], copies, builders.directory())


class TestARecipient:
    def test_that_was_named(self):
        found = why("kg")
        assert (found.received, found.rule, found.position) == (False, "named", 4)
        assert found.sentence == (
            "kg is a recipient because it was named, at position 4; "
            "it is in the inbox, but no receipt has come yet."
        )

    def test_that_is_in_a_group(self):
        found = why("tj")
        assert (found.received, found.rule, found.status) == (True, "group:region", "received")
        assert found.time == builders.time(5)
        assert found.sentence == (
            "tj is a recipient because it is in region, at position 2; "
            f"its signed receipt came at {builders.time(5)}."
        )

    @pytest.mark.parametrize(
        ("state", "received", "words"),
        [
            ("read", True, "says that it was read"),
            ("refused", False, "refused it at 2026-07-01T09:05:00.000Z: the disk is full"),
            ("expired", False, "expired before it was fetched"),
            ("erased", False, "erased before a receipt came"),
        ],
    )
    def test_whose_copy_went_another_way(self, state, received, words):
        row = copy("kg", 4, state, builders.time(5), "the disk is full")
        found = why("kg", copies=[row])
        assert found.received is received
        assert words in found.sentence


class TestWhoeverReceivedNothing:
    @pytest.mark.parametrize(
        ("member", "rule", "words"),
        [
            ("tm", "left out: suspended", "it was suspended at that time"),
            ("undp", "left out: marking", "the marking TLP:AMBER may not go to its role"),
            ("kz", "left out: sender", "it is the sender"),
            ("uz", "not in the audience", "names neither it nor a group of it"),
            ("atlantis", "unknown", "there is no such participant"),
        ],
    )
    def test_is_told_why(self, member, rule, words):
        found = why(member)
        assert (found.received, found.rule, found.position) == (False, rule, None)
        assert words in found.sentence

    def test_is_told_that_it_joined_later_where_that_is_why(self):
        found = why("uz", [accepted(index=0)])
        assert (found.received, found.rule) == (False, "not joined")
        assert "it had not joined at that time" in found.sentence

    def test_is_told_the_same_while_it_is_only_invited(self):
        invited = builders.directory().apply(LATER, builders.invited("new"))
        found = explain.why("new", [accepted(index=LATER + 1)], COPIES, invited)
        assert found.rule == "not joined"

    def test_and_sent_it_is_told_so_where_no_group_held_it(self):
        private = {**ACCEPTED, "left_out": {}}
        found = why("kz", [accepted(private)])
        assert found.sentence == "kz did not receive it: it is the sender."

    def test_is_not_told_of_a_group_that_it_is_not_in(self):
        assert "group" not in why("tm").sentence

    def test_of_a_message_that_was_refused_is_told_so(self):
        refused = event(entries.MESSAGE_REFUSED, {"code": "schema"})
        found = why("kg", [refused], [])
        assert (found.received, found.rule) == (False, "refused: schema")
        assert found.sentence == "kg did not receive it: the hub refused the message (schema)."

    def test_of_a_message_that_was_refused_first_and_then_accepted_is_told_of_the_second(self):
        refused = event(entries.MESSAGE_REFUSED, {"code": "quota"})
        assert why("tj", [refused, accepted()]).received


def test_a_message_that_the_log_does_not_know_is_not_found():
    with pytest.raises(Refused) as caught:
        explain.why("kg", [], [], builders.directory())
    assert caught.value.code == "not-found"


class TestOfAnErasedMessage:
    EVENTS = (
        Event(90, accepted().raw, None),
        event(entries.MESSAGE_ERASED, private=b"{}", index=95),
    )

    def test_a_recipient_is_told_what_became_of_its_copy(self):
        found = why("tj", self.EVENTS)
        assert (found.received, found.position, found.status) == (True, 2, "received")
        assert found.rule == "erased by entry 95"
        assert found.sentence.startswith("tj is a recipient, at position 2; its signed receipt")
        assert "which entry 95 erased" in found.sentence

    def test_whoever_received_nothing_is_told_so(self):
        found = why("uz", self.EVENTS)
        assert (found.received, found.position) == (False, None)
        assert found.sentence.startswith("uz did not receive it; the reasons went")


def test_a_record_that_is_gone_without_a_decision_is_not_found():
    with pytest.raises(Refused) as caught:
        why("kg", [Event(90, accepted().raw, None)])
    assert caught.value.code == "not-found"
    assert "no entry says" in caught.value.detail


class TestTheParts:
    """What somebody translates: known texts, each with exactly what stands in its places."""

    def clauses(self):
        states = ("waiting", "received", "read", "refused", "expired", "erased")
        copies = [copy("kg", 4, state, builders.time(5), "full") for state in states]
        found = [explain.find("kg", [accepted()], [row], builders.directory()) for row in copies]
        found += [
            explain.find(code, [accepted()], COPIES, builders.directory())
            for code in (*builders.ROLES, "atlantis")
        ]
        found.append(explain.find("uz", [accepted(index=0)], COPIES, builders.directory()))
        refused = event(entries.MESSAGE_REFUSED, {"code": "schema"})
        found.append(explain.find("kg", [refused], [], builders.directory()))
        found += [
            explain.find(code, TestOfAnErasedMessage.EVENTS, COPIES, builders.directory())
            for code in ("tj", "uz")
        ]
        return [clause for one in found for clause in one.clauses]

    def test_are_texts_of_the_table_and_all_of_them_occur(self):
        assert {clause.text for clause in self.clauses()} == explain.TEXTS

    def test_have_exactly_the_values_that_their_text_asks_for(self):
        for clause in self.clauses():
            asked = {name for _, name, _, _ in Formatter().parse(clause.text) if name}
            values = set(clause.values)
            assert values >= asked, clause
            assert values - asked <= {"marking"}, clause

    @pytest.mark.parametrize(
        ("member", "stands"),
        [
            ("kg", "waiting"),
            ("tj", "received"),
            ("tm", "left out"),
            ("kz", "the sender"),
            ("uz", "not in the audience"),
            ("atlantis", "unknown"),
        ],
    )
    def test_say_how_it_stands(self, member, stands):
        assert explain.find(member, [accepted()], COPIES, builders.directory()).stands == stands
