"""``nhri-connector show``: one message, with what is proved about it."""

from collections.abc import Iterator

import click

from connectors import actions
from connectors.cli import reading
from connectors.cli.inbox import at, language_option
from connectors.cli.options import examples
from connectors.cli.outcome import NotSo
from connectors.cli.output import print_json, say, say_lines
from connectors.cli.site import Site, on_site
from connectors.outbox import Outbox
from connectors.store import Reader
from connectors.tables import InboxState, Received, Sent
from schemas import jsontext, signature
from schemas.acceptance import Acceptance
from schemas.directory import Directory
from schemas.encoding import unb64url
from schemas.entry import AcceptedPrivate
from schemas.jsontext import Json
from schemas.message import Message
from schemas.refusal import Refused


@click.command(
    epilog=examples(
        "nhri-connector show 12 --config kz.toml",
        "nhri-connector show 0197… --language ru --config kz.toml",
    )
)
@click.argument("position_or_id", metavar="ID")
@language_option
@on_site
def show(site: Site, position_or_id: str, language: str | None) -> None:
    """Show one message, by its id or its position in the inbox: text, proof and receipts."""
    languages = (*([language] if language else []), *site.profile.languages)
    with site.reader() as reader:
        received = at(reader, position_or_id)
        message_id = received.id if received is not None and received.id else position_or_id
        sent = reader.sent(message_id)
        read = _opened(site, sent, received, message_id)
        facts = [*_facts(site, reader, message_id, sent, received)]
        if read is not None:
            facts += _joint_action(site, reader, read)
        envelope = _envelope(sent, received)
        signers = [*_signers(envelope, reader.directory())] if envelope else []
    if site.as_json:
        known = None if read is None else jsontext.parse(jsontext.encode(read))
        document: dict[str, Json] = {"id": message_id, "message": known, "signatures": [*signers]}
        print_json({**document, "facts": {name: value for name, value in facts}})
        return
    if read is not None:
        _say_message(site, read, languages)
    say("")
    for name, value in (*(("signed by", signer) for signer in signers), *facts):
        say(f"{name:<12} {value}")


def _opened(
    site: Site, sent: Sent | None, received: Received | None, message_id: str
) -> Message | None:
    envelope = _envelope(sent, received)
    if envelope is not None:
        return reading.opened(envelope)
    if received is not None:
        return None
    try:
        return reading.opened(Outbox(site.config.outbox).read(message_id))
    except (OSError, ValueError):
        raise NotSo(f"There is no message {message_id}; `inbox` lists what came in.") from None


def _envelope(sent: Sent | None, received: Received | None) -> bytes | None:
    if sent is not None:
        return sent.envelope
    if received is not None and received.state is InboxState.VALID:
        return received.envelope
    return None


def _signers(envelope: bytes, directory: Directory) -> Iterator[str]:
    """Who signed; that each signature holds was verified when it was stored."""
    try:
        jws = signature.parse(envelope, signature.MESSAGE_TYPE)
    except Refused:
        return
    for one in jws.signatures:
        key = directory.keys.get(one.kid)
        yield f"{key.member if key else 'an unknown key'} (key {one.kid})"


def _say_message(site: Site, read: Message, languages: tuple[str, ...]) -> None:
    found = reading.words(read.texts, languages)
    if found is not None:
        tag, text = found
        say(text.title)
        for part in (text.summary, text.body):
            if part:
                say("")
                say_lines(part)
        others = [other for other in read.texts if other != tag]
        say("")
        say(f"{'language':<12} {tag}" + (f" (also {', '.join(others)})" if others else ""))
    say(f"{'kind':<12} {read.kind}")
    say(f"{'from':<12} {read.sender}")
    say(f"{'to':<12} {', '.join(read.audience)}")
    say(f"{'marking':<12} {read.marking}")
    say(f"{'written':<12} {site.local(read.created)}")
    for name, values in (("themes", read.themes), ("sdgs", read.sdgs)):
        if values:
            say(f"{name:<12} {', '.join(map(str, values))}")
    content = {k: v for k, v in (read.content or {}).items() if k not in {"signature", "notice"}}
    for name, value in reading.lines(jsontext.parse(jsontext.encode(content))):
        say(f"{name:<12} {value}")


def _facts(
    site: Site, reader: Reader, message_id: str, sent: Sent | None, received: Received | None
) -> Iterator[tuple[str, str]]:
    if received is not None:
        yield "inbox", f"position {received.position}, {received.state}"
        if received.reason:
            yield "reason", received.reason
        yield from _entry(site, received.index, received.accepted)
        yield from _recipients(received.acceptance)
    elif sent is not None:
        yield "outbox", f"{sent.state}" + (f" ({sent.code}: {sent.detail})" if sent.code else "")
        if sent.index is not None and sent.acceptance is not None:
            yield from _entry(site, sent.index, sent.accepted)
            yield from _recipients(sent.acceptance)
        for expected in reader.expected(message_id):
            when = f" {site.local(expected.time)}" if expected.time else ""
            said = f"{expected.recipient}: {expected.state}{when} {expected.reason}"
            yield "receipt", said.rstrip()
    else:
        yield "outbox", "waits to be sent"


def _entry(site: Site, index: int | None, accepted: str | None) -> Iterator[tuple[str, str]]:
    yield "log entry", f"{index}, recorded {site.local(accepted)}"


def _recipients(acceptance: Acceptance) -> Iterator[tuple[str, str]]:
    try:
        raw = unb64url(acceptance.private)
        private = jsontext.decode(raw, AcceptedPrivate)
    except (Refused, ValueError):
        return
    for code, recipient in sorted(private.recipients.items()):
        yield "recipient", f"{code} at position {recipient.position} ({recipient.reason})"
    for code, reason in sorted(private.left_out.items()):
        yield "left out", f"{code} ({reason})"


def _joint_action(site: Site, reader: Reader, read: Message) -> Iterator[tuple[str, str]]:
    """A notice's state and who answered what; nothing for other kinds."""
    if not read.kind.startswith("joint_action_notice."):
        return
    try:
        joint = actions.joint_action_of(reader, read.id)
    except Refused:
        return
    yield "state", str(joint.action.state).replace("_", " ")
    yield "answer by", site.local(joint.content.answer_by)
    for code in joint.content.invited:
        answer = joint.action.answers.get(code)
        said = f"{answer.answer.replace('_', ' ')}, {site.local(answer.time)}" if answer else "-"
        yield "invited", f"{code}: {said}"
    yield "signatures", f"{1 + len(joint.signatures)} under the common text"
