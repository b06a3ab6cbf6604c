"""Admission: any bytes give one admitted message, one duplicate or one typed refusal."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.intake import admission
from hub.intake.admission import Admitted, Duplicate, Facts, Known, Notice
from schemas import signature
from schemas.joint_action import Answer
from schemas.refusal import Refused
from tests import builders
from tests.builders import NOW, key, message, message_id, response, signed

DIRECTORY = builders.directory()
LOG = builders.directory_log()


def facts(**overrides):
    """What is known at ``NOW``, when the log has the directory's entries and nothing else."""
    quiet = Facts(
        now=NOW,
        index=len(LOG),
        directory=DIRECTORY,
        known=None,
        notice=None,
        sent_this_hour=0,
        messages_per_hour=100,
    )
    return replace(quiet, **overrides)


def directory_after(*changes):
    """The directory and the index after more entries."""
    log = [*LOG, *changes]
    return {"directory": builders.fold(log), "index": len(log)}


def admit(raw, identity="kz", **overrides):
    moment = facts(**overrides)
    return admission.admit(admission.open_envelope(raw, moment.directory), identity, moment)


def refused(raw, identity="kz", **overrides):
    """The refusal of an envelope."""
    with pytest.raises(Refused) as caught:
        admit(raw, identity, **overrides)
    return caught.value


class TestAGoodMessage:
    def test_goes_to_everybody_that_its_audience_means_with_the_rule_for_each(self):
        decided = admit(signed(message(audience=["region", "undp", "kg"])))
        assert isinstance(decided, Admitted)
        assert decided.answer is None
        assert decided.routing.recipients == {
            "kg": "named",
            "undp": "named",
            "tj": "group:region",
            "tm": "group:region",
            "uz": "group:region",
            "uz-nhrc": "group:region",
        }
        assert decided.routing.left_out == {"kz": "sender"}

    def test_may_be_signed_by_others_too(self):
        assert isinstance(admit(signed(message(), key("kg"), key("kz"))), Admitted)

    def test_may_be_sent_by_a_partner_where_the_marking_allows_it(self):
        raw = signed(message(sender="undp", audience=["kz"], marking="TLP:CLEAR"))
        assert admit(raw, "undp").routing.recipients == {"kz": "named"}


class TestTheSignatures:
    def test_must_hold(self):
        envelope = json.loads(signed(message()))
        other = json.loads(signed(message(marking="TLP:CLEAR")))
        envelope["payload"] = other["payload"]
        assert refused(json.dumps(envelope).encode()).code == "bad-signature"

    def test_must_all_hold(self):
        good, other = json.loads(signed(message())), json.loads(signed(message(), key("kg")))
        other["signatures"][0]["signature"] = good["signatures"][0]["signature"]
        good["signatures"] += other["signatures"]
        assert refused(json.dumps(good).encode()).code == "bad-signature"

    def test_must_be_by_keys_in_the_directory(self):
        assert refused(signed(message(), key("thief"))).code == "unknown-key"

    def test_must_be_the_senders_among_them(self):
        assert refused(signed(message(), key("kg"))).code == "sender-unsigned"

    def test_count_only_by_keys_that_hold_at_the_moment_of_recording(self):
        opened = admission.open_envelope(signed(message()), DIRECTORY)
        later = facts(**directory_after(builders.revoked("kz")))
        with pytest.raises(Refused) as caught:
            admission.admit(opened, "kz", later)
        assert caught.value.code == "revoked-key"

    def test_by_a_key_that_was_replaced_do_not_count(self):
        after = directory_after(builders.rotated("kz", "kz second"))
        assert refused(signed(message()), **after).code == "revoked-key"
        assert isinstance(admit(signed(message(), key("kz second")), **after), Admitted)

    def test_by_the_keys_of_somebody_whose_keys_were_lost_do_not_count(self):
        after = directory_after(builders.held("kz", "a new bundle"))
        assert refused(signed(message()), **after).code == "revoked-key"

    def test_by_a_key_that_expired_do_not_count(self):
        expiring = builders.rotated("kz", "kz second", expires=builders.time(5))
        after = directory_after(expiring)
        raw = signed(message(), key("kz second"))
        assert isinstance(admit(raw, **after, now=NOW + timedelta(minutes=4)), Admitted)
        refusal = refused(raw, **after, now=NOW + timedelta(minutes=5))
        assert refusal.code == "expired-key"


class TestTheSender:
    def test_is_whom_the_connection_belongs_to(self):
        assert refused(signed(message()), "kg").code == "sender-mismatch"

    def test_may_not_be_suspended(self):
        after = directory_after(builders.suspended("kz"))
        assert refused(signed(message()), **after).code == "suspended"

    @pytest.mark.parametrize(
        ("sender", "marking"),
        [("undp", "TLP:AMBER"), ("undp", "TLP:AMBER+STRICT"), ("guest", "TLP:CLEAR")],
    )
    def test_has_a_role_that_may_send_this_marking(self, sender, marking):
        raw = signed(message(sender=sender, audience=["kz"], marking=marking))
        assert refused(raw, sender).code == "role-may-not-send"


