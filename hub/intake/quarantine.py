"""The entries about messages in quarantine: who sent them there or took them out, and why. Pure."""

import msgspec

from hub.ledger.sequence import Draft
from schemas import jsontext

ADDED = "quarantine.added"
RELEASED = "quarantine.released"
DISCARDED = "quarantine.discarded"


class Quarantined(msgspec.Struct, frozen=True):
    """The private part: a message as the broker gave it. ``digest`` is the body's SHA-256."""

    digest: str
    reason: str
    user: str | None
    routing_key: str
    type: str | None
    message_id: str | None
    size: int


def draft(kind: str, by: str, what: Quarantined) -> Draft:
    """The entry of one such event."""
    return Draft(kind, by, private=jsontext.encode(what))
