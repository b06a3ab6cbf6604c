"""A submission records a message with its deliveries, or records why not."""

import json

import pytest

from hub.intake import admission
from hub.intake.admission import Known
from hub.intake.batch import Needs, Token
from hub.intake.meter import RefusalMeter
from hub.intake.opening import Opening
from hub.intake.submission import CountedRefusals, Submission
from schemas import entry as entries
from schemas.encoding import b64url
from schemas.refusal import Refused
from tests import builders
from tests.builders import message, message_id, response, signed
from tests.unit.hub.intake.working import LOG, batch, recorded

KNOWN = builders.directory()


def submission(raw, identity="kz", *, token=None, meter=None, messages_per_hour=100):
    limit = messages_per_hour
    opening = Opening(raw, KNOWN, admission.open_envelope)
    return Submission(opening, identity, token, meter or RefusalMeter(30), limit)


def private(batch, number=0):
    return json.loads(batch.entries[number].private)


class TestAMessage:
    RAW = signed(message(audience=["region"], thread=message_id(7), expires=builders.time(60)))

    def test_becomes_one_entry_that_tells_the_public_neither_kind_nor_recipients(self):
        made = batch()
        outcome = submission(self.RAW).decide(made)
        assert (outcome.index, outcome.new, outcome.refused) == (len(LOG), True, None)
        assert recorded(made) == [("message.accepted", "kz", message_id(), {})]

    def test_tells_sender_and_recipients_in_private_who_gets_it_and_why(self):
        made = batch(positions={"kg": 4})
        submission(self.RAW).decide(made)
        assert private(made) == {
            "envelope": entries.digest(self.RAW),
            "kind": "activity_bulletin.v1",
            "marking": "TLP:GREEN",
            "thread": message_id(7),
            "recipients": {
                "kg": {"position": 5, "reason": "group:region"},
                "tj": {"position": 1, "reason": "group:region"},
                "tm": {"position": 1, "reason": "group:region"},
                "uz": {"position": 1, "reason": "group:region"},
                "uz-nhrc": {"position": 1, "reason": "group:region"},
            },
            "left_out": {"kz": "sender"},
        }

    def test_is_written_as_it_came_with_a_delivery_for_each_recipient(self):
        made = batch()
        submission(self.RAW).decide(made)
        [row] = made.rows["message"]
        assert row["envelope"] == self.RAW
        assert (row["id"], row["idx"], row["sender"]) == (message_id(), len(LOG), "kz")
        assert [(r["recipient"], r["position"]) for r in made.rows["delivery"]] == [
            ("kg", 1),
            ("tj", 1),
            ("tm", 1),
            ("uz", 1),
            ("uz-nhrc", 1),
        ]
        assert {row["expires"] for row in made.rows["delivery"]} == {builders.time(60)}
        assert made.touched == {"kg", "tj", "tm", "uz", "uz-nhrc"}

    def test_uses_the_token_it_came_with(self):
        made = batch()
        submission(self.RAW, token=Token("kz:1", 9)).decide(made)
        assert made.rows["use_token"] == [{"jti": "kz:1", "expires": 9}]

    def test_is_not_recorded_with_a_used_token_nor_is_that_refusal(self):
        made = batch(tokens={"kz:1"})
        with pytest.raises(Refused) as caught:
            submission(self.RAW, token=Token("kz:1", 9)).decide(made)
        assert caught.value.code == "unauthenticated"
        assert made.entries == []


class TestTheSameIdTwiceInOneBatch:
    def test_is_one_message_and_one_duplicate_of_it(self):
        made, raw = batch(), signed(message())
        first, second = (submission(raw).decide(made) for _ in range(2))
        assert (first.index, first.new) == (len(LOG), True)
        assert (second.index, second.new) == (len(LOG), False)
        assert len(made.entries) == 1

    def test_with_another_payload_is_refused_and_recorded(self):
        made = batch()
        submission(signed(message())).decide(made)
        outcome = submission(signed(message(marking="TLP:CLEAR"))).decide(made)
        assert outcome.refused.code == "id-conflict"
        assert recorded(made)[1] == (
            "message.refused",
            "kz",
            message_id(),
            {"code": "id-conflict"},
        )

    def test_from_another_sender_is_refused_and_recorded(self):
        made = batch()
        submission(signed(message())).decide(made)
        outcome = submission(signed(message(sender="kg", audience=["kz"])), "kg").decide(made)
        assert outcome.refused.code == "id-conflict"
        assert recorded(made)[1][1] == "kg"


