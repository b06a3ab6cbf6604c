"""Evidence as a zip: not compressed, without a date, the same bytes wherever it is made.

``evidence.json`` comes first and holds everything; all other files are made from it, so that who
reads a zip can make it anew and compare. They are there for people: the cover page, and every part
as raw bytes for ``sha256sum``, ``base64`` and ``openssl`` (docs/evidence.md).
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas import cosignature, jsontext, proof, signature, statement
from schemas import entry as entries
from schemas.encoding import unb64url
from schemas.evidence.bundle import Evidence, Proven, proof_of
from schemas.note import Vkey
from schemas.refusal import Refused

EVIDENCE: Final = "evidence.json"
COVER: Final = "index.html"

PLACE: Final = "{{evidence}}"
"""Where the cover page has its data."""

_AGAIN: Final = "it was cut short on its way, so get it again"

MAX_SIZE: Final = 64 * 1024 * 1024
"""Bytes of a zip that is still looked at."""

# PKWARE APPNOTE 4.3.7, 4.3.12, 4.3.16. Version 1.0, no flags, stored; 1 January 1980, midnight.
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_VERSION, _MADE_BY, _TIME, _DATE = 10, 3 << 8 | 10, 0, 1 << 5 | 1
_MODE: Final = 0o100644 << 16  # a plain file under Unix


class ArchiveError(ValueError):
    """A file is not an evidence zip; the sentence says why."""


def files(evidence: Evidence, cover: str) -> dict[str, bytes]:
    """Every file of the zip, in order.

    Args:
        evidence: what all of it is made from.
        cover: the text of ``cover.html``.

    Raises:
        ValueError, Refused: something in the evidence is not of its form.
    """
    data = jsontext.encode(evidence)
    made = {
        EVIDENCE: data,
        COVER: cover.replace(PLACE, _for_html(data.decode())).encode(),
        "checkpoint.txt": evidence.checkpoint.encode(),
    }
    if evidence.envelope is not None:
        envelope = unb64url(evidence.envelope)
        made["envelope.json"] = envelope
        made |= _payload(envelope)
    for recorded in evidence.entries:
        made |= _entry_files(recorded, evidence.checkpoint)
    return made | _key_files(evidence)


def pack(made: Mapping[str, bytes]) -> bytes:
    """Files as a zip."""
    body, directory = bytearray(), bytearray()
    for name, data in made.items():
        crc, size, path = zlib.crc32(data), len(data), name.encode("ascii")
        place = len(body)
        common = (_VERSION, 0, 0, _TIME, _DATE, crc, size, size, len(path), 0)
        body += _LOCAL.pack(b"PK\x03\x04", *common) + path + data
        rest = (0, 0, 0, _MODE, place)
        directory += _CENTRAL.pack(b"PK\x01\x02", _MADE_BY, *common, *rest) + path
    count = len(made)
    end = _END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), len(body), 0)
    return bytes(body + directory + end)


def write(evidence: Evidence, cover: str) -> bytes:
    """The zip. Raises the same as ``files``."""
    return pack(files(evidence, cover))


def read(raw: bytes) -> Evidence:
    """The evidence in a zip; whether the rest of the zip follows from it is for ``differing``.

    Raises:
        ArchiveError: there is none.
    """
    if len(raw) > MAX_SIZE:
        raise ArchiveError("The file is too large to be evidence.")
    start = _LOCAL.size + len(EVIDENCE)
    if len(raw) < start and raw[:4] == b"PK\x03\x04"[: len(raw)]:
        raise ArchiveError(f"The file is incomplete: it has {len(raw)} bytes; {_AGAIN}.")
    if raw[_LOCAL.size : start] != EVIDENCE.encode():
        raise ArchiveError(f"The file is no evidence: it does not begin with {EVIDENCE}.")
    end = start + _LOCAL.unpack_from(raw)[8]
    if len(raw) < end:
        raise ArchiveError(f"The file is incomplete: it ends within {EVIDENCE}; {_AGAIN}.")
    try:
        return jsontext.decode(raw[start:end], Evidence)
    except Refused as refusal:
        raise ArchiveError(f"{EVIDENCE} cannot be read: {refusal}") from None


def differing(raw: bytes, made: Mapping[str, bytes]) -> str | None:
    """Where a zip is another than the one of these files, in words; None where it is the same."""
    expected = pack(made)
    if raw == expected:
        return None
    if expected.startswith(raw):
        return f"it is incomplete, with {len(raw)} of {len(expected)} bytes; {_AGAIN}"
    start = 0
    for name, data in made.items():
        for what, size in ((f"the header of {name}", _LOCAL.size + len(name)), (name, len(data))):
            end = start + size
            if raw[start:end] != expected[start:end]:
                return f"{what} differs (byte {_first(raw[start:end], expected[start:end])} of it)"
            start = end
    return f"the list of files differs (byte {_first(raw[start:], expected[start:])} of it)"


def _first(one: bytes, other: bytes) -> int:
    """The first place at which two byte strings differ."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _for_html(data: str) -> str:
    """JSON that cannot end the element it stands in."""
    escapes = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}
    return "".join(escapes.get(char, char) for char in data)


def _payload(envelope: bytes) -> dict[str, bytes]:
    """The message in an envelope; of a refused one that is none, nothing."""
    try:
        return {"message.json": signature.parse(envelope, signature.MESSAGE_TYPE).payload}
    except Refused:
        return {}


def _entry_files(recorded: Proven, checkpoint: str) -> dict[str, bytes]:
    folder = f"entries/{recorded.index:08}"
    made = {f"{folder}/entry.json": unb64url(recorded.entry)}
    if recorded.private is not None:
        made[f"{folder}/private.json"] = unb64url(recorded.private)
    if recorded.salt is not None:
        made[f"{folder}/salt"] = unb64url(recorded.salt)
    made[f"{folder}/entry.tlog-proof"] = proof.encode(proof_of(recorded, checkpoint)).encode()
    return made


def _key_files(evidence: Evidence) -> dict[str, bytes]:
    """Public keys as openssl takes them: the log's, the witnesses', and all that were registered.

    A witness with ML-DSA-44 has only its verifier key: openssl before 3.5 knows nothing of it.
    """
    log = Vkey.parse(evidence.log)
    made = {"keys/log.vkey": f"{log}\n".encode(), "keys/log.pem": _pem(log.public)}
    for text in evidence.witnesses:
        witness = Vkey.parse(text)
        name = f"keys/witness-{witness.key_id.hex()}"
        made[f"{name}.vkey"] = f"{witness}\n".encode()
        if witness.kind == cosignature.ED25519:
            made[f"{name}.pem"] = _pem(witness.public)
    for recorded in evidence.entries:
        public = _registered(unb64url(recorded.entry))
        if public is not None:
            made[f"keys/{signature.thumbprint(public)}.pem"] = _pem(public)
    return made


def _registered(raw: bytes) -> bytes | None:
    """The signing key that an entry registers, if it does."""
    entry = entries.decode(raw)
    stated = entry.public.get("statement")
    if entry.type not in entries.DIRECTORY_TYPES or not isinstance(stated, str):
        return None
    _, said = statement.parse(unb64url(stated))
    if isinstance(said, statement.Revoke):
        return None
    return signature.public_from_jwk(said.keys.sign)


def _pem(public: bytes) -> bytes:
    key = Ed25519PublicKey.from_public_bytes(public)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
