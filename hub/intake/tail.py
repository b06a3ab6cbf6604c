"""What follows from a part of the missing tail that somebody brought back: rows as they were. Pure.

Nothing is decided anew. The entry was recorded once, and what the part says is what it commits to.
"""

from hub.intake.admission import Opened
from hub.intake.batch import Batch, Needs, Receipted
from hub.intake.receipts import STATES
from hub.intake.submission import write_message
from schemas import entry as entries
from schemas import jsontext, message, receipt, signature
from schemas.encoding import unb64url
from schemas.entry import AcceptedPrivate, Entry
from schemas.kinds.joint_action_response import JointActionResponse
from schemas.receipt import Receipt
from schemas.refusal import Refused
from schemas.tail import Part


class Found:
    """A part that is what its entry commits to."""

    def __init__(self, part: Part, raw: bytes, erased: int | None, listed: frozenset[str]) -> None:
        """Check it against the entry's bytes.

        Args:
            part: what was brought.
            raw: the entry.
            erased: the entry that erased its message, if one did.
            listed: messages that were erased, though perhaps no entry says so any more.

        Raises:
            Refused: ``bad-request``: it is another private part, or another envelope.
        """
        self.index = part.index
        self._erased = erased
        self._listed = listed
        self.entry: Entry = entries.decode(raw)
        try:
            self.private, self.salt = unb64url(part.private), unb64url(part.salt)
            self.envelope = None if part.envelope is None else unb64url(part.envelope)
            committed = entries.commitment(self.salt, self.private) == self.entry.private
        except ValueError as error:
            raise Refused("bad-request", f"Entry {part.index}: {error}.") from None
        if not committed:
            raise Refused("bad-request", f"Entry {part.index} commits to another private part.")
        self._receipt: Receipt | None = None
        if self.entry.type == entries.RECEIPTS_RECORDED:
            self._receipt = receipt.parse(self.private)[1]

    def needs(self, needs: Needs) -> None:
        """For a receipt, the deliveries that it is about."""
        if self._receipt is not None:
            positions = needs.deliveries.setdefault(self._receipt.receiver, set())
            positions.update(item[2] for item in self._receipt.items)

    def rebuild(self, batch: Batch) -> bool:
        """Add the rows; False where a message comes first that is not there yet.

        Raises:
            Refused: ``bad-request``: the envelope is missing or another one.
        """
        if self._receipt is not None:
            return self._rebuild_receipt(batch, self._receipt)
        if self.entry.type != entries.MESSAGE_ACCEPTED:
            return False
        private = jsontext.decode(self.private, AcceptedPrivate)
        if self.envelope is None or entries.digest(self.envelope) != private.envelope:
            raise Refused("bad-request", f"Entry {self.index} is about another envelope.")
        self._rebuild_message(batch, private, self.envelope)
        message_id = self.entry.subject
        if self._erased is not None and message_id is not None:
            write_erasure(batch, message_id, self._erased)
        elif message_id in self._listed:
            # The upkeep records a decision once something is signed.
            batch.write("erase", erased_id=message_id, decision=None)
        return True

    def _write_private(self, batch: Batch) -> None:
        batch.write("private", idx=self.index, salt=self.salt, private=self.private)

    def _rebuild_message(self, batch: Batch, private: AcceptedPrivate, envelope: bytes) -> None:
        jws = signature.parse(envelope, signature.MESSAGE_TYPE)
        opened = Opened(envelope, jws, message.parse(jws.payload))
        sent = opened.message
        self._write_private(batch)
        positions = {code: to.position for code, to in private.recipients.items()}
        write_message(batch, self.index, self.entry.time, opened, positions)
        content = message.content(sent)
        if isinstance(content, JointActionResponse):
            batch.write(
                "answer",
                idx=self.index,
                notice=content.notice,
                message_id=sent.id,
                time=self.entry.time,
                member=sent.sender,
                answer=content.answer,
            )

    def _rebuild_receipt(self, batch: Batch, read: Receipt) -> bool:
        found = [batch.facts.deliveries.get((read.receiver, item[2])) for item in read.items]
        if None in found:
            return False
        deliveries = [each for each in found if each is not None]
        self._write_private(batch)
        batch.write(
            "receipt",
            idx=self.index,
            digest=entries.digest(self.private),
            receiver=read.receiver,
            sender=deliveries[0].sender,
        )
        for (_, _, position, status, reason), delivery in zip(read.items, deliveries, strict=True):
            after = STATES.get((delivery.state, status))
            if after is not None:
                change = Receipted(read.receiver, after, self.index, self.entry.time, reason)
                batch.receipted.setdefault(change, []).append(position)
        return True


def write_erasure(batch: Batch, message_id: str, decision: int) -> None:
    """Take the content of a message out, or let it not come in; its positions and receipts stay."""
    batch.write("erase", erased_id=message_id, decision=decision)
    batch.write("copies_erased", its_id=message_id)
