"""The JWS profile: what may be signed, how, and when a signature counts.

JWS General JSON Serialization (RFC 7515 §7.2.1) with ``alg`` ``Ed25519`` (RFC 9864) and nothing
left to choose: the protected header has exactly ``alg``, ``kid`` and ``typ``; there is no
unprotected header, no flattened and no compact form. ``typ`` separates the domains: a signed
message can never be read as a receipt or as a key statement.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Meta

from schemas import jsontext
from schemas.encoding import HASH_PATTERN, b64url, unb64url
from schemas.refusal import Refused

MESSAGE_TYPE = "nhri-message+json"
DELIVERY_TYPE = "nhri-delivery+json"
KEY_TYPE = "nhri-key+json"
AUTH_TYPE = "nhri-auth+jwt"

MAX_ENVELOPE = 256 * 1024
"""Bytes of a whole envelope."""

MAX_SIGNATURES = 16

MAX_HEADER = 512
"""Bytes of a protected header, which needs some 110. Parsed ones are remembered."""

# The y coordinates of the eight points of small order, and the two encodings of 0 and 1 beyond the
# field prime. With the sign bit set or not that makes the 14 low-order encodings. Under such a key
# one fixed signature verifies every message, so that its holder could deny or claim anything.
_LOW_ORDER = frozenset(
    bytes.fromhex(text)
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)


class Jwk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public key as JWK (RFC 8037 §2): OKP on ``Ed25519`` or ``X25519``."""

    kty: str
    crv: str
    x: str


class ProtectedHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole protected header; members may stand in any order."""

    alg: str
    kid: Annotated[str, Meta(pattern=HASH_PATTERN)]
    typ: str


class JwsSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature of an envelope, as on the wire."""

    protected: str
    signature: str


class JwsEnvelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The envelope as on the wire (RFC 7515 §7.2.1)."""

    payload: str
    signatures: list[JwsSignature]


class Signature(msgspec.Struct, frozen=True):
    """One parsed, not yet verified signature: by which key, over which bytes."""

    kid: str
    signing_input: bytes
    value: bytes


class Jws(msgspec.Struct, frozen=True):
    """A parsed envelope. Nothing in it is to be believed before ``verify``."""

    payload: bytes
    signatures: tuple[Signature, ...]


def thumbprint(public: bytes) -> str:
    """RFC 7638 thumbprint of an Ed25519 key (RFC 8037 Appendix A.3): the ``kid``."""
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{b64url(public)}"}}'
    return b64url(hashlib.sha256(canonical.encode("ascii")).digest())


def check_public_key(public: bytes) -> None:
    """Refuse keys that must never be registered.

    Raises:
        Refused: ``low-order-key`` or, for another length than 32 bytes, ``schema``.
    """
    if len(public) != 32:
        raise Refused("schema", "An Ed25519 public key has 32 bytes.")
    if public[:31] + bytes([public[31] & 0x7F]) in _LOW_ORDER:
        raise Refused("low-order-key", "Make a new key pair; this one is not a real key.")


def public_from_jwk(jwk: Jwk, curve: str = "Ed25519") -> bytes:
    """The 32 bytes of a public key in a JWK.

    Raises:
        Refused: ``schema`` for another type of key, ``low-order-key`` for a worthless one.
    """
    if jwk.kty != "OKP" or jwk.crv != curve:
        raise Refused("schema", f"The key must have kty OKP and crv {curve}.")
    try:
        public = unb64url(jwk.x)
    except ValueError as error:
        raise Refused("schema", f"The key's x is {error}.") from None
    if curve == "Ed25519":
        check_public_key(public)
    elif len(public) != 32:
        raise Refused("schema", f"An {curve} public key has 32 bytes.")
    return public


def jwk(public: bytes, curve: str = "Ed25519") -> Jwk:
    """The JWK of 32 public bytes."""
    return Jwk("OKP", curve, b64url(public))


def parse(raw: bytes, typ: str) -> Jws:
    """Read an envelope of the profile, without believing anything in it.

    Args:
        raw: the envelope as it came.
        typ: the one ``typ`` that is expected here.

    Raises:
        Refused: ``too-large``, ``malformed``, ``duplicate-key`` or ``bad-header``.
    """
    if len(raw) > MAX_ENVELOPE:
        raise Refused("too-large", f"The envelope has {len(raw)} bytes; 262144 are the limit.")
    try:
        envelope = jsontext.decode(raw, JwsEnvelope)
    except Refused as refusal:
        code = "malformed" if refusal.code == "schema" else refusal.code
        raise Refused(code, refusal.detail, refusal.path) from None
    if not 1 <= len(envelope.signatures) <= MAX_SIGNATURES:
        raise Refused("malformed", f"An envelope has 1 to {MAX_SIGNATURES} signatures.")
    payload = _binary(envelope.payload, "payload")
    signatures = tuple(_signature(s, envelope.payload, typ) for s in envelope.signatures)
    if len({signature.kid for signature in signatures}) != len(signatures):
        raise Refused("malformed", "One key signs an envelope only once.")
    return Jws(payload, signatures)


def _binary(text: str, name: str) -> bytes:
    try:
        return unb64url(text)
    except ValueError as error:
        raise Refused("malformed", f"The member {name} is {error}.") from None


def _signature(wire: JwsSignature, payload: str, typ: str) -> Signature:
    value = _binary(wire.signature, "signature")
    if len(value) != 64:
        raise Refused("malformed", "An Ed25519 signature has 64 bytes.")
    header = parse_header(_binary(wire.protected, "protected"), typ)
    return Signature(header.kid, f"{wire.protected}.{payload}".encode("ascii"), value)


@lru_cache(maxsize=1024)
def parse_header(raw: bytes, typ: str) -> ProtectedHeader:
    """Read a protected header; it must be exactly the agreed one.

    Raises:
        Refused: ``bad-header``, or ``duplicate-key`` / ``malformed`` for broken JSON.
    """
    if len(raw) > MAX_HEADER:
        raise Refused("bad-header", f"A protected header has at most {MAX_HEADER} bytes.")
    try:
        header = jsontext.decode(raw, ProtectedHeader)
    except Refused as refusal:
        if refusal.code != "schema":
            raise
        detail = f"The protected header has exactly alg, kid and typ: {refusal.detail}"
        raise Refused("bad-header", detail, refusal.path) from None
    if header.alg != "Ed25519":
        raise Refused("bad-header", f"alg must be Ed25519, not {header.alg!r}.", "$.alg")
    if header.typ != typ:
        raise Refused("bad-header", f"typ must be {typ}, not {header.typ!r}.", "$.typ")
    return header


def holds(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether an Ed25519 signature (RFC 8032) verifies."""
    try:
        _public_key(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=1024)
