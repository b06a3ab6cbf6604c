"""Delivery receipts both ways: what we owe to others, and what others say of our messages."""

import asyncio
from collections.abc import Container, Sequence
from contextlib import suppress

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connectors import monitor, verification
from connectors.alarms import Finding
from connectors.link import HubRefused, Later, LinkError, ReceiptItem
from connectors.parts import Parts
from connectors.store import Store
from connectors.tables import Answer, Owed, RecordedReceipt, SentState
from connectors.verification import Backed
from schemas import jsontext, receipt, signature
from schemas.acceptance import Broken
from schemas.encoding import b64url
from schemas.receipt import Item, Receipt
from schemas.refusal import REFUSALS

LIMIT = 25
"""Others' receipts a page; one can speak of 1,000 messages."""

_CURSOR = "receipts"

_OF_A_KEY = frozenset({"unknown-key", "revoked-key", "expired-key"})
"""Refusals of whatever is signed with a key that is not, or no longer, ours in the directory."""


class Answers:
    """The worker that signs the receipts we owe, and offers each until it is recorded.

    A receipt is signed once and kept before it is offered. A crash between the two, or a lost
    answer: the same bytes are offered again, and the hub answers as the first time. Positions that
    the answer does not cover are owed again, and another receipt says them; so are those of a
    receipt whose key ended before it was recorded.
    """

    def __init__(self, parts: Parts, private: Ed25519PrivateKey) -> None:
        self._parts = parts
        self._private = private
        self._failed: dict[int, None] = {}
        self._limits: dict[str, int] = {}
        self._kid = signature.thumbprint(private.public_key().public_bytes_raw())

    async def step(self) -> None:
        """Sign what is owed, and offer what is signed; what failed the last time comes last.

        Raises:
            LinkError: the hub is away, does not take it now, or gave an answer that does not hold.
        """
        doubt: LinkError | None = None
        offered = set[int]()
        while numbers := self._next(offered):
            for number in numbers:
                offered.add(number)
                self._failed.pop(number, None)
                try:
                    await self._offer(self._parts.store.answer(number))
                except Later as later:
                    doubt = later  # about this one receipt: the others need not wait for it
                    self._failed[number] = None
                except LinkError:
                    # Perhaps about all of them: only the next time, when others come first, tells.
                    self._failed[number] = None
                    raise
        if doubt is not None:
            raise doubt

    def _next(self, offered: Container[int]) -> list[int]:
        """Sign a receipt for each sender that is owed any; gives what was not offered yet."""
        store, sender = self._parts.store, ""
        while owed := store.owed(receipt.MAX_ITEMS, sender):
            sender = owed[0].sender
            self._sign(owed[: self._limit(sender)])
        last = {number: place for place, number in enumerate(self._failed, 1)}
        left = [number for number in store.pending_answers() if number not in offered]
        return sorted(left, key=lambda number: (last.get(number, 0), number))

    def _sign(self, owed: Sequence[Owed]) -> None:
        items = tuple(_item(one) for one in owed)
        signed = receipt.sign(Receipt(self._parts.code, self._parts.now(), items), self._private)
        store = self._parts.store
        with store.transaction():
            store.add_answer(owed[0].sender, signed, [one.position for one in owed])

    async def _offer(self, answer: Answer) -> None:
        store = self._parts.store
        try:
            acceptance = await self._parts.link.send_receipt(answer.receipt)
        except HubRefused as refused:
            if refused.code in _OF_A_KEY and _kid(answer) != self._kid:
                with store.transaction():
                    store.answer_refused(answer.number, str(refused))
                    store.owe_again(_positions(answer))
                return
            if not refused.final:
                raise
            with store.transaction():
                store.answer_refused(answer.number, str(refused))
                raised = store.raise_alarms([_unrecorded(answer, str(refused))], self._parts.now())
            self._parts.events.findings(raised)
            return
        try:
            backed = verification.back(acceptance, self._parts.log)
            if not await self._parts.follows(backed):
                raise Broken("its checkpoint is of another history")
            known = self._parts.follower.directory
            recorded = verification.check_own_receipt(
                backed, self._parts.code, answer.receipt, known
            )
        except Broken as broken:
            self._parts.found([_unrecorded(answer, str(broken))])
            raise Later(f"The hub's answer to a receipt does not hold: {broken}.") from None
        self._recorded(answer, backed, recorded)

    def _recorded(self, answer: Answer, backed: Backed, recorded: set[int]) -> None:
        store, left = self._parts.store, _positions(answer) - recorded
        with store.transaction():
            raw = jsontext.encode(backed.acceptance)
            store.answer_recorded(answer.number, backed.opened.index, raw)
            store.owe_again(left)
            store.end_alarm("receipt-unrecorded", str(answer.number), self._parts.now())
        # After a restore an answer covers no more than one receipt did before: to sign more at once
        # is in vain, until there is news again.
        grown = min(2 * self._limit(answer.sender), receipt.MAX_ITEMS)
        self._limits[answer.sender] = len(recorded) if left else grown
        self._parts.events.receipt_sent(answer.sender, len(recorded))

    def _limit(self, sender: str) -> int:
        """How many messages of a sender the next receipt is to cover at most."""
        return self._limits.get(sender, receipt.MAX_ITEMS)


