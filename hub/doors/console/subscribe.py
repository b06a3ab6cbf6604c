"""A new webhook subscription: the form, what it would have been sent of late, and the making."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from aiohttp import web

from hub.delivery.deliveries import Match
from hub.delivery.subscription import NO_LANGUAGE, egress
from hub.doors import webhooks
from hub.doors.console.done import done
from hub.doors.console.overview import names
from hub.doors.console.subscription import keep
from hub.doors.console.visit import Visit
from hub.doors.console.webhooks import PATH, Wish, wishes
from hub.doors.webhooks import DRY_RUN, SHOWN, Subscribing
from schemas import jsontext
from schemas.directory import Directory, State
from schemas.encoding import UUID7_PATTERN
from schemas.kinds import KINDS
from schemas.refusal import Refused
from schemas.vocabulary import MARKINGS, SDG_GOALS, THEMES, is_language_range

BOXES: Final = ("senders", "kinds", "markings", "themes", "sdgs")
"""Fields of a filter whose values are ticked; the box of one is named ``senders-kz``."""

_GOALS: Final = frozenset(map(str, SDG_GOALS))


class Box(msgspec.Struct, frozen=True):
    """A value that can be ticked; without a ``label`` the value says it itself."""

    name: str
    value: str
    label: str | None
    ticked: bool


class Group(msgspec.Struct, frozen=True):
    """The boxes of a field of the filter."""

    field: str
    boxes: Sequence[Box]


class View(msgspec.Struct, frozen=True):
    """The form as it is filled in. ``owners`` are there for operators, who subscribe for others.

    ``wrong`` is the field that the refusal is about, where it is about one.
    """

    given: Mapping[str, str]
    owners: Mapping[str, str] | None
    groups: Sequence[Group]
    refused: str | None = None
    wrong: str | None = None


class Trial(msgspec.Struct, frozen=True):
    """What would be agreed, and what of the last ``days`` it would have let in."""

    given: Mapping[str, str]
    name: str
    owner: str
    url: str
    wishes: Sequence[Wish]
    ordered: bool
    days: int
    matched: int
    matches: Sequence[Match]
    whole: bool
    links: bool


async def show(visit: Visit) -> web.Response:
    """``GET /console/webhooks/new``: the form, empty; by POST as it was filled in before."""
    webhooks.worker(visit.hub)
    return visit.page("webhook-new.html", _view(visit))


async def try_out(visit: Visit) -> web.Response:
    """``POST /console/webhooks/try``: what would be agreed and sent; nothing is made yet."""
    hub, asked = visit.hub, visit.asked
    try:
        agreed = webhooks.check(hub, asked, wanted(visit.fields))
        tried = await webhooks.try_out(hub, asked, agreed.owner, agreed.filter)
    except Refused as refusal:
        return _refused(visit, refusal)
    called = names(hub.recorder.state.directory, visit.language)
    trial = Trial(
        given=visit.fields,
        name=called.get(agreed.owner, agreed.owner),
        owner=agreed.owner,
        url=agreed.url,
        wishes=wishes(agreed.filter, visit.language),
        ordered=agreed.ordered,
        days=DRY_RUN.days,
        matched=len(tried.matches),
        matches=tried.matches[:SHOWN],
        whole=tried.whole,
        links=not webhooks.is_owner(asked),
    )
    return visit.page("webhook-try.html", trial)


async def create(visit: Visit) -> web.Response:
    """``POST /console/webhooks``: it is made, and its page shows the secret once."""
    try:
        made = await webhooks.create(visit.hub, visit.asked, wanted(visit.fields))
    except Refused as refusal:
        return _refused(visit, refusal)
    about = made.subscription
    return keep(visit, about, done(f"{PATH}/{about.id}", made.index))


def _refused(visit: Visit, refusal: Refused) -> web.Response:
    """The form once more, with the reason beside the field that it is about."""
    if refusal.code == "not-found" or refusal.row.status >= 500:
        raise refusal
    view = msgspec.structs.replace(
        _view(visit), refused=refusal.detail, wrong=field_of(refusal.path)
    )
    return visit.page("webhook-new.html", view, refusal.row.status)


def field_of(path: str | None) -> str | None:
    """The field of the form that a JSON path is about."""
    found = re.match(r"\$\.(?:filter\.)?([a-z]+)", path or "")
    return found[1] if found else None


# --- What the form says ---


def wanted(fields: Mapping[str, str]) -> Subscribing:
    """A subscription as its fields ask for it.

    Raises:
        Refused: ``schema``: a value is none of its field.
    """
    given: dict[str, list[str | int]] = {name: [] for name in BOXES}
    for name in fields:
        field, _, value = name.partition("-")
        if field in given:
            given[field].append(int(value) if field == "sdgs" and value in _GOALS else value)
    return jsontext.convert(
        {
            "url": fields.get("url", "").strip(),
            "owner": fields.get("owner") or None,
            "ordered": "ordered" in fields,
            "filter": given
            | {"languages": _languages(fields.get("languages", ""))}
            | {"threads": _threads(fields.get("threads", ""))},
        },
        Subscribing,
    )


def _languages(text: str) -> Sequence[str]:
    found = re.split(r"[\s,;]+", text.strip()) if text.strip() else []
    for tag in found:
        if not is_language_range(tag):
            raise Refused("schema", NO_LANGUAGE.format(tag), "$.languages")
    return found


def _threads(text: str) -> Sequence[str]:
    found = text.split()
    for thread in found:
        if not re.fullmatch(UUID7_PATTERN, thread):
            say = f"{thread!r} is no id of a message; write one a line, as a message's page has it."
            raise Refused("schema", say, "$.threads")
    return found


# --- The form ---


def _view(visit: Visit) -> View:
    directory = visit.hub.recorder.state.directory
    called = names(directory, visit.language)
    owners = None if webhooks.is_owner(visit.asked) else active(directory, called)
    return View(visit.fields, owners, groups(called, visit.fields, visit.language))


def active(directory: Directory, called: Mapping[str, str]) -> Mapping[str, str]:
    """Who can have a subscription: code -> name."""
    return {
        code: called[code]
        for code, who in sorted(directory.participants.items())
        if who.state is State.ACTIVE
    }


def groups(called: Mapping[str, str], given: Mapping[str, str], language: str) -> Sequence[Group]:
    """What can be ticked, in the words of a language, and what is."""
    themes = sorted(THEMES, key=lambda theme: THEMES[theme][language])
    values: Mapping[str, Mapping[str, str | None]] = {
        "senders": {code: f"{name} ({code})" for code, name in sorted(called.items())},
        "kinds": {kind.rpartition(".")[0]: None for kind in KINDS},
        "markings": {marking: None for marking in MARKINGS if not egress(marking, "member")},
        "themes": {theme: THEMES[theme][language] for theme in themes},
        "sdgs": {str(n): f"{n}. {titles[language]}" for n, titles in SDG_GOALS.items()},
    }
    return [
        Group(field, [_box(f"{field}-{value}", value, label, given) for value, label in of.items()])
        for field, of in values.items()
    ]


def _box(name: str, value: str, label: str | None, given: Mapping[str, str]) -> Box:
    return Box(name, value, label, name in given)
