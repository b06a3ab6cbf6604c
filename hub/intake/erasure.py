"""The job that erases a message by a recorded decision: its content goes, its proofs stay. Pure.

What goes and what stays is told in docs/erasure.md.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from hub.intake.batch import Batch, Needs, Outcome
from hub.ledger.sequence import Draft
from schemas import entry as entries
from schemas import jsontext
from schemas.refusal import Refused

HAD = frozenset({"received", "read", "refused"})
"""States of a delivery whose receiver has signed that the copy was there."""

Reason = Annotated[str, Meta(min_length=10, max_length=2000)]


class ErasedPrivate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The private part of ``message.erased``.

    ``received`` have signed that they have the message; ``waiting`` have not, and may have it all
    the same: what is in a queue or on its way cannot be called back.
    """

    reason: Reason
    received: tuple[str, ...]
    waiting: tuple[str, ...]


class Erase:
    """One message is erased."""

    token = None

    def __init__(self, message_id: str, by: str, reason: str) -> None:
        """Which message, whose decision, and why; the reason must not repeat what is erased."""
        self._message_id = message_id
        self._by = by
        self._reason = reason

    def needs(self, needs: Needs) -> None:
        """The message, and what became of its copies."""
        needs.messages.add(self._message_id)
        needs.copies.add(self._message_id)
        needs.holds.add(self._message_id)

    def decide(self, batch: Batch) -> Outcome:
        """Record the decision and erase, in one commit.

        Raises:
            Refused: ``not-found``, or ``conflict`` where that was decided before, or it is held.
        """
        message_id = self._message_id
        known = batch.facts.messages.get(message_id)
        copies = batch.facts.copies.get(message_id)
        if known is None or copies is None:  # without copies: it is being recorded just now
            raise Refused("not-found", "No message with this id was ever accepted.")
        if known.erased is not None:
            raise Refused("conflict", f"Entry {known.erased} erased this message already.")
        held = batch.facts.holds.get(message_id)
        if held is not None and known.payload_digest is not None:  # what is gone, no hold keeps
            detail = f"Entry {held} holds this message against erasing; release it first."
            raise Refused("conflict", detail)
        waiting = tuple(code for code, state in copies.items() if state == "waiting")
        private = ErasedPrivate(
            self._reason, tuple(code for code, state in copies.items() if state in HAD), waiting
        )
        index = batch.append(
            Draft(entries.MESSAGE_ERASED, self._by, message_id, private=jsontext.encode(private))
        )
        batch.write("erase", erased_id=message_id, decision=index)
        batch.facts.messages[message_id] = msgspec.structs.replace(
            known, payload_digest=None, erased=index
        )
        batch.facts.notices.pop(message_id, None)
        self._tell_waiting(batch, waiting)
        return Outcome(index, value=msgspec.to_builtins(private))

    def _tell_waiting(self, batch: Batch, waiting: tuple[str, ...]) -> None:
        if not waiting:
            return
        recipients = jsontext.encode({"recipients": waiting})
        batch.append(
            Draft(entries.DELIVERY_ERASED, entries.HUB, self._message_id, private=recipients)
        )
        batch.write("copies_erased", its_id=self._message_id)
        batch.touched.update(waiting)
