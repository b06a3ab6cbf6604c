"""From the outbox into the log: a message is offered until the hub's answer holds.

The order of what is durable, and what a crash between two steps means:

1. The file in the outbox (written by whoever sends): a crash loses nothing, it is found at start.
2. The row ``pending``, before the first offer: from here on the log may have the message, and its
   entry is known for ours when it is met there.
3. The hub's recording. A crash, or an answer that is lost, means that the message is offered again,
   as the same bytes; the hub answers as the first time.
4. The row ``accepted`` or ``refused``, with its expected receipts and alarms, in one transaction.
5. The file is removed. A crash before it: it is found settled at start, and removed then.
"""

import asyncio

import msgspec

from connectors import monitor, receipts, verification
from connectors.alarms import Finding
from connectors.link import HubRefused, Later, LinkError
from connectors.outbox import Outbox
from connectors.parts import Parts
from connectors.tables import Sent, SentState
from connectors.verification import Entered
from schemas import jsontext, message, signature, trace
from schemas.acceptance import Acceptance, Broken
from schemas.encoding import b64url
from schemas.message import Message
from schemas.refusal import Refused


class Sender:
    """The worker that empties the outbox, the oldest message first.

    What the hub does not take holds up nothing else: it is offered last the next time, when those
    that reply to the same message stay in their order behind it, because the last one counts.

    ``settled`` is set whenever a message got its answer.
    """

    def __init__(self, parts: Parts, outbox: Outbox, settled: asyncio.Event) -> None:
        self._parts = parts
        self._outbox = outbox
        self._settled = settled
        self._pending = {one: about or one for one, about in parts.store.pending().items()}
        self._failed: dict[str, None] = {}

    async def step(self) -> None:
        """Take in what is in the outbox, and offer every message that waits.

        What is offered is in the store: the file may be gone, as from a backup made meanwhile.

        Raises:
            LinkError: the hub is away, does not take anything now, or gave an answer that does not
                hold. What is left waits for the next time.
        """
        for message_id in self._outbox.pending():
            try:
                self._take_in(message_id)
            except FileNotFoundError:
                pass  # somebody took it away again
            except OSError as error:
                sentence = f"The file of {message_id} in the outbox cannot be used: {error}"
                self._parts.found([Finding("outbox-waiting", message_id, sentence)])
            await asyncio.sleep(0)  # many files keep nobody else waiting
        doubt: LinkError | None = None
        for message_id in self._in_order():
            about = self._pending[message_id]
            self._failed.pop(about, None)
            try:
                await self._settle(message_id)
            except Later as later:
                doubt = later  # about this one message: the others need not wait for it
            except LinkError:
                # Perhaps about all of them: only the next time, when others come first, tells.
                self._failed[about] = None
                raise
        if doubt is not None:
            raise doubt

    def _in_order(self) -> list[str]:
        last = {about: number for number, about in enumerate(self._failed, 1)}
        return sorted(self._pending, key=lambda one: (last.get(self._pending[one], 0), one))

    def _take_in(self, message_id: str) -> None:
        envelope = self._outbox.read(message_id)
        sent = self._parts.store.sent(message_id)
        if sent is None or (sent.state is SentState.REFUSED and sent.envelope != envelope):
            self._admit(message_id, envelope)
        elif sent.envelope != envelope:
            sentence = f"The file {message_id} is not what was sent under this id."
            self._set_aside(message_id, f"{sentence} Give it an id of its own.")
        elif sent.state is not SentState.PENDING:
            self._outbox.remove(message_id)

    async def _settle(self, message_id: str) -> None:
        sent = self._parts.store.sent(message_id)
        if sent is not None:
            await self._offer(sent)
        del self._pending[message_id]
        self._settled.set()
        self._outbox.remove(message_id)

    def _admit(self, message_id: str, envelope: bytes) -> None:
        """Take a new file into the store; what is no message of ours is set aside."""
        try:
            read = _read(envelope)
            if read.id != message_id or read.sender != self._parts.code:
                raise Refused("sender-mismatch", f"It is message {read.id} of {read.sender}.")
        except Refused as refusal:
            self._set_aside(message_id, f"The file {message_id} is no message of ours: {refusal}")
            return
        store = self._parts.store
        with store.transaction():
            store.add_sent(read.id, read.kind, read.in_reply_to, envelope, self._parts.now())
        self._pending[message_id] = read.in_reply_to or message_id

    def _set_aside(self, message_id: str, sentence: str) -> None:
        # The alarm first: a crash between the two raises it again, and does not forget it.
        self._parts.found([Finding("outbox-unreadable", message_id, sentence)])
        self._outbox.set_aside(message_id)

    async def _offer(self, sent: Sent) -> None:
        try:
            named = trace.traceparent(sent.id)
            acceptance = await self._parts.link.submit(sent.envelope, named)
        except HubRefused as refused:
            if not refused.final:
                self._note(sent, refused.code, refused.detail)
                raise
            await self._refused(sent, refused)
            return
        try:
            entry = verification.entered(verification.back(acceptance, self._parts.log))
            read = _read(sent.envelope)
            verification.check_own_acceptance(entry, self._parts.code, read, sent.envelope)
        except Broken as broken:
            raise self._doubt(sent, acceptance, str(broken)) from None
        if not await self._parts.follows(entry.backed):
            raise self._doubt(sent, acceptance, "its checkpoint is of another history")
        self._accepted(sent, entry, read)

    def _accepted(self, sent: Sent, entry: Entered, read: Message) -> None:
        store, opened = self._parts.store, entry.backed.opened
        recipients = entry.private.recipients
        settled = msgspec.structs.replace(
            sent,
            state=SentState.ACCEPTED,
            settled=self._parts.now(),
            code=None,
            detail=None,
            raw=jsontext.encode(entry.backed.acceptance),
            index=opened.index,
            entry_hash=opened.entry_hash,
            accepted=opened.entry.time,
        )
        try:
            ours = verification.expand(read, self._parts.follower.directory_before(opened.index))
            findings = monitor.recipients(sent.id, ours, entry.private)
        except Refused as refusal:
            # By our directory it could not be sent at all, so that whoever has it is a ghost.
            sentence = f"The hub accepted {sent.id}, which our directory forbids: {refusal}"
            findings = [Finding("recipient-ghost", sent.id, sentence)]
        with store.transaction():
            store.settle(settled)
            positions = {code: recipient.position for code, recipient in recipients.items()}
            store.expect_receipts(sent.id, positions, opened.entry.time)
            receipts.take_again(store, sent.id)
            raised = store.raise_alarms(findings, self._parts.now())
            for kind in ("acceptance-broken", "outbox-waiting"):
                store.end_alarm(kind, sent.id, self._parts.now())
        self._parts.events.accepted(sent.id, recipients, opened.index)
        self._parts.events.findings(raised)

    async def _refused(self, sent: Sent, refused: HubRefused) -> None:
        """Keep a refusal, with its entry in the log where it was recorded and that holds."""
        settled = msgspec.structs.replace(
            sent,
            state=SentState.REFUSED,
            settled=self._parts.now(),
            code=refused.code,
            detail=refused.detail,
        )
        findings: list[Finding] = []
        if refused.refusal is not None:
            try:
                answered = await self._with_entry(settled, refused.refusal)
                # What was accepted and erased since has another entry, which is not known here.
                if self._parts.store.erased(sent.id) is None:
                    settled = answered
            except Broken as broken:
                evidence = {"refusal": msgspec.to_builtins(refused.refusal)}
                sentence = f"The recorded refusal of {sent.id} does not hold: {broken}"
                findings.append(Finding("refusal-broken", sent.id, sentence, evidence))
        store = self._parts.store
        with store.transaction():
            store.settle(settled)
            receipts.take_again(store, sent.id)
            raised = store.raise_alarms(findings, self._parts.now())
            store.end_alarm("outbox-waiting", sent.id, self._parts.now())
        self._parts.events.refused(sent.id, refused.code, refused.detail)
        self._parts.events.findings(raised)

    async def _with_entry(self, settled: Sent, refusal: Acceptance) -> Sent:
        backed = verification.back(refusal, self._parts.log)
        verification.check_own_refusal(backed, self._parts.code, settled.id, settled.envelope)
        if not await self._parts.follows(backed):
            raise Broken("its checkpoint is of another history")
        return msgspec.structs.replace(
            settled,
            raw=jsontext.encode(refusal),
            index=backed.opened.index,
            entry_hash=backed.opened.entry_hash,
            accepted=backed.opened.entry.time,
        )

    def _doubt(self, sent: Sent, acceptance: Acceptance, reason: str) -> Later:
        """Keep an acceptance that does not hold as evidence; the message stays pending."""
        evidence = {
            "acceptance": msgspec.to_builtins(acceptance),
            "envelope": b64url(sent.envelope),
        }
        sentence = f"The acceptance of {sent.id} does not hold: {reason}."
        self._note(sent, "acceptance-broken", sentence)
        self._parts.found([Finding("acceptance-broken", sent.id, sentence, evidence)])
        return Later(sentence)

    def _note(self, sent: Sent, code: str, detail: str) -> None:
        with self._parts.store.transaction():
            self._parts.store.note_trouble(sent.id, code, detail)


def _read(envelope: bytes) -> Message:
    return message.parse(signature.parse(envelope, signature.MESSAGE_TYPE).payload)
