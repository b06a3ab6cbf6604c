"""The documents that are tables and diagrams of the code's own tables."""

import textwrap
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from hub.doors.access import CONSOLE, TABLE, Role
from hub.doors.openapi import template
from hub.intake import receipts
from hub.ledger.reading import RIGHTS
from schemas import directory, joint_action
from schemas.refusal import REFUSALS
from schemas.vocabulary import MARKINGS

GENERATED = "<!-- Made from the code by `make publish`; edits are lost. -->"

REMEDIES: Mapping[str, str] = MappingProxyType(
    {
        "malformed": "Send strict JSON in UTF-8: an envelope in JWS General JSON Serialization.",
        "duplicate-key": "Name each member of an object once.",
        "too-large": "Shorten the texts, or link to a document instead of quoting it.",
        "bad-header": "Send exactly `alg` (Ed25519), `kid` and `typ`, all protected.",
        "bad-signature": "Sign the very bytes that are sent, with the key that `kid` names.",
        "unknown-key": "Join first; or wait until an operator has approved the fingerprint.",
        "revoked-key": "Sign with the institution's present key.",
        "expired-key": "Rotate before a key expires; after it, an operator gives a new bundle.",
        "low-order-key": "Make a new key pair with a proper generator.",
        "sender-unsigned": "Add the signature of the institution named as sender.",
        "unauthenticated": "Send a fresh token; set the clock by the `Date` header of the answer.",
        "forbidden": "Ask an operator for the role or scope; see the authorisation table.",
        "sender-mismatch": "Send over the sender's own connection, with the sender's own key.",
        "suspended": "Speak to the hub's operators.",
        "held": "Join with the new bundle and compare the fingerprint; then it goes by itself.",
        "role-may-not-send": "Choose a marking that the role may send; partners CLEAR and GREEN.",
        "schema": "Correct the value at `path`; the JSON Schemas say what may stand there.",
        "forbidden-character": "Take the character out, or bring the text into Unicode's form NFC.",
        "unknown-kind": "Choose one of the kinds that `detail` lists.",
        "unsupported-version": "Send the version that `detail` names; update the connector.",
        "sealed-unsupported": "Send it unsealed under another marking, or by another way.",
        "attachments-unsupported": "Link to the document instead.",
        "created-out-of-range": "Set the clock; a message older than 90 days is made anew.",
        "expired": "Make it anew with a later `expires`, if it still matters.",
        "erased": "Nothing: it was taken, and erased later. A new message needs a new id.",
        "id-conflict": "Give the message an id of its own.",
        "unknown-recipient": "Look the code up among the members and groups.",
        "marking-conflict": "Name members one by one, or choose a more open marking.",
        "no-recipient": "Address somebody who may receive this marking.",
        "unknown-action": "Answer a notice that was sent to the institution.",
        "not-invited": "Only invited institutions answer; speak to the proposer.",
        "not-proposer": "Let the proposer start, conclude or cancel it.",
        "answer-late": "Speak to the proposer; a new notice can be made.",
        "action-state": "See the states of a joint action for what may follow.",
        "bad-cosignature": "Sign the notice's payload as it came, with the present key.",
        "bad-receipt": "Name id, entry hash and position as delivered, of one sender's messages.",
        "bad-statement": "Sign with the keys that this statement needs (`schemas/statement.py`).",
        "unknown-invitation": "Ask the hub's operators for a new bundle.",
        "conflict": "Look at the present state first; `detail` says what does not fit.",
        "not-found": "Check the name or id.",
        "bad-request": "Correct the request as `detail` says.",
        "reason-needed": "State the reason; it goes into the log's private part.",
        "quota": "Nothing: the connector tries again. Ask for a higher quota if it happens often.",
        "too-slow": "Nothing: the connector tries again. See what else uses the line.",
        "busy": "Nothing: the connector tries again.",
        "storage": "Nothing: the connector tries again. An operator looks at `nhri-hub doctor`.",
    }
)
"""What to do about a refusal, by its code."""

# What the hub does to a delivery by itself (`delivery.expired` and `.erased` in the log).
_DELIVERY_BY_THE_HUB = (
    ("[*]", "waiting", "accepted"),
    ("waiting", "expired", "its time is over"),
    ("waiting", "erased", "its message is erased"),
)

