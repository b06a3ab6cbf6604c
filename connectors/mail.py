"""Alarms by e-mail: each is offered to the mail server until it is taken, and then never again.

The alarms' own rows in the store are the queue. A crash before the server's answer: the letter is
offered again. Between its answer and the commit: it comes twice, with one ``Message-ID``. A server
that refuses or is away keeps nothing else of the daemon from its work.
"""

import asyncio
import ssl
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from pathlib import Path
from zoneinfo import ZoneInfo

from aiosmtplib import SMTP, SMTPRecipientsRefused, SMTPResponseException

from connectors import acknowledged, letter, profile
from connectors.config import Config, MailConfig
from connectors.letter import Letterhead
from connectors.parts import Parts
from connectors.shown import shown
from schemas.vocabulary import LANGUAGES

PATIENCE = 60.0
"""Seconds for a whole delivery."""

_REASON = 200
"""Characters of a server's answer that are kept."""


class MailError(OSError):
    """The mail server did not take a letter; the message says why."""


class Mailer:
    """The worker that tells people of alarms."""

    def __init__(self, parts: Parts, config: Config) -> None:
        self._parts = parts
        self._config = config.mail
        self._acknowledged = config.acknowledged
        self._head = letterhead(config)

    async def step(self) -> None:
        """Mail the alarms that are due, all in one letter.

        Raises:
            MailError: the server did not take it; it is due still.
        """
        store, now = self._parts.store, self._parts.clock()
        known = acknowledged.read(self._acknowledged)
        waiting = letter.waiting(store.unmailed(letter.news_since(now)), known)
        due = letter.due(waiting, store.last_mailed(), now)
        if not due:
            return
        try:
            refused = await deliver(self._config, letter.compose(self._head, due, now))
        except MailError as error:
            with store.transaction():
                store.note_mail_trouble(str(error), self._parts.now())
            raise
        with store.transaction():
            store.note_mailed(due, self._parts.now())
            store.end_mail_trouble()
            if refused:
                store.note_mail_trouble(refused, self._parts.now())
        self._parts.events.mailed(len(due))


def letterhead(config: Config) -> Letterhead:
    """How an institution's letters look: by its settings, and otherwise by its profile."""
    try:
        known = profile.load(config.code)
        languages, zone = known.languages, known.time_zone
    except LookupError:
        languages, zone = (), "UTC"
    wanted = (config.mail.language, *languages, "en")
    tag = next(tag for tag in wanted if tag in LANGUAGES)
    sender = config.mail.sender or ""
    words = letter.words(tag)
    return Letterhead(config.code, sender, config.mail.to, tag, words, ZoneInfo(zone))


async def deliver(config: MailConfig, message: EmailMessage) -> str:
    """Bring a letter to the mail server; gives what it said to addresses that it refused, if any.

    It is delivered when the server takes it for one address at least: those that it refuses would
    otherwise make all others hear of it again and again.

    Raises:
        MailError: the server cannot be reached, is not the one that its certificate must name, or
            takes the letter for nobody.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            return await _deliver(config, message)
    except TimeoutError:
        reason = "it gave no answer in time"
    except SMTPRecipientsRefused as error:
        reason = "; ".join(f"{one.recipient}: {_said(one)}" for one in error.recipients)
    except SMTPResponseException as error:
        reason = _said(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
        reason = str(error) or type(error).__name__
    raise MailError(f"The mail server {config.host} did not take it: {_short(reason)}.")


async def _deliver(config: MailConfig, message: EmailMessage) -> str:
    domain = (config.sender or "").rpartition("@")[2]
    client = SMTP(
        hostname=config.host,
        port=config.port or None,
        local_hostname=domain,  # otherwise the name service is asked for our own
        timeout=PATIENCE,
        use_tls=config.tls == "tls",
        start_tls=config.tls == "starttls",
        tls_context=None if config.tls == "none" else _tls(config),
        username=config.user or None,
        password=_password(config) or None,
    )
    async with client:
        raw = message.as_bytes(policy=WIRE)
        refused, _ = await client.sendmail(config.sender or "", config.to, raw)
    said = "; ".join(f"{address}: {answer.message}" for address, answer in refused.items())
    return f"The mail server {config.host} refused {_short(said)}." if said else ""


def _tls(config: MailConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=config.ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _password(config: MailConfig) -> str:
    """The password, read when it is needed: a new one needs no restart."""
    if config.password or not config.password_file:
        return config.password
    return Path(config.password_file).read_text(encoding="utf-8").strip()


def _said(error: SMTPResponseException) -> str:
    return f"{error.code} {error.message}"


def _short(text: str) -> str:
    return shown(" ".join(text.split()), _REASON).rstrip(".")
