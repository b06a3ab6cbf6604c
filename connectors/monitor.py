"""Keeping the hub honest: what it says against what we know. Pure; every function gives findings.

Nothing here reads the store or the clock: the callers hand in both sides of each comparison.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal, TypeAlias

import msgspec

from connectors.alarms import Finding
from connectors.tables import Cosigned, Erased, Expected, Followed, Received, Sent, SentState
from schemas import entry as entries
from schemas import jsontext, receipt
from schemas.acceptance import Acceptance
from schemas.checkpoint import Checkpoint
from schemas.directory import Directory, DirectoryError
from schemas.encoding import b64url, format_time
from schemas.entry import AcceptedPrivate, Entry
from schemas.jsontext import Json
from schemas.receipt import Status
from schemas.refusal import Refused
from schemas.routing import Routing

State: TypeAlias = Literal["waiting"] | Status
"""Where a message of ours stands with one recipient."""

# --- The log ---


def forked(ours: Followed | None, theirs: Checkpoint, note: bytes) -> Finding:
    """The hub signed a checkpoint that is not of the history we follow."""
    size = ours.size if ours else 0
    return Finding(
        "log-forked",
        str(size),
        f"The signed log of {theirs.size} entries does not fit the {size} entries followed here.",
        {"ours": b64url(ours.note) if ours else None, "theirs": b64url(note)},
    )


def shrank(ours: Followed, theirs: Checkpoint, note: bytes) -> Finding | None:
    """The hub gives an older checkpoint as its newest than it gave before."""
    if theirs.size >= ours.served:
        return None
    return Finding(
        "log-shrank",
        str(ours.served),
        f"The hub gave {ours.served} entries as its newest log before, and {theirs.size} after.",
        {"ours": b64url(ours.note), "theirs": b64url(note)},
    )


def behind(cosigned: Cosigned, detail: str) -> Finding:
    """The hub says that it has fewer entries than it signed and we cosigned."""
    sentence = f"The hub has not the {cosigned.size} entries that we cosigned: {detail}"
    return Finding("log-shrank", f"cosigned {cosigned.size}", sentence, _cosigned(cosigned))


def contradicts(cosigned: Cosigned, theirs: Checkpoint, note: bytes) -> Finding:
    """The hub asks us to cosign another history than we cosigned."""
    return Finding(
        "log-forked",
        f"cosigned {cosigned.size}",
        f"The log of {theirs.size} entries that the hub wants cosigned does not extend the "
        f"{cosigned.size} entries that we cosigned.",
        {**_cosigned(cosigned), "theirs": b64url(note)},
    )


def _cosigned(cosigned: Cosigned) -> dict[str, Json]:
    return {"ours": b64url(cosigned.note)}


def withheld(size: int, theirs: Checkpoint, note: bytes, reason: str) -> Finding:
    """The hub signed a log whose entries it does not give."""
    return Finding(
        "log-withheld",
        str(size),
        f"The hub signed {theirs.size} entries but does not show those after {size}: {reason}",
        {"theirs": b64url(note)},
    )


# --- The directory ---


class Own(msgspec.Struct, frozen=True):
    """What an institution knows of itself: all that it ever asked for.

    ``statements`` are the envelopes of its key statements and ``invitations`` the digests of those
    it used, both as they stand in the log. ``knows`` tells whether a message id is one of its own.
    """

    code: str
    kid: str
    statements: frozenset[str]
    invitations: frozenset[str]
    knows: Callable[[str], bool]


def about_ourselves(entry: Entry, code: str) -> bool:
    """Whether an entry speaks of what we did or are."""
    if entry.type in entries.DIRECTORY_TYPES:
        return entry.subject == code
    return entry.actor == code and entry.type in (
        entries.MESSAGE_ACCEPTED,
        entries.MESSAGE_REFUSED,
    )


# entry type about our own code -> (member of its public part, what of ours it must be, finding)
_ASKED: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        entries.MEMBER_HELD: ("invitation", "invitations", "own-standing"),
        entries.MEMBER_JOINED: ("statement", "statements", "own-keys"),
        entries.KEY_REPLACED: ("statement", "statements", "own-keys"),
        entries.KEY_ROTATED: ("statement", "statements", "own-keys"),
        entries.KEY_REVOKED: ("statement", "statements", "own-standing"),
        entries.MEMBER_SUSPENDED: ("statement", "statements", "own-standing"),
        entries.MEMBER_RESUMED: ("statement", "statements", "own-standing"),
    }
)


def unasked(own: Own, index: int, entry: Entry, directory: Directory) -> Finding | None:
    """An entry about ourselves that we did not ask for.

    An invitation needs nobody's asking: it can come only while we have no keys. A group of our name
    is nothing that anybody could ask for: ``fold`` does not believe it.
    """
    if entry.type not in entries.DIRECTORY_TYPES:
        return _unknown_message(own, index, entry, directory)
    if entry.type not in _ASKED:
        return None
    member, asked, kind = _ASKED[entry.type]
    value = entries.public_member(entry, member)
    if isinstance(value, str) and value in getattr(own, asked):
        return None
    sentence = f"Entry {index} of {entry.time} is {entry.type} about us; we did not ask for it."
    return Finding(kind, str(index), sentence, _as_evidence(entry))


def _unknown_message(own: Own, index: int, entry: Entry, directory: Directory) -> Finding | None:
    if entry.subject is None or own.knows(entry.subject):
        return None
    # What an earlier connector of ours sent, whose store and keys are lost, is one alarm together.
    subject = entry.subject if own.kid in directory.keys else "before joining"
    sentence = f"Entry {index} of {entry.time} is {entry.type} of {entry.subject}, not sent here."
    return Finding("own-message", subject, sentence, _as_evidence(entry))


def fold(directory: Directory, index: int, entry: Entry) -> tuple[Directory, Finding | None]:
    """The directory after an entry; an impossible change is not believed and gives a finding."""
    try:
        return directory.apply(index, entry), None
    except DirectoryError as error:
        sentence = f"The change is not believed: {error}."
        return directory, Finding("directory-impossible", str(index), sentence, _as_evidence(entry))


_CHANGES: Mapping[str, str] = MappingProxyType(
    {
        entries.MEMBER_INVITED: "{code} was invited as {role}",
        entries.MEMBER_JOINED: "{code} joined and registered its keys",
        entries.MEMBER_HELD: "the keys of {code} ended, as lost or stolen",
        entries.KEY_REPLACED: "{code} registered new keys in place of lost or stolen ones",
        entries.KEY_ROTATED: "{code} changed its keys",
        entries.KEY_REVOKED: "a key of {code} was revoked ({reason})",
        entries.MEMBER_SUSPENDED: "{code} was suspended",
        entries.MEMBER_RESUMED: "{code} is no longer suspended",
        entries.GROUP_CHANGED: "the group {code} consists of: {members}",
    }
)


def changed(index: int, entry: Entry) -> Finding:
    """The notice that the directory changed."""
    members = entries.public_member(entry, "members")
    change = _CHANGES[entry.type].format(
        code=entry.subject,
        role=entries.public_member(entry, "role"),
        reason=entries.public_member(entry, "reason"),
        members=", ".join(map(str, members)) if isinstance(members, list) else "",
    )
    sentence = f"Entry {index} of {entry.time}: {change}."
    return Finding("directory-changed", str(index), sentence, _as_evidence(entry))


def _as_evidence(entry: Entry) -> dict[str, Json]:
    return {"entry": b64url(entries.encode(entry))}


def own_erased(index: int, entry: Entry, waiting: Sequence[str]) -> Finding:
    """The hub erased a message of ours; to whom it may not have come is said."""
    unsure = f"; no receipt had come from {', '.join(waiting)}" if waiting else ""
    sentence = f"Entry {index} of {entry.time}: the hub erased our message {entry.subject}{unsure}."
    return Finding("sent-erased", str(entry.subject), sentence, _as_evidence(entry))


def copy_erased(index: int, entry: Entry) -> Finding:
    """The hub erased a message of which we have a copy."""
    sentence = f"Entry {index} of {entry.time}: the hub erased {entry.subject}; our copy is here."
    return Finding("received-erased", str(entry.subject), sentence, _as_evidence(entry))


# --- Recipients ---


def recipients(message_id: str, ours: Routing, theirs: AcceptedPrivate) -> list[Finding]:
    """The recipients in an acceptance against our own expansion of the audience."""
    reasons = {code: recipient.reason for code, recipient in theirs.recipients.items()}
    missing = sorted(ours.recipients.keys() - reasons.keys())
    ghosts = sorted(reasons.keys() - ours.recipients.keys())
    findings = [
        _recipient("recipient-missing", message_id, code, "should receive it and does not")
        for code in missing
    ]
    findings += [
        _recipient("recipient-ghost", message_id, code, "receives it and should not")
        for code in ghosts
    ]
    told = {**reasons, **theirs.left_out}
    findings += [
        _recipient("routing-differs", message_id, code, f"has the reason {told.get(code)!r} there")
        for code, reason in sorted({**ours.recipients, **ours.left_out}.items())
        if told.get(code) != reason and code not in (*missing, *ghosts)
    ]
    return findings


def _recipient(kind: str, message_id: str, code: str, what: str) -> Finding:
    return Finding(kind, f"{message_id} {code}", f"{code} {what}: message {message_id}.")


# --- Positions ---


def gap(first: int, last: int) -> Finding:
    """Positions from ``first`` on were passed over; the hub says that there are ``last``."""
    return Finding(
        "position-gap", str(first), f"Position {first} of {last} was not delivered to our inbox."
    )


def position_differs(told: int, row: Received) -> Finding:
    """The hub delivered a message under another position than its log has."""
    sentence = f"{row.id} came as position {told}; the log has position {row.position}."
    return Finding("position-differs", f"{row.id} {told}", sentence, _row(row))


def position_repeated(there: Received, row: Received) -> Finding:
    """The log has two messages at one position of our inbox."""
    sentence = f"Position {row.position} is that of {there.id} and of {row.id}."
    return Finding("position-repeated", f"{row.position} {row.id}", sentence, _row(row))


def message_repeated(known: Received, row: Received) -> Finding:
    """The log has one message of one sender twice."""
    sentence = f"{row.id} has the positions {known.position} and {row.position}."
    return Finding("message-repeated", f"{row.id} {row.position}", sentence)


def unbacked(position: int, reason: str, evidence: Mapping[str, Json]) -> Finding:
    """The hub delivered what the log does not back."""
    sentence = f"What was delivered as position {position} does not hold: {reason}."
    return Finding("delivery-broken", str(position), sentence, evidence)


_UNREADABLE = frozenset(
    {"unknown-kind", "unsupported-version", "sealed-unsupported", "attachments-unsupported"}
)


def invalid(row: Received, refusal: Refused, evidence: Mapping[str, Json]) -> Finding:
    """The hub let through a message that it must not accept, or that only we cannot read."""
    unreadable = refusal.code in _UNREADABLE
    kind = "message-unreadable" if unreadable else "message-invalid"
    sentence = f"{row.id} of {row.sender} is not valid: {refusal}"
    return Finding(kind, str(row.id), sentence, evidence)


def _row(row: Received) -> dict[str, Json]:
    return {"item": jsontext.parse(row.raw)}


# --- Receipts ---


def receipt_item(
    item: receipt.Item,
    receiver: str,
    sent: Sent | None,
    expected: Expected | None,
    erased: Erased | None,
    recorded: Acceptance,
) -> Finding | None:
    """What another's receipt says of one message against what we know of it.

    Of a message without an answer, and of one that was erased before its answer came, that is
    nothing.
    """
    message_id, entry_hash, position, status, reason = item
    about = f"{message_id} {receiver}"
    if sent is None:
        sentence = f"{receiver} has a message {message_id} of ours that we never sent."
        return Finding("receipt-differs", about, sentence, _acceptance(recorded))
    if sent.state is SentState.PENDING or (erased and sent.state is SentState.REFUSED):
        return None
    evidence = {**_acceptance(recorded, "receipt"), **_acceptance(sent.acceptance)}
    if sent.entry_hash is None or b64url(sent.entry_hash) != entry_hash:
        sentence = f"{receiver} has {message_id} under another log entry than we have."
        return Finding("receipt-differs", about, sentence, evidence)
    if expected is None:
        sentence = f"{receiver} has {message_id} and is no recipient of it."
        return Finding("recipient-ghost", about, sentence, evidence)
    if expected.position != position:
        sentence = (
            f"{receiver} has {message_id} as {position}, our acceptance has {expected.position}."
        )
        return Finding("receipt-differs", about, sentence, evidence)
    sentence = f"{receiver} could not take {message_id}: {reason or 'no reason given'}."
    return Finding("receipt-refused", about, sentence, evidence) if status == "refused" else None


def next_state(state: State, status: Status) -> State:
    """Where a message stands with a recipient after one more receipt; what is read stays read."""
    return state if (state, status) == ("read", "received") else status


def overdue(waiting: Iterable[Expected]) -> list[Finding]:
    """The receipts that should have come by now."""
    return [
        Finding(
            "receipt-overdue",
            subject(expected),
            f"{expected.recipient} has given no receipt for {expected.id}, "
            f"which the hub accepted at {expected.since}.",
        )
        for expected in waiting
    ]


def waiting(queued: Iterable[Sent]) -> list[Finding]:
    """The messages that should have been answered by now."""
    return [
        Finding(
            "outbox-waiting",
            sent.id,
            f"{sent.id} waits since {sent.queued}: {sent.detail or 'the hub was not reached'}.",
        )
        for sent in queued
    ]


def away(seen: datetime, now: datetime, longest: timedelta) -> list[Finding]:
    """The hub has not been reached for longer than can be usual."""
    if now - seen <= longest:
        return []
    return [Finding("hub-away", "hub", f"The hub was last reached at {format_time(seen)}.")]


def subject(expected: Expected) -> str:
    """What the alarms about one receipt are told apart by."""
    return f"{expected.id} {expected.recipient}"


def due_before(now: datetime, hours: int) -> str:
    """The time before which an acceptance must have its receipts by now."""
    return format_time(now - timedelta(hours=hours))


def _acceptance(item: Acceptance | None, name: str = "acceptance") -> dict[str, Json]:
    return {name: msgspec.to_builtins(item)}
