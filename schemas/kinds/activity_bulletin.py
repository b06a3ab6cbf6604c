"""``activity_bulletin.v1``: what an institution did, found or published."""

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from schemas import text
from schemas.encoding import CODE_PATTERN, DATE_PATTERN
from schemas.refusal import Refused
from schemas.vocabulary import ACTIVITIES, UNITS, is_language_tag

if TYPE_CHECKING:
    from schemas.message import Message

Date = Annotated[str, Meta(pattern=DATE_PATTERN)]


class Period(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """First and last day, both included."""

    start: Date
    end: Date


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where: an ISO 3166-1 alpha-2 country and a free name of the place."""

    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")] | None = None
    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class Partner(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who took part: by name, and by code where the directory has one. Naming is not addressing."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    code: Annotated[str, Meta(pattern=CODE_PATTERN)] | None = None


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number with its name and unit: ``appeals``, 1340, ``count``."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    value: int | float
    unit: str


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An https or http address, and the language of what it leads to."""

    href: Annotated[str, Meta(pattern=r"^https?://[^\s]+$", max_length=2000)]
    language: str | None = None


class ActivityBulletin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The content of an activity bulletin; the texts themselves stand in the message."""

    activity: str
    period: Period | None = None
    place: Place | None = None
    partners: Annotated[tuple[Partner, ...], Meta(max_length=100)] = ()
    figures: Annotated[tuple[Figure, ...], Meta(max_length=200)] = ()
    links: Annotated[tuple[Link, ...], Meta(max_length=50)] = ()


def check(message: "Message", content: object) -> None:
    """Check what the types cannot say.

    Raises:
        Refused: ``schema``, with the path.
    """
    assert isinstance(content, ActivityBulletin)
    if content.activity not in ACTIVITIES:
        raise Refused(
            "schema", f"The activities are {', '.join(ACTIVITIES)}.", "$.content.activity"
        )
    check_period(content.period)
    for position, figure in enumerate(content.figures):
        if figure.unit not in UNITS:
            raise Refused(
                "schema",
                f"The units are {', '.join(UNITS)}.",
                f"$.content.figures[{position}].unit",
            )
    check_links(content.links)


def check_period(period: Period | None) -> None:
    """Check that both days exist, in this order.

    Raises:
        Refused: ``schema``, with the path.
    """
    if period is None:
        return
    text.check_date(period.start, "$.content.period.start")
    text.check_date(period.end, "$.content.period.end")
    if period.end < period.start:
        raise Refused("schema", "The period ends before it starts.", "$.content.period.end")


def check_links(links: tuple[Link, ...]) -> None:
    """Check the languages of what the links lead to.

    Raises:
        Refused: ``schema``, with the path.
    """
    for position, link in enumerate(links):
        if link.language is not None and not is_language_tag(link.language):
            raise Refused(
                "schema",
                f"{link.language!r} is not a language tag.",
                f"$.content.links[{position}].language",
            )
