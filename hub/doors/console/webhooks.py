"""Webhook subscriptions: a participant's own, and for operators and auditors all."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from hub.delivery.deliveries import Standing
from hub.delivery.subscription import Filter, Subscription
from hub.doors import webhooks
from hub.doors.console.done import Done, just_done
from hub.doors.console.overview import names
from hub.doors.console.visit import Visit
from schemas.vocabulary import LANGUAGES, SDG_GOALS, THEMES

PATH: Final = "/console/webhooks"


class Wish(msgspec.Struct, frozen=True):
    """A field of a filter that asks for something, and for what."""

    field: str
    values: Sequence[str]


class Row(msgspec.Struct, frozen=True):
    """A subscription as the list shows it; without ``wishes`` it asks for everything."""

    id: str
    owner: str
    name: str
    host: str
    wishes: Sequence[Wish]
    state: str
    standing: Standing


class View(msgspec.Struct, frozen=True):
    """The list; None where the hub sends no webhooks."""

    rows: Sequence[Row] | None
    done: Done | None


async def show(visit: Visit) -> web.Response:
    """``GET /console/webhooks``."""
    rows = None if visit.hub.webhooks is None else await _rows(visit)
    return visit.page("webhooks.html", View(rows, await just_done(visit)))


async def _rows(visit: Visit) -> Sequence[Row]:
    found = await webhooks.every(visit.hub, visit.asked)
    store = webhooks.worker(visit.hub).store
    standing = await store.standing([each.id for each in found])
    called = names(visit.hub.recorder.state.directory, visit.language)
    return [row(each, standing, called, visit.language) for each in found]


def row(
    about: Subscription,
    standing: Mapping[str, Standing],
    called: Mapping[str, str],
    language: str,
) -> Row:
    """A subscription in the words of a language."""
    return Row(
        id=about.id,
        owner=about.owner,
        name=called.get(about.owner, about.owner),
        host=urlsplit(about.url).netloc,
        wishes=wishes(about.filter, language),
        state=about.endpoint.state,
        standing=standing.get(about.id, Standing(0, 0, None)),
    )


def wishes(wished: Filter, language: str) -> Sequence[Wish]:
    """What a filter asks for, with the titles of what has one; codes of kinds stay as they are."""
    given = {field: getattr(wished, field) for field in Filter.__struct_fields__}
    return [
        Wish(field, [_title(field, value, language) for value in values])
        for field, values in given.items()
        if values
    ]


def _title(field: str, value: str | int, language: str) -> str:
    match field, value:
        case "themes", str() if value in THEMES:
            return THEMES[value][language]
        case "sdgs", int() if value in SDG_GOALS:
            return f"{value}. {SDG_GOALS[value][language]}"
        case "languages", str() if value in LANGUAGES:
            return LANGUAGES[value].own
    return str(value)