_SHARES = {"none": "nobody", "some": "some", "all": "all"}


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(head), *map(tuple, rows)]
    lines.insert(1, tuple("---" for _ in lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _diagram(moves: Iterable[tuple[str, str, str]]) -> str:
    """A state diagram of (state, state after, why); one arrow for all reasons of a pair."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for before, after, why in moves:
        arrows.setdefault((before, after), []).append(why)
    lines = [f"    {before} --> {after}: {', '.join(w)}" for (before, after), w in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def _page(title: str, *parts: str) -> str:
    filled = [part if "\n" in part else _filled(part) for part in parts]
    return "\n\n".join([GENERATED, f"# {title}", *filled]) + "\n"


def _filled(paragraph: str) -> str:
    return textwrap.fill(paragraph, 100, break_long_words=False, break_on_hyphens=False)


def _list(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def states() -> str:
    """The states of participants, joint actions and deliveries."""
    participants = [
        (state.value if state else "[*]", after.value, kind)
        for kind, (before, after) in directory._MOVES.items()
        for state in sorted(before, key=str)
    ]
    agreement = [
        (_SHARES[accepted], _SHARES[declined], f"`{state}`")
        for (accepted, declined), state in joint_action.AGREEMENT.items()
    ]
    steps = [
        (state.value, after.value, step) for (state, step), after in joint_action.STEPS.items()
    ]
    agreed = dict.fromkeys(joint_action.AGREEMENT.values())
    answered = [("[*]", state.value, "answers") for state in agreed]
    deliveries = [(before, after, why) for (before, why), after in receipts.STATES.items()]
    return _page(
        "States",
        "The states that all parties compute alike, as the code's tables have them.",
        "## A participant",
        "From `schemas/directory.py`. The arrows are the log entries; an entry that has no arrow "
        "from the present state cannot be recorded, and a connector that finds it recorded raises "
        "an alarm. Whoever is resumed without a key that holds is `held` until it is replaced.",
        _diagram(participants),
        "## A joint action",
        "From `schemas/joint_action.py`. Before the proposer's first step the state follows from "
        "the answers that count, anew with each of them; `accept_with_reservation` is an accept, "
        "and `withdraw` takes an answer back.",
        _table(("accepted", "declined", "state"), agreement),
        "Then the proposer's steps:",
        _diagram([*answered, *steps]),
        f"{_list(sorted(joint_action.ENDED))} are final. Answers to an action that is "
        f"`{joint_action.ActionState.UNDER_WAY}` still count, but leave the state as it is.",
        "## A delivery",
        "From `hub/intake/receipts.py`. The arrows are what the receiver's signed receipt says of "
        "the message, and what the hub records by itself. What has no arrow changes nothing.",
        _diagram([*_DELIVERY_BY_THE_HUB, *deliveries]),
    )


def refusals() -> str:
    """Every way to say no, and what to do about it."""
    rows = (
        (f"`{code}`", str(row.status), "yes" if row.retryable else "", row.title, REMEDIES[code])
        for code, row in REFUSALS.items()
    )
    return _page(
        "Refusals",
        "Every way the hub can say no (`schemas/refusal.py`). It comes as a problem document "
        "(RFC 9457) whose `detail` says what is wrong in this very case, and `path` where. "
        "Where *again* says yes, the connector tries again by itself; all else needs a person.",
        _table(("code", "status", "again", "meaning", "what to do"), rows),
    )


def authorisation() -> str:
    """Who may use which route."""
    bodies = (
        (f"`{marking}`", *(rights[marking].value for rights in RIGHTS.values()))
        for marking in MARKINGS
    )
    return _page(
        "Authorisation",
        "Which role may use which route (`hub/doors/access.py`). A route that is not here does not "
        "exist. Members, partners and observers are participants of the directory and sign a token "
        "for each request; operators, auditors, readers of the log (`log`) and of the measures "
        "(`metrics`) have opaque tokens with these scopes. Whoever sits at the hub's own machine "
        "and may open its Unix socket is an operator; a program on that machine reads the measures "
        "without a token, unless a proxy stands before the hub (`http.url` is set).",
        _routes(TABLE, tuple(Role)),
        "## Pages of the console",
        "Whoever signed in with an operator's or auditor's token has its roles for the session; a "
        "participant that signed in with a token of its own key sees its webhooks. Everybody else "
        "gets the page to sign in at.",
        _routes(CONSOLE, tuple(role for role in Role if role not in (Role.LOG, Role.METRICS))),
        "## The body of a message",
        "Who of the hub's own people may read what a message says (`hub/ledger/reading.py`). Every "
        "reading is recorded before anything is shown. What is sealed is never shown, and what has "
        "expired no longer.",
        _table(("marking", *RIGHTS), bodies),
    )


def _routes(rows: Mapping[tuple[str, str], frozenset[Role]], roles: tuple[Role, ...]) -> str:
    lines = (
        (f"`{method} {template(path)}`", *("yes" if role in allowed else "" for role in roles))
        for (method, path), allowed in rows.items()
    )
    return _table(("route", *(role.value for role in roles)), lines)
