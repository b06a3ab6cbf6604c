"""The JWS of RFC 8037 (appendix A.4): its arithmetic is ours, its header is not."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import signature
from schemas.encoding import b64url, unb64url
from schemas.refusal import Refused
from schemas.signature import Jwk

FILE = Path(__file__).parents[3] / "shared" / "vectors" / "rfc8037_jws.json"

pytestmark = pytest.mark.skipif(
    not FILE.is_file(), reason="../shared/vectors/rfc8037_jws.json is absent"
)


@pytest.fixture
def example():
    return json.loads(FILE.read_text())


@pytest.fixture
def public(example):
    key = example["input"]["key"]
    return signature.public_from_jwk(Jwk(key["kty"], key["crv"], key["x"]))


def test_the_signature_holds(example, public):
    signing = example["signing"]
    signed = signing["sig-input"].encode()
    assert signature.holds(public, unb64url(signing["sig"]), signed)
    assert not signature.holds(public, unb64url(signing["sig"]), signed + b".")


def test_the_same_key_makes_the_same_signature(example, public):
    private = Ed25519PrivateKey.from_private_bytes(unb64url(example["input"]["key"]["d"]))
    assert private.public_key().public_bytes_raw() == public
    assert (
        b64url(private.sign(example["signing"]["sig-input"].encode()))
        == (example["signing"]["sig"])
    )


def test_the_signing_input_is_that_of_the_envelope(example):
    general = example["output"]["json"]
    assert (
        f"{general['signatures'][0]['protected']}.{general['payload']}"
        == (example["signing"]["sig-input"])
    )


def test_the_profile_refuses_the_header_that_says_eddsa(example):
    raw = json.dumps(example["output"]["json"]).encode()
    with pytest.raises(Refused, match="bad-header"):
        signature.parse(raw, signature.MESSAGE_TYPE)


def test_the_profile_refuses_eddsa_even_where_nothing_else_is_wrong(example, public):
    header = {"alg": "EdDSA", "kid": signature.thumbprint(public), "typ": signature.MESSAGE_TYPE}
    with pytest.raises(Refused, match="alg must be Ed25519, not 'EdDSA'"):
        signature.parse_header(json.dumps(header).encode(), signature.MESSAGE_TYPE)


@pytest.mark.parametrize("form", ["compact", "json_flat"])
def test_the_profile_refuses_the_other_forms(example, form):
    output = example["output"][form]
    raw = (output if isinstance(output, str) else json.dumps(output)).encode()
    with pytest.raises(Refused, match="malformed"):
        signature.parse(raw, signature.MESSAGE_TYPE)