def test_a_duplicate_of_an_earlier_batch_adds_nothing_to_the_log():
    raw = signed(message())
    digest = admission.open_envelope(raw, builders.directory()).payload_digest
    made = batch(messages={message_id(): Known(3, "kz", digest)})
    outcome = submission(raw).decide(made)
    assert (outcome.index, outcome.new) == (3, False)
    assert (made.entries, made.rows) == ([], {})


class TestTheQuota:
    def test_counts_what_was_sent_in_the_last_hour_and_in_this_batch(self):
        made = batch(sent={"kz": 1})
        outcomes = [
            submission(signed(message(id=message_id(number))), messages_per_hour=3).decide(made)
            for number in range(3)
        ]
        assert [outcome.refused and outcome.refused.code for outcome in outcomes] == [
            None,
            None,
            "quota",
        ]
        assert made.sent == {"kz": 2}


class TestARefusal:
    def test_is_recorded_with_its_code_in_public_and_its_details_in_private(self):
        made, raw = batch(), signed(message(marking="TLP:AMBER", audience=["undp"]))
        outcome = submission(raw).decide(made)
        assert outcome.index == len(LOG)
        assert outcome.refused.code == "marking-conflict"
        assert recorded(made) == [
            ("message.refused", "kz", message_id(), {"code": "marking-conflict"})
        ]
        assert private(made) == {
            "detail": outcome.refused.detail,
            "path": "$.audience",
            "envelope": entries.digest(raw),
        }

    def test_delivers_nothing_and_counts_nothing(self):
        made = batch()
        submission(signed(message(audience=["nobody"]))).decide(made)
        assert (made.rows, made.positions, made.touched) == ({}, {}, set())

    @pytest.mark.parametrize(
        ("raw", "subject"),
        [
            (b"no envelope at all", None),
            (signed(message(kind="poem.v1")), message_id()),
        ],
    )
    def test_of_what_could_not_be_read_names_the_id_that_it_claims(self, raw, subject):
        made = batch()
        submission(raw).decide(made)
        assert recorded(made)[0][2] == subject

    def test_beyond_the_limit_is_only_counted(self):
        made, meter = batch(), RefusalMeter(2)
        outcomes = [submission(b"junk", meter=meter).decide(made) for _ in range(3)]
        assert [outcome.index for outcome in outcomes] == [len(LOG), len(LOG) + 1, None]
        assert {outcome.refused.code for outcome in outcomes} == {"malformed"}
        assert len(made.entries) == 2

    def test_counts_are_told_in_one_entry(self):
        made = batch()
        outcome = CountedRefusals("kz", 12).decide(made)
        assert outcome.index == len(LOG)
        assert recorded(made) == [("message.refused", "kz", None, {"code": "quota", "count": 12})]


class TestAJointActionInOneBatch:
    def test_can_be_proposed_answered_and_started(self):
        made = batch()
        start = response("start", sender="kz", id=message_id(102), audience=["kg", "tj"])
        outcomes = [
            submission(signed(value), value["sender"]).decide(made)
            for value in (builders.notice(), response("accept"), start)
        ]
        assert [outcome.refused for outcome in outcomes] == [None, None, None]
        assert [(row["member"], row["answer"], row["idx"]) for row in made.rows["answer"]] == [
            ("kg", "accept", len(LOG) + 1),
            ("kz", "start", len(LOG) + 2),
        ]

    def test_that_was_refused_is_not_known_afterwards(self):
        made = batch()
        submission(signed(builders.notice(audience=["nobody"]))).decide(made)
        outcome = submission(signed(response()), "kg").decide(made)
        assert outcome.refused.code == "unknown-action"


class TestWhatHasToBeKnown:
    def needs(self, raw, identity="kz"):
        needs = Needs(KNOWN)
        submission(raw, identity).needs(needs)
        return needs

    def test_of_a_message_is_its_id_and_the_senders_count(self):
        needs = self.needs(signed(message(in_reply_to=message_id(3))))
        assert (needs.messages, needs.senders, needs.notices) == ({message_id()}, {"kz"}, set())

    def test_of_a_response_is_also_the_notice(self):
        assert self.needs(signed(response()), "kg").notices == {message_id(100)}

    def test_of_what_was_refused_already_is_nothing(self):
        needs = self.needs(b"junk")
        assert (needs.messages, needs.senders, needs.notices) == (set(), set(), set())


def test_the_payload_digest_is_that_of_the_payload_alone():
    one = admission.open_envelope(signed(message()), builders.directory())
    both = signed(message(), builders.key("kg"), builders.key("kz"))
    other = admission.open_envelope(both, builders.directory())
    assert one.raw != other.raw
    assert one.payload_digest == other.payload_digest == entries.digest(builders.payload(message()))
    assert len(one.payload_digest) == len(b64url(bytes(32)))
