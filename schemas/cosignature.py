"""C2SP tlog-cosignature: a witness's statement that a checkpoint extends all that it saw before.

Two types: Ed25519 (0x04) over the whole note text, and ML-DSA-44 (0x06, FIPS 204) over the
checkpoint as a ``cosigned_message``, which names the witness too. Both carry the time of signing.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from schemas import checkpoint, note
from schemas.note import Note, NoteError, SignatureLine, Vkey

ED25519: Final = note.ED25519_COSIGNATURE
ML_DSA_44: Final = note.ML_DSA_44_COSIGNATURE

MAX_TIME: Final = 2**63 - 1
"""Seconds since 1970."""

Private: TypeAlias = Ed25519PrivateKey | MLDSA44PrivateKey

_TIME_SIZE: Final = 8
_SIGNATURE_SIZES: Final = {ED25519: 64, ML_DSA_44: 2420}


def witness_name(origin: str, code: str) -> str:
    """The key name under which a participant witnesses the log of an origin."""
    return f"{origin}/{code}"


def vkey(name: str, public: bytes, kind: int = ED25519) -> Vkey:
    """The verifier key of a witness.

    Raises:
        NoteError: ``kind`` is no type of cosignature, the name cannot be a key name, or the public
            key is worthless or of a wrong length.
    """
    if kind not in _SIGNATURE_SIZES:
        raise NoteError("A witness has an Ed25519 or an ML-DSA-44 key for cosignatures.")
    return Vkey(name, note.key_id(name, kind, public), kind, public)


def vkey_of(name: str, private: Private) -> Vkey:
    """The verifier key that belongs to a private key, under a name.

    Raises:
        NoteError: the name cannot be a key name.
    """
    kind = ED25519 if isinstance(private, Ed25519PrivateKey) else ML_DSA_44
    return vkey(name, private.public_key().public_bytes_raw(), kind)


def cosign(text: str, name: str, private: Private, time: int) -> SignatureLine:
    """Cosign the note text of a checkpoint at a time in seconds since 1970.

    Whether the checkpoint extends all that this key cosigned before is the caller's to ensure
    (``schemas.witness``).

    Raises:
        NoteError: the text is no checkpoint, or the name or time cannot be.
    """
    by = vkey_of(name, private)
    signed = private.sign(_message(text, by, time))
    return SignatureLine(name, by.key_id, time.to_bytes(_TIME_SIZE, "big") + signed)


def time_of(line: SignatureLine, by: Vkey, text: str) -> int:
    """When a witness cosigned the note text of a checkpoint, verified; seconds since 1970.

    Raises:
        NoteError: the line is not this key's, or does not verify.
    """
    if (line.name, line.key_id) != (by.name, by.key_id) or by.kind not in _SIGNATURE_SIZES:
        raise NoteError(f"This is no cosignature by the key {by.name}.")
    if len(line.signature) != _TIME_SIZE + _SIGNATURE_SIZES[by.kind]:
        raise NoteError(f"The cosignature of {by.name} has a wrong length.")
    time = int.from_bytes(line.signature[:_TIME_SIZE], "big")
    signed, message = line.signature[_TIME_SIZE:], _message(text, by, time)
    try:
        if by.kind == ED25519:
            Ed25519PublicKey.from_public_bytes(by.public).verify(signed, message)
        else:
            MLDSA44PublicKey.from_public_bytes(by.public).verify(signed, message)
    except InvalidSignature:
        raise NoteError(f"The cosignature of {by.name} does not verify.") from None
    return time


def cosigners(signed: Note, vkeys: Iterable[Vkey]) -> dict[Vkey, int]:
    """The known witnesses that cosigned a note, each with the latest time at which it did.

    Lines of unknown keys are ignored.

    Raises:
        NoteError: a line claims a known key but does not verify (such a note is malformed), or the
            text is no checkpoint.
    """
    known = {(vkey.name, vkey.key_id): vkey for vkey in vkeys}
    found: dict[Vkey, int] = {}
    for line in signed.signatures:
        by = known.get((line.name, line.key_id))
        if by is not None:
            found[by] = max(time_of(line, by, signed.text), found.get(by, 0))
    return found


def _message(text: str, by: Vkey, time: int) -> bytes:
    # Zero would be the cosignature of a subtree, which says nothing of the tree being the newest.
    if not 0 < time <= MAX_TIME:
        raise NoteError("A witness's cosignature has a time, in seconds since 1970.")
    head = checkpoint.parse(text)
    if by.kind == ED25519:
        return f"cosignature/v1\ntime {time}\n{text}".encode()
    return b"".join(
        (
            b"subtree/v1\n\x00",
            _short(by.name),
            time.to_bytes(8, "big"),
            _short(head.origin),
            (0).to_bytes(8, "big"),
            head.size.to_bytes(8, "big"),
            head.root,
        )
    )


def _short(text: str) -> bytes:
    """``opaque<1..2^8-1>`` of RFC 8446 §3.4."""
    raw = text.encode()
    if not 1 <= len(raw) <= 255:
        raise NoteError("The names in an ML-DSA-44 cosignature have 1 to 255 bytes.")
    return bytes([len(raw)]) + raw
