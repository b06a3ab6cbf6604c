"""From the hub into the inbox: everything is verified here, and stands there once.

What the log does not back is no delivery at all: it is kept as evidence in an alarm, its position
counts as missing, and it is asked for again. What the log backs stands in the inbox for ever, valid
or not, and its sender gets a receipt that says which.

A crash before the one commit of a page: the hub is asked for the same positions again. After it:
the next page is asked for, and the receipts that are owed are found in the store.
"""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from connectors import monitor, verification
from connectors.alarms import Finding
from connectors.link import InboxItem, Later
from connectors.parts import Parts
from connectors.tables import InboxState, Received
from connectors.verification import Entered
from schemas import jsontext
from schemas.acceptance import Acceptance, Broken
from schemas.jsontext import Json
from schemas.message import Message
from schemas.refusal import Refused

LIMIT = 8
"""Items a page: at 256 KiB a message, as much as a small machine can hold."""

RECEIVED = "received"
REFUSED = "refused"


class Judged(msgspec.Struct, frozen=True):
    """An item after all checks: a row where the log backs it, and what was found."""

    row: Received | None
    findings: Sequence[Finding] = ()
    message: Message | None = None


class Receiver:
    """The worker that fills the inbox.

    ``languages`` are those to show a title in, the preferred one first; ``owing`` is set when there
    are receipts to be signed.
    """

    def __init__(
        self, parts: Parts, languages: Sequence[str], owing: asyncio.Event, wait: float
    ) -> None:
        self._parts = parts
        self._languages = languages
        self._owing = owing
        self._wait = wait
        self._promised = 0

    async def step(self) -> bool:
        """Ask for the next page, waiting for it, and take it; whether there was anything.

        Raises:
            LinkError: the hub cannot be reached, or nothing it gave is backed by the log.
        """
        after = self._parts.store.last_position()
        page = await self._parts.link.inbox(after, LIMIT, self._wait)
        await self._take(page.deliveries)
        last = self._parts.store.last_position()
        # Withheld is only what an earlier answer promised and this one does not give: the hub may
        # have counted a message while it answered.
        if not page.deliveries and last < min(self._promised, page.last):
            self._parts.found([monitor.gap(last + 1, page.last)])
        self._promised = page.last
        if page.deliveries and last == after:
            raise Later("Nothing of what the hub delivered is backed by its log.")
        return bool(page.deliveries)

    async def ask_again(self) -> None:
        """Ask once for every position that was passed over.

        What the hub gives is the next that it has: none before that one is asked for, so that a
        long gap costs one question.
        """
        gap = self._parts.store.first_gap()
        while gap is not None:
            page = await self._parts.link.inbox(gap - 1, 1, 0)
            if not page.deliveries:
                return
            await self._take(item for item in page.deliveries if item.position == gap)
            given = max(item.position for item in page.deliveries)
            gap = self._parts.store.first_gap(max(gap, given - 1))

    async def _take(self, items: Iterable[InboxItem]) -> None:
        judged = [await self._judge(item) for item in items]
        store, now = self._parts.store, self._parts.now()
        shown: list[Judged] = []
        findings: list[Finding] = []
        with store.transaction():
            for one in map(self._place, judged):
                findings += one.findings
                if one.row is not None:
                    store.add_received(one.row)
                    store.end_alarm("position-gap", str(one.row.position), now)
                    shown.append(one)
            gap = store.first_gap()
            if gap is not None:
                findings.append(monitor.gap(gap, store.last_position()))
            raised = store.raise_alarms(findings, now)
        self._tell(shown)
        self._parts.events.findings(raised)
        self._owing.set()

    def _place(self, judged: Judged) -> Judged:
        """Where a row can stand, given what stands already: once at a position, once in all."""
        row = judged.row
        if row is None:
            return judged
        there = self._parts.store.at(row.position)
        if there is not None:
            again = there.entry_hash == row.entry_hash
            found = [] if again else [monitor.position_repeated(there, row)]
            return Judged(None, [*judged.findings, *found])
        if row.state is InboxState.ERASED:
            elsewhere = self._parts.store.received(row.id or "")
            # One erasure accounts for one position: it hides no other message.
            return Judged(None, [monitor.message_repeated(elsewhere, row)]) if elsewhere else judged
        known = self._parts.store.valid(row.id or "") if row.state is InboxState.VALID else None
        if known is not None:
            finding = monitor.message_repeated(known, row)
            invalid = _invalid(row, Refused("id-conflict", finding.sentence))
            return Judged(invalid, [*judged.findings, finding])
        return judged

    async def _judge(self, item: InboxItem) -> Judged:
        try:
            if item.proof is None:
                # Half of each would be a message that nobody is shown, with a receipt for it.
                raise Broken("it is neither a delivery nor a tombstone")
            if item.tombstone == "erased":
                return Judged(await self._erased(item, item.proof))
            entry, envelope = await self._backed(item, item.proof)
        except Broken as broken:
            return Judged(None, [monitor.unbacked(item.position, str(broken), _evidence(item))])
        row = self._row(item, entry)
        findings = []
        if row.position != item.position:
            findings.append(monitor.position_differs(item.position, row))
        if item.delivery is None:
            return Judged(row, findings)
        directory = self._parts.follower.directory_before(entry.backed.opened.index)
        try:
            read = verification.check_message(entry, envelope, directory)
            ours = verification.expand(read, directory)
        except Refused as refusal:
            findings.append(monitor.invalid(row, refusal, _evidence(item)))
            return Judged(_invalid(row, refusal), findings)
        findings += monitor.recipients(read.id, ours, entry.private)
        valid = replace(row, reply_to=read.in_reply_to, status=RECEIVED)
        return Judged(valid, findings, read)

    async def _backed(self, item: InboxItem, proof: Acceptance) -> tuple[Entered, bytes]:
        """The entry behind an item, and the envelope, empty for a tombstone.

        Raises:
            Broken: the log that we follow does not back it.
        """
        entry = verification.entered(verification.back(proof, self._parts.log))
        verification.own_position(entry, self._parts.code)
        envelope = b""
        if item.delivery is not None:
            envelope = verification.envelope_of(item.delivery)
            verification.check_envelope(entry, envelope)
        if not await self._parts.follows(entry.backed):
            raise Broken("its checkpoint is of another history")
        return entry, envelope

    async def _erased(self, item: InboxItem, proof: Acceptance) -> Received:
        """What stands where an erased message was.

        Of the acceptance only the entry is left: it does not say our position any more. The
        decision is public, so that the sender hears of it as well; nothing is erased in silence.

        Raises:
            Broken: the log that we follow has no such decision.
        """
        backed = verification.back_erased(proof, self._parts.log)
        if not await self._parts.follows(backed):
            raise Broken("its checkpoint is of another history")
        opened = backed.opened
        if self._parts.store.erased(opened.entry.subject or "") is None:
            raise Broken(f"the log does not say that {opened.entry.subject} was erased")
        return Received(
            position=item.position,
            state=InboxState.ERASED,
            raw=jsontext.encode(proof),
            received=self._parts.now(),
            id=opened.entry.subject,
            sender=opened.entry.actor,
            index=opened.index,
            entry_hash=opened.entry_hash,
            accepted=opened.entry.time,
        )

    def _row(self, item: InboxItem, entry: Entered) -> Received:
        opened = entry.backed.opened
        return Received(
            position=verification.own_position(entry, self._parts.code),
            state=InboxState(item.tombstone or InboxState.VALID),
            raw=jsontext.encode(item.delivery or item.acceptance),
            received=self._parts.now(),
            id=entry.message_id,
            sender=opened.entry.actor,
            kind=entry.private.kind,
            index=opened.index,
            entry_hash=opened.entry_hash,
            accepted=opened.entry.time,
        )

    def _tell(self, shown: Iterable[Judged]) -> None:
        for one in shown:
            read = one.message
            if one.row is not None and read is not None:
                position, title = one.row.position, self._title(read)
                self._parts.events.received(read.id, read.sender, read.kind, position, title)

    def _title(self, read: Message) -> str | None:
        """The title in the first language there is, then in English, then in any."""
        for tag in (*self._languages, "en", *read.texts):
            if tag in read.texts:
                return read.texts[tag].title
        return None


def _invalid(row: Received, refusal: Refused) -> Received:
    return replace(row, state=InboxState.INVALID, status=REFUSED, reason=str(refusal))


def _evidence(item: InboxItem) -> dict[str, Json]:
    return {"item": msgspec.to_builtins(item)}