class TestTheClock:
    @pytest.mark.parametrize("minutes", [-90 * 24 * 60, 0, 5])
    def test_allows_90_days_of_age_and_five_minutes_ahead(self, minutes):
        assert isinstance(admit(signed(message(created=builders.time(minutes)))), Admitted)

    @pytest.mark.parametrize("minutes", [-90 * 24 * 60 - 1, 6])
    def test_refuses_what_is_older_or_comes_from_the_future(self, minutes):
        raw = signed(message(created=builders.time(minutes)))
        assert refused(raw).code == "created-out-of-range"

    def test_refuses_what_has_expired(self):
        raw = signed(message(created=builders.time(-2), expires=builders.time(0)))
        assert refused(raw).code == "expired"


class TestTheSameId:
    RAW = signed(message())
    KNOWN = Known(7, "kz", admission.open_envelope(RAW, DIRECTORY).payload_digest)

    def test_with_the_same_payload_is_a_duplicate(self):
        assert admit(self.RAW, known=self.KNOWN) == Duplicate(7)

    def test_is_known_by_its_payload_and_not_by_its_signatures(self):
        co_signed = signed(message(), key("kg"), key("kz"))
        assert admit(co_signed, known=self.KNOWN) == Duplicate(7)

    def test_is_a_duplicate_also_after_it_expired_or_the_quota_was_used_up(self):
        late = NOW + timedelta(days=400)
        assert admit(self.RAW, known=self.KNOWN, now=late, sent_this_hour=100) == Duplicate(7)

    def test_with_another_payload_is_a_conflict(self):
        refusal = refused(signed(message(marking="TLP:CLEAR")), known=self.KNOWN)
        assert (refusal.code, refusal.path) == ("id-conflict", "$.id")

    @pytest.mark.parametrize("known", [KNOWN, Known(7, "kz", None, 9)])
    def test_from_another_sender_is_a_conflict(self, known):
        raw = signed(message(sender="kg", audience=["kz"]))
        assert refused(raw, "kg", known=known).code == "id-conflict"

    def test_of_what_was_erased_is_refused_whatever_the_payload(self):
        for raw in (self.RAW, signed(message(marking="TLP:CLEAR"))):
            refusal = refused(raw, known=Known(7, "kz", None, 9))
            assert (refusal.code, refusal.path, refusal.row.retryable) == ("erased", "$.id", False)
            assert "entry 7" in refusal.detail


class TestTheQuota:
    def test_allows_so_many_messages_an_hour(self):
        assert isinstance(admit(signed(message()), sent_this_hour=99), Admitted)

    def test_refuses_the_next_one_for_now(self):
        refusal = refused(signed(message()), sent_this_hour=100)
        assert (refusal.code, refusal.row.status, refusal.row.retryable) == ("quota", 429, True)


