"""``nhri-connector doctor``: whether all is well, and what to do if not."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import click
import msgspec

from connectors import acknowledged, certificate, joined, letter
from connectors.acknowledged import Acknowledgement, Acknowledgements
from connectors.alarms import KINDS, Severity
from connectors.certificate import CertificateError
from connectors.cli import succession, watched
from connectors.cli.options import examples
from connectors.cli.outcome import NotSo
from connectors.cli.output import print_json, progress, say
from connectors.cli.site import Site, now, on_site
from connectors.cli.watched import About, Watched
from connectors.joined import JoinedError
from connectors.keys import KeysError
from connectors.link import LinkError
from connectors.link.http import HttpLink
from connectors.outbox import Outbox
from connectors.store import Reader, StoreError
from connectors.tables import Alarm
from schemas import checkpoint, statement
from schemas.directory import State
from schemas.encoding import format_time
from schemas.jsontext import Json
from schemas.note import NoteError

LONG_WAIT = timedelta(hours=1)
"""How long a message may wait in the outbox before somebody should look."""

WRONG_CLOCK = timedelta(minutes=4)
"""The hub refuses what was written more than five minutes ahead of its clock."""


NEWS = 5
"""Notices, the newest, that a person is shown."""

MANY = 20
"""Lines of one name, of any other, that a person is shown."""


class Verdict(StrEnum):
    """How one thing is."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "PROBLEM"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. ``advice`` says what to do, where something is to be done.

    ``alarm`` is the number of the alarm that stands behind it, for `alarms ack`; ``about`` is what
    of the exchange it is about: message, member and since when.
    """

    verdict: Verdict
    what: str
    sentence: str
    advice: str = ""
    alarm: int | None = None
    about: About | None = None


@click.command(epilog=examples("nhri-connector doctor --config kz.toml"))
@on_site
def doctor(site: Site) -> None:
    """Look at keys, certificate, membership, hub, clock, outbox, inbox, alarms; say what to do.

    Receipts that are overdue, recipients that the hub left out, and entries about us that nobody
    here asked for are told one by one. Ends with 1 when something needs somebody; what was
    acknowledged (`nhri-connector alarms ack`) does not.
    """
    found = [
        Finding(Verdict.GOOD, "settings", f"{site.path}, for {site.code}"),
        _keys(site),
        _joined(site),
        _daemon(site),
        *_certificate(site),
    ]
    with progress("Asking the hub"):
        found += _hub(site)
    found.append(_outbox(site))
    try:
        with site.reader() as reader, reader.snapshot():
            found += _store(site, reader)
    except StoreError as error:
        found.append(Finding(Verdict.BAD, "store", str(error), "Start the daemon, or see above."))
    _tell(site, found)


def _tell(site: Site, found: list[Finding]) -> None:
    bad = sum(one.verdict is Verdict.BAD for one in found)
    if site.as_json:
        findings: list[Json] = msgspec.to_builtins(found)
        print_json({"ok": not bad, "findings": findings})
    else:
        _say(found)
    if bad:
        raise NotSo(f"{bad} of {len(found)} things need somebody.")


def _say(found: list[Finding]) -> None:
    told = Counter[str]()
    for one in found:
        told[one.what] += 1
        if told[one.what] > _limit(one.what):
            continue
        say(f"{one.verdict:<9}{one.what:<12}{one.sentence}")
        number = "" if one.alarm is None else f" [alarm {one.alarm}]"
        if one.advice:
            say(f"{'':<21}→ {one.advice}{number}")
    for what, count in told.items():
        if count > _limit(what):
            say(f"{count - _limit(what)} more of {what} are shown with --json.")


def _limit(what: str) -> int:
    return NEWS if what == Severity.NOTICE else MANY


def _keys(site: Site) -> Finding:
    try:
        kid = site.keys().kid
    except KeysError as error:
        return Finding(Verdict.BAD, "keys", str(error))
    mode = site.config.keys.stat().st_mode & 0o777
    if mode & 0o077:
        advice = f"chmod 700 {site.config.keys}"
        return Finding(Verdict.BAD, "keys", f"others can look into {site.config.keys}", advice)
    if succession.next_keys(site.config).exists():
        advice = "Run the same command, join or rotate, again."
        return Finding(Verdict.BAD, "keys", "a change of the keys was not finished", advice)
    return Finding(Verdict.GOOD, "keys", f"only their owner reads them; signing key {kid}")


def _joined(site: Site) -> Finding:
    try:
        joins = joined.read(site.config.joined, site.code).joins
    except JoinedError as error:
        return Finding(Verdict.BAD, "joining", str(error), "Bring it back from a backup.")
    if not joins:
        return Finding(
            Verdict.BAD, "joining", "no hub was asked", "nhri-connector join BUNDLE asks it."
        )
    digits = statement.spoken(joins[-1].fingerprint)
    asked = site.local(joins[-1].time)
    return Finding(Verdict.GOOD, "joining", f"asked {asked}, join fingerprint {digits}")


def _daemon(site: Site) -> Finding:
    if succession.daemon_runs(site.config):
        return Finding(Verdict.GOOD, "daemon", "it runs")
    advice = f"nhri-connector run --config {site.path}"
    return Finding(Verdict.BAD, "daemon", "it does not run: nothing is sent or received", advice)


def _certificate(site: Site) -> Iterator[Finding]:
    """How long the broker's link has a certificate, where it uses one."""
    what, chosen = "certificate", site.config.link
    if not chosen.amqp or not chosen.certificate:
        return
    path, renews = Path(chosen.certificate), site.config.renews
    advice = "The daemon renews it; its log says what keeps it." if renews else "Get a new one."
    try:
        held = certificate.read(path)
        if held is not None and renews and not certificate.is_for(held, site.keys().tls):
            held = None
    except CertificateError as error:
        yield Finding(Verdict.BAD, what, str(error), advice)
        return
    except KeysError:
        return  # said above
    if held is None:
        yield Finding(Verdict.BAD, what, f"{path} has none for our TLS key", advice)
        return
    remaining = certificate.left(held, now())
    ends = site.local(format_time(held.not_valid_after_utc))
    sentence = f"{remaining // timedelta(days=1)} days left, until {ends}"
    if remaining < certificate.ALARM:
        yield Finding(Verdict.BAD, what, sentence, advice)
    elif remaining < certificate.RENEW:
        yield Finding(Verdict.NOTE, what, sentence, advice)
    else:
        yield Finding(Verdict.GOOD, what, sentence)


