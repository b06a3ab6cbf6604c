"""The hub's settings as they are in force, to be read and not changed; no secret among them."""

import re
from collections.abc import Sequence

import msgspec
from aiohttp import web

from hub.doors.console.visit import Visit
from hub.settings import Settings

HIDDEN = "…"


class Section(msgspec.Struct, frozen=True):
    """A table of the settings file, its fields with their values."""

    name: str
    fields: Sequence[tuple[str, str]]


class View(msgspec.Struct, frozen=True):
    """The page."""

    version: str
    instance: str
    url: str
    sections: Sequence[Section]


async def show(visit: Visit) -> web.Response:
    """``GET /console/settings``."""
    hub = visit.hub
    view = View(hub.version, hub.instance, hub.settings.url, sections(hub.settings))
    return visit.page("settings.html", view)


def sections(settings: Settings) -> Sequence[Section]:
    """The settings as their file has them, without passwords.

    Keys stand in files of their own, of which only the names are settings.
    """
    values = msgspec.to_builtins(settings)
    found = [
        Section(name, [(field, shown(value)) for field, value in fields.items()])
        for name, fields in values.items()
        if isinstance(fields, dict)
    ]
    top = [(name, shown(value)) for name, value in values.items() if not isinstance(value, dict)]
    return [Section("", top), *found]


def shown(value: object) -> str:
    """A value as the settings file has it; an address without its password and its parameters."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    text = str(value)
    if "://" not in text:
        return text
    # To the last @ there is: a password may hold another one, or a slash, that nobody escaped.
    hidden = re.sub(r"(://[^:@]*):.*@", rf"\1:{HIDDEN}@", text)
    return re.sub(r"\?.*", f"?{HIDDEN}", hidden)
