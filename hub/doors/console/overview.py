"""The first page: who sends to whom, what waits, what failed, and how far the witnesses are."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from aiohttp import web

from hub.doors.console import flows
from hub.doors.console.pages import named
from hub.doors.console.visit import Visit
from hub.doors.service import Service
from hub.intake import quarantine
from hub.ledger import witnesses
from hub.ledger.witnesses import Standing
from schemas import entry as entries
from schemas import policy
from schemas.directory import Directory
from schemas.encoding import format_time

DAYS = 7
"""How far back the flow and the failures go."""

_FAILURES = (entries.MESSAGE_REFUSED, entries.DELIVERY_EXPIRED, quarantine.ADDED)


class Waiting(msgspec.Struct, frozen=True):
    """Copies that a participant has not receipted yet."""

    code: str
    name: str
    copies: int
    oldest: str | None


class Failures(msgspec.Struct, frozen=True):
    """What went wrong in the last days, by kind."""

    refused: int
    expired: int
    quarantined: int


class Signing(msgspec.Struct, frozen=True):
    """How the log stands with its witnesses.

    ``quorum`` is the size that one has cosigned, ``lags`` how many entries each witness is behind,
    ``overdue`` those that are behind for long, ``stopped`` why nothing is signed.
    """

    wanted: bool
    quorum: int | None
    time: str | None
    lags: Mapping[str, int]
    overdue: frozenset[str]
    stopped: str | None


class Overview(msgspec.Struct, frozen=True):
    """The page."""

    days: int
    size: int
    picture: flows.Picture | None
    table: flows.Table
    names: Mapping[str, str]
    waiting: Sequence[Waiting]
    jobs: int
    failing: str | None
    failures: Failures
    signing: Signing


async def show(visit: Visit) -> web.Response:
    """``GET /console/``."""
    hub, now = visit.hub, visit.hub.clock()
    directory = hub.recorder.state.directory
    since = format_time(now - timedelta(days=DAYS))
    sent = await hub.queries.flows(sorted(directory.participants), since)
    counts = await hub.queries.tally(_FAILURES, since)
    view = Overview(
        days=DAYS,
        size=hub.recorder.state.tree.size,
        picture=flows.picture(sent),
        table=flows.table(sent),
        names=names(directory, visit.language),
        waiting=waiting(
            await hub.queries.waiting(),
            await hub.queries.oldest_waiting(),
            directory,
            visit.language,
        ),
        jobs=hub.recorder.waiting,
        failing=hub.recorder.failing,
        failures=Failures(*(counts.get(kind, 0) for kind in _FAILURES)),
        signing=signing(hub, await hub.witnesses.standing(), now),
    )
    return visit.page("overview.html", view)


def names(directory: Directory, language: str) -> Mapping[str, str]:
    """What everybody is called in a language."""
    return {code: named(p.names, language, code) for code, p in directory.participants.items()}


def waiting(
    copies: Mapping[str, int], oldest: Mapping[str, str], directory: Directory, language: str
) -> Sequence[Waiting]:
    """Who has not receipted how much, who waits longest first."""
    called = names(directory, language)
    rows = [Waiting(c, called.get(c, c), count, oldest.get(c)) for c, count in copies.items()]
    return sorted(rows, key=lambda row: (row.oldest or "9", row.code))


def signing(hub: Service, standing: Standing, now: datetime) -> Signing:
    """How the log stands with its witnesses."""
    directory, size = hub.recorder.state.directory, hub.recorder.state.tree.size
    codes, last = policy.witnesses(hub.settings.origin, directory), standing.last
    return Signing(
        wanted=hub.witnesses.policy(directory) is not None,
        quorum=last.size if last else None,
        time=last.quorum if last else None,
        lags=witnesses.lags(standing, codes, size),
        overdue=frozenset(witnesses.overdue(standing, now)),
        stopped=hub.witnesses.stopped,
    )
