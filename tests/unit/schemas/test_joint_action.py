"""Joint actions: the state that follows from notice and answers alone."""

import json

import pytest

from schemas import joint_action, jsontext, message, signature
from schemas.encoding import b64url
from schemas.joint_action import AGREEMENT, ENDED, STEPS, ActionState, Answer
from schemas.kinds.joint_action_response import JointActionResponse
from schemas.refusal import Refused
from schemas.signature import MESSAGE_TYPE, JwsEnvelope
from tests import builders
from tests.builders import joint_action_notice, key, kid, payload, public, signed, time

NOTICE = joint_action_notice(invited=["kg", "tj", "tm"], answer_by=time(60))
"""kz proposes; kg, tj and tm are asked to answer within the hour."""


def answers(*given, at=0):
    """``"kg accept"`` and so on, in the order of the log."""
    split = (words.split() for words in given)
    return [
        Answer(index, time(at), who, answer, f"message {index}")
        for index, (who, answer) in enumerate(split)
    ]


def after(*given, at=0):
    return joint_action.evaluate("kz", NOTICE, answers(*given, at=at))


def state(*given):
    return str(after(*given).state)


class TestTheStateFollowsFromTheAnswers:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ([], "proposed"),
            (["kg decline"], "proposed"),
            (["kg accept"], "partly_agreed"),
            (["kg accept_with_reservation"], "partly_agreed"),
            (["kg accept", "tj decline"], "partly_agreed"),
            (["kg accept", "tj decline", "tm decline"], "partly_agreed"),
            (["kg accept", "tj accept", "tm accept"], "agreed"),
            (["kg accept", "tj accept_with_reservation", "tm accept"], "agreed"),
            (["kg decline", "tj decline", "tm decline"], "declined"),
            (["kg accept", "kg withdraw"], "proposed"),
            (["kg accept", "tj accept", "tm accept", "tj withdraw"], "partly_agreed"),
            (["kg decline", "tj decline", "tm decline", "tm accept"], "partly_agreed"),
            (["kg decline", "tj decline", "tm decline", "tm withdraw"], "proposed"),
        ],
        ids=lambda value: ", ".join(value) if isinstance(value, list) else value,
    )
    def test_before_the_proposer_does_anything(self, given, expected):
        assert state(*given) == expected

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (["kg accept", "kz start"], "under_way"),
            (["kg accept", "tj accept", "tm accept", "kz start"], "under_way"),
            (["kg accept", "kz start", "kz conclude"], "concluded"),
            (["kg accept", "kz start", "kz cancel"], "cancelled"),
            (["kz cancel"], "cancelled"),
            (["kg accept", "kz cancel"], "cancelled"),
            (["kg decline", "tj decline", "tm decline", "kz cancel"], "cancelled"),
        ],
        ids=lambda value: ", ".join(value) if isinstance(value, list) else value,
    )
    def test_and_from_the_steps_of_the_proposer(self, given, expected):
        assert state(*given) == expected

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (["kz start"], "proposed"),
            (["kz conclude"], "proposed"),
            (["kg decline", "tj decline", "tm decline", "kz start"], "declined"),
            (["kg accept", "kz conclude"], "partly_agreed"),
            (["kg accept", "kz start", "kz start"], "under_way"),
            (["kg accept", "kz start", "kz conclude", "kz cancel"], "concluded"),
            (["kz cancel", "kz start"], "cancelled"),
        ],
        ids=lambda value: ", ".join(value) if isinstance(value, list) else value,
    )
    def test_a_step_out_of_turn_changes_nothing(self, given, expected):
        assert state(*given) == expected

    def test_answers_are_still_noted_while_it_is_under_way(self):
        found = after("kg accept", "kz start", "tj accept", "kg withdraw")
        assert found.state == "under_way"
        assert list(found.answers) == ["tj"]

    def test_the_last_answer_of_an_institution_counts(self):
        found = after("kg accept", "kg decline", "kg accept_with_reservation")
        assert found.answers["kg"].answer == "accept_with_reservation"
        assert found.answers["kg"].message_id == "message 2"

    def test_the_log_orders_the_answers_and_not_their_arrival(self):
        given = answers("kg accept", "kg decline", "kg withdraw", "tj accept")
        assert joint_action.evaluate("kz", NOTICE, reversed(given)) == joint_action.evaluate(
            "kz", NOTICE, given
        )

    @pytest.mark.parametrize("ending", [["kz cancel"], ["kg accept", "kz start", "kz conclude"]])
    @pytest.mark.parametrize("late", ["tj accept", "kg withdraw", "kg decline", "kz start"])
    def test_nothing_comes_after_the_end(self, ending, late):
        assert after(*ending, late) == after(*ending)


class TestWhatDoesNotCount:
    @pytest.mark.parametrize("who", ["uz", "undp", "kz", "nobody"])
    @pytest.mark.parametrize("answer", ["accept", "decline", "withdraw"])
    def test_an_answer_of_somebody_not_invited(self, who, answer):
        assert after("kg accept", f"{who} {answer}") == after("kg accept")

    @pytest.mark.parametrize("who", ["kg", "uz"])
    @pytest.mark.parametrize("step", ["start", "conclude", "cancel"])
    def test_a_step_of_somebody_who_did_not_propose(self, who, step):
        assert after("kg accept", f"{who} {step}") == after("kg accept")

    def test_an_answer_accepted_after_the_date(self):
        assert after("kg accept", at=60).state == "partly_agreed"
        late = [Answer(0, "2026-07-01T10:00:00.001Z", "kg", "accept")]
        assert joint_action.evaluate("kz", NOTICE, late).state == "proposed"

    def test_a_withdrawal_after_the_date(self):
        given = [Answer(0, time(59), "kg", "accept"), Answer(1, time(61), "kg", "withdraw")]
        assert joint_action.evaluate("kz", NOTICE, given).state == "partly_agreed"

    def test_the_date_binds_the_invited_and_not_the_proposer(self):
        given = [Answer(0, time(0), "kg", "accept"), Answer(1, time(600), "kz", "start")]
        assert joint_action.evaluate("kz", NOTICE, given).state == "under_way"


