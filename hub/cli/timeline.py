"""Log entries put into words: one line for each, and the whole story of a message."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import msgspec

from hub.cli.outcome import NotSo
from hub.cli.output import print_table, say
from schemas import entry as entries
from schemas import jsontext
from schemas.acceptance import Acceptance, Broken, open_acceptance, open_erased
from schemas.encoding import unb64url
from schemas.entry import AcceptedPrivate, Entry
from schemas.note import Vkey
from schemas.receipt import Item, Receipt
from schemas.refusal import Refused
from schemas.signature import JwsEnvelope

_SHOWN = 60
"""Characters of one word that are still shown; keys and statements are longer."""


class Event(msgspec.Struct, frozen=True):
    """A log entry with its private part, where that still exists and may be seen."""

    index: int
    entry: Entry
    private: dict[str, object] | None = None


class Copy(msgspec.Struct, frozen=True):
    """What the hub knows of one recipient's copy."""

    recipient: str
    state: str
    position: int | None = None


class Timeline(msgspec.Struct, frozen=True):
    """The answer of ``GET /v1/audit/messages/{id}``."""

    events: list[Event]
    deliveries: list[Copy] = []
    acceptance: Acceptance | None = None


def what(event: Event) -> str:
    """What an entry says beyond its type, actor and subject."""
    try:
        special = _IN_WORDS.get(event.entry.type)
        if special is not None and event.private is not None:
            return special(event.private)
    except (Refused, ValueError):
        pass  # a private part of another form is shown as whatever it is
    shown = {**event.entry.public, **(event.private or {})}
    return ", ".join(f"{name}: {_plain(value)}" for name, value in shown.items() if _plain(value))


def _plain(value: object) -> str | None:
    if not isinstance(value, str | int | list):
        return None
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if max(map(len, text.split()), default=0) <= _SHOWN else None


def _accepted(private: Mapping[str, object]) -> str:
    said = msgspec.convert(private, AcceptedPrivate)
    without = f", without {' '.join(said.left_out)}" if said.left_out else ""
    return f"{said.kind}, {said.marking}, to {' '.join(said.recipients) or 'nobody'}{without}"


def _recorded(private: Mapping[str, object]) -> str:
    items = _receipt(private).items
    counts = {status: sum(item[3] == status for item in items) for _, _, _, status, _ in items}
    return ", ".join(f"{count} {status}" for status, count in counts.items())


_IN_WORDS: Mapping[str, Callable[[Mapping[str, object]], str]] = MappingProxyType(
    {entries.MESSAGE_ACCEPTED: _accepted, entries.RECEIPTS_RECORDED: _recorded}
)


def _receipt(private: Mapping[str, object]) -> Receipt:
    """The receipt in the private part of ``receipts.recorded``, as the log has it."""
    payload = unb64url(msgspec.convert(private, JwsEnvelope).payload)
    return jsontext.decode(payload, Receipt)


def print_timeline(message_id: str, timeline: Timeline, log: Vkey | None) -> None:
    """Tell what became of a message.

    Args:
        message_id: the message.
        timeline: what the hub answered.
        log: the log's key, with which the acceptance is verified; None: it cannot be.

    Raises:
        NotSo: the acceptance does not hold, or is that of something else.
    """
    say(f"Message {message_id}")
    if timeline.acceptance is not None:
        _print_acceptance(message_id, timeline.acceptance, timeline, log)
    say("")
    rows = (
        (e.entry.time, e.index, e.entry.type, e.entry.actor, _about(e, message_id))
        for e in timeline.events
    )
    print_table(("time", "entry", "what", "who", "details"), rows)


