"""``nhri-connector show``: one message, who signed it, where it went, and what became of it."""

from collections.abc import Iterator, Sequence

import click
import msgspec

from connectors import actions
from connectors.actions import JointAction
from connectors.cli import reading
from connectors.cli.inbox import at, language_option
from connectors.cli.options import examples
from connectors.cli.outcome import NotSo
from connectors.cli.output import print_json, say, say_lines
from connectors.cli.site import Site, on_site
from connectors.outbox import Outbox
from connectors.store import Reader
from connectors.tables import Erased, Expected, InboxState, Received, Sent
from schemas import jsontext, signature
from schemas import message as messages
from schemas.acceptance import Acceptance
from schemas.directory import Directory
from schemas.encoding import unb64url
from schemas.entry import AcceptedPrivate
from schemas.message import Message
from schemas.refusal import Refused

_COLUMN = 14


class Signer(msgspec.Struct, frozen=True):
    """Who signed, with which key, and whether the signature holds."""

    member: str | None
    kid: str
    holds: bool


class AnswerOf(msgspec.Struct, frozen=True):
    """The counting answer of one invited institution; None where there is none."""

    member: str
    answer: str | None
    time: str | None
    words: str | None


class ActionView(msgspec.Struct, frozen=True):
    """A joint action: its state, who answered what, and whose signatures are under the text."""

    state: str
    answer_by: str
    answers: list[AnswerOf]
    signed_by: list[str]


class View(msgspec.Struct, frozen=True):
    """Everything that is shown about a message. ``way`` is outbox, sent or received."""

    id: str
    way: str
    state: str
    position: int | None
    reason: str
    index: int | None
    time: str | None
    message: Message | None
    signatures: list[Signer]
    routing: AcceptedPrivate | None
    receipts: list[Expected]
    action: ActionView | None
    erased: Erased | None = None


@click.command(
    epilog=examples(
        "nhri-connector show 12 --config kz.toml",
        "nhri-connector show 019f270c-11ca-7000-8000-000000000000 --language ru --config kz.toml",
    )
)
@click.argument("message", metavar="ID|POSITION")
@language_option
@on_site
def show(site: Site, message: str, language: str | None) -> None:
    """Show one message, sent or received, by its id or its position in the inbox.

    Its text in your language, or the nearest there is; its signatures, its place in the log, who
    receives it by which rule and who does not, the receipts; of a joint action, who answered what.
    """
    languages = (*([language] if language else []), *site.profile.languages)
    view = _view(site, message, languages)
    if site.as_json:
        print_json(jsontext.parse(jsontext.encode(view)))
        return
    if view.message is not None:
        _say_message(site, view.message, languages)
        say("")
    for name, value in _facts(site, view):
        say(f"{name:<{_COLUMN}}{value}")


def _view(site: Site, message: str, languages: Sequence[str]) -> View:
    found = site.glance()
    if found is None:
        return _waiting(site, message, Directory())
    with found as reader, reader.snapshot():
        sent = None if message.isdecimal() else reader.sent(message)
        received = at(reader, message) if sent is None else None
        row = sent or received
        if row is None:
            return _waiting(site, message, reader.directory())
        shown = not isinstance(row, Received) or row.state is InboxState.VALID
        read = reading.opened(row.envelope) if shown else None
        return View(
            id=row.id or "",
            way="received" if received else "sent",
            state=row.state.value,
            position=received.position if received else None,
            reason=_reason(row),
            index=row.index,
            time=row.accepted,
            message=read,
            signatures=_signers(row.envelope, reader.directory()) if shown else [],
            routing=_routing(row.acceptance),
            receipts=reader.expected(row.id or ""),
            action=_action(reader, read, languages),
            erased=reader.erased(row.id or ""),
        )


def _waiting(site: Site, message: str, directory: Directory) -> View:
    """A message that the daemon has not taken from the outbox yet."""
    outbox = Outbox(site.config.outbox)
    if message not in outbox.pending():
        raise NotSo(f"There is no message {message} here; `inbox` lists what was received.")
    envelope = outbox.read(message)
    return View(
        id=message,
        way="outbox",
        state="waiting",
        position=None,
        reason="",
        index=None,
        time=None,
        message=reading.opened(envelope),
        signatures=_signers(envelope, directory),
        routing=None,
        receipts=[],
        action=None,
    )


def _reason(row: Sent | Received) -> str:
    if isinstance(row, Received):
        return row.reason
    return f"{row.code}: {row.detail}" if row.code else ""


