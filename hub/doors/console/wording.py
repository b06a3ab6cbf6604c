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


class Title(msgspec.Struct, frozen=True):
    """What a message is called. Where it is an ``answer``, ``text`` is the title of the notice."""

    text: str
    answer: str | None = None


class _Payload(msgspec.Struct, frozen=True):
    """The members of a message that are looked at here."""

    texts: dict[str, Text] = {}
    content: object = None


class _Response(msgspec.Struct, frozen=True):
    """What is looked at in the content of an answer to a joint action."""

    notice: str
    answer: str


async def title(visit: Visit, message: MessageRow | None) -> Title | None:
    """The title of a message, where it is there and the visitor may read it without a reason.

    An answer to a joint action may have no words: it is called by what it answers to which notice.
    """
    if message is None or not _is_open(visit, message):
        return None
    found = _title(visit, message)
    if found is not None:
        return Title(found)
    response = _response(message)
    if response is None:
        return None
    notice = await visit.hub.queries.message(response.notice)
    about = _title(visit, notice) if notice is not None and _is_open(visit, notice) else None
    return Title(about or response.notice, response.answer)


def _is_open(visit: Visit, message: MessageRow) -> bool:
    envelope = message.envelope
    return envelope is not None and readings.refusal(visit.hub, visit.asked, envelope, "") is None


def _title(visit: Visit, message: MessageRow) -> str | None:
    found = texts(message.envelope or b"", visit.language)
    return next((text.title for text in found.values()), None)


def _response(message: MessageRow) -> _Response | None:
    """What an answer answers; None of any other message."""
    try:
        return jsontext.convert(_payload(message.envelope or b"").content, _Response)
    except Refused:
        return None


def texts(envelope: bytes, language: str) -> Mapping[str, Text]:
    """The texts of a message by their tags: that in the language first, English next."""
    try:
        found = _payload(envelope).texts
    except Refused:
        return {}
    first = [tag for tag in (language, languages.SOURCE) if tag in found]
    return {tag: found[tag] for tag in dict.fromkeys((*first, *found))}


def _payload(envelope: bytes) -> _Payload:
    return jsontext.decode(signature.parse(envelope, signature.MESSAGE_TYPE).payload, _Payload)
