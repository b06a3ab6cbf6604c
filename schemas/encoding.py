"""The small encodings every format shares: base64url, times, codes, message ids.

DESIGN "Fixed formats": binary in JSON is base64url, unpadded and strict; times are
``YYYY-MM-DDTHH:MM:SS.mmmZ``; codes are ``[a-z][a-z0-9-]{1,15}``; message ids are UUIDv7.
"""

import binascii
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

# Python's $ also stands before a last line feed, JSON Schema's does not: hence (?!\n).
CODE_PATTERN = r"^[a-z][a-z0-9-]{1,15}$(?!\n)"
TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$(?!\n)"
DATE_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$(?!\n)"
UUID7_PATTERN = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$(?!\n)"
BASE64URL_PATTERN = r"^[A-Za-z0-9_-]*$(?!\n)"
HASH_PATTERN = r"^[A-Za-z0-9_-]{43}$(?!\n)"
"""A SHA-256 hash in base64url: a digest, a ``kid``."""

_TIME = re.compile(TIME_PATTERN)
_BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


def b64url(data: bytes) -> str:
    """Encode as unpadded base64url (RFC 4648 §5, RFC 7515 §2)."""
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")


def unb64url(text: str) -> bytes:
    """Decode unpadded base64url strictly.

    Only the one canonical spelling of some bytes is taken: no padding, no white space, no stray
    trailing bits. Otherwise two texts would stand for the same signature.

    Raises:
        ValueError: the text is not the canonical encoding of any bytes.
    """
    raw = text.encode("utf-8", "surrogatepass")
    if raw.translate(None, _BASE64URL) or len(raw) % 4 == 1:
        raise ValueError("not unpadded base64url")
    data = binascii.a2b_base64(raw.translate(_FROM_URL) + b"=" * (-len(raw) % 4))
    # Only the last character can have bits that no byte uses.
    if b64url(data[len(data) - len(data) % 3 :]) != text[len(text) - len(text) % 4 :]:
        raise ValueError("not canonical base64url: the unused trailing bits are not zero")
    return data


@lru_cache(maxsize=256)
def format_time(moment: datetime) -> str:
    """Write a moment in the exchange's one time format, cut (not rounded) to milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Read ``YYYY-MM-DDTHH:MM:SS.mmmZ``.

    Raises:
        ValueError: another format, or a moment that does not exist (month 13, second 60).
    """
    if not _TIME.fullmatch(text):
        raise ValueError("a time is written YYYY-MM-DDTHH:MM:SS.mmmZ")
    moment = datetime.fromisoformat(text)
    if format_time(moment) != text:
        # Some versions of Python read hour 24 as the next midnight.
        raise ValueError("hour must be in 0..23")
    return moment


def uuid7(now: datetime, randomness: bytes) -> str:
    """Build a UUIDv7 (RFC 9562 §5.7) from a moment and 10 random bytes."""
    if len(randomness) != 10:
        raise ValueError("a UUIDv7 takes 10 random bytes")
    milliseconds = (now.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(
        milliseconds=1
    )
    raw = bytearray(milliseconds.to_bytes(6, "big") + randomness)
    raw[6] = 0x70 | (raw[6] & 0x0F)
    raw[8] = 0x80 | (raw[8] & 0x3F)
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
