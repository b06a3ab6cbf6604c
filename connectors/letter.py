"""Letters about alarms: which are due, and what a person is told, in the institution's language.

A letter may pass many hands unencrypted. It has numbers, ids, codes and times in it, and no words
of anybody's: what the hub or another institution wrote stays in the store. Pure but for reading
the words that come with the program.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from hashlib import sha256
from importlib import resources

import msgspec

from connectors import acknowledged
from connectors.acknowledged import Acknowledgements
from connectors.alarms import KINDS, Severity, Step
from connectors.tables import Alarm
from schemas.encoding import format_time, parse_time
from schemas.vocabulary import LANGUAGES

QUIET = timedelta(minutes=5)
"""Between two letters about one kind of alarm: a flood becomes one letter with a list."""

NEWS = timedelta(days=7)
"""How long an alarm that is over is still told of, where it could not be before."""

LIMIT = 20
"""Alarms that a letter lists; of the others it gives the number."""

_HARMLESS = re.compile("[0-9]{1,20}|[a-z][a-z0-9-]{1,15}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A number, a code or a message's id."""

_FOLDER = resources.files("connectors") / "letters"


class Phrases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The words around the alarms. ``{count}`` and ``{code}`` stand for what they say."""

    alarms: str
    intro: str
    critical: str
    warning: str
    about: str
    since: str
    over: str
    todo: str
    more: str
    look: str
    note: str
    why: str


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A letter's words in one language; titles that are not there are those of the table."""

    words: Phrases
    steps: Mapping[Step, str]
    titles: Mapping[str, str] = {}

    def title(self, kind: str) -> str:
        """What a kind of alarm is called."""
        return self.titles.get(kind) or KINDS[kind].title


class Letterhead(msgspec.Struct, frozen=True):
    """What all letters of an institution have in common.

    ``sender`` and ``to`` are addresses, ``tag`` and ``words`` the language, ``zone`` the time on
    the institution's wall.
    """

    code: str
    sender: str
    to: Sequence[str]
    tag: str
    words: Words
    zone: tzinfo


def words(tag: str) -> Words:
    """The words of a language of the exchange.

    Raises:
        LookupError: there is no such language.
    """
    if tag not in LANGUAGES:
        raise LookupError(f"No letters in {tag!r}; there are {', '.join(LANGUAGES)}.")
    text = (_FOLDER / f"{tag}.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Words)


def waiting(unmailed: Iterable[Alarm], known: Acknowledgements) -> list[Alarm]:
    """Of the alarms that were not mailed those that somebody has to hear of.

    What is only good to know is none of them, and what somebody has noted neither.
    """
    return [
        alarm
        for alarm in unmailed
        if alarm.severity is not Severity.NOTICE and acknowledged.of(alarm, known) is None
    ]


def due(alarms: Iterable[Alarm], last_mailed: Mapping[str, str], now: datetime) -> list[Alarm]:
    """Of the alarms that wait those to be mailed now: a kind rests a while after its last letter.

    A last letter that lies in the future, after a clock was set back, keeps nothing.
    """
    resting = {
        kind
        for kind, taken in last_mailed.items()
        if timedelta() <= now - parse_time(taken) < QUIET
    }
    return [alarm for alarm in alarms if alarm.kind not in resting]


def news_since(now: datetime) -> str:
    """The time before which what was over is no news any more."""
    return format_time(now - NEWS)


def compose(head: Letterhead, alarms: Sequence[Alarm], now: datetime) -> EmailMessage:
    """One letter about some alarms, the worst first.

    The same alarms give the same ``Message-ID``: where a letter is sent twice because an answer of
    the server was lost, a mailbox can tell.
    """
    ordered = sorted(alarms, key=lambda alarm: (alarm.severity != Severity.CRITICAL, alarm.number))
    letter = EmailMessage(policy=policy.SMTP)
    letter["From"] = head.sender
    letter["To"] = ", ".join(head.to)
    letter["Subject"] = f"[nhri {head.code}] {_subject(head.words, ordered)}"
    letter["Date"] = format_datetime(now)
    same = "\n".join(f"{head.code} {alarm.number} {alarm.time}" for alarm in ordered)
    name, domain = sha256(same.encode()).hexdigest()[:32], head.sender.rpartition("@")[2]
    letter["Message-ID"] = f"<{name}@{domain}>"
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5: nobody's absence answers it
    letter.set_content(_body(head, ordered), cte="base64")
    letter["Content-Language"] = head.tag  # what is said of a content goes with the one before
    return letter


def _subject(told: Words, alarms: Sequence[Alarm]) -> str:
    if len({alarm.kind for alarm in alarms}) > 1:
        return told.words.alarms.format(count=len(alarms))
    more = f" ({len(alarms)})" if len(alarms) > 1 else ""
    return f"{told.title(alarms[0].kind)}{more}"


def _body(head: Letterhead, alarms: Sequence[Alarm]) -> str:
    phrases = head.words.words
    lines = [phrases.intro.format(code=head.code), ""]
    for alarm in alarms[:LIMIT]:
        lines += [*_told(head, alarm), ""]
    if len(alarms) > LIMIT:
        lines += [phrases.more.format(count=len(alarms) - LIMIT), ""]
    number, config = alarms[0].number, f"--config {head.code}.toml"
    lines += [phrases.look, f"    nhri-connector alarms {config}", phrases.note]
    lines += [f'    nhri-connector alarms ack {number} --note "…" {config}', "", phrases.why]
    return "\n".join(lines) + "\n"


def _told(head: Letterhead, alarm: Alarm) -> list[str]:
    phrases = head.words.words
    severity = phrases.critical if alarm.severity is Severity.CRITICAL else phrases.warning
    lines = [f"{alarm.number}. {head.words.title(alarm.kind)} ({severity})"]
    if all(map(_HARMLESS.fullmatch, alarm.subject.split(" "))):
        lines.append(f"    {phrases.about}: {alarm.subject}")
    lines.append(f"    {phrases.since}: {_local(head, alarm.time)}")
    if alarm.ended is not None:
        lines.append(f"    {phrases.over}: {_local(head, alarm.ended)}")
    else:
        lines.append(f"    {phrases.todo}: {head.words.steps[KINDS[alarm.kind].step]}")
    return lines


def _local(head: Letterhead, time: str) -> str:
    return f"{parse_time(time).astimezone(head.zone):%Y-%m-%d %H:%M} ({head.zone})"
