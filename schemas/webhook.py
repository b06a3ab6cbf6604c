"""Standard Webhooks 1.0: what signs a webhook, and what its receiver checks.

The headers are ``webhook-id``, ``webhook-timestamp`` (whole seconds since 1970) and
``webhook-signature``: signatures with a space between them, each its version, a comma, and standard
base64. ``v1`` is HMAC-SHA256 under a shared secret, ``v1a`` Ed25519 (RFC 8032). Both are over
``<id>.<timestamp>.<body>``. While keys change every key in force signs, and one signature that
holds is enough.
"""

import base64
import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import signature
from schemas.refusal import Refused

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

TOLERANCE: Final = timedelta(minutes=5)
"""How far the clocks of sender and receiver may be apart, and how old a delivery may be."""

OVERLAP: Final = timedelta(days=1)
"""How long a replaced key goes on signing beside its successor."""

MIN_SECRET: Final = 24
MAX_SECRET: Final = 64
"""Bytes of a shared secret."""

MAX_SIGNATURES: Final = 16
"""Signatures that are looked at; what comes after them is not."""


class Secret(msgspec.Struct, frozen=True):
    """What signs ``v1``: 24 to 64 random bytes that sender and receiver share."""

    raw: bytes

    def __repr__(self) -> str:
        return "Secret(…)"  # a log must not hold it

    @property
    def text(self) -> str:
        """As it is handed over: ``whsec_`` and base64."""
        return f"whsec_{_base64(self.raw)}"


class SigningKey(msgspec.Struct, frozen=True):
    """What signs ``v1a``: the 32-byte seed of an Ed25519 key pair. It stays with the sender."""

    seed: bytes

    def __repr__(self) -> str:
        return "SigningKey(…)"

    @property
    def private(self) -> Ed25519PrivateKey:
        """The private key."""
        return _private(self.seed)

    @property
    def public(self) -> "PublicKey":
        """What the receiver checks with."""
        return PublicKey(self.private.public_key().public_bytes_raw())

    @property
    def text(self) -> str:
        """As it is kept: ``whsk_`` and the base64 of seed and public key, 64 bytes."""
        return f"whsk_{_base64(self.seed + self.public.raw)}"


@lru_cache(64)
def _private(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)


class PublicKey(msgspec.Struct, frozen=True):
    """What checks ``v1a``: the 32 bytes of an Ed25519 public key."""

    raw: bytes

    @property
    def text(self) -> str:
        """As it is handed over: ``whpk_`` and base64."""
        return f"whpk_{_base64(self.raw)}"


Signer: TypeAlias = Secret | SigningKey
Verifier: TypeAlias = Secret | PublicKey


def parse_key(text: str) -> Secret | SigningKey | PublicKey:
    """Read a key as it is handed over; the prefix says what it is.

    Raises:
        Refused: ``schema``, or ``low-order-key`` for a worthless public key. What was given is not
            quoted: it may be a secret.
    """
    prefix, _, encoded = text.partition("_")
    raw = _unbase64(encoded)
    if prefix == "whsec" and raw is not None and MIN_SECRET <= len(raw) <= MAX_SECRET:
        return Secret(raw)
    if prefix == "whpk" and raw is not None and len(raw) == 32:
        signature.check_public_key(raw)
        return PublicKey(raw)
    if prefix == "whsk" and raw is not None and len(raw) in {32, 64}:
        key = SigningKey(raw[:32])
        if raw[32:] in {b"", key.public.raw}:
            return key
    raise Refused(
        "schema",
        "A key is whsec_ and 24 to 64 bytes, whsk_ and 32 or 64 bytes that belong together, or "
        "whpk_ and 32 bytes, in base64.",
    )


def sign(keys: Iterable[Signer], webhook_id: str, now: datetime, body: bytes) -> dict[str, str]:
    """The three headers of one attempt.

    Args:
        keys: every key in force signs; there must be one.
        webhook_id: the same at every attempt, so that a receiver drops what it has.
        now: the moment of this attempt.
        body: the very bytes that are sent.

    Raises:
        ValueError: there is no key, or the id could be read as more than an id.
    """
    if not webhook_id.isascii() or not webhook_id.replace("-", "").replace("_", "").isalnum():
        # A full stop would let one signature stand for several splits into id, time and body.
        raise ValueError("a webhook-id has letters, digits, - and _ only")
    seconds = int(now.timestamp())
    content = _content(webhook_id, seconds, body)
    signatures = [_sign(key, content) for key in keys]
    if not signatures:
        raise ValueError("a webhook is signed by one key at least")
    return {ID: webhook_id, TIMESTAMP: str(seconds), SIGNATURE: " ".join(signatures)}


def verify(
    keys: Iterable[Verifier], headers: Mapping[str, str], body: bytes, now: datetime
) -> None:
    """What a receiver checks: one signature holds under one of its keys, and it is fresh.

    Args:
        keys: those that this receiver trusts for this sender.
        headers: by name in small letters.
        body: the bytes as they came; JSON that was parsed and written again has others.
        now: the receiver's clock.

    Raises:
        Refused: ``bad-signature``.
    """
    webhook_id, stamp = headers.get(ID, ""), headers.get(TIMESTAMP, "")
    if not webhook_id or not stamp or SIGNATURE not in headers:
        raise Refused("bad-signature", f"Send {ID}, {TIMESTAMP} and {SIGNATURE}.")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 11):
        raise Refused("bad-signature", f"{TIMESTAMP} is a whole number of seconds since 1970.")
    if abs(now - datetime.fromtimestamp(int(stamp), UTC)) > TOLERANCE:
        raise Refused("bad-signature", "It was signed too long ago, or the clocks differ.")
    content = _content(webhook_id, int(stamp), body)
    claimed = headers[SIGNATURE].split(" ")[:MAX_SIGNATURES]
    for key in keys:
        if any(_holds(key, content, claim) for claim in claimed):
            return
    raise Refused("bad-signature", "No signature holds under a key that is trusted here.")


def _content(webhook_id: str, seconds: int, body: bytes) -> bytes:
    return f"{webhook_id}.{seconds}.".encode() + body


def _sign(key: Signer, content: bytes) -> str:
    if isinstance(key, Secret):
        return f"v1,{_base64(_hmac(key, content))}"
    return f"v1a,{_base64(key.private.sign(content))}"


def _holds(key: Verifier, content: bytes, claim: str) -> bool:
    version, _, encoded = claim.partition(",")
    value = _unbase64(encoded)
    if value is None:
        return False
    if isinstance(key, Secret):
        return version == "v1" and hmac.compare_digest(_hmac(key, content), value)
    return version == "v1a" and signature.holds(key.raw, value, content)


def _hmac(secret: Secret, content: bytes) -> bytes:
    return hmac.digest(secret.raw, content, "sha256")


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _unbase64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None
