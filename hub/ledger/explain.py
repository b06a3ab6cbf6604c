"""Explaining: why did a participant receive a message, or why not? Pure."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from hub.ledger.queries import DeliveryRow, Event
from schemas import entry as entries
from schemas import jsontext
from schemas.directory import Directory
from schemas.entry import AcceptedPrivate
from schemas.refusal import Refused
from schemas.routing import LEFT_OUT_MARKING, LEFT_OUT_SENDER, LEFT_OUT_SUSPENDED, NAMED

_NAMED = "{member} is a recipient because it was named, at position {position}"
_IN_GROUP = "{member} is a recipient because it is in {group}, at position {position}"
_RECIPIENT = "{member} is a recipient, at position {position}"
_NOT_RECEIVED = "{member} did not receive it"
_UNKNOWN = "{member} did not receive it: there is no such participant"
_NOT_JOINED = "{member} did not receive it: it had not joined at that time"
_NOT_NAMED = "{member} did not receive it: the audience names neither it nor a group of it"
_REFUSED = "{member} did not receive it: the hub refused the message ({code})"
_SENDER = "{member} did not receive it: it is the sender"
_GONE = "the reasons went with the message, which entry {entry} erased"

_LEFT_OUT: Mapping[str, str] = MappingProxyType(
    {
        LEFT_OUT_MARKING: "{member} did not receive it: it is in the group, "
        "but the marking {marking} may not go to its role",
        LEFT_OUT_SUSPENDED: "{member} did not receive it: it was suspended at that time",
        LEFT_OUT_SENDER: _SENDER,
    }
)

_STATUS: Mapping[str, str] = MappingProxyType(
    {
        "waiting": "it is in the inbox, but no receipt has come yet",
        "received": "its signed receipt came at {time}",
        "read": "its signed receipt says that it was read, at {time}",
        "refused": "its connector refused it at {time}: {reason}",
        "expired": "it expired before it was fetched",
        "erased": "it was erased before a receipt came",
    }
)

TEXTS: Final = frozenset(
    {
        *(_NAMED, _IN_GROUP, _RECIPIENT, _NOT_RECEIVED, _UNKNOWN, _NOT_JOINED, _NOT_NAMED),
        *(_REFUSED, _GONE, *_LEFT_OUT.values(), *_STATUS.values()),
    }
)
"""What a clause can say; whoever speaks other languages translates these."""

RECEIVED: Final = frozenset({"received", "read"})
"""States of a copy whose receiver signed that it has it."""


class Clause(msgspec.Struct, frozen=True):
    """A part of a sentence: one of ``TEXTS``, with what stands in its places."""

    text: str
    values: Mapping[str, object] = {}

    def __str__(self) -> str:
        """The clause in English."""
        return self.text.format(**self.values)


class Finding(msgspec.Struct, frozen=True):
    """The answer in parts: by which rule, in which words, and the copy that there is of it.

    ``stands`` is the state of the copy; without one ``left out``, ``the sender``, ``not joined``,
    ``unknown``, ``not in the audience``, ``erased`` or ``refused by the hub``. ``time`` is that of
    the receipt or refusal.
    """

    member: str
    rule: str
    stands: str
    clauses: tuple[Clause, ...]
    copy: DeliveryRow | None = None
    time: str | None = None

    @property
    def received(self) -> bool:
        """Whether a signed receipt says so."""
        return self.copy is not None and self.copy.state in RECEIVED


class Why(msgspec.Struct, frozen=True):
    """The answer: the rule, where it stands now, and one sentence for a person."""

    member: str
    received: bool
    rule: str
    position: int | None
    status: str | None
    time: str | None
    sentence: str


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
    found = find(member, events, deliveries, directory)
    sentence = "; ".join(map(str, found.clauses)) + "."
    position, status = (found.copy.position, found.copy.state) if found.copy else (None, None)
    return Why(member, found.received, found.rule, position, status, found.time, sentence)


def find(
    member: str,
    events: Sequence[Event],
    deliveries: Sequence[DeliveryRow],
    directory: Directory,
) -> Finding:
    """The same as ``why``, in parts that can be said in any language.

    Raises:
        Refused: as in ``why``.
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
        values = {"member": member, "marking": private.marking}
        clause = Clause(_LEFT_OUT[reason], values)
        stands = "the sender" if reason == LEFT_OUT_SENDER else "left out"
        return Finding(member, f"left out: {reason}", stands, (clause,))
    rule, text = _not_addressed(member, accepted, directory)
    return Finding(member, rule, rule, (Clause(text, {"member": member}),))


def _type(event: Event) -> str:
    return entries.decode(event.raw).type


def _not_addressed(member: str, accepted: Event, directory: Directory) -> tuple[str, str]:
    """Why somebody is neither a recipient nor left out: the rule, and its text."""
    if entries.decode(accepted.raw).actor == member:
        return "the sender", _SENDER
    if member not in directory.participants:
        return "unknown", _UNKNOWN
    # Whoever joins has a key from then on; before, no audience reaches them.
    since = (key.since for key in directory.keys.values() if key.member == member)
    if min(since, default=accepted.index) >= accepted.index:
        return "not joined", _NOT_JOINED
    return "not in the audience", _NOT_NAMED


def _erased(member: str, copy: DeliveryRow | None, events: Sequence[Event]) -> Finding:
    """What is left to say: the positions stay, the rules that led to them went with the message."""
    decision = next((e for e in events if _type(e) == entries.MESSAGE_ERASED), None)
    if decision is None:
        raise Refused("not-found", "Its record is gone, and no entry says that it was erased.")
    rule = f"erased by entry {decision.index}"
    gone = Clause(_GONE, {"entry": decision.index})
    if copy is None:
        return Finding(member, rule, "erased", (Clause(_NOT_RECEIVED, {"member": member}), gone))
    recipient = Clause(_RECIPIENT, {"member": member, "position": copy.position})
    clauses = (recipient, _status(copy), gone)
    return Finding(member, rule, copy.state, clauses, copy, copy.receipt_time)


def _never_accepted(member: str, events: Sequence[Event]) -> Finding:
    refused = entries.decode(events[-1].raw)
    code = refused.public.get("code", "")
    clause = Clause(_REFUSED, {"member": member, "code": code})
    rule = f"refused: {code}"
    return Finding(member, rule, "refused by the hub", (clause,), time=refused.time)


def _delivered(member: str, copy: DeliveryRow, private: AcceptedPrivate) -> Finding:
    rule = private.recipients[member].reason
    values: dict[str, object] = {"member": member, "position": copy.position}
    if rule != NAMED:
        values["group"] = rule.removeprefix("group:")
    because = Clause(_NAMED if rule == NAMED else _IN_GROUP, values)
    return Finding(member, rule, copy.state, (because, _status(copy)), copy, copy.receipt_time)


def _status(copy: DeliveryRow) -> Clause:
    given = {"time": copy.receipt_time, "reason": copy.reason}
    text = _STATUS[copy.state]
    return Clause(text, {name: value for name, value in given.items() if f"{{{name}}}" in text})
