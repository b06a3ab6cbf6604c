"""What of its holder's messages a webhook subscription is sent. Pure: no I/O, no clock.

Two questions are asked apart. ``egress`` is the marking's rule, and is asked again at the moment of
sending: a role or a rule may have changed since the message was recorded. ``Filter`` is the
holder's own wish among the messages that it receives.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import accumulate
from types import MappingProxyType
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from hub.delivery.schedule import SENT_TO, Endpoint
from schemas.kinds import KINDS
from schemas.message import Code, Message, MessageId
from schemas.refusal import Refused
from schemas.vocabulary import MARKINGS, THEMES, RoleCode, is_language_range, is_sdg
from schemas.webhook import OVERLAP

NO_WEBHOOKS = "no-webhooks"
"""The marking goes to no webhook, whoever holds it."""

ROLE = "role"
"""The marking does not go to participants of this role."""

LANGUAGE_PATTERN = r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$(?!\n)"
"""A language, and perhaps how it is written (RFC 5646); it stands for all that begin so."""

NO_LANGUAGE = "{!r} marks no text; write a language as ru, uz or uz-Latn."

Term: TypeAlias = int | str
Terms: TypeAlias = Mapping[str, frozenset[Term] | None]
"""What a message has of each field of a filter; None where it meets any wish."""


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The messages wished for: those that meet every field; an empty field asks for nothing.

    ``kinds`` are whole (``activity_bulletin.v1``) or without version, for all versions. ``sdgs``: a
    goal takes its targets. ``threads``: a thread's first message and all in it. ``languages``: the
    message has a text in one of them, or no text at all, as an answer that is a plain yes; the
    first asked for comes first in the event.
    """

    senders: Annotated[tuple[Code, ...], Meta(max_length=100)] = ()
    kinds: Annotated[tuple[str, ...], Meta(max_length=20)] = ()
    themes: Annotated[tuple[str, ...], Meta(max_length=50)] = ()
    sdgs: Annotated[tuple[int | str, ...], Meta(max_length=200)] = ()
    markings: Annotated[tuple[str, ...], Meta(max_length=5)] = ()
    threads: Annotated[tuple[MessageId, ...], Meta(max_length=100)] = ()
    languages: Annotated[
        tuple[Annotated[str, Meta(pattern=LANGUAGE_PATTERN)], ...],
        Meta(max_length=10),
    ] = ()

    def passes_over(self, having: Terms) -> str | None:
        """The first field by which a message with these ``terms`` is not wished for, or None."""
        for field, has in having.items():
            wished: tuple[Term, ...] = getattr(self, field)
            if wished and has is not None and has.isdisjoint(wished):
                return field
        return None


class Generation(msgspec.Struct, frozen=True):
    """One of a subscription's secrets by its number; until the end of its overlap it signs."""

    number: int
    until: datetime | None = None


class Subscription(msgspec.Struct, frozen=True):
    """What one participant wants to be sent, and where.

    ``ordered``: messages of one thread go one after the other, each when the one before it was
    taken or set aside. ``secrets`` has the present one in front. ``start`` is the log index from
    which on messages are owed.
    """

    id: str
    owner: Code
    url: str
    filter: Filter
    ordered: bool
    secrets: tuple[Generation, ...]
    endpoint: Endpoint
    start: int
    created: str
    ended: str | None = None

    @property
    def sent_to(self) -> bool:
        """Whether messages go there at present."""
        return self.ended is None and self.endpoint.state in SENT_TO


def rotate(secrets: tuple[Generation, ...], now: datetime) -> tuple[Generation, ...]:
    """A new secret in front; those before it sign for the ``OVERLAP``, none longer than before."""
    end = now + OVERLAP
    kept = (
        Generation(each.number, end if each.until is None else min(each.until, end))
        for each in secrets
        if each.until is None or now < each.until
    )
    return (Generation(secrets[0].number + 1), *kept)


def _kinds(kind: str) -> set[str]:
    return {kind, kind.rpartition(".")[0]}


# Field -> what may stand there, and what is said of anything else.
_VOCABULARY: Mapping[str, tuple[Callable[[Term], bool], str]] = MappingProxyType(
    {
        "kinds": (
            {name for kind in KINDS for name in _kinds(kind)}.__contains__,
            "{!r} is no kind of message.",
        ),
        "themes": (THEMES.__contains__, "{!r} is not a theme."),
        "sdgs": (is_sdg, "{!r} is no goal or target."),
        "markings": (MARKINGS.__contains__, f"The markings are {', '.join(MARKINGS)}."),
        "languages": (lambda tag: is_language_range(str(tag)), NO_LANGUAGE),
    }
)


def check(wished: Filter) -> None:
    """Refuse a filter that could never be met: a word in it is not of the vocabulary.

    Raises:
        Refused: ``schema``.
    """
    for field, (is_known, otherwise) in _VOCABULARY.items():
        for position, term in enumerate(getattr(wished, field)):
            if not is_known(term):
                raise Refused("schema", otherwise.format(term), f"$.{field}[{position}]")


def egress(marking: str, role: RoleCode) -> str | None:
    """Why a message may not leave to a webhook of a participant of this role, or None: it may."""
    rule = MARKINGS[marking]
    if not rule.webhooks or rule.sealed:
        return NO_WEBHOOKS
    return None if role in rule.receivers else ROLE


def terms(message: Message) -> Terms:
    """What a message has of each field of a ``Filter``, made once for all filters.

    Of a goal's target the goal, too; of a language tag its ranges (RFC 4647 §3.3.1).
    """
    goals = (int(sdg.partition(".")[0]) for sdg in message.sdgs if isinstance(sdg, str))
    spoken = frozenset(part for tag in message.texts for part in _ranges(tag))
    return {
        "senders": frozenset((message.sender,)),
        "kinds": frozenset(_kinds(message.kind)),
        "themes": frozenset(message.themes),
        "sdgs": frozenset((*message.sdgs, *goals)),
        "markings": frozenset((message.marking,)),
        "threads": frozenset((message.id, message.thread or message.id)),
        "languages": spoken if message.texts else None,
    }


def _ranges(tag: str) -> Iterator[str]:
    """The language ranges that a tag meets; ``uz-Latn`` meets ``uz`` and ``uz-Latn``."""
    return accumulate(tag.split("-"), lambda shorter, part: f"{shorter}-{part}")
