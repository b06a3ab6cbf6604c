"""Delivery receipts: the receiver's own signature that it holds certain messages.

One receipt covers up to 1,000 messages, all of one sender, so that it can be shown to that sender
whole. It is JWS of type ``nhri-delivery+json``; the log records it, and the sender reads it.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta

from schemas import jsontext, signature, text
from schemas.encoding import CODE_PATTERN, HASH_PATTERN, TIME_PATTERN, UUID7_PATTERN
from schemas.signature import Jws

MAX_ITEMS = 1_000

Status: TypeAlias = Literal["received", "read", "refused"]

Item: TypeAlias = tuple[
    Annotated[str, Meta(pattern=UUID7_PATTERN)],
    Annotated[str, Meta(pattern=HASH_PATTERN)],
    Annotated[int, Meta(ge=1)],
    Status,
    Annotated[str, Meta(max_length=500)],
]
"""[message id, entry hash (RFC 6962 leaf hash, base64url), position, status, reason or ""]"""


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The payload of a delivery receipt."""

    receiver: Annotated[str, Meta(pattern=CODE_PATTERN)]
    time: Annotated[str, Meta(pattern=TIME_PATTERN)]
    items: Annotated[tuple[Item, ...], Meta(min_length=1, max_length=MAX_ITEMS)]


def sign(receipt: Receipt, private: Ed25519PrivateKey) -> bytes:
    """Sign a receipt and give the envelope."""
    return signature.sign(jsontext.encode(receipt), signature.DELIVERY_TYPE, private)


def parse(raw: bytes) -> tuple[Jws, Receipt]:
    """Read a receipt without believing its signature.

    Raises:
        Refused: it is not a receipt of this form.
    """
    jws = signature.parse(raw, signature.DELIVERY_TYPE)
    value = jsontext.parse(jws.payload)
    receipt = jsontext.convert(value, Receipt)
    text.check_all(value, "$", frozenset())
    text.check_time(receipt.time, "$.time")
    return jws, receipt
