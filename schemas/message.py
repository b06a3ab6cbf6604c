"""The message: the payload that an institution signs."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas import jsontext, text
from schemas.encoding import CODE_PATTERN, HASH_PATTERN, TIME_PATTERN, UUID7_PATTERN, format_time
from schemas.jsontext import Json
from schemas.kinds import Content, kind
from schemas.refusal import Refused
from schemas.vocabulary import MARKINGS, THEMES, is_language_tag, is_sdg

MAX_AHEAD = timedelta(minutes=5)
MAX_AGE = timedelta(days=90)

_UNREAD = frozenset({"notice", "signature"})
_MULTILINE = frozenset({"summary", "body"})

Code = Annotated[str, Meta(pattern=CODE_PATTERN)]
MessageId = Annotated[str, Meta(pattern=UUID7_PATTERN)]
Time = Annotated[str, Meta(pattern=TIME_PATTERN)]


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One language's words. Line feeds may stand in ``summary`` and ``body``."""

    title: Annotated[str, Meta(min_length=1, max_length=1000)]
    summary: str = ""
    body: str = ""


class Attachment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is known of an attached file; its bytes travel apart, named by their SHA-256."""

    size: Annotated[int, Meta(ge=0)]
    sha256: Annotated[str, Meta(pattern=HASH_PATTERN)]
    name: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET
    media_type: Annotated[str, Meta(min_length=3, max_length=255)] | UnsetType = UNSET


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The signed payload.

    ``created`` is at most 5 minutes ahead and 90 days old when it is recorded. ``audience`` holds
    codes of members, partners and groups, never the sender. ``thread``, ``in_reply_to`` and
    ``supersedes`` are ids of other messages. ``texts`` is by BCP 47 tag. ``content`` is typed by
    ``kind``: read it with the function of that name.
    """

    id: MessageId
    kind: Annotated[str, Meta(max_length=80)]
    sender: Code
    created: Time
    audience: Annotated[tuple[Code, ...], Meta(min_length=1, max_length=200)]
    marking: str
    expires: Time | None = None
    thread: MessageId | None = None
    in_reply_to: MessageId | None = None
    supersedes: MessageId | None = None
    texts: Annotated[dict[str, Text], Meta(max_length=40)] = {}
    themes: Annotated[tuple[str, ...], Meta(max_length=50)] = ()
    sdgs: Annotated[tuple[int | str, ...], Meta(max_length=200)] = ()
    attachments: Annotated[tuple[Attachment, ...], Meta(max_length=50)] = ()
    content: dict[str, object] | None = None


def parse(payload: bytes) -> Message:
    """Read a payload and check everything about it that needs nothing else.

    Raises:
        Refused: with the path of the first thing that is wrong.
    """
    value = jsontext.parse(payload)
    if isinstance(value, dict) and "sealed" in value:
        raise Refused(
            "sealed-unsupported", "Send it unsealed, or wait for a later hub.", "$.sealed"
        )
    message = jsontext.convert(value, Message)
    text.check_all(value, "$", _MULTILINE)
    _check_times(message)
    _check_addressing(message)
    _check_labels(message)
    if message.attachments:
        raise Refused(
            "attachments-unsupported",
            "Link to the document instead of attaching it.",
            "$.attachments",
        )
    content(message)
    return message


def content(message: Message) -> Content:
    """The typed content of a message.

    Raises:
        Refused: ``unknown-kind``, ``unsupported-version`` or ``schema``.
    """
    row = kind(message.kind)
    if message.content is None:
        raise Refused("schema", "Object missing required field `content`.", "$")
    typed = jsontext.convert(message.content, row.content, "$.content")
    row.check(message, typed)
    return typed


def _check_times(message: Message) -> None:
    text.check_time(message.created, "$.created")
    if message.expires is None:
        return
    text.check_time(message.expires, "$.expires")
    if message.expires <= message.created:
        raise Refused("schema", "A message expires after it was created.", "$.expires")


def _check_addressing(message: Message) -> None:
    if message.marking not in MARKINGS:
        raise Refused("schema", f"The markings are {', '.join(MARKINGS)}.", "$.marking")
    if MARKINGS[message.marking].sealed:
        raise Refused("sealed-unsupported", f"{message.marking} travels sealed only.", "$.marking")
    if len(set(message.audience)) != len(message.audience):
        raise Refused("schema", "The audience names somebody twice.", "$.audience")
    if message.sender in message.audience:
        raise Refused("schema", "The sender is never in the audience.", "$.audience")


def _check_labels(message: Message) -> None:
    if not message.texts and message.kind != "joint_action_response.v1":
        raise Refused("schema", "A message says something in at least one language.", "$.texts")
    for tag in message.texts:
        if not is_language_tag(tag):
            raise Refused(
                "schema", f"{tag!r} is not a language tag; Uzbek is uz-Latn or uz-Cyrl.", "$.texts"
            )
    for position, theme in enumerate(message.themes):
        if theme not in THEMES:
            raise Refused("schema", f"{theme!r} is not a theme.", f"$.themes[{position}]")
    for position, sdg in enumerate(message.sdgs):
        if not is_sdg(sdg):
            raise Refused("schema", f"{sdg!r} is no goal or target.", f"$.sdgs[{position}]")


def check_clock(message: Message, now: datetime) -> None:
    """Judge the message's times by the clock of the one who records it.

    Raises:
        Refused: ``created-out-of-range`` or ``expired``.
    """
    if message.created > format_time(now + MAX_AHEAD):
        raise Refused(
            "created-out-of-range", "It was created in the future; check the clock.", "$.created"
        )
    if message.created < format_time(now - MAX_AGE):
        raise Refused("created-out-of-range", "It is more than 90 days old.", "$.created")
    if message.expires is not None and message.expires <= format_time(now):
        raise Refused("expired", f"It expired at {message.expires}.", "$.expires")


def lines(read: Message) -> Iterator[tuple[str, str]]:
    """The content as people read it: names and texts, one line each.

    Without the notice, which ``in_reply_to`` names, and the signature, which is nothing to read.
    """
    content: Json = msgspec.to_builtins(read.content or {})
    assert isinstance(content, dict)
    for name, value in content.items():
        if name not in _UNREAD:
            yield from _lines(value, name.replace("_", " "))


def _lines(value: Json, name: str) -> Iterator[tuple[str, str]]:
    parts = value if isinstance(value, dict | list) else [value]
    items = parts.values() if isinstance(parts, dict) else parts
    if not any(isinstance(item, dict | list) for item in items):
        yield name, ", ".join(map(str, items))
    elif isinstance(parts, dict):
        for key, member in parts.items():
            yield from _lines(member, f"{name} {key.replace('_', ' ')}")
    else:
        for item in parts:
            yield from _lines(item, name)