def _print_acceptance(
    message_id: str, acceptance: Acceptance, timeline: Timeline, log: Vkey | None
) -> None:
    """Who sent what to whom: told from the acceptance, because that alone can be verified."""
    if acceptance.private is None:
        _print_erased(message_id, acceptance, timeline, log)
        return
    proof = _proof(acceptance, log)
    try:
        entry = entries.decode(unb64url(acceptance.entry))
        said = jsontext.decode(unb64url(acceptance.private), AcceptedPrivate)
    except (Refused, ValueError) as error:
        raise NotSo(f"The acceptance cannot be read: {error}") from None
    if (entry.type, entry.subject) != (entries.MESSAGE_ACCEPTED, message_id):
        raise NotSo("The hub shows the acceptance of something else.")
    say(f"{said.kind}, {said.marking}" + (f", thread {said.thread}" if said.thread else ""))
    say(f"accepted from {entry.actor} at {entry.time}. {proof}")
    say("")
    receipts = dict(_receipts(timeline.events, message_id))
    states = {copy.recipient: copy.state for copy in timeline.deliveries}
    rows: list[tuple[object, ...]] = [
        (code, to.position, to.reason, *_status(receipts.get(code), states.get(code)))
        for code, to in said.recipients.items()
    ]
    rows += [(code, None, reason, "left out", "") for code, reason in said.left_out.items()]
    print_table(("to", "position", "because", "status", "remark"), rows)


def _print_erased(
    message_id: str, acceptance: Acceptance, timeline: Timeline, log: Vkey | None
) -> None:
    """Of an erased message: that it was accepted, and where its copies went, as the hub has it."""
    proof = _proof(acceptance, log)
    try:
        entry = entries.decode(unb64url(acceptance.entry))
    except (Refused, ValueError) as error:
        raise NotSo(f"The acceptance cannot be read: {error}") from None
    if (entry.type, entry.subject) != (entries.MESSAGE_ACCEPTED, message_id):
        raise NotSo("The hub shows the acceptance of something else.")
    erasure = next((e for e in timeline.events if e.entry.type == entries.MESSAGE_ERASED), None)
    if erasure is None:
        raise NotSo("The private part of the acceptance is gone, and no entry says that it may be.")
    say(f"accepted from {entry.actor} at {entry.time}. {proof}")
    say(f"erased by {erasure.entry.actor} at {erasure.entry.time}, entry {erasure.index}.")
    say("")
    receipts = dict(_receipts(timeline.events, message_id))
    rows = (
        (copy.recipient, copy.position, *_status(receipts.get(copy.recipient), copy.state))
        for copy in timeline.deliveries
    )
    print_table(("to", "position", "status", "remark"), rows)


def _status(item: Item | None, state: str | None) -> tuple[str, str]:
    """What the receiver signed, or else what the hub says, which nobody signed but the hub."""
    return (state or "unknown", "no receipt") if item is None else (item[3], item[4])


def _receipts(events: list[Event], message_id: str) -> Iterator[tuple[str, Item]]:
    """Each receiver's items about the message, in the order of the log."""
    for event in events:
        item = _item(event, message_id)
        if item is not None:
            yield event.entry.actor, item


def _item(event: Event, message_id: str) -> Item | None:
    if event.entry.type != entries.RECEIPTS_RECORDED or event.private is None:
        return None
    try:
        items = _receipt(event.private).items
    except (Refused, ValueError):
        return None
    return next((item for item in items if item[0] == message_id), None)


def _about(event: Event, message_id: str) -> str:
    item = _item(event, message_id)
    if item is None:
        return what(event)
    _, _, position, status, reason = item
    return f"{status}, position {position}" + (f": {reason}" if reason else "")


def _proof(acceptance: Acceptance, log: Vkey | None) -> str:
    if log is None:
        return "The proof of inclusion was not checked: give the log's key with --vkey."
    try:
        kept = acceptance.private is not None
        opened = open_acceptance(acceptance, log) if kept else open_erased(acceptance, log)
    except Broken as broken:
        raise NotSo(f"The acceptance does not hold: {broken}") from None
    return (
        f"The acceptance holds: it is entry {opened.index} "
        f"of {opened.checkpoint.size} in {opened.checkpoint.origin}."
    )
