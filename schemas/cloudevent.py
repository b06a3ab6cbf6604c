"""The body of a webhook: a CloudEvents 1.0 event in structured JSON mode.

An event of a message holds the message to be read, and beside it what proves it: the envelope with
the institution's own signature, and the acceptance with the log's. Whoever acts on the message
checks these. The webhook's signature says only that the hub sent it.
"""

import hmac
from collections.abc import Sequence
from typing import Final

import msgspec

from schemas import jsontext, signature
from schemas.acceptance import Delivery
from schemas.encoding import b64url, unb64url
from schemas.entry import Entry
from schemas.jsontext import Json
from schemas.signature import MESSAGE_TYPE

MEDIA_TYPE: Final = "application/cloudevents+json"
MESSAGE: Final = "org.nhri.exchange.message.v1"
CHALLENGE: Final = "org.nhri.exchange.challenge.v1"


class Event(msgspec.Struct, frozen=True):
    """The attributes of CloudEvents 1.0 §3.1 that we send, and the data.

    ``source`` and ``id`` together name the event; ``id`` is also the ``webhook-id``.
    """

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    datacontenttype: str
    data: dict[str, Json]


def of_message(origin: str, delivery: Delivery, languages: Sequence[str] = ()) -> Event:
    """The event of a recorded message, at the time of its acceptance.

    Args:
        origin: the log's origin.
        delivery: what a recipient gets; the hub made it, so that it is sound.
        languages: tags whose texts come first in ``data.message``. The envelope stays as signed.
    """
    entry = jsontext.decode(unb64url(delivery.entry), Entry)
    payload = signature.parse(unb64url(delivery.envelope), MESSAGE_TYPE).payload
    message = jsontext.parse(payload)
    assert isinstance(message, dict)
    assert entry.subject is not None
    texts = message.get("texts")
    if isinstance(texts, dict):
        message["texts"] = {tag: texts[tag] for tag in preferred(list(texts), languages)}
    acceptance = jsontext.parse(jsontext.encode(delivery.acceptance))
    data: dict[str, Json] = {
        "message": message,
        "envelope": delivery.envelope,
        "acceptance": acceptance,
    }
    return _event(origin, MESSAGE, entry.subject, entry.subject, entry.time, data)


def of_challenge(
    origin: str, event_id: str, subscription: str, time: str, randomness: bytes
) -> Event:
    """What an endpoint has to answer before it gets its first message.

    Args:
        origin: the log's origin.
        event_id: a fresh one.
        subscription: its id, the subject.
        time: now.
        randomness: 16 bytes or more that nobody else knows.
    """
    if len(randomness) < 16:
        raise ValueError("a challenge has 16 random bytes at least")
    data: dict[str, Json] = {"challenge": b64url(randomness)}
    return _event(origin, CHALLENGE, event_id, subscription, time, data)


def is_answer(challenge: Event, body: bytes) -> bool:
    """Whether a body is exactly the challenge, white space around it apart.

    An endpoint that sends back whatever it is sent does not pass: it would send the whole event.
    """
    expected = str(challenge.data["challenge"]).encode()
    return hmac.compare_digest(expected, body.strip())


def preferred(tags: Sequence[str], languages: Sequence[str]) -> list[str]:
    """The tags with those asked for first, in the order in which they were asked for."""
    first = [tag for language in languages for tag in tags if speaks(tag, language)]
    return list(dict.fromkeys([*first, *tags]))


def speaks(tag: str, language: str) -> bool:
    """Whether a tag is of a language asked for, by RFC 4647 §3.3.1: ``uz`` takes ``uz-Latn``."""
    return tag == language or tag.startswith(f"{language}-")


def _event(
    origin: str, kind: str, event_id: str, subject: str, time: str, data: dict[str, Json]
) -> Event:
    # A host with a port is no relative reference (RFC 3986 §4.2), so that the source is a URL.
    source = f"https://{origin}"
    return Event("1.0", event_id, source, kind, subject, time, "application/json", data)