def _hub(site: Site) -> Iterator[Finding]:
    url = site.config.hub.url
    try:
        raw, offset = asyncio.run(_ask(site))
        signed = checkpoint.open_checkpoint(raw, site.config.log_key)
    except LinkError as error:
        advice = "Nothing is lost: messages wait in the outbox. Check the connection and hub.url."
        yield Finding(Verdict.BAD, "hub", str(error), advice)
        return
    except NoteError as error:
        advice = "Check hub.url and hub.log. If they are right, call the other institutions."
        yield Finding(Verdict.BAD, "hub", f"{url} is not the hub we joined: {error}", advice)
        return
    yield Finding(Verdict.GOOD, "hub", f"{url} answers; its log has {signed.size} entries")
    if not site.config.encrypted:
        advice = "Ask the operator for the https address."
        yield Finding(Verdict.NOTE, "hub", "the link is not encrypted", advice)
    seconds = round(offset.total_seconds())
    verdict = Verdict.BAD if abs(offset) > WRONG_CLOCK else Verdict.GOOD
    advice = "Set this machine's clock." if verdict is Verdict.BAD else ""
    yield Finding(verdict, "clock", f"the hub's is {seconds:+} seconds away", advice)


async def _ask(site: Site) -> tuple[bytes, timedelta]:
    link = HttpLink(site.config.hub.url, None)
    try:
        return await link.checkpoint(), link.offset
    finally:
        await link.close()


