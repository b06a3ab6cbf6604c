"""Key statements: what an institution signs about its own keys (``nhri-key+json``).

``join`` is signed by the new signing key itself (proof of possession); ``rotate`` by the previous
signing key and by the new one; ``revoke`` by any signing key of the institution that still holds.
"""

import hashlib
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta

from schemas import jsontext, signature, text
from schemas.encoding import CODE_PATTERN, HASH_PATTERN, TIME_PATTERN
from schemas.refusal import Refused
from schemas.signature import Jwk, Jws

FINGERPRINT_DIGITS = 30

Code = Annotated[str, Meta(pattern=CODE_PATTERN)]
Time = Annotated[str, Meta(pattern=TIME_PATTERN)]


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The public keys of an institution: one each for signing, witnessing and sealing.

    ``expires`` ends the signing key; without it the key holds until it is replaced or revoked.
    """

    sign: Jwk
    witness: Jwk
    seal: Jwk
    tls_request: Annotated[str, Meta(max_length=8192)] | None = None
    expires: Time | None = None


class Join(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="join", tag_field="statement"
):
    """The keys are ours, and we were invited."""

    code: Code
    invitation: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{22}$")]
    keys: Keys
    time: Time


class Rotate(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="rotate", tag_field="statement"
):
    """From now on these keys are ours."""

    code: Code
    keys: Keys
    time: Time


class Revoke(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="revoke", tag_field="statement"
):
    """This signing key is not to be believed any more."""

    code: Code
    kid: Annotated[str, Meta(pattern=HASH_PATTERN)]
    reason: Literal["superseded", "lost", "compromised"]
    time: Time


Statement = Join | Rotate | Revoke


def sign(statement: Statement, *privates: Ed25519PrivateKey) -> bytes:
    """Sign a statement and give the envelope."""
    return signature.sign(jsontext.encode(statement), signature.KEY_TYPE, *privates)


def parse(raw: bytes) -> tuple[Jws, Statement]:
    """Read a statement without believing its signatures; its keys are checked to be real keys.

    Raises:
        Refused: it is not a statement of this form, or a key in it must not be registered.
    """
    jws = signature.parse(raw, signature.KEY_TYPE)
    statement: Statement = jsontext.decode(jws.payload, Statement)  # type: ignore[arg-type]
    text.check_time(statement.time, "$.time")
    if not isinstance(statement, Revoke):
        check_keys(statement.keys)
    return jws, statement


def check_keys(keys: Keys) -> None:
    """Refuse keys that are not what they must be, or one key in two roles.

    Raises:
        Refused: ``schema`` or ``low-order-key``.
    """
    sign_key = signature.public_from_jwk(keys.sign)
    witness_key = signature.public_from_jwk(keys.witness)
    signature.public_from_jwk(keys.seal, "X25519")
    if sign_key == witness_key:
        raise Refused("schema", "The witness key is a key of its own.", "$.keys.witness")
    if keys.expires is not None:
        text.check_time(keys.expires, "$.keys.expires")


def verify_signed_by(jws: Jws, *publics: bytes) -> None:
    """Check that exactly these keys signed.

    Raises:
        Refused: ``bad-statement`` or ``bad-signature``.
    """
    keys = {signature.thumbprint(public): public for public in publics}
    if {s.kid for s in jws.signatures} != set(keys):
        raise Refused("bad-statement", "The statement is not signed by the keys it must be.")
    signature.verify(jws, keys.__getitem__)


def fingerprint(member_thumbprint: str, log_vkey: str, invitation: str) -> str:
    """The join fingerprint: 30 digits, read aloud by technician and operator.

    SHA-256(member thumbprint ‖ log vkey ‖ invitation id), each as its text in UTF-8, taken as a
    big-endian number modulo 10^30, with leading zeroes. A forged bundle names another log key, so
    that the two sides read different digits.
    """
    hashed = hashlib.sha256(f"{member_thumbprint}{log_vkey}{invitation}".encode()).digest()
    return f"{int.from_bytes(hashed, 'big') % 10**FINGERPRINT_DIGITS:030d}"


def spoken(digits: str) -> str:
    """The fingerprint in groups of five, as it is shown."""
    return " ".join(digits[i : i + 5] for i in range(0, len(digits), 5))
