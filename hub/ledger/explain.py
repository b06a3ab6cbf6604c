"""Explaining: why did a participant receive a message, or why not? Pure."""

from collections.abc import Sequence

import msgspec

from hub.ledger.queries import DeliveryRow, Event
from schemas import entry as entries
from schemas import jsontext
from schemas.directory import Directory
from schemas.entry import AcceptedPrivate
from schemas.refusal import Refused
from schemas.routing import LEFT_OUT_MARKING, LEFT_OUT_SENDER, LEFT_OUT_SUSPENDED, NAMED


class Why(msgspec.Struct, frozen=True):
    """The answer: the rule, where it stands now, and one sentence for a person."""

    member: str
    received: bool
    rule: str
    position: int | None
    status: str | None
    time: str | None
    sentence: str


_LEFT_OUT = {
    LEFT_OUT_MARKING: "the marking {marking} may not go to its role",
    LEFT_OUT_SUSPENDED: "it was suspended at that time",
    LEFT_OUT_SENDER: "it is the sender",
}

_STATUS = {
    "waiting": "it is in the inbox, but no receipt has come yet",
    "received": "its signed receipt came at {time}",
    "read": "its signed receipt says that it was read, at {time}",
    "refused": "its connector refused it at {time}: {reason}",
    "expired": "it expired before it was fetched",
    "erased": "it was erased before a receipt came",
}


_RECEIVED = frozenset({"received", "read"})


def why(
    member: str,
    events: Sequence[Event],
    deliveries: Sequence[DeliveryRow],
    directory: Directory,
) -> Why:
    """Explain one message for one participant, from its entries and deliveries.

    Raises:
        Refused: ``not-found`` when the log knows nothing of the message.
    """
    if not events:
        raise Refused("not-found", "The log has no message with this id.")
    accepted = next((e for e in events if _type(e) == entries.MESSAGE_ACCEPTED), None)
    if accepted is None:
        return _never_accepted(member, events)
    copy = next((row for row in deliveries if row.recipient == member), None)
    if accepted.private is None:
        return _erased(member, copy, events)
    private = jsontext.decode(accepted.private, AcceptedPrivate)
    if copy is not None:
        return _delivered(member, copy, private)
    reason = private.left_out.get(member)
    if reason is not None:
        because = _LEFT_OUT[reason].format(marking=private.marking)
        sentence = f"{member} did not receive it: it is in the group, but {because}."
        return Why(member, False, f"left out: {reason}", None, None, None, sentence)
    if member not in directory.participants:
        sentence = f"{member} did not receive it: there is no such participant."
        return Why(member, False, "unknown", None, None, None, sentence)
    sentence = f"{member} did not receive it: the audience names neither it nor a group of it."
    return Why(member, False, "not in the audience", None, None, None, sentence)


def _type(event: Event) -> str:
    return entries.decode(event.raw).type


def _erased(member: str, copy: DeliveryRow | None, events: Sequence[Event]) -> Why:
    """What is left to say: the positions stay, the rules that led to them went with the message."""
    decision = next((e for e in events if _type(e) == entries.MESSAGE_ERASED), None)
    if decision is None:
        raise Refused("not-found", "Its record is gone, and no entry says that it was erased.")
    rule = f"erased by entry {decision.index}"
    gone = f"the reasons went with the message, which entry {decision.index} erased"
    if copy is None:
        sentence = f"{member} did not receive it; {gone}."
        return Why(member, False, rule, None, None, None, sentence)
    sentence = f"{member} is a recipient, at position {copy.position}; {_status(copy)}; {gone}."
    received = copy.state in _RECEIVED
    return Why(member, received, rule, copy.position, copy.state, copy.receipt_time, sentence)


def _never_accepted(member: str, events: Sequence[Event]) -> Why:
    refused = entries.decode(events[-1].raw)
    code = refused.public.get("code", "")
    sentence = f"{member} did not receive it: the hub refused the message ({code})."
    return Why(member, False, f"refused: {code}", None, None, refused.time, sentence)


def _delivered(member: str, copy: DeliveryRow, private: AcceptedPrivate) -> Why:
    rule = private.recipients[member].reason
    by = "it was named" if rule == NAMED else f"it is in {rule.removeprefix('group:')}"
    sentence = (
        f"{member} is a recipient because {by}, at position {copy.position}; {_status(copy)}."
    )
    received = copy.state in _RECEIVED
    return Why(member, received, rule, copy.position, copy.state, copy.receipt_time, sentence)


def _status(copy: DeliveryRow) -> str:
    return _STATUS[copy.state].format(time=copy.receipt_time, reason=copy.reason)
