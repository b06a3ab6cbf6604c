"""``GET /v1/audit/report``: the figures are read page by page, and the page is made of them."""

import asyncio
from datetime import date
from typing import Annotated, Literal, TypeAlias

import msgspec
from aiohttp import web
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from hub.doors.audit import note
from hub.doors.console.pages import named
from hub.doors.report import page
from hub.doors.service import Asked, Service, query
from hub.ledger.report import Covered, Figures, Period, last_quarter
from schemas.jsontext import MAX_SAFE_INTEGER
from schemas.refusal import Refused

HTML = "text/html"

POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""A browser that is led here shows the page as one of nobody's; its style stands in itself."""

Day = Annotated[str, Meta(pattern=r"^2[0-9]{3}-[0-9]{2}-[0-9]{2}$(?!\n)")]
Language: TypeAlias = Literal["kk", "ky", "tg", "tk", "uz-Latn", "ru", "en"]


class Reported(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The days that a report is of, from the first to the last, in UTC.

    Without them it is of the last quarter of a year that is over. ``at`` is the size of a
    checkpoint, up to which the log is read: with it the same report comes again.
    """

    first: Day | UnsetType = msgspec.field(default=UNSET, name="from")
    last: Day | UnsetType = msgspec.field(default=UNSET, name="to")
    language: Language = "en"
    at: Annotated[int, Meta(ge=1, le=MAX_SAFE_INTEGER)] | UnsetType = UNSET


async def report(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/audit/report``: one HTML file with counts, states and times, and no texts.

    Two requests for the same days under the same checkpoint give the same bytes, unless content
    was erased in between: its themes and goals are gone.
    """
    wanted = query(asked, Reported)
    period = _period(wanted, hub.clock().date())
    days = {"first": period.first.isoformat(), "last": period.last.isoformat()}
    await note(hub, asked, replace(wanted, **days))
    covered = await _covered(hub, wanted)
    now = await _figures(hub, period, covered)
    before = await _figures(hub, period.before(), covered)
    participants = hub.recorder.state.directory.participants
    names = {code: named(each.names, wanted.language, code) for code, each in participants.items()}
    made = await asyncio.to_thread(page.render, now, before, names, wanted.language)
    name = f"report-{period.first}-{period.last}.html"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Security-Policy": POLICY,
    }
    return web.Response(text=made, content_type=HTML, headers=headers)


def _period(wanted: Reported, today: date) -> Period:
    """The days that are asked for.

    Raises:
        Refused: ``bad-request``; there are no such days.
    """
    if wanted.first is UNSET and wanted.last is UNSET:
        return last_quarter(today)
    if wanted.first is UNSET or wanted.last is UNSET:
        raise Refused("bad-request", "Give both days, from and to, or neither.")
    try:
        period = Period(date.fromisoformat(wanted.first), date.fromisoformat(wanted.last))
    except ValueError as error:
        raise Refused("bad-request", f"from and to: {error}.") from None
    if period.last < period.first:
        raise Refused("bad-request", "The first day, from, is after the last one, to.")
    return period


async def _covered(hub: Service, wanted: Reported) -> Covered:
    """The checkpoint up to which the log is read.

    Raises:
        Refused: ``bad-request``; none was signed at the size that is asked for.
    """
    at = None if wanted.at is UNSET else wanted.at
    covered = await hub.queries.covered(at)
    if covered is not None:
        return covered
    if at is None or at <= hub.recorder.state.tree.size:
        detail = "The search index has not come so far, or the log had no checkpoint of this size."
    else:
        detail = f"The log has {hub.recorder.state.tree.size} entries."
    raise Refused("bad-request", f"{detail} Ask without at, or a little later.")


async def _figures(hub: Service, period: Period, covered: Covered) -> Figures:
    """The figures of a period; what is held is one page of messages."""
    figures = Figures(period, covered)
    after = -1
    while messages := await hub.queries.sent(period, covered, after):
        # In a thread: opening a page of envelopes takes longer than others should wait.
        await asyncio.to_thread(figures.take, messages)
        after = messages[-1].index
    after = -1
    while refusals := await hub.queries.refused(period, covered, after):
        figures.refuse(refusals)
        after = refusals[-1].index
    return figures
