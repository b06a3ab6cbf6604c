"""What a message says, in the language of whoever may read it, by the hub's rules of reading."""

from collections.abc import Mapping

import msgspec

from hub.doors import readings
from hub.doors.console import languages
from hub.doors.console.visit import Visit
from hub.ledger.queries import MessageRow
from schemas import jsontext, signature
from schemas.message import Text
from schemas.refusal import Refused


class _Payload(msgspec.Struct, frozen=True):
    """The member of a message that is looked at here."""

    texts: dict[str, Text] = {}


def title(visit: Visit, message: MessageRow | None) -> str | None:
    """The title of a message, where it is there and the visitor may read it without a reason."""
    if message is None or message.envelope is None:
        return None
    if readings.refusal(visit.hub, visit.asked, message.envelope, "") is not None:
        return None
    return next((text.title for text in texts(message.envelope, visit.language).values()), None)


def texts(envelope: bytes, language: str) -> Mapping[str, Text]:
    """The texts of a message by their tags: that in the language first, English next."""
    try:
        payload = signature.parse(envelope, signature.MESSAGE_TYPE).payload
        found = jsontext.decode(payload, _Payload).texts
    except Refused:
        return {}
    first = [tag for tag in (language, languages.SOURCE) if tag in found]
    return {tag: found[tag] for tag in dict.fromkeys((*first, *found))}
