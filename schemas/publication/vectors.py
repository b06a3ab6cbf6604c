"""Test vectors: what another implementation has to arrive at from the same keys and bytes.

Texts are given as they are hashed or signed, in UTF-8; binary is base64url. Ed25519 is
deterministic, so that signatures come out the same as well.
"""

from typing import Final, TypeAlias

import msgspec

from schemas import entry as entries
from schemas import jsontext, signature
from schemas.encoding import b64url, unb64url
from schemas.publication import examples
from schemas.publication.examples import LINES, LOG, NOW, Line

Vector: TypeAlias = dict[str, object]

_KEYS: Final = ("uz sign", "kz sign", "kg sign", "log")


def document() -> Vector:
    """All vectors, as they are published."""
    return {
        "about": " ".join((__doc__ or "").split()),
        "keys": {name: _key(name) for name in _KEYS},
        "message": _signed(examples.payload(examples.UZ_BULLETIN), examples.ENVELOPE, ["uz sign"]),
        "joint_action": _signed(
            examples.payload(examples.NOTICE), examples.MANY_SIGNATURES, ["kg sign", "kz sign"]
        ),
        "statement": _signed(_payload(examples.join("uz")), examples.join("uz"), ["uz sign"]),
        "receipt": _signed(jsontext.encode(examples.RECEIPT), examples.SIGNED_RECEIPT, ["kz sign"]),
        "token": _token(),
        "join": {
            "thumbprint": examples.thumbprint("uz sign"),
            "vkey": str(LOG),
            "invitation": examples.invitation("uz"),
            "fingerprint": examples.FINGERPRINT,
        },
        "entry": _entry(examples.ACCEPTED),
        "log": _log(),
        "acceptance": msgspec.to_builtins(examples.ACCEPTANCE),
        "delivery": msgspec.to_builtins(examples.DELIVERY),
    }


def _key(name: str) -> Vector:
    public = examples.public(name)
    return {
        "private": b64url(examples.seed(name)),
        "public": b64url(public),
        "thumbprint": signature.thumbprint(public),
    }


def _payload(envelope: bytes) -> bytes:
    parsed = jsontext.decode(envelope, signature.JwsEnvelope)
    return unb64url(parsed.payload)


def _signed(payload: bytes, envelope: bytes, keys: list[str]) -> Vector:
    return {"payload": payload.decode(), "keys": keys, "envelope": envelope.decode()}


def _token() -> Vector:
    """A participant's token for one request (docs/protocol.md, "Who is asking")."""
    issued = int(NOW.timestamp())
    claims = {
        "iss": "uz",
        "aud": examples.ORIGIN,
        "iat": issued,
        "exp": issued + 60,
        "jti": b64url(examples.seed("jti")[:16]),
        "htm": "POST",
        "htu": "https://hub.example/v1/messages",
    }
    raw = jsontext.encode(claims)
    signed = signature.sign_payload(raw, signature.AUTH_TYPE, examples.key("uz sign"))
    compact = f"{signed.protected}.{b64url(raw)}.{signed.signature}"
    return {"payload": raw.decode(), "key": "uz sign", "compact": compact}


def _entry(line: Line) -> Vector:
    assert line.private is not None
    return {
        "entry": line.raw.decode(),
        "salt": b64url(line.salt),
        "private": line.private.decode(),
        "commitment": entries.commitment(line.salt, line.private),
        "leaf_hash": b64url(line.leaf),
    }


def _log() -> Vector:
    size = len(LINES)
    old_size = LINES.index(examples.ACCEPTED) + 1
    return {
        "vkey": str(LOG),
        "entries": [line.raw.decode() for line in LINES],
        "leaf_hashes": [b64url(line.leaf) for line in LINES],
        "checkpoint": examples.head(size).decode(),
        "proofs": [examples.proof_of(index, size) for index in range(size)],
        "older_checkpoint": examples.head(old_size).decode(),
        "consistency": [b64url(value) for value in examples.consistency(old_size, size)],
    }
