"""C2SP signed notes: text under signature lines, and the verifier keys (vkeys) that go with them.

The text of a note means nothing before ``verify`` has returned.
"""

import base64
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import Struct

from schemas.refusal import Refused
from schemas.signature import check_public_key

ED25519: Final = 0x01
"""Signature type of an Ed25519 signature over the note's text."""

ED25519_COSIGNATURE: Final = 0x04
"""Signature type of a witness's Ed25519 cosignature (tlog-cosignature)."""

ML_DSA_44_COSIGNATURE: Final = 0x06
"""Signature type of a witness's ML-DSA-44 cosignature (tlog-cosignature)."""

MAX_SIZE: Final = 256 * 1024
"""Bytes of a whole note."""

MAX_SIGNATURES: Final = 64

_KEY_SIZES: Final = {ED25519: 32, ED25519_COSIGNATURE: 32, ML_DSA_44_COSIGNATURE: 1312}
"""Bytes of a public key, for the signature types whose key id is ``key_id`` by specification."""

_NAME: Final = re.compile(r"[^\s+\x00-\x1f\ud800-\udfff]+")
_HEX_ID: Final = re.compile(r"[0-9a-f]{8}")
_LINE: Final = re.compile(r"— ([^ ]+) ([^ ]+)")
_FORBIDDEN: Final = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")


class NoteError(ValueError):
    """A note, verifier key or checkpoint is malformed or not to be trusted, and why."""


