"""``nhri-connector doctor``: whether all is well, and what to do if not."""

import asyncio
import fcntl
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

import click
import msgspec

from connectors.alarms import KINDS, Severity
from connectors.cli.options import examples
from connectors.cli.outcome import NotSo
from connectors.cli.output import print_json, say
from connectors.cli.site import Site, now, on_site
from connectors.joined import read as read_joined
from connectors.link import LinkError
from connectors.link.http import HttpLink
from connectors.outbox import Outbox
from connectors.store import Reader
from connectors.tables import Alarm
from schemas import checkpoint, statement
from schemas.note import NoteError

SLOW = timedelta(hours=1)
"""How long a message may wait in the outbox before that is a problem."""

FAR_OFF = timedelta(minutes=2)
"""How wrong this machine's clock may be; the connector corrects it, but people read it."""


class Verdict(StrEnum):
    """How one thing is."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "PROBLEM"


class Line(msgspec.Struct, frozen=True):
    """One thing that was looked at; ``advice`` says what to do."""

    verdict: Verdict
    what: str
    sentence: str
    advice: str = ""


@click.command(epilog=examples("nhri-connector doctor --config kz.toml"))
@on_site
def doctor(site: Site) -> None:
    """Look at settings, keys, hub, outbox, inbox and alarms; exit 1 if something is wrong."""
    lines = [_keys(site), _joined(site), _daemon(site), *_hub(site), _outbox(site)]
    alarms: list[Alarm] = []
    if site.config.store.exists():
        with site.reader() as reader:
            lines += _store(site, reader)
            alarms = reader.alarms()
    lines += [_alarm(site, alarm) for alarm in alarms]
    if site.as_json:
        print_json([dict(msgspec.to_builtins(line)) for line in lines])
    else:
        for line in lines:
            say(f"{line.verdict:<8} {line.what:<10} {line.sentence}")
            if line.advice:
                say(f"{'':<19} {line.advice}")
    bad = sum(line.verdict is Verdict.BAD for line in lines)
    if bad:
        raise NotSo(f"{bad} of {len(lines)} things need somebody.")


def _keys(site: Site) -> Line:
    return Line(Verdict.GOOD, "keys", f"the signing key is {site.keys().kid}")


def _joined(site: Site) -> Line:
    joins = read_joined(site.config.joined, site.code).joins
    if not joins:
        return Line(Verdict.BAD, "join", "never asked to join", "nhri-connector join BUNDLE")
    digits = statement.spoken(joins[-1].fingerprint)
    return Line(Verdict.GOOD, "join", f"asked {joins[-1].time}, fingerprint {digits}")


def _daemon(site: Site) -> Line:
    if _is_locked(site.config.store.with_name("lock")):
        return Line(Verdict.GOOD, "daemon", "it runs")
    return Line(
        Verdict.BAD, "daemon", "it does not run", f"nhri-connector run --config {site.path}"
    )


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _hub(site: Site) -> Iterator[Line]:
    try:
        note, offset = asyncio.run(_ask(site))
        signed = checkpoint.open_checkpoint(note, site.config.log_key)
    except LinkError as error:
        advice = "Nothing is lost: messages wait in the outbox. Check the network and hub.url."
        yield Line(Verdict.BAD, "hub", f"{site.config.hub.url} does not answer: {error}", advice)
        return
    except NoteError as error:
        advice = "Check hub.url and hub.log; if they are right, call other institutions."
        yield Line(Verdict.BAD, "hub", f"its log is not the one we joined: {error}", advice)
        return
    yield Line(Verdict.GOOD, "hub", f"{site.config.hub.url}, log of {signed.size} entries")
    if abs(offset) > FAR_OFF:
        yield Line(
            Verdict.NOTE,
            "clock",
            f"this machine's clock is {round(abs(offset).total_seconds())} s off",
            "Set the clock; the connector corrects it by itself for now.",
        )


async def _ask(site: Site) -> tuple[bytes, timedelta]:
    link = HttpLink(site.config.hub.url, None)
    try:
        return await link.checkpoint(), link.offset
    finally:
        await link.close()


def _outbox(site: Site) -> Line:
    pending = Outbox(site.config.outbox).pending()
    if not pending:
        return Line(Verdict.GOOD, "outbox", "empty")
    # The first 48 bits of a UUIDv7 are its time in milliseconds (RFC 9562 §5.7).
    written = int(pending[0].replace("-", "")[:12], 16) / 1000
    age = now() - datetime.fromtimestamp(written, now().tzinfo)
    verdict = Verdict.BAD if age > SLOW else Verdict.NOTE
    sentence = f"{len(pending)} wait, the oldest for {round(age.total_seconds())} s"
    return Line(verdict, "outbox", sentence, "They leave by themselves when the hub is reached.")


def _store(site: Site, reader: Reader) -> Iterator[Line]:
    figures = reader.status()
    participant = reader.directory().participants.get(site.code)
    state = participant.state if participant else "not known to the log yet"
    standing = Verdict.GOOD if state == "active" else Verdict.BAD
    advice = "" if state == "active" else "Has the hub's operator approved the fingerprint?"
    yield Line(standing, "standing", f"{site.code} is {state}", advice)
    size = figures.followed.size if figures.followed else 0
    yield Line(Verdict.GOOD, "log", f"followed and checked up to {size} entries")
    sent = ", ".join(f"{count} {name}" for name, count in sorted(figures.sent.items()))
    waiting = f"{figures.waiting_receipts} receipts awaited"
    yield Line(Verdict.GOOD, "sent", f"{sent or 'nothing yet'}; {waiting}")
    yield Line(
        Verdict.GOOD,
        "received",
        f"up to position {figures.last_position}, {figures.unanswered} not receipted yet",
    )


def _alarm(site: Site, alarm: Alarm) -> Line:
    kind = KINDS[alarm.kind]
    verdict = Verdict.NOTE if alarm.severity is Severity.NOTICE else Verdict.BAD
    sentence = f"{kind.title}: {alarm.sentence} ({site.local(alarm.time)})"
    return Line(verdict, alarm.severity, sentence, kind.advice)