def _outbox(site: Site) -> Finding:
    pending = Outbox(site.config.outbox).pending()
    if not pending:
        return Finding(Verdict.GOOD, "outbox", "nothing waits")
    age = now() - _written(pending[0])
    minutes = max(int(age.total_seconds()) // 60, 0)
    sentence = f"{len(pending)} wait, the oldest for {minutes} minutes"
    if age <= LONG_WAIT:
        return Finding(Verdict.NOTE, "outbox", sentence)
    advice = "They leave by themselves once the daemon runs and reaches the hub."
    return Finding(Verdict.BAD, "outbox", sentence, advice)


def _written(message_id: str) -> datetime:
    """When an id was made: the first 48 bits of a UUIDv7 are milliseconds (RFC 9562 §5.7)."""
    try:
        return datetime.fromtimestamp(int(message_id.replace("-", "")[:12], 16) / 1000, UTC)
    except (ValueError, OverflowError):
        return now()  # a file that is no message; the daemon sets it aside


def _store(site: Site, reader: Reader) -> Iterator[Finding]:
    yield _standing(site, reader)
    figures = reader.status()
    followed = figures.followed
    size = followed.size if followed else 0
    seen = f", last seen {site.local(followed.seen)}" if followed else ""
    yield Finding(Verdict.GOOD, "log", f"{size} entries followed and checked{seen}")
    cosigned = figures.cosigned.size if figures.cosigned else 0
    yield Finding(Verdict.GOOD, "witness", f"{cosigned} entries cosigned")
    sent = ", ".join(f"{count} {state}" for state, count in sorted(figures.sent.items()))
    owed = f"{figures.waiting_receipts} receipts still to come"
    yield Finding(Verdict.GOOD, "sent", f"{sent or 'nothing yet'}; {owed}")
    yield Finding(
        Verdict.GOOD if figures.first_gap is None else Verdict.BAD,
        "inbox",
        f"up to position {figures.last_position}; {figures.unanswered} receipts of ours to go out"
        + ("" if figures.first_gap is None else f"; position {figures.first_gap} is missing"),
    )
    yield from _alarms(site, reader)
    yield _mail(site, reader)


def _standing(site: Site, reader: Reader) -> Finding:
    participant = reader.directory().participants.get(site.code)
    if participant is None or participant.state is State.INVITED:
        advice = "Call the hub's operator and compare the join fingerprint."
        return Finding(Verdict.BAD, "standing", "the hub has not approved us yet", advice)
    if participant.state is not State.ACTIVE:
        advice = "Call the hub's operator."
        return Finding(Verdict.BAD, "standing", f"we are {participant.state}", advice)
    try:
        own = site.keys().kid
    except KeysError:
        own = None  # said above
    if own is not None and participant.kid != own:
        advice = "Was the store or the key folder brought back from an old backup? Call the hub."
        return Finding(Verdict.BAD, "standing", "the log has another signing key for us", advice)
    return Finding(Verdict.GOOD, "standing", f"{participant.role}, {participant.state}")


def _alarms(site: Site, reader: Reader) -> Iterator[Finding]:
    """What the monitors watch, also where all is well with it, then all other alarms."""
    known = acknowledged.read(site.config.acknowledged)
    standing = reader.alarms()
    for name, well, told in watched.all_of(site, reader, standing, now()):
        yield from (_watched(name, one, known) for one in told)
        if not told:
            yield Finding(Verdict.GOOD, name, well)
    for alarm in standing:
        noted = acknowledged.of(alarm, known)
        # A notice that somebody has seen is no news.
        if alarm.kind not in watched.KINDS and not (noted and alarm.severity is Severity.NOTICE):
            yield _alarm(site, alarm, noted)


def _mail(site: Site, reader: Reader) -> Finding:
    what, mail = "mail", site.config.mail
    if not mail.host:
        advice = f"[mail] in {site.path} names a mail server, and who is to hear of alarms."
        return Finding(Verdict.NOTE, what, "nobody is told of alarms by e-mail", advice)
    known = acknowledged.read(site.config.acknowledged)
    count = len(letter.waiting(reader.unmailed(letter.news_since(now())), known))
    trouble = reader.mail_trouble()
    if trouble is not None:
        verdict = Verdict.BAD if count else Verdict.NOTE
        sentence = f"{count} alarms wait; since {site.local(trouble.since)}: {trouble.detail}"
        advice = f"It is tried again by itself. Check [mail] in {site.path}."
        return Finding(verdict, what, sentence, advice)
    waits = f"; {count} wait to be mailed" if count else ""
    return Finding(Verdict.GOOD, what, f"alarms are mailed to {', '.join(mail.to)}{waits}")


def _watched(name: str, one: Watched, known: Acknowledgements) -> Finding:
    noted = acknowledged.of(one.alarm, known) if one.alarm else None
    number = one.alarm.number if one.alarm else None
    verdict, advice = Verdict.BAD, one.advice
    if noted is not None:
        verdict, advice = Verdict.NOTE, _acknowledged(noted)
    return Finding(verdict, name, one.sentence, advice, number, one.about)


def _alarm(site: Site, alarm: Alarm, noted: Acknowledgement | None) -> Finding:
    kind = KINDS[alarm.kind]
    settled = noted is not None or alarm.severity is Severity.NOTICE
    sentence = f"{kind.title}. {alarm.sentence} ({site.local(alarm.time)})"
    advice = _acknowledged(noted) if noted else kind.advice
    verdict = Verdict.NOTE if settled else Verdict.BAD
    return Finding(verdict, alarm.severity.value, sentence, advice, alarm.number)


def _acknowledged(noted: Acknowledgement) -> str:
    return f"acknowledged: {noted.note}"