class Vkey(Struct, frozen=True):
    """A verifier key.

    ``name`` and the four bytes ``key_id`` together name it; ``kind`` is the signature type byte.
    Raises NoteError when the parts do not belong together or an Ed25519 key is worthless.
    """

    name: str
    key_id: bytes
    kind: int
    public: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.key_id) != 4 or not 0 <= self.kind <= 0xFF or not self.public:
            raise NoteError("A verifier key has an id of 4 bytes, a type byte and a public key.")
        if self.kind in _KEY_SIZES:
            if len(self.public) != _KEY_SIZES[self.kind]:
                raise NoteError("The verifier key's public key has a wrong length for its type.")
            if self.key_id != key_id(self.name, self.kind, self.public):
                raise NoteError("The verifier key's id does not match its name and public key.")
        if self.kind in (ED25519, ED25519_COSIGNATURE):
            try:
                check_public_key(self.public)
            except Refused as refusal:
                raise NoteError(f"The verifier key is refused: {refusal.detail}") from None

    def __str__(self) -> str:
        key = b64(bytes([self.kind]) + self.public)
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``<name>+<hex key id>+<base64 of type and key>``.

        Raises:
            NoteError: the text is not exactly what ``str`` of a verifier key gives.
        """
        # A plus can stand in base64 but not in the name.
        name, _, rest = text.partition("+")
        hex_id, _, encoded = rest.partition("+")
        if not _HEX_ID.fullmatch(hex_id):
            raise NoteError("A verifier key is written name+id+key, the id as 8 hex digits.")
        key = unb64(encoded)
        if not key:
            raise NoteError("The verifier key has no type and no public key.")
        return cls(name, bytes.fromhex(hex_id), key[0], key[1:])


class SignatureLine(Struct, frozen=True):
    """One signature of a note, by the key that ``name`` and ``key_id`` claim."""

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.key_id) != 4 or not self.signature:
            raise NoteError("A signature line has a key id of 4 bytes and a signature.")


class Note(Struct, frozen=True):
    """A text, final newline included, and its signatures, of which none is verified yet."""

    text: str
    signatures: tuple[SignatureLine, ...]

    def __post_init__(self) -> None:
        _check_text(self.text)
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise NoteError(f"A note has 1 to {MAX_SIGNATURES} signatures.")


def key_id(name: str, kind: int, public: bytes) -> bytes:
    """The id of a key: SHA-256(name || 0x0A || signature type || public key)[:4]."""
    return sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def ed25519_vkey(name: str, public: bytes) -> Vkey:
    """The verifier key of 32 public bytes (RFC 8032) that sign notes under a name.

    Raises:
        NoteError: the name cannot be a key name, or the public key is worthless.
    """
    _check_name(name)
    return Vkey(name, key_id(name, ED25519, public), ED25519, public)


def parse_note(raw: bytes) -> Note:
    """Read a note, without believing anything in it.

    Raises:
        NoteError: it is not exactly of the format, over 256 KiB, or has over 64 signatures.
    """
    if len(raw) > MAX_SIZE:
        raise NoteError(f"The note has {len(raw)} bytes; {MAX_SIZE} are the limit.")
    try:
        whole = raw.decode()
    except UnicodeDecodeError:
        raise NoteError("The note is not UTF-8.") from None
    # The text itself may have empty lines: the last one in the note ends it.
    text, blank, lines = whole.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise NoteError("The note has no text, blank line and signature lines.")
    return Note(text + "\n", tuple(parse_line(line) for line in lines[:-1].split("\n")))


def encode(note: Note) -> bytes:
    """The note's bytes, as ``parse_note`` reads them.

    Raises:
        NoteError: they would be more than 256 KiB.
    """
    lines = "".join(encode_line(line) for line in note.signatures)
    raw = f"{note.text}\n{lines}".encode()
    if len(raw) > MAX_SIZE:
        raise NoteError(f"The note has {len(raw)} bytes; {MAX_SIZE} are the limit.")
    return raw


def encode_line(line: SignatureLine) -> str:
    """A signature line with its newline."""
    return f"— {line.name} {b64(line.key_id + line.signature)}\n"


def sign(text: str, vkey: Vkey, private_key: Ed25519PrivateKey) -> SignatureLine:
    """Sign a note's text, final newline included.

    Raises:
        NoteError: the text cannot stand in a note, or the private key is not that of an Ed25519
            ``vkey``.
    """
    _check_text(text)
    if vkey.kind != ED25519 or private_key.public_key().public_bytes_raw() != vkey.public:
        raise NoteError(f"The private key is not the one of {vkey.name}.")
    return SignatureLine(vkey.name, vkey.key_id, private_key.sign(text.encode()))


def verify(note: Note, vkeys: Iterable[Vkey]) -> tuple[Vkey, ...]:
    """The known keys that signed the note, each once, in the order of its lines.

    Lines of unknown keys are ignored, also when they share a name or an id with a known one.

    Raises:
        NoteError: a line claims a known key but does not verify, no known key signed, or one of
            ``vkeys`` is of another signature type.
    """
    known = {(vkey.name, vkey.key_id): vkey for vkey in vkeys}
    for vkey in known.values():
        if vkey.kind != ED25519:
            raise NoteError(f"The key of {vkey.name} is not an Ed25519 key for notes.")
    text = note.text.encode()
    verified: dict[Vkey, None] = {}
    for line in note.signatures:
        claimed = known.get((line.name, line.key_id))
        if claimed is not None:
            _verify_line(line, claimed, text)
            verified[claimed] = None
    if not verified:
        raise NoteError("No known key signed the note.")
    return tuple(verified)


def _verify_line(line: SignatureLine, vkey: Vkey, text: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(vkey.public).verify(line.signature, text)
    except InvalidSignature:
        raise NoteError(f"The signature of {vkey.name} does not verify.") from None


def parse_line(line: str) -> SignatureLine:
    """Read one signature line, without its newline.

    Raises:
        NoteError: it is not exactly what ``encode_line`` gives.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise NoteError("A signature line is a dash, a key name and a signature.")
    signature = unb64(match[2])
    return SignatureLine(match[1], signature[:4], signature[4:])


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise NoteError("A key name is not empty and has no spaces, plus or control characters.")


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise NoteError("The text of a note ends in a newline.")
    if _FORBIDDEN.search(text):
        raise NoteError("The text of a note has no control characters other than newline.")


def b64(data: bytes) -> str:
    """Encode as standard padded base64 (RFC 4648 §4), which all C2SP log formats use."""
    return base64.b64encode(data).decode("ascii")


def unb64(text: str) -> bytes:
    """Decode standard base64 strictly: one text for the same bytes.

    Raises:
        NoteError: the text is not exactly what ``b64`` gives.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise NoteError("There is no base64 where it must stand.") from None
    if b64(data) != text:
        raise NoteError("The base64 is not the canonical encoding of its bytes.")
    return data