class TestTheTables:
    def test_cover_every_share_of_acceptances_and_refusals_that_there_can_be(self):
        shares = set()
        for invited in range(1, 5):
            for accepted in range(invited + 1):
                for declined in range(invited - accepted + 1):
                    shares.add(
                        tuple(
                            "none" if n == 0 else "all" if n == invited else "some"
                            for n in (accepted, declined)
                        )
                    )
        assert set(AGREEMENT) == shares

    def test_lead_nowhere_from_an_end(self):
        assert not [step for before, step in STEPS if before in ENDED]

    def test_can_always_be_left_by_cancelling(self):
        assert {before for before, step in STEPS if step == "cancel"} == set(ActionState) - ENDED

    def test_reach_every_state(self):
        assert {*AGREEMENT.values(), *STEPS.values()} == set(ActionState)


class TestWhetherAnAnswerMayBeRecorded:
    def check(self, given, new, at=0):
        who, answer = new.split()
        joint_action.check_answer(
            "kz", NOTICE, answers(*given), Answer(len(given), time(at), who, answer)
        )

    @pytest.mark.parametrize(
        ("given", "new"),
        [
            ([], "kg accept"),
            ([], "kz cancel"),
            (["kg accept"], "kg decline"),
            (["kg accept"], "kg withdraw"),
            (["kg accept"], "kz start"),
            (["kg accept", "kz start"], "tj accept"),
            (["kg accept", "kz start"], "kz conclude"),
            (["kg decline", "tj decline", "tm decline"], "kg accept"),
        ],
        ids=str,
    )
    def test_one_that_fits_may(self, given, new):
        self.check(given, new)

    @pytest.mark.parametrize(
        ("given", "new", "code"),
        [
            ([], "uz accept", "not-invited"),
            ([], "kz accept", "not-invited"),
            ([], "uz withdraw", "not-invited"),
            ([], "kg cancel", "not-proposer"),
            ([], "uz start", "not-proposer"),
            ([], "kz start", "action-state"),
            (["kg accept"], "kz conclude", "action-state"),
            (["kg accept", "kz start"], "kz start", "action-state"),
            (["kz cancel"], "kz cancel", "action-state"),
            (["kz cancel"], "kg accept", "action-state"),
            (["kg accept", "kz start", "kz conclude"], "tj accept", "action-state"),
            ([], "kg withdraw", "action-state"),
            (["kg accept", "kg withdraw"], "kg withdraw", "action-state"),
        ],
        ids=str,
    )
    def test_one_that_does_not_fit_may_not(self, given, new, code):
        with pytest.raises(Refused) as caught:
            self.check(given, new)
        assert caught.value.code == code

    def test_on_the_last_moment_it_may_and_after_it_not(self):
        self.check([], "kg accept", at=60)
        with pytest.raises(Refused, match=f"answer-late.*{time(60)}"):
            self.check([], "kg accept", at=61)

    def test_the_proposer_may_go_on_after_the_date(self):
        self.check(["kg accept"], "kz start", at=600)


class TestOneEnvelopeWithAllSignatures:
    def assembled(self, *signers):
        """The notice of kz with the co-signatures that the answers of these carry."""
        notice = builders.notice()
        wire = jsontext.decode(signed(notice), JwsEnvelope)
        extra = [self.cosignature(notice, code) for code in signers]
        return joint_action.assemble(wire, extra)

    def cosignature(self, notice, code):
        answer = message.parse(payload(builders.response(to=notice, sender=code, audience=["uz"])))
        content = message.content(answer)
        assert isinstance(content, JointActionResponse)
        assert content.signature is not None
        return content.signature

    def test_is_verified_like_any_other(self):
        jws = signature.parse(self.assembled("kg", "tj"), MESSAGE_TYPE)
        keys = {kid(key(code)): public(key(code)) for code in ("kz", "kg", "tj")}
        assert [s.kid for s in jws.signatures] == list(keys)
        signature.verify(jws, keys.__getitem__)
        assert jws.payload == payload(builders.notice())

    def test_may_be_assembled_before_anybody_answered(self):
        assert self.assembled() == signed(builders.notice())

    def test_takes_the_same_signature_once(self):
        assert self.assembled("kg", "kg") == self.assembled("kg")
        assert self.assembled("kz") == self.assembled()

    def test_takes_no_two_signatures_of_one_key(self):
        notice = builders.notice()
        header = {"typ": MESSAGE_TYPE, "alg": "Ed25519", "kid": kid(key("kz"))}
        protected = b64url(json.dumps(header).encode())
        wire = jsontext.decode(signed(notice), JwsEnvelope)
        other = signature.JwsSignature(protected, wire.signatures[0].signature)
        with pytest.raises(Refused, match=r"malformed.*only once"):
            joint_action.assemble(wire, [other])

    def test_holds_at_most_16_signatures(self):
        fifteen = [f"member-{number}" for number in range(15)]
        assert self.assembled(*fifteen)
        with pytest.raises(Refused, match=r"malformed.*16"):
            self.assembled(*fifteen, "one-too-many")
