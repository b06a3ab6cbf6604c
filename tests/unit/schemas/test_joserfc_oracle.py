"""An independent implementation of JOSE verifies what we sign, and signs what we accept."""

import json

import pytest
from joserfc import jwk, jws
from joserfc.errors import BadSignatureError

from schemas import message, signature
from schemas.encoding import b64url, unb64url
from schemas.signature import MESSAGE_TYPE
from tests.builders import key, kid, payload, public, signed
from tests.builders import message as bulletin

REGISTRY = jws.JWSRegistry(algorithms=["Ed25519"])


def theirs(seed):
    """A key of ours, private part and all, as joserfc has it."""
    private = key(seed)
    return jwk.OKPKey.import_key(
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "kid": kid(private),
            "x": b64url(public(private)),
            "d": b64url(private.private_bytes_raw()),
        }
    )


def their_keys(seeds):
    return jwk.KeySet([theirs(seed) for seed in seeds])


@pytest.mark.parametrize("seed", ["kz", "kg", "a third"])
def test_both_give_a_key_the_same_thumbprint(seed):
    assert theirs(seed).thumbprint() == kid(key(seed))


@pytest.mark.parametrize("signers", [["kz"], ["kz", "kg", "tj"]], ids="+".join)
def test_it_verifies_every_signature_of_our_envelopes(signers):
    raw = signed(bulletin(), *map(key, signers))
    verified = jws.deserialize_json(json.loads(raw), their_keys(signers), registry=REGISTRY)
    assert verified.payload == payload(bulletin())
    assert [m.headers()["kid"] for m in verified.members] == [kid(key(s)) for s in signers]


def test_it_rejects_our_envelope_once_the_payload_is_another():
    envelope = json.loads(signed(bulletin()))
    envelope["payload"] = b64url(payload(bulletin(sender="kg")))
    with pytest.raises(BadSignatureError):
        jws.deserialize_json(envelope, their_keys(["kz"]), registry=REGISTRY)


@pytest.mark.parametrize("signers", [["kz"], ["kz", "kg"]], ids="+".join)
def test_we_accept_what_it_signs(signers):
    made = jws.serialize_json(
        [
            {"protected": {"alg": "Ed25519", "kid": kid(key(s)), "typ": MESSAGE_TYPE}}
            for s in signers
        ],
        payload(bulletin()),
        their_keys(signers),
        registry=REGISTRY,
    )
    parsed = signature.parse(json.dumps(made).encode(), MESSAGE_TYPE)
    signature.verify(parsed, {kid(key(s)): public(key(s)) for s in signers}.__getitem__)
    assert message.parse(parsed.payload).id == bulletin()["id"]


def test_both_give_the_same_signature_over_the_same_bytes():
    ours = json.loads(signed(bulletin()))["signatures"][0]
    header = json.loads(unb64url(ours["protected"]))
    made = jws.serialize_compact(header, payload(bulletin()), theirs("kz"), registry=REGISTRY)
    protected, _, value = made.split(".")
    assert (protected, value) == (ours["protected"], ours["signature"])