class TestAJointAction:
    NOTICE = builders.notice()

    def notice(self, *answers, recipients=frozenset({"kg", "tj", "tm"})):
        """The notice as the hub remembers it, with answers so far."""
        opened = admission.open_envelope(signed(self.NOTICE), DIRECTORY)
        return Notice(
            "kz",
            opened.jws.payload,
            opened.message.audience,
            builders.joint_action_notice(),
            recipients,
            [
                Answer(index, builders.time(), member, answer, message_id(200 + index))
                for index, (member, answer) in enumerate(answers)
            ],
        )

    def answer(self, what="accept", sender="kg", answers=(), **overrides):
        raw = signed(response(what, sender=sender, **overrides))
        return admit(raw, sender, notice=self.notice(*answers))

    def refusal(self, what="accept", sender="kg", answers=(), now=NOW, **overrides):
        raw = signed(response(what, sender=sender, **overrides))
        return refused(raw, sender, notice=self.notice(*answers), now=now).code

    @pytest.mark.parametrize("what", ["accept", "accept_with_reservation", "decline"])
    def test_is_answered_by_whoever_was_invited(self, what):
        decided = self.answer(what)
        assert decided.answer.member == "kg"
        assert decided.answer.answer == what
        assert decided.answer.index == len(LOG)

    def test_is_not_known_without_its_notice(self):
        assert refused(signed(response()), "kg").code == "unknown-action"

    def test_is_not_known_to_whom_the_notice_did_not_go(self):
        raw = signed(response("decline", sender="uz", audience=["kz", "kg", "tj"]))
        assert refused(raw, "uz", notice=self.notice()).code == "unknown-action"

    def test_is_not_answered_by_whoever_was_only_told(self):
        code = self.refusal("decline", sender="tm", audience=["kz", "kg", "tj"])
        assert code == "not-invited"

    def test_is_answered_until_its_date(self):
        due = NOW + timedelta(days=1)
        assert self.refusal(now=due + timedelta(milliseconds=1)) == "answer-late"
        raw = signed(response())
        assert isinstance(admit(raw, "kg", notice=self.notice(), now=due), Admitted)

    def test_is_moved_by_its_proposer_alone(self):
        assert self.refusal("start", audience=["kz", "tj"]) == "not-proposer"

    def test_starts_only_when_somebody_agreed(self):
        steps = {"sender": "kz", "audience": ["kg", "tj"]}
        assert self.refusal("start", **steps) == "action-state"
        assert self.answer("start", answers=[("kg", "accept")], **steps).answer.answer == "start"

    def test_takes_no_answer_after_its_end(self):
        assert self.refusal(answers=[("kz", "cancel")]) == "action-state"

    def test_has_an_answer_before_it_can_be_withdrawn(self):
        assert self.refusal("withdraw") == "action-state"
        assert self.answer("withdraw", answers=[("kg", "accept")]).answer.answer == "withdraw"

    def test_an_answer_supersedes_only_ones_own(self):
        own, others = [("kg", "accept")], [("tj", "accept")]
        superseding = {"supersedes": message_id(200)}
        assert self.answer("decline", answers=own, **superseding).answer.answer == "decline"
        assert self.refusal("decline", answers=others, **superseding) == "schema"

    def test_an_answer_goes_to_everybody_who_has_a_part_in_it(self):
        assert self.refusal("decline", audience=["kz"]) == "schema"

    def test_an_accept_carries_a_signature_over_the_very_notice(self):
        signed_other = builders.cosignature(builders.notice(marking="TLP:CLEAR"), key("kg"))
        content = {"notice": message_id(100), "answer": "accept", "signature": signed_other}
        assert self.refusal(content=content) == "bad-cosignature"

    @pytest.mark.parametrize("signer", ["tj", "thief"])
    def test_an_accept_is_not_signed_by_somebody_else(self, signer):
        by_another = builders.cosignature(self.NOTICE, key(signer))
        content = {"notice": message_id(100), "answer": "accept", "signature": by_another}
        assert self.refusal(content=content) == "bad-cosignature"

    @pytest.mark.parametrize(
        "invited", [["undp"], ["nobody"], ["uz"]], ids=["a partner", "nobody", "not told"]
    )
    def test_invites_only_members_that_it_is_sent_to(self, invited):
        made = builders.joint_action_notice(invited=invited)
        content = {"action": made.action, "invited": invited, "answer_by": made.answer_by}
        notice = builders.notice(content=content, audience=["kg", "tj", "undp"])
        refusal = refused(signed(notice))
        assert (refusal.code, refusal.path) == ("schema", "$.content.invited")


class TestTheIdForTheRecord:
    def test_is_read_from_an_envelope_that_was_refused(self):
        raw = signed(message(kind="poem.v1"), key("thief"))
        assert admission.message_id(raw) == message_id()

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"{}",
            signed(message(id="x")),
            signed(b"[1]", key("kz")),
            signed(b"\xff", key("kz")),
        ],
    )
    def test_is_none_where_there_is_none(self, raw):
        assert admission.message_id(raw) is None


SIGNED = signed(message())


@st.composite
def mutated(draw):
    """A good envelope in which some bytes were cut out and others put in."""
    start = draw(st.integers(0, len(SIGNED)))
    end = draw(st.integers(start, len(SIGNED)))
    return SIGNED[:start] + draw(st.binary(max_size=20)) + SIGNED[end:]


NAMES = st.sampled_from(list(message())) | st.text(max_size=5)

PAYLOADS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=5)),
    max_leaves=10,
)


class TestAnyBytes:
    def decide(self, raw):
        try:
            return admit(raw)
        except Refused as refusal:
            return refusal

    @given(st.binary(max_size=300) | mutated())
    def test_give_a_message_or_a_refusal(self, raw):
        assert isinstance(self.decide(raw), Admitted | Refused)

    @given(PAYLOADS)
    def test_that_are_signed_give_a_message_or_a_refusal(self, value):
        raw = signature.sign(json.dumps(value).encode(), signature.MESSAGE_TYPE, key("kz"))
        assert isinstance(self.decide(raw), Admitted | Refused)

    @given(st.sampled_from(list(message())), PAYLOADS)
    def test_in_any_one_member_give_a_message_or_a_refusal(self, name, value):
        payload = json.dumps(message(**{name: value})).encode()
        raw = signature.sign(payload, signature.MESSAGE_TYPE, key("kz"))
        assert isinstance(self.decide(raw), Admitted | Refused)
