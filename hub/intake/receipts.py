"""The job of one delivery receipt: it must match what was delivered, item by item. Pure."""

from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from hub.intake.batch import Batch, Delivery, Needs, Outcome, Receipted, Token
from hub.intake.opening import Opening
from hub.ledger.sequence import Draft
from schemas import entry as entries
from schemas import receipt, signature
from schemas.directory import Directory
from schemas.encoding import b64url
from schemas.receipt import Item, Receipt
from schemas.refusal import Refused

# (state of the delivery, status in the receipt) -> state after; what is missing changes nothing
STATES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("waiting", "received"): "received",
        ("waiting", "read"): "read",
        ("waiting", "refused"): "refused",
        ("expired", "received"): "received",
        ("expired", "read"): "read",
        ("expired", "refused"): "refused",
        # What was in a queue or on its way when it was erased cannot be called back.
        ("erased", "received"): "received",
        ("erased", "read"): "read",
        ("erased", "refused"): "refused",
        ("refused", "received"): "received",
        ("refused", "read"): "read",
        ("received", "read"): "read",
    }
)


class OpenedReceipt:
    """A receipt whose signature holds for a key of its receiver."""

    def __init__(self, raw: bytes, directory: Directory) -> None:
        """Read and verify it.

        Raises:
            Refused: with the first thing that is wrong.
        """
        jws, self.receipt = receipt.parse(raw)
        self.raw = raw
        self.kid = jws.signatures[0].kid
        if len(jws.signatures) != 1:
            raise Refused("bad-receipt", "A receipt has one signature, the receiver's.")
        signature.verify(jws, lambda kid: directory.key(kid).public)


class ReceiptSubmission:
    """One receipt of an authenticated participant."""

    def __init__(self, opening: Opening[OpenedReceipt], identity: str, token: Token | None) -> None:
        """Keep what the door found."""
        self.token = token
        self._opening = opening
        self._identity = identity

    @property
    def _opened(self) -> OpenedReceipt:
        if isinstance(self._opening.found, Refused):
            raise self._opening.found
        return self._opening.found

    @property
    def _receipt(self) -> Receipt:
        return self._opened.receipt

    def needs(self, needs: Needs) -> None:
        """The deliveries at the receipt's positions."""
        self._opening.look_again(needs.directory)
        if isinstance(self._opening.found, Refused):
            return
        positions = needs.deliveries.setdefault(self._identity, set())
        positions.update(item[2] for item in self._receipt.items)

    def decide(self, batch: Batch) -> Outcome:
        """Record the receipt; one that says nothing new is answered with the first that said it."""
        batch.use(self.token)
        if self._receipt.receiver != self._identity:
            raise Refused("sender-mismatch", f"The receipt is {self._receipt.receiver}'s.")
        key = batch.directory.valid_key(self._opened.kid, batch.index, batch.time)
        if key.member != self._identity:
            raise Refused("unknown-key", "The receipt is signed with another's key.")
        matched = [self._match(batch, item) for item in self._receipt.items]
        senders = {delivery.sender for delivery in matched}
        if len(senders) != 1:
            raise Refused("bad-receipt", "All messages of one receipt have one sender.")
        if changed := self._changes(matched):
            return self._record(batch, senders.pop(), changed)
        return Outcome(matched[0].receipt_index, new=False)

    def _match(self, batch: Batch, item: Item) -> Delivery:
        message_id, entry_hash, position, _, _ = item
        delivery = batch.facts.deliveries.get((self._identity, position))
        if (
            delivery is None
            or delivery.message_id != message_id
            or b64url(delivery.entry_hash) != entry_hash
        ):
            raise Refused(
                "bad-receipt", f"Position {position} was not delivered as the receipt says."
            )
        return delivery

    def _changes(self, matched: list[Delivery]) -> dict[int, tuple[Delivery, str]]:
        """Position -> the delivery after this receipt, and the reason; only what is new."""
        changed: dict[int, tuple[Delivery, str]] = {}
        for (_, _, position, status, reason), delivery in zip(
            self._receipt.items, matched, strict=True
        ):
            before, _ = changed.get(position, (delivery, ""))
            after = STATES.get((before.state, status))
            if after is not None:
                changed[position] = replace(before, state=after), reason
        return changed

    def _record(
        self, batch: Batch, sender: str, changed: dict[int, tuple[Delivery, str]]
    ) -> Outcome:
        index = batch.append(
            Draft(entries.RECEIPTS_RECORDED, self._identity, private=self._opened.raw)
        )
        batch.write(
            "receipt",
            idx=index,
            digest=entries.digest(self._opened.raw),
            receiver=self._identity,
            sender=sender,
        )
        batch.touched.add(sender)
        for position, (delivery, reason) in changed.items():
            batch.note_receipt(self._identity, position)
            change = Receipted(self._identity, delivery.state, index, batch.time, reason)
            batch.receipted.setdefault(change, []).append(position)
            batch.facts.deliveries[self._identity, position] = replace(
                delivery, receipt_index=index
            )
        return Outcome(index)