def _public_key(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


def verify(jws: Jws, key_of: Callable[[str], bytes]) -> None:
    """Check every signature; one that does not hold spoils the envelope.

    Args:
        jws: a parsed envelope.
        key_of: gives the public key for a ``kid`` or raises ``Refused``.

    Raises:
        Refused: ``bad-signature``, or what ``key_of`` raises.
    """
    for signature in jws.signatures:
        if not holds(key_of(signature.kid), signature.value, signature.signing_input):
            raise Refused("bad-signature", f"The signature by key {signature.kid} does not hold.")


def sign_payload(payload: bytes, typ: str, private: Ed25519PrivateKey) -> JwsSignature:
    """One signature over a payload, as it stands in an envelope."""
    public = private.public_key().public_bytes_raw()
    header = jsontext.encode(ProtectedHeader("Ed25519", thumbprint(public), typ))
    protected = b64url(header)
    value = private.sign(f"{protected}.{b64url(payload)}".encode("ascii"))
    return JwsSignature(protected, b64url(value))


def envelope(payload: bytes, signatures: list[JwsSignature]) -> bytes:
    """Assemble an envelope; used for one signature as for a joint action's many."""
    return jsontext.encode(JwsEnvelope(b64url(payload), signatures))


def sign(payload: bytes, typ: str, *privates: Ed25519PrivateKey) -> bytes:
    """Sign a payload with one or more keys and give the envelope."""
    return envelope(payload, [sign_payload(payload, typ, private) for private in privates])


def detached_kid(wire: JwsSignature) -> str:
    """The ``kid`` that a signature without payload names.

    Raises:
        Refused: ``malformed`` or ``bad-header``.
    """
    return _signature(wire, "", MESSAGE_TYPE).kid


def verify_detached(wire: JwsSignature, payload: bytes, typ: str, public: bytes) -> None:
    """Check one signature that travels without its payload (a joint action's co-signature).

    Raises:
        Refused: ``malformed``, ``bad-header``, ``unknown-key`` or ``bad-signature``.
    """
    signature = _signature(wire, b64url(payload), typ)
    if signature.kid != thumbprint(public):
        raise Refused("unknown-key", "The signature names another key.")
    if not holds(public, signature.value, signature.signing_input):
        raise Refused("bad-signature", "The signature does not hold over this payload.")
