"""Key statements: what an institution signs about its own keys."""

import json

import pytest

from schemas import jsontext, note, signature, statement
from schemas.refusal import Refused
from schemas.statement import Join, Revoke, Rotate
from tests import builders
from tests.builders import invitation, key, keys, kid, public, signed, time, without

KEYS = json.loads(jsontext.encode(keys("kz")))
LOW_ORDER = json.loads(jsontext.encode(signature.jwk(bytes([1] + [0] * 31))))


def plain(kind="join", **overrides):
    members = {
        "join": {"code": "kz", "invitation": invitation("kz"), "keys": KEYS, "time": time()},
        "rotate": {"code": "kz", "keys": KEYS, "time": time()},
        "revoke": {"code": "kz", "kid": kid(key("kz")), "reason": "lost", "time": time()},
    }
    return {"statement": kind} | members[kind] | overrides


def made(value):
    return signed(json.dumps(value).encode(), key("kz"), typ=signature.KEY_TYPE)


def refused(value):
    with pytest.raises(Refused) as caught:
        statement.parse(value if isinstance(value, bytes) else made(value))
    return caught.value.code, caught.value.path


class TestAStatement:
    @pytest.mark.parametrize(
        "written",
        [
            Join("kz", invitation("kz"), keys("kz"), time()),
            Join("kz", invitation("kz"), keys("kz", tls_request="-----BEGIN\nEND-----\n"), time()),
            Rotate("kz", keys("kz second", expires=time(60)), time()),
            Revoke("kz", kid(key("kz")), "compromised", time()),
        ],
        ids=["join", "join with a TLS request", "rotate with an expiry", "revoke"],
    )
    def test_is_read_as_it_was_signed(self, written):
        jws, read = statement.parse(statement.sign(written, key("kz")))
        assert read == written
        assert [s.kid for s in jws.signatures] == [kid(key("kz"))]

    @pytest.mark.parametrize("kind", ["join", "rotate", "revoke"])
    def test_has_the_form_that_is_written_down(self, kind):
        _, read = statement.parse(made(plain(kind)))
        assert json.loads(jsontext.encode(read)) == plain(kind)

    @pytest.mark.parametrize("kind", ["resign", "Join", "", None, 1])
    def test_is_one_of_the_three(self, kind):
        assert refused(plain() | {"statement": kind})[0] == "schema"

    @pytest.mark.parametrize(
        ("kind", "missing"),
        [(kind, name) for kind in ("join", "rotate", "revoke") for name in plain(kind)],
    )
    def test_misses_no_member(self, kind, missing):
        assert refused(without(plain(kind), missing))[0] == "schema"

    @pytest.mark.parametrize("kind", ["join", "rotate", "revoke"])
    def test_has_no_further_member(self, kind):
        assert refused(plain(kind, note="x")) == ("schema", "$.note")

    def test_is_signed_as_a_statement_and_as_nothing_else(self):
        as_message = signed(json.dumps(plain()).encode(), key("kz"))
        assert refused(as_message) == ("bad-header", "$.typ")

    @pytest.mark.parametrize(
        ("kind", "name", "value"),
        [
            ("join", "code", "KZ"),
            ("join", "code", "kz\n"),
            ("join", "time", "2026-02-30T00:00:00.000Z"),
            ("join", "invitation", "short"),
            ("join", "invitation", invitation("kz") + "="),
            ("revoke", "kid", "x"),
            ("revoke", "kid", "\x1b" * 43),
            ("revoke", "reason", "bored"),
            ("revoke", "time", "yesterday"),
        ],
    )
    def test_has_members_in_their_form(self, kind, name, value):
        assert refused(plain(kind, **{name: value})) == ("schema", f"$.{name}")


