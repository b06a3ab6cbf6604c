"""Traffic: what becomes of every message, as the connectors' own logs tell it.

``connectors/events.py`` says what each line of those logs holds.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import msgspec

PATIENCE: Final = 30
"""Seconds without any news, after which what is still missing will not come."""


class Mail(msgspec.Struct):
    """One message on its way.

    ``notice`` is the id of the notice that it answers. ``told``: it is through and was shown.
    """

    id: str
    sender: str = ""
    title: str = ""
    kind: str = ""
    notice: str | None = None
    index: int | None = None
    refusal: str | None = None
    recipients: frozenset[str] = frozenset()
    received: set[str] = msgspec.field(default_factory=set)
    receipts: set[str] = msgspec.field(default_factory=set)
    told: bool = False

    @property
    def accepted(self) -> bool:
        """Whether it is in the log."""
        return self.index is not None

    @property
    def settled(self) -> bool:
        """Whether nothing more is to come: refused, or every receipt is back."""
        done = self.accepted and self.receipts >= self.recipients <= self.received
        return done or self.refusal is not None


class Event(msgspec.Struct, frozen=True):
    """A line of a connector's log, as far as it is about messages."""

    event: str
    message_id: str = ""
    to: tuple[str, ...] = ()
    index: int | None = None
    code: str = ""
    detail: str = ""
    sender: str = msgspec.field(name="from", default="")
    status: str = ""
    sentence: str = ""


Settled: TypeAlias = Callable[[Mail], None]


class Traffic:
    """All messages of the demo. ``changed`` is called after every piece of news."""

    def __init__(self, settled: Settled, changed: Callable[["Traffic"], None]) -> None:
        self.mails: dict[str, Mail] = {}
        self.alarms: list[str] = []
        self._settled = settled
        self._changed = changed
        self._news = asyncio.Event()

    def expect(self, mail: Mail) -> None:
        """Say what a message is about. The logs may have told of it before."""
        known = self._mail(mail.id)
        known.sender, known.title, known.kind = mail.sender, mail.title, mail.kind
        known.notice = mail.notice
        self._tell(known)

    def hear(self, connector: str, line: bytes) -> None:
        """Take in one line of a connector's log; whatever is no event of a message is passed by."""
        try:
            event = msgspec.json.decode(line, type=Event)
        except msgspec.MsgspecError:
            return
        if event.event == "alarm":
            self.alarms.append(f"{connector}: {event.sentence}")
        if event.message_id:
            mail = self._mail(event.message_id)
            if not mail.settled and _take(mail, connector, event):
                self._tell(mail)

    def _mail(self, message_id: str) -> Mail:
        return self.mails.setdefault(message_id, Mail(message_id))

    def remember(self) -> None:
        """Take what was heard so far as told already."""
        for mail in self.mails.values():
            mail.told = mail.settled

    def _tell(self, mail: Mail) -> None:
        if mail.settled and mail.sender and not mail.told:
            mail.told = True
            self._settled(mail)
        self._changed(self)
        self._news.set()

    async def until(self, done: Callable[["Traffic"], bool]) -> bool:
        """Wait for something to be so; False when there is no news for ``PATIENCE``."""
        while not done(self):
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), PATIENCE)
            except TimeoutError:
                return False
        return True

    @property
    def settled(self) -> int:
        """Messages of which nothing more is to come."""
        return sum(mail.settled for mail in self.mails.values())

    @property
    def accepted(self) -> int:
        """Messages in the log."""
        return sum(mail.accepted for mail in self.mails.values())

    @property
    def refused(self) -> int:
        """Messages that the hub said no to."""
        return sum(mail.refusal is not None for mail in self.mails.values())

    @property
    def wanted(self) -> int:
        """Deliveries, and so receipts, that there have to be in the end."""
        return sum(len(mail.recipients) for mail in self.mails.values())

    @property
    def deliveries(self) -> int:
        """Copies that their recipients have verified and stored."""
        return sum(len(mail.received & mail.recipients) for mail in self.mails.values())

    @property
    def receipts(self) -> int:
        """Signed receipts that are back with the senders."""
        return sum(len(mail.receipts & mail.recipients) for mail in self.mails.values())

    def missing(self, expected: int) -> Iterator[str]:
        """What fell short of so many messages, a sentence each."""
        if self.accepted < expected:
            yield f"Only {self.accepted} of {expected} messages were accepted."
        for mail in self.mails.values():
            if mail.refusal is not None:
                yield f"The hub refused {mail.id} ({mail.title}): {mail.refusal}"
            elif mail.accepted and not mail.settled:
                without = ", ".join(sorted(mail.recipients - (mail.receipts & mail.received)))
                yield f"{mail.id} of {mail.sender} ({mail.title}) has no receipt from {without}."
        yield from (f"Alarm at {alarm}" for alarm in self.alarms)

    def summary(self, log: int, *, verified: bool) -> str:
        """The last line, for programs. ``log``: the number of entries that were verified."""
        return (
            f"demo: accepted={self.accepted} refused={self.refused}"
            f" deliveries={self.deliveries}/{self.wanted}"
            f" receipts={self.receipts}/{self.wanted} log={log}{' verified' if verified else ''}"
        )


def _take(mail: Mail, connector: str, event: Event) -> bool:
    """Change a message by an event; False where the event is none of its life."""
    match event.event:
        case "message.accepted":
            mail.index, mail.recipients = event.index, frozenset(event.to)
        case "message.refused":
            mail.refusal = f"{event.code}: {event.detail}"
        case "message.received":
            mail.received.add(connector)
        case "receipt.received" if event.status != "refused":
            mail.receipts.add(event.sender)
        case _:
            return False
    return True