def _signers(envelope: bytes, directory: Directory) -> list[Signer]:
    try:
        jws = signature.parse(envelope, signature.MESSAGE_TYPE)
    except Refused:
        return []
    signers = []
    for one in jws.signatures:
        key = directory.keys.get(one.kid)
        holds = key is not None and signature.holds(key.public, one.value, one.signing_input)
        signers.append(Signer(key.member if key else None, one.kid, holds))
    return signers


def _routing(acceptance: Acceptance | None) -> AcceptedPrivate | None:
    if acceptance is None or acceptance.private is None:
        return None
    try:
        return jsontext.decode(unb64url(acceptance.private), AcceptedPrivate)
    except (Refused, ValueError):
        return None  # a refusal has a private part of another form


def _action(reader: Reader, read: Message | None, languages: Sequence[str]) -> ActionView | None:
    if read is None or not reading.is_notice(read.kind):
        return None
    try:
        joint = actions.joint_action_of(reader, read.id)
    except Refused:
        return None  # our own notice, which is not accepted yet
    accepting = [code for code, one in joint.action.answers.items() if one.answer == "accept"]
    return ActionView(
        joint.action.state.value,
        joint.content.answer_by,
        [_answer_of(reader, joint, member, languages) for member in joint.content.invited],
        [read.sender, *sorted(accepting)],
    )


def _answer_of(
    reader: Reader, joint: JointAction, member: str, languages: Sequence[str]
) -> AnswerOf:
    answer = joint.action.answers.get(member)
    if answer is None:
        return AnswerOf(member, None, None, None)
    response = reading.known(reader, answer.message_id)
    found = reading.words(response.texts, languages) if response else None
    return AnswerOf(member, answer.answer, answer.time, found[1].title if found else None)


def _say_message(site: Site, read: Message, languages: Sequence[str]) -> None:
    found = reading.words(read.texts, languages)
    if found is not None:
        tag, text = found
        say(text.title)
        for part in filter(None, (text.summary, text.body)):
            say("")
            say_lines(part)
        others = ", ".join(other for other in read.texts if other != tag)
        say("")
        say(f"{'language':<{_COLUMN}}{tag}{f' (there is also {others})' if others else ''}")
    facts = [
        ("kind", read.kind),
        ("from", read.sender),
        ("to", ", ".join(read.audience)),
        ("marking", read.marking),
        ("written", site.local(read.created)),
        ("expires", site.local(read.expires)),
        ("thread", read.thread or ""),
        ("in reply to", read.in_reply_to or ""),
        ("supersedes", read.supersedes or ""),
        ("themes", ", ".join(read.themes)),
        ("sdgs", ", ".join(map(str, read.sdgs))),
        *((name, _local(site, value)) for name, value in messages.lines(read)),
    ]
    for name, value in facts:
        if value:
            say(f"{name:<{_COLUMN}}{value}")


def _local(site: Site, value: str) -> str:
    try:
        return site.local(value)
    except ValueError:
        return value  # anything but a time


def _facts(site: Site, view: View) -> Iterator[tuple[str, str]]:
    at_position = f" at position {view.position}" if view.position is not None else ""
    yield "id", view.id
    yield view.way, f"{view.state}{at_position}{f': {view.reason}' if view.reason else ''}"
    if view.erased is not None:
        when = site.local(view.erased.time)
        copy = "; this is our own copy" if view.message is not None else ""
        yield "erased", f"by the hub, {when}, log entry {view.erased.index}{copy}"
    for signer in view.signatures:
        holds = "holds" if signer.holds else "DOES NOT HOLD"
        yield "signed by", f"{signer.member or 'nobody we know'}, key {signer.kid}: {holds}"
    if view.index is not None:
        yield "log entry", f"{view.index}, recorded {site.local(view.time)}"
    if view.routing is not None:
        for code, recipient in sorted(view.routing.recipients.items()):
            yield "recipient", f"{code} at position {recipient.position} ({recipient.reason})"
        for code, reason in sorted(view.routing.left_out.items()):
            yield "left out", f"{code} ({reason})"
    for receipt in view.receipts:
        said = f"{receipt.recipient}: {receipt.state} {site.local(receipt.time)} {receipt.reason}"
        yield "receipt", said.rstrip()
    if view.action is not None:
        yield from _action_facts(site, view.action)


def _action_facts(site: Site, action: ActionView) -> Iterator[tuple[str, str]]:
    yield "joint action", action.state.replace("_", " ")
    yield "answer by", site.local(action.answer_by)
    for one in action.answers:
        said = (one.answer or "no answer").replace("_", " ")
        when = f" {site.local(one.time)}" if one.time else ""
        yield "answer", f"{one.member}: {said}{when}{f' ({one.words})' if one.words else ''}"
    yield "signatures", f"under the common text: {', '.join(action.signed_by)}"
