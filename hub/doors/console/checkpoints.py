"""Checkpoints and witnesses: what the log's key signed last, and who has cosigned how much."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from aiohttp import web

from hub.doors.console.overview import Signing, names, signing
from hub.doors.console.visit import Visit
from hub.ledger.witnesses import Standing
from schemas import checkpoint, note
from schemas.encoding import format_time


class Head(msgspec.Struct, frozen=True):
    """A checkpoint: how many entries, their root, and whose signatures stand under it."""

    size: int
    root: str
    signers: Sequence[str]


class Row(msgspec.Struct, frozen=True):
    """A witness: what it cosigned last and when, how far behind it is, when it asked last."""

    code: str
    name: str
    size: int
    lag: int
    time: str | None
    asked: str | None
    overdue: bool


class Shown(msgspec.Struct, frozen=True):
    """A checkpoint that our key signed and our log does not have, and who showed it."""

    code: str
    size: int
    time: str


class View(msgspec.Struct, frozen=True):
    """The page. ``signed`` is the newest checkpoint, ``last`` the newest with a quorum."""

    vkey: str
    signed: Head | None
    waiting: Head | None
    last: Head | None
    signing: Signing
    witnesses: Sequence[Row]
    shown: Sequence[Shown]


async def show(visit: Visit) -> web.Response:
    """``GET /console/checkpoints``."""
    hub = visit.hub
    standing = await hub.witnesses.standing()
    stands = signing(hub, standing, hub.clock())
    called = names(hub.recorder.state.directory, visit.language)
    view = View(
        vkey=str(hub.vkey),
        signed=head(await hub.queries.checkpoint()),
        waiting=head(standing.waiting.note if standing.waiting else None),
        last=head(standing.last.note if standing.last else None),
        signing=stands,
        witnesses=rows(standing, stands, called, hub.witnesses.seen),
        shown=[
            Shown(one.code, checkpoint.parse(note.parse_note(one.note).text).size, one.time)
            for one in standing.shown
        ],
    )
    return visit.page("checkpoints.html", view)


def head(raw: bytes | None) -> Head | None:
    """What a stored checkpoint says."""
    if raw is None:
        return None
    signed = note.parse_note(raw)
    found = checkpoint.parse(signed.text)
    return Head(found.size, note.b64(found.root), [line.name for line in signed.signatures])


def rows(
    standing: Standing, stands: Signing, called: Mapping[str, str], seen: Mapping[str, datetime]
) -> Sequence[Row]:
    """Every witness of the directory, whoever is furthest behind first."""
    watchers = {watcher.code: watcher for watcher in standing.watchers}
    made = []
    for code, lag in stands.lags.items():
        watcher, asked = watchers.get(code), seen.get(code)
        made.append(
            Row(
                code,
                called.get(code, code),
                watcher.size if watcher else 0,
                lag,
                watcher.time if watcher else None,
                format_time(asked) if asked else None,
                code in stands.overdue,
            )
        )
    return sorted(made, key=lambda row: (-row.lag, row.code))
