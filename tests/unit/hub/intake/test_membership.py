"""Who belongs: invitations, joins, approvals, keys. The log tells all of it but the secrets."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from hub.intake import membership
from hub.intake.batch import JoinRequest, Needs, Token
from hub.ledger.sequence import Draft
from schemas import entry as entries
from schemas import jsontext, signature, statement
from schemas.encoding import b64url
from schemas.refusal import Refused
from schemas.statement import Join, Rotate
from tests import builders
from tests.builders import key, kid
from tests.unit.hub.intake.working import batch, recorded

VKEY = str(builders.LOG)


def invitation(name="new", expires=None, **request):
    """An open invitation under ``builders.invitation(name)``, with the request made with it."""
    digest = entries.digest(builders.invitation(name).encode())
    return JoinRequest(digest, expires or builders.time(60), **request)


def invited(*changes, **open_invitations):
    """A batch in which ``new`` was invited."""
    joins = {"new": invitation()} | open_invitations
    return batch(builders.invited("new"), *changes, joins=joins)


def refusal(call):
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.code


class TestAnInvitation:
    DRAFT = Draft(
        entries.MEMBER_INVITED,
        "account:a",
        "new",
        {
            "role": "member",
            "names": {"en": "New"},
            "country": None,
            "invitation": entries.digest(b"secret"),
        },
    )

    def test_is_good_for_fourteen_days(self):
        made = batch()
        outcome = membership.invite(self.DRAFT, "new", "secret").decide(made)
        assert outcome.value == {"expires": builders.time(14 * 24 * 60)}

    def test_is_kept_by_its_hash_alone(self):
        made = batch()
        membership.invite(self.DRAFT, "new", "secret").decide(made)
        [row] = made.rows["invitation"]
        assert row["invitation"] == entries.digest(b"secret")
        assert "secret" not in str(made.rows)
        assert all(b"secret" not in written.raw for written in made.entries)

    def test_of_somebody_who_joined_already_is_a_conflict(self):
        made = batch(builders.invited("new"), builders.joined("new"))
        job = membership.invite(self.DRAFT, "new", "secret")
        assert refusal(lambda: job.decide(made)) == "conflict"
        assert made.rows == {}


class TestAJoin:
    RAW = builders.join("new")

    def request(self, raw=RAW):
        return membership.request_join(raw, VKEY)

    def test_waits_for_approval_and_is_not_in_the_log(self):
        made = invited()
        outcome = self.request().decide(made)
        digits = statement.fingerprint(kid(key("new")), VKEY, builders.invitation("new"))
        assert outcome.value == {"code": "new", "state": "pending", "fingerprint": digits}
        assert made.entries == []
        [row] = made.rows["join_request"]
        assert (row["statement"], row["fingerprint"]) == (self.RAW, digits)

    def test_needs_the_invitation_of_its_code(self):
        needs = Needs(builders.directory())
        self.request().needs(needs)
        assert needs.joins == {"new"}

    def test_can_be_sent_again(self):
        made = invited()
        first, second = (self.request().decide(made) for _ in range(2))
        assert first == second

    def test_with_other_keys_does_not_replace_the_first(self):
        made = invited()
        self.request().decide(made)
        stolen = self.request(builders.join("new", "thief"))
        assert refusal(lambda: stolen.decide(made)) == "unknown-invitation"

    @pytest.mark.parametrize(
        "joins",
        [{}, {"new": invitation("another")}, {"new": invitation(expires=builders.time())}],
        ids=["no invitation", "another invitation", "an invitation that is over"],
    )
    def test_needs_an_open_invitation(self, joins):
        made = batch(builders.invited("new"), joins=joins)
        assert refusal(lambda: self.request().decide(made)) == "unknown-invitation"

    def test_needs_a_key_that_nobody_has(self):
        made = invited()
        taken = self.request(builders.join("new", "kz"))
        assert refusal(lambda: taken.decide(made)) == "conflict"

    def test_is_signed_by_the_new_key(self):
        made = Join("new", builders.invitation("new"), builders.keys("new"), builders.time())
        forged = statement.sign(made, key("thief"))
        assert refusal(lambda: self.request(forged)) == "bad-statement"

    @pytest.mark.parametrize("byte", [0, 1])
    def test_registers_no_key_of_low_order(self, byte):
        worthless = signature.jwk(bytes([byte]) + bytes(31))
        keys = replace(builders.keys("new"), sign=worthless)
        made = Join("new", builders.invitation("new"), keys, builders.time())
        forged = statement.sign(made, key("new"))
        assert refusal(lambda: self.request(forged)) == "low-order-key"

    def test_is_a_join_statement(self):
        assert refusal(lambda: self.request(builders.rotate("kz", "new"))) == "bad-statement"

    def test_is_not_larger_than_the_log_can_hold(self):
        made = Join("new", builders.invitation("new"), builders.keys("new"), builders.time())
        padded = jsontext.encode(made) + b" " * membership.MAX_STATEMENT
        raw = signature.sign(padded, signature.KEY_TYPE, key("new"))
        assert refusal(lambda: self.request(raw)) == "bad-statement"


class TestAnApproval:
    def waiting(self, *changes):
        """A batch in which the request of ``new`` waits."""
        made = invited(*changes)
        outcome = membership.request_join(builders.join("new"), VKEY).decide(made)
        return made, str(outcome.value["fingerprint"])

    def test_makes_a_member_by_its_own_statement(self):
        made, digits = self.waiting()
        membership.approve("new", digits, "account:a").decide(made)
        expected = {"statement": b64url(builders.join("new"))}
        assert recorded(made) == [("member.joined", "account:a", "new", expected)]
        assert made.directory.participants["new"].state == "active"
        assert made.rows["end_invitation"] == [{"ended_code": "new"}]

    def test_takes_the_fingerprint_as_it_is_read_aloud(self):
        made, digits = self.waiting()
        spoken = statement.spoken(digits)
        assert membership.approve("new", spoken, "account:a").decide(made).index is not None

    def test_with_another_fingerprint_approves_nothing(self):
        made, _ = self.waiting()
        job = membership.approve("new", "0" * 30, "account:a")
        assert refusal(lambda: job.decide(made)) == "conflict"
        assert made.entries == []

    def test_needs_a_request(self):
        job = membership.approve("new", "0" * 30, "account:a")
        assert refusal(lambda: job.decide(invited())) == "conflict"

    def test_counts_once(self):
        made, digits = self.waiting()
        membership.approve("new", digits, "account:a").decide(made)
        again = membership.approve("new", digits, "account:a")
        assert refusal(lambda: again.decide(made)) == "conflict"

    def test_of_somebody_whose_keys_were_lost_replaces_them(self):
        made = batch(builders.held("kz", "again"), joins={"kz": invitation("again")})
        raw = builders.join("kz", "kz second", "again")
        outcome = membership.request_join(raw, VKEY).decide(made)
        membership.approve("kz", str(outcome.value["fingerprint"]), "account:a").decide(made)
        assert recorded(made)[0][0] == "key.replaced"
        assert made.directory.participants["kz"].kid == kid(key("kz second"))


class TestAnInstitutionsOwnStatement:
    def test_rotates_its_keys(self):
        made = batch()
        raw = builders.rotate("kz", "kz second")
        membership.state_keys(raw, "kz", Token("kz:1", 9)).decide(made)
        assert recorded(made) == [("key.rotated", "kz", "kz", {"statement": b64url(raw)})]
        assert made.directory.participants["kz"].kid == kid(key("kz second"))
        assert made.rows["use_token"] == [{"jti": "kz:1", "expires": 9}]
        assert made.touched == {"kz"}  # so that its open streams end

    def test_revokes_a_key(self):
        made = batch()
        raw = builders.revoke("kz", kid(key("kz")), "kz")
        membership.state_keys(raw, "kz", None).decide(made)
        [(kind, actor, subject, public)] = recorded(made)
        assert (kind, actor, subject) == ("key.revoked", "kz", "kz")
        assert public["kid"] == kid(key("kz"))
        assert public["reason"] == "compromised"

    def test_is_about_itself_alone(self):
        raw = builders.rotate("kz", "kz second")
        assert refusal(lambda: membership.state_keys(raw, "kg", None)) == "sender-mismatch"

    def test_is_no_join(self):
        raw = builders.join("kz", "kz second")
        assert refusal(lambda: membership.state_keys(raw, "kz", None)) == "bad-statement"

    def test_by_another_key_changes_nothing(self):
        job = membership.state_keys(builders.rotate("kz", "kz second", "thief"), "kz", None)
        made = batch()
        assert refusal(lambda: job.decide(made)) == "conflict"
        assert made.entries == []

    def test_is_not_larger_than_the_log_can_hold(self):
        made = Rotate("kz", builders.keys("kz second"), builders.time())
        padded = jsontext.encode(made) + b" " * membership.MAX_STATEMENT
        raw = signature.sign(padded, signature.KEY_TYPE, key("kz"), key("kz second"))
        assert refusal(lambda: membership.state_keys(raw, "kz", None)) == "bad-statement"


class TestAnOperator:
    def test_suspends_and_resumes_with_a_private_reason(self):
        made = batch()
        for kind in (entries.MEMBER_SUSPENDED, entries.MEMBER_RESUMED):
            membership.change_state(kind, "kz", "account:a", "a reason").decide(made)
        assert recorded(made) == [
            ("member.suspended", "account:a", "kz", {}),
            ("member.resumed", "account:a", "kz", {}),
        ]
        assert made.entries[0].private == b'{"reason":"a reason"}'
        assert made.touched == {"kz"}

    def test_revokes_a_key_after_a_call_for_help(self):
        made = batch()
        membership.revoke_key(kid(key("kz")), "lost", "account:a").decide(made)
        public = {"kid": kid(key("kz")), "reason": "lost", "statement": None}
        assert recorded(made) == [("key.revoked", "account:a", "kz", public)]
        assert made.touched == {"kz"}

    def test_revokes_no_key_that_nobody_has(self):
        job = membership.revoke_key("x" * 43, "lost", "account:a")
        assert refusal(lambda: job.decide(batch())) == "unknown-key"


def test_an_invitation_over_by_a_millisecond_is_over():
    made = batch(
        builders.invited("new"),
        now=builders.NOW + timedelta(hours=1),
        joins={"new": invitation(expires=builders.time(60))},
    )
    job = membership.request_join(builders.join("new"), VKEY)
    assert refusal(lambda: job.decide(made)) == "unknown-invitation"
