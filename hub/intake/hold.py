"""The jobs that hold a message and let it go: while it is held, nothing erases it. Pure.

A court or an inquiry may need what a rule of retention would take away. Whether a message is held
follows from the log alone: the newest entry about it of these two types says so.
"""

import msgspec

from hub.intake.batch import Batch, Needs, Outcome
from hub.intake.erasure import Reason
from hub.ledger.sequence import Draft
from schemas import entry as entries
from schemas import jsontext
from schemas.refusal import Refused


class HoldPrivate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The private part of ``message.held`` and ``message.released``."""

    reason: Reason


class Hold:
    """One message is held, or released."""

    token = None

    def __init__(self, message_id: str, by: str, reason: str, *, release: bool = False) -> None:
        """Which message, whose decision, and why; ``release`` ends it."""
        self._message_id = message_id
        self._by = by
        self._reason = reason
        self._release = release

    def needs(self, needs: Needs) -> None:
        """The message, and whether it is held."""
        needs.messages.add(self._message_id)
        needs.holds.add(self._message_id)

    def decide(self, batch: Batch) -> Outcome:
        """Record the decision; the entry is all there is of it.

        Raises:
            Refused: ``not-found``, or ``conflict`` where there is nothing to hold or to release.
        """
        self._check(batch)
        kind = entries.MESSAGE_RELEASED if self._release else entries.MESSAGE_HELD
        private = jsontext.encode(HoldPrivate(self._reason))
        index = batch.append(Draft(kind, self._by, self._message_id, private=private))
        if self._release:
            del batch.facts.holds[self._message_id]
        else:
            batch.facts.holds[self._message_id] = index
        return Outcome(index)

    def _check(self, batch: Batch) -> None:
        known = batch.facts.messages.get(self._message_id)
        held = batch.facts.holds.get(self._message_id)
        if known is None:
            raise Refused("not-found", "No message with this id was ever accepted.")
        if self._release and held is None:
            raise Refused("conflict", "Nothing holds this message.")
        if not self._release and held is not None:
            raise Refused("conflict", f"Entry {held} holds this message already.")
        if not self._release and known.payload_digest is None:
            raise Refused("conflict", "This message was erased: there is nothing left to hold.")
