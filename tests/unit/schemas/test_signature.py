"""The JWS profile: the one form of envelope that counts, and every other form refused."""

import json

import pytest

from schemas import signature
from schemas.encoding import b64url
from schemas.refusal import Refused
from schemas.signature import DELIVERY_TYPE, KEY_TYPE, MAX_ENVELOPE, MESSAGE_TYPE
from tests import builders
from tests.builders import key, kid, public

PAYLOAD = b'{"n":1}'
KZ, KG = key("kz"), key("kg")
HEADER = {"alg": "Ed25519", "kid": kid(KZ), "typ": MESSAGE_TYPE}

# The public key of RFC 8032 §7.1 (test 1), whose thumbprint is in RFC 8037 appendix A.3.
RFC_PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
RFC_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"

LOW_ORDER = [
    y[:-2] + last
    for y, positive, negative in (
        ("00" * 32, "00", "80"),
        ("01" + "00" * 31, "00", "80"),
        ("ec" + "ff" * 31, "7f", "ff"),
        ("ed" + "ff" * 31, "7f", "ff"),
        ("ee" + "ff" * 31, "7f", "ff"),
        ("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "05", "85"),
        ("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", "7a", "fa"),
    )
    for last in (positive, negative)
]


def by_hand(header, payload=PAYLOAD, private=KZ):
    """One signature over any header, which is JSON text or is made into it."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    protected = b64url(raw)
    value = private.sign(f"{protected}.{b64url(payload)}".encode())
    return {"protected": protected, "signature": b64url(value)}


def envelope(*signatures, payload=PAYLOAD, **more):
    return {"payload": b64url(payload), "signatures": list(signatures)} | more


def parse(value, typ=MESSAGE_TYPE):
    return signature.parse(
        value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode(), typ
    )


def refused(value, typ=MESSAGE_TYPE):
    with pytest.raises(Refused) as caught:
        parse(value, typ)
    return caught.value


def refused_code(value):
    return refused(value).code


class TestASignedEnvelope:
    def test_holds_its_payload_byte_for_byte(self):
        payload = b' {"b": 1, "a": "\\u0431"}\n'
        assert parse(signature.sign(payload, MESSAGE_TYPE, KZ)).payload == payload

    def test_verifies_under_the_key_that_signed(self):
        jws = parse(signature.sign(PAYLOAD, MESSAGE_TYPE, KZ, KG))
        keys = {kid(KZ): public(KZ), kid(KG): public(KG)}
        signature.verify(jws, keys.__getitem__)

    def test_does_not_verify_under_another_key(self):
        jws = parse(signature.sign(PAYLOAD, MESSAGE_TYPE, KZ))
        with pytest.raises(Refused, match="bad-signature"):
            signature.verify(jws, lambda _: public(KG))

    def test_does_not_verify_when_only_one_of_its_signatures_does(self):
        forged = by_hand(HEADER | {"kid": kid(KG)}, private=key("thief"))
        jws = parse(envelope(by_hand(HEADER), forged))
        keys = {kid(KZ): public(KZ), kid(KG): public(KG)}
        with pytest.raises(Refused, match=rf"bad-signature.*{kid(KG)}"):
            signature.verify(jws, keys.__getitem__)

    def test_does_not_verify_with_another_payload(self):
        jws = parse(envelope(by_hand(HEADER), payload=b'{"n":2}'))
        with pytest.raises(Refused, match="bad-signature"):
            signature.verify(jws, lambda _: public(KZ))

    def test_may_have_white_space_and_its_members_in_any_order(self):
        made = envelope(by_hand(dict(reversed(HEADER.items()))))
        pretty = json.dumps(dict(reversed(made.items())), indent=2).encode()
        signature.verify(parse(pretty), lambda _: public(KZ))

    def test_says_why_a_key_is_not_known(self):
        def key_of(kid):
            raise Refused("unknown-key", f"No participant ever registered the key {kid}.")

        with pytest.raises(Refused, match="unknown-key"):
            signature.verify(parse(envelope(by_hand(HEADER))), key_of)


class TestTheProtectedHeader:
    @pytest.mark.parametrize(
        "alg",
        ["none", "None", "EdDSA", "ES256", "HS256", "RS256", "Ed448", "ed25519", "", "Ed25519 "],
    )
    def test_has_no_other_algorithm_than_ed25519(self, alg):
        refusal = refused(envelope(by_hand(HEADER | {"alg": alg})))
        assert (refusal.code, refusal.path) == ("bad-header", "$.alg")

    @pytest.mark.parametrize("missing", ["alg", "kid", "typ"])
    def test_misses_no_member(self, missing):
        header = {name: value for name, value in HEADER.items() if name != missing}
        refusal = refused(envelope(by_hand(header)))
        assert refusal.code == "bad-header"
        assert f"missing required field `{missing}`" in refusal.detail

    @pytest.mark.parametrize(
        "extra",
        [
            {"crit": ["exp"]},
            {"b64": False},
            {"jwk": {"kty": "OKP"}},
            {"jku": "https://example.org/keys"},
            {"x5c": []},
            {"cty": "json"},
            {"iat": 0},
        ],
        ids=lambda extra: next(iter(extra)),
    )
    def test_has_no_further_member(self, extra):
        refusal = refused(envelope(by_hand(HEADER | extra)))
        assert refusal.code == "bad-header"
        assert f"unknown field `{next(iter(extra))}`" in refusal.detail

    @pytest.mark.parametrize(
        "value",
        [None, 1, "", "kz", "A" * 42, "A" * 44, "A" * 43 + "\n", "\x1b[2J" + "A" * 39],
        ids=repr,
    )
    def test_names_the_key_by_its_thumbprint(self, value):
        refusal = refused(envelope(by_hand(HEADER | {"kid": value})))
        assert (refusal.code, refusal.path) == ("bad-header", "$.kid")

    @pytest.mark.parametrize("typ", [DELIVERY_TYPE, KEY_TYPE, "nhri-auth+jwt", "JWT", ""])
    def test_of_another_type_does_not_make_a_message(self, typ):
        refusal = refused(signature.sign(PAYLOAD, typ, KZ))
        assert (refusal.code, refusal.path) == ("bad-header", "$.typ")

    def test_of_a_message_does_not_make_a_receipt_or_statement(self):
        raw = signature.sign(PAYLOAD, MESSAGE_TYPE, KZ)
        assert refused(raw, DELIVERY_TYPE).code == refused(raw, KEY_TYPE).code == "bad-header"

    @pytest.mark.parametrize("header", [[], "Ed25519", None, 1, [HEADER]], ids=repr)
    def test_is_an_object(self, header):
        assert refused_code(envelope(by_hand(header))) == "bad-header"

    @pytest.mark.parametrize("header", [b"", b"{", b"\xff", b"{}{}"])
    def test_is_json(self, header):
        assert refused_code(envelope(by_hand(header))) == "malformed"

    @pytest.mark.parametrize("name", ["alg", "kid", "typ"])
    def test_names_no_member_twice(self, name):
        doubled = json.dumps(HEADER)[:-1] + f', "{name}": "{HEADER[name]}"}}'
        assert refused_code(envelope(by_hand(doubled.encode()))) == "duplicate-key"


class TestTheForm:
    def test_has_no_unprotected_header(self):
        signed = by_hand(HEADER) | {"header": {"kid": kid(KZ)}}
        refusal = refused(envelope(signed))
        assert refusal.code == "malformed"
        assert "unknown field `header`" in refusal.detail

    def test_is_not_the_flattened_one(self):
        assert refused_code({"payload": b64url(PAYLOAD)} | by_hand(HEADER)) == "malformed"

    def test_is_not_the_flattened_one_beside_the_general_one(self):
        assert refused_code(envelope(by_hand(HEADER)) | by_hand(HEADER)) == "malformed"

    def test_is_not_the_compact_one(self):
        signed = by_hand(HEADER)
        compact = f"{signed['protected']}.{b64url(PAYLOAD)}.{signed['signature']}"
        assert refused_code(compact.encode()) == "malformed"
        assert refused_code(json.dumps(compact).encode()) == "malformed"

    @pytest.mark.parametrize("missing", ["payload", "signatures"])
    def test_misses_no_member(self, missing):
        assert refused_code(builders.without(envelope(by_hand(HEADER)), missing)) == "malformed"

    @pytest.mark.parametrize("missing", ["protected", "signature"])
    def test_misses_no_member_of_a_signature(self, missing):
        signed = builders.without(by_hand(HEADER), missing)
        assert refused_code(envelope(signed)) == "malformed"

    def test_has_no_further_member(self):
        assert refused_code(envelope(by_hand(HEADER), v=1)) == "malformed"

    @pytest.mark.parametrize(
        ("once", "twice"),
        [
            ('{"payload":', '{"payload":"e30","payload":'),
            ('"signatures":', '"signatures":[],"signatures":'),
            ('"protected":', '"protected":"e30","protected":'),
            ('"signature":', '"signature":"","signature":'),
        ],
    )
    def test_names_no_member_twice(self, once, twice):
        raw = signature.sign(PAYLOAD, MESSAGE_TYPE, KZ).decode()
        assert raw.count(once) == 1
        assert refused_code(raw.replace(once, twice).encode()) == "duplicate-key"

    @pytest.mark.parametrize(
        "raw", [b"", b"null", b"[]", b'""', b"{}", b"\xff\xfe", b"[" * 100_000, b"NaN"]
    )
    def test_is_one_json_object(self, raw):
        assert refused_code(raw) == "malformed"

    def test_has_at_least_one_signature(self):
        assert refused_code(envelope()) == "malformed"

    def test_has_at_most_16_signatures(self):
        privates = [key(f"member {number}") for number in range(17)]
        assert len(parse(signature.sign(PAYLOAD, MESSAGE_TYPE, *privates[:16])).signatures) == 16
        refusal = refused(signature.sign(PAYLOAD, MESSAGE_TYPE, *privates))
        assert (refusal.code, "16" in refusal.detail) == ("malformed", True)

    def test_has_one_signature_of_a_key(self):
        assert refused_code(signature.sign(PAYLOAD, MESSAGE_TYPE, KZ, KZ)) == "malformed"

    def test_has_one_signature_of_a_key_even_where_the_headers_are_spelled_otherwise(self):
        other = by_hand(dict(reversed(HEADER.items())))
        assert refused_code(envelope(by_hand(HEADER), other)) == "malformed"

    def test_has_at_most_256_kib(self):
        raw = signature.sign(PAYLOAD, MESSAGE_TYPE, KZ)
        largest = raw + b" " * (MAX_ENVELOPE - len(raw))
        assert parse(largest).payload == PAYLOAD
        assert refused_code(largest + b" ") == "too-large"
        assert refused_code(signature.sign(b"x" * 300 * 1024, MESSAGE_TYPE, KZ)) == "too-large"


class TestBase64url:
    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(lambda text: text + "=", id="padded"),
            pytest.param(lambda text: text + "==", id="padded twice"),
            pytest.param(lambda text: text[:-1] + chr(ord(text[-1]) + 1), id="trailing bits"),
            pytest.param(lambda text: text + "\n", id="a line feed"),
            pytest.param(lambda text: " " + text, id="a space"),
            pytest.param(lambda text: text[:5] + "+" + text[6:], id="plain base64"),
            pytest.param(lambda text: text[:5] + "é" + text[6:], id="not ASCII"),
            pytest.param(lambda text: text[:5] + "\x00" + text[6:], id="a null character"),
        ],
    )
    @pytest.mark.parametrize("member", ["payload", "protected", "signature"])
    def test_of_every_member_is_strict(self, member, spoil):
        # The lengths are such that each member ends in a character with unused bits.
        signed = by_hand(json.dumps(HEADER).encode().ljust(112))
        made = envelope(signed)
        holder = made if member == "payload" else signed
        assert len(holder[member]) % 4
        holder[member] = spoil(holder[member])
        assert refused_code(made) == "malformed"

    @pytest.mark.parametrize("size", [0, 32, 63, 65, 128])
    def test_of_a_signature_stands_for_64_bytes(self, size):
        signed = by_hand(HEADER) | {"signature": b64url(bytes(size))}
        assert refused_code(envelope(signed)) == "malformed"

    @pytest.mark.parametrize("member", ["payload", "protected", "signature"])
    def test_stands_in_a_string(self, member):
        signed = by_hand(HEADER)
        made = envelope(signed)
        (made if member == "payload" else signed)[member] = 1
        assert refused_code(made) == "malformed"


class TestKeys:
    def test_the_kid_is_the_thumbprint_of_rfc_7638(self):
        assert signature.thumbprint(RFC_PUBLIC) == RFC_THUMBPRINT

    @pytest.mark.parametrize("encoded", LOW_ORDER)
    def test_of_low_order_are_never_registered(self, encoded):
        with pytest.raises(Refused, match="low-order-key"):
            signature.check_public_key(bytes.fromhex(encoded))
        with pytest.raises(Refused, match="low-order-key"):
            signature.public_from_jwk(signature.jwk(bytes.fromhex(encoded)))

    def test_of_low_order_have_14_encodings(self):
        assert len(set(LOW_ORDER)) == 14

    def test_the_identity_would_verify_one_signature_over_every_message(self):
        identity = bytes.fromhex(LOW_ORDER[2])
        forged = identity + bytes(32)
        assert signature.holds(identity, forged, b"yes")
        assert signature.holds(identity, forged, b"no")

    def test_that_are_real_are_taken(self):
        assert signature.public_from_jwk(signature.jwk(RFC_PUBLIC)) == RFC_PUBLIC
        assert (
            signature.public_from_jwk(signature.jwk(RFC_PUBLIC, "X25519"), "X25519") == RFC_PUBLIC
        )

    @pytest.mark.parametrize("size", [0, 31, 33, 57])
    @pytest.mark.parametrize("curve", ["Ed25519", "X25519"])
    def test_have_32_bytes(self, curve, size):
        with pytest.raises(Refused, match=r"schema.*32 bytes"):
            signature.public_from_jwk(signature.jwk(bytes(size), curve), curve)

    @pytest.mark.parametrize(
        "jwk",
        [
            signature.Jwk("EC", "P-256", b64url(RFC_PUBLIC)),
            signature.Jwk("OKP", "X25519", b64url(RFC_PUBLIC)),
            signature.Jwk("OKP", "Ed448", b64url(RFC_PUBLIC)),
            signature.Jwk("okp", "Ed25519", b64url(RFC_PUBLIC)),
            signature.Jwk("OKP", "Ed25519", b64url(RFC_PUBLIC) + "="),
            signature.Jwk("OKP", "Ed25519", "é" * 43),
        ],
        ids=str,
    )
    def test_are_of_the_right_type_and_strictly_encoded(self, jwk):
        with pytest.raises(Refused, match="schema"):
            signature.public_from_jwk(jwk)

    @pytest.mark.parametrize("bad", [b"", bytes(31), bytes(33)])
    def test_of_another_length_verify_nothing(self, bad):
        assert not signature.holds(bad, bytes(64), b"")


class TestACosignatureWithoutItsPayload:
    """A joint action's acceptance carries one over the notice."""

    def test_names_its_key(self):
        assert signature.detached_kid(signature.sign_payload(PAYLOAD, MESSAGE_TYPE, KG)) == kid(KG)

    def test_verifies_over_the_payload_it_was_made_for(self):
        wire = signature.sign_payload(PAYLOAD, MESSAGE_TYPE, KG)
        signature.verify_detached(wire, PAYLOAD, MESSAGE_TYPE, public(KG))

    @pytest.mark.parametrize(
        ("payload", "typ", "private", "code"),
        [
            (PAYLOAD + b" ", MESSAGE_TYPE, KG, "bad-signature"),
            (PAYLOAD, DELIVERY_TYPE, KG, "bad-header"),
            (PAYLOAD, MESSAGE_TYPE, KZ, "unknown-key"),
        ],
        ids=["another payload", "another type", "another key"],
    )
    def test_verifies_over_nothing_else(self, payload, typ, private, code):
        wire = signature.sign_payload(PAYLOAD, MESSAGE_TYPE, KG)
        with pytest.raises(Refused) as caught:
            signature.verify_detached(wire, payload, typ, public(private))
        assert caught.value.code == code

    @pytest.mark.parametrize(
        ("wire", "code"),
        [
            (signature.JwsSignature("e30", b64url(bytes(64))), "bad-header"),
            (signature.JwsSignature("", b64url(bytes(64))), "malformed"),
            (signature.JwsSignature("é", b64url(bytes(64))), "malformed"),
            (signature.JwsSignature("e30", b64url(bytes(63))), "malformed"),
        ],
    )
    def test_is_refused_where_it_is_none(self, wire, code):
        with pytest.raises(Refused) as caught:
            signature.detached_kid(wire)
        assert caught.value.code == code
