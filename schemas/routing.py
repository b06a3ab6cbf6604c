"""Routing: an audience becomes recipients, each with its reason, by the marking's rules.

The hub routes with this, and the sender's connector repeats it to see whether the hub left somebody
out or let somebody in.
"""

from collections.abc import Iterable, Mapping

import msgspec

from schemas.directory import Directory, State
from schemas.refusal import Refused
from schemas.vocabulary import MARKINGS, ROLES

NAMED = "named"
LEFT_OUT_MARKING = "marking"
LEFT_OUT_SUSPENDED = "suspended"
LEFT_OUT_SENDER = "sender"


class Routing(msgspec.Struct, frozen=True):
    """Who receives, by which rule (``named`` or ``group:<code>``), and who does not, and why."""

    recipients: Mapping[str, str]
    left_out: Mapping[str, str]


def check_may_send(sender: str, marking: str, directory: Directory) -> None:
    """Whether the sender's role may send under a marking.

    Raises:
        Refused: ``role-may-not-send``, ``suspended`` or ``held``.
    """
    participant = directory.participants[sender]
    if participant.state is State.SUSPENDED:
        raise Refused("suspended", f"{sender} is suspended; ask the hub's operators.")
    if participant.state is State.HELD:
        raise Refused("held", f"The new keys of {sender} await confirmation by fingerprint.")
    if marking not in ROLES[participant.role].may_send:
        raise Refused(
            "role-may-not-send",
            f"As {participant.role}, {sender} may not send {marking}.",
            "$.marking",
        )


def route(audience: Iterable[str], marking: str, sender: str, directory: Directory) -> Routing:
    """Expand an audience.

    A code named although the marking forbids it is refused; a group's forbidden member is left out,
    with the reason. Whoever is named and also in a group is a recipient as ``named``.

    Raises:
        Refused: ``unknown-recipient``, ``marking-conflict`` or ``no-recipient``.
    """
    rule = MARKINGS[marking]
    recipients: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for code in sorted(audience, key=lambda code: directory.members_of(code) is not None):
        group = directory.members_of(code)
        if group is None:
            _route_named(code, marking, directory, recipients, left_out)
            continue
        if not rule.groups:
            raise Refused(
                "marking-conflict",
                f"Name the members of {code} one by one for {marking}.",
                "$.audience",
            )
        for member in group:
            if member in recipients or member in left_out:
                continue
            reason = _left_out(member, marking, sender, directory)
            if reason:
                left_out[member] = reason
            else:
                recipients[member] = f"group:{code}"
    if not recipients:
        raise Refused("no-recipient", "The rules leave nobody to receive it.", "$.audience")
    return Routing(recipients, left_out)


def _route_named(
    code: str,
    marking: str,
    directory: Directory,
    recipients: dict[str, str],
    left_out: dict[str, str],
) -> None:
    participant = directory.participants.get(code)
    if participant is None or participant.state is State.INVITED:
        raise Refused(
            "unknown-recipient", f"{code} is neither a participant nor a group.", "$.audience"
        )
    if participant.role not in MARKINGS[marking].receivers:
        raise Refused(
            "marking-conflict",
            f"{marking} may not go to {code}, which is a {participant.role}.",
            "$.audience",
        )
    if participant.state is State.SUSPENDED:
        left_out[code] = LEFT_OUT_SUSPENDED
    else:
        recipients[code] = NAMED


def _left_out(member: str, marking: str, sender: str, directory: Directory) -> str | None:
    participant = directory.participants[member]
    if member == sender:
        return LEFT_OUT_SENDER
    if participant.role not in MARKINGS[marking].receivers:
        return LEFT_OUT_MARKING
    if participant.state is State.SUSPENDED:
        return LEFT_OUT_SUSPENDED
    return None