class Receipts:
    """The worker that takes others' receipts for our messages.

    ``settled`` is set whenever a message of ours got its answer.
    """

    def __init__(self, parts: Parts, settled: asyncio.Event, wait: float) -> None:
        self._parts = parts
        self._settled = settled
        self._wait = wait
        self._at = -1

    async def step(self) -> bool:
        """Ask for the next receipts, waiting for them, and take them; whether there were any.

        Raises:
            LinkError: the hub is away, or nothing it gave holds.
        """
        after = self._at = self._parts.store.cursor(_CURSOR, -1)
        page = await self._parts.link.receipts(after, LIMIT, self._wait)
        for item in page.receipts:
            await self._take(item)
        if page.receipts and self._at == after == self._parts.store.cursor(_CURSOR, -1):
            raise Later("No receipt that the hub gave is backed by its log.")
        return bool(page.receipts)

    async def _take(self, item: ReceiptItem) -> None:
        try:
            backed = verification.back(item.acceptance, self._parts.log)
            if not await self._parts.follows(backed):
                raise Broken("its checkpoint is of another history")
            read = verification.check_receipt(backed, self._parts.follower.directory)
        except Broken as broken:
            # The cursor stays: it moves with receipts that hold, and this one is asked for again.
            sentence = f"The receipt recorded at {item.position} does not hold: {broken}."
            evidence = {"receipt": msgspec.to_builtins(item.acceptance)}
            self._parts.found([Finding("receipt-broken", str(item.position), sentence, evidence)])
            return
        await self._until_settled(read)
        self._keep(backed, read)

    async def _until_settled(self, read: Receipt) -> None:
        """Wait for the hub's answers to what a receipt is about, but not for long.

        Over a broker a recipient's receipt can overtake them: that is no trouble yet.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait):
                while any(map(self._is_pending, read.items)):
                    self._settled.clear()
                    await self._settled.wait()

    def _is_pending(self, item: Item) -> bool:
        """Whether an item is about a message of ours that has no answer yet."""
        sent = self._parts.store.sent(item[0])
        return sent is not None and sent.state is SentState.PENDING

    def _keep(self, backed: Backed, read: Receipt) -> None:
        """Commit a receipt with all that it says, and the cursor, at once.

        A crash before the commit: it is asked for again. After it: the next one is. What it says
        of a message without an answer is passed over until there is one (``take_again``).
        """
        store, now, index = self._parts.store, self._parts.now(), backed.opened.index
        at = store.cursor(_CURSOR, -1)
        # A message got its answer meanwhile: the receipts are asked for again from before this one.
        if at != self._at or index <= at:
            return
        passed = {item[0] for item in read.items if self._is_pending(item)}
        taken = [item for item in read.items if item[0] not in passed]
        findings: list[Finding] = []
        with store.transaction():
            for message_id in passed:
                store.set_cursor(_about(message_id), min(store.cursor(_about(message_id), at), at))
            for item in taken:
                findings += self._item(item, read, backed)
            raw = jsontext.encode(backed.acceptance)
            store.add_receipt(RecordedReceipt(index, read.receiver, raw))
            store.set_cursor(_CURSOR, index)
            raised = store.raise_alarms(findings, now)
        self._at = index
        for message_id, _, _, status, _ in taken:
            self._parts.events.receipt(message_id, read.receiver, status)
        self._parts.events.findings(raised)

    def _item(self, item: Item, read: Receipt, backed: Backed) -> list[Finding]:
        store, recorded = self._parts.store, backed.opened
        message_id, _, _, status, reason = item
        expected = store.expected_of(message_id, read.receiver)
        sent = store.sent(message_id)
        erased = store.erased(message_id)
        finding = monitor.receipt_item(
            item, read.receiver, sent, expected, erased, backed.acceptance
        )
        if expected is not None and (finding is None or finding.kind == "receipt-refused"):
            settled = msgspec.structs.replace(
                expected,
                state=monitor.next_state(expected.state, status),
                index=recorded.index,
                time=recorded.entry.time,
                reason=reason,
            )
            store.settle_expected(settled)
            store.end_alarm("receipt-overdue", monitor.subject(expected), self._parts.now())
        return [finding] if finding else []


def take_again(store: Store, message_id: str) -> None:
    """Go back to the first receipt that came before a message's answer, where one did.

    Within the transaction that keeps the answer. To read a receipt again changes nothing.
    """
    at = store.cursor(_CURSOR, -1)
    before = store.cursor(_about(message_id), at)
    if before < at:
        store.set_cursor(_CURSOR, before)


def _about(message_id: str) -> str:
    """The cursor up to which the receipts for one message were taken before it had its answer."""
    return f"{_CURSOR} {message_id}"


def _item(owed: Owed) -> Item:
    """What we say of one message. Of a refusal only its title: the details quote the message."""
    code = owed.reason.partition(":")[0]
    reason = f"{code}: {REFUSALS[code].title}" if owed.status == "refused" else ""
    return (owed.id, b64url(owed.entry_hash), owed.position, owed.status, reason)


def _kid(answer: Answer) -> str:
    jws, _ = receipt.parse(answer.receipt)
    return jws.signatures[0].kid


def _positions(answer: Answer) -> set[int]:
    _, signed = receipt.parse(answer.receipt)
    return {position for _, _, position, _, _ in signed.items}


def _unrecorded(answer: Answer, reason: str) -> Finding:
    sentence = f"Our receipt {answer.number} for messages of {answer.sender}: {reason}."
    evidence = {"receipt": b64url(answer.receipt)}
    return Finding("receipt-unrecorded", str(answer.number), sentence, evidence)