class TestTheKeysInIt:
    def refused(self, **overrides):
        found = refused(plain(keys=KEYS | overrides))
        assert refused(plain("rotate", keys=KEYS | overrides)) == found
        return found

    @pytest.mark.parametrize("role", ["sign", "witness"])
    def test_that_sign_are_of_no_low_order(self, role):
        assert self.refused(**{role: LOW_ORDER})[0] == "low-order-key"

    @pytest.mark.parametrize("role", ["sign", "witness", "seal"])
    def test_are_all_there(self, role):
        assert refused(plain(keys=without(KEYS, role))) == ("schema", "$.keys")

    @pytest.mark.parametrize(
        ("role", "other"), [("sign", "seal"), ("witness", "seal"), ("seal", "sign")]
    )
    def test_are_of_the_curve_of_their_role(self, role, other):
        assert self.refused(**{role: KEYS[other]})[0] == "schema"

    def test_that_sign_and_that_witness_are_two(self):
        assert self.refused(witness=KEYS["sign"]) == ("schema", "$.keys.witness")

    @pytest.mark.parametrize("role", ["sign", "witness", "seal"])
    def test_are_public_ones(self, role):
        found = self.refused(**{role: KEYS[role] | {"d": "A" * 43}})
        assert found == ("schema", f"$.keys.{role}.d")

    @pytest.mark.parametrize(
        "expires", ["2026-02-30T00:00:00.000Z", "never", "9999-99-99T99:99:99.999Z"]
    )
    def test_expire_at_a_time_that_exists_or_never(self, expires):
        assert self.refused(expires=expires) == ("schema", "$.keys.expires")

    def test_have_a_tls_request_of_a_reasonable_size(self):
        assert self.refused(tls_request="x" * 8_193) == ("schema", "$.keys.tls_request")


class TestWhoSigned:
    def jws(self, *seeds):
        raw = statement.sign(Rotate("kz", keys("b"), time()), *map(key, seeds))
        return statement.parse(raw)[0]

    def test_is_exactly_those_who_must(self):
        statement.verify_signed_by(self.jws("a", "b"), public(key("a")), public(key("b")))
        statement.verify_signed_by(self.jws("a", "b"), public(key("b")), public(key("a")))

    @pytest.mark.parametrize("seeds", [["a"], ["b"], ["a", "b", "c"], ["a", "c"]], ids="+".join)
    def test_is_nobody_less_and_nobody_more(self, seeds):
        with pytest.raises(Refused, match="bad-statement"):
            statement.verify_signed_by(self.jws(*seeds), public(key("a")), public(key("b")))

    def test_is_not_who_only_claims_to(self):
        written = jsontext.encode(Rotate("kz", keys("b"), time()))
        real = signature.sign_payload(written, signature.KEY_TYPE, key("a"))
        other = signature.sign_payload(b"{}", signature.KEY_TYPE, key("b"))
        jws, _ = statement.parse(signature.envelope(written, [real, other]))
        with pytest.raises(Refused, match="bad-signature"):
            statement.verify_signed_by(jws, public(key("a")), public(key("b")))


class TestTheFingerprint:
    MEMBER = kid(key("kz"))
    VKEY = str(builders.LOG)

    def test_is_thirty_digits_of_all_three(self):
        digits = statement.fingerprint("member", "log", "invitation")
        # SHA-256("memberloginvitation") modulo 10^30
        assert digits == "106914651567363871364861212576"

    def test_keeps_leading_zeroes(self):
        found = {len(statement.fingerprint(str(n), self.VKEY, "i")) for n in range(300)}
        assert found == {30}
        assert any(statement.fingerprint(str(n), self.VKEY, "i")[0] == "0" for n in range(300))

    def test_is_another_for_another_key_log_or_invitation(self):
        false_log = str(note.ed25519_vkey(builders.ORIGIN, public(key("false hub"))))
        found = {
            statement.fingerprint(self.MEMBER, self.VKEY, invitation("kz")),
            statement.fingerprint(kid(key("thief")), self.VKEY, invitation("kz")),
            statement.fingerprint(self.MEMBER, false_log, invitation("kz")),
            statement.fingerprint(self.MEMBER, self.VKEY, invitation("kg")),
        }
        assert len(found) == 4

    def test_is_spoken_in_groups_of_five(self):
        assert statement.spoken("012345678901234567890123456789") == (
            "01234 56789 01234 56789 01234 56789"
        )
