"""``nhri-connector respond``: answers to joint actions, and the proposer's steps."""

import functools
import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import click
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from connectors import actions
from connectors.actions import JointAction
from connectors.cli import reading
from connectors.cli.options import examples
from connectors.cli.outcome import Mistaken, RefusedByHub
from connectors.cli.outgoing import Outgoing, put, wait_options
from connectors.cli.output import say
from connectors.cli.site import Site, now, on_site
from connectors.compose import ComposeError, sign
from connectors.compose import words as read_words
from connectors.outbox import Outbox
from connectors.store import Reader
from connectors.tables import InboxState
from schemas import joint_action, jsontext, message, signature
from schemas.encoding import format_time, uuid7
from schemas.joint_action import Answer
from schemas.kinds.joint_action_response import ANSWERS, STEPS
from schemas.message import Message, Text
from schemas.refusal import Refused

_KIND = "joint_action_response.v1"
_PAGE = 200
_CHOICES = {name.replace("_", "-"): name for name in (*ANSWERS, *STEPS)}


F = TypeVar("F", bound=Callable[..., None])


def words_options(command: F) -> F:
    """``-m``, ``--text`` and ``--language``, which reach the command as one ``texts``."""

    @functools.wraps(command)
    def run(*, sentence: str | None, file: Path | None, language: str, **arguments: object) -> None:
        command(texts=_texts(sentence, file, language), **arguments)

    said = click.option("-m", "--message", "sentence", help="A sentence that goes with the answer.")
    written = click.option(
        "--text",
        "file",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help="Words that go with the answer: Markdown as for send, without the fields.",
    )
    tagged = click.option(
        "--language", metavar="TAG", default="", help="The language of the words (ru, kk, …)."
    )
    return cast(F, said(written(tagged(run))))


@click.command(
    epilog=examples(
        "nhri-connector respond accept 019f270c-11ca-7000-8000-000000000000",
        "nhri-connector respond decline 019f270c-11ca-7000-8000-000000000000 \\",
        '    -m "This is outside our mandate." --language en',
        "nhri-connector respond accept --all-open --wait --config kz.toml",
    )
)
@click.argument("answer", type=click.Choice(list(_CHOICES)), metavar="ANSWER")
@click.argument("notices", nargs=-1, metavar="[ID]...")
@click.option("--all-open", is_flag=True, help="Every invitation that has no answer of ours yet.")
@words_options
@wait_options
@on_site
def respond(
    site: Site,
    answer: str,
    notices: tuple[str, ...],
    all_open: bool,
    texts: dict[str, Text],
    patience: float | None,
) -> None:
    """Answer joint actions that you were invited to, or take your own a step further.

    ANSWER is accept, accept-with-reservation, decline or withdraw; for the proposer start, conclude
    or cancel. ID is that of a notice. A later answer takes the place of an earlier one. A plain
    accept signs the notice itself: all these signatures together make one document. Everyone who
    got the notice gets the answer.
    """
    if bool(notices) == all_open:
        raise click.UsageError("Give the ids of notices, or --all-open.")
    if _CHOICES[answer] == "accept_with_reservation" and not texts:
        raise click.UsageError("Say the reservation, with -m or --text.")
    private = site.keys().sign
    with site.reader() as reader, reader.snapshot():
        waiting = [*_waiting(site)]
        wanted = [*_open(site, reader, waiting)] if all_open else [*dict.fromkeys(notices)]
        outgoing = []
        for number, notice_id in enumerate(wanted):
            content = _Wanted(notice_id, _CHOICES[answer], texts, number)
            response = _response(site, reader, content, waiting, private)
            outgoing.append(Outgoing(notice_id, response, sign(response, private)))
    if not outgoing and not site.as_json:
        say("There is no open invitation.")
        return
    put(site, outgoing, patience)


class _Wanted(msgspec.Struct, frozen=True):
    """One answer as it was asked for; ``number`` is its place among several."""

    notice_id: str
    answer: str
    texts: dict[str, Text]
    number: int


def _texts(sentence: str | None, file: Path | None, language: str) -> dict[str, Text]:
    if sentence is not None and file is not None:
        raise click.UsageError("Give the words with -m or with --text.")
    if sentence is None and file is None:
        return {}
    source = f"# {sentence}" if file is None else None
    try:
        if file is not None:
            source = file.read_text(encoding="utf-8")
        return read_words(source or "", language)
    except UnicodeDecodeError:
        raise Mistaken(f"{file} is not in UTF-8; save it in that encoding.") from None
    except ComposeError as error:
        if file is None:
            raise click.UsageError(f"The words, or --language: {error.sentence}") from None
        raise Mistaken(f"{file}:{error.line}: {error.field}: {error.sentence}") from None


def _waiting(site: Site) -> Iterator[Message]:
    """Our answers that are still in the outbox, the oldest first."""
    outbox = Outbox(site.config.outbox)
    for message_id in outbox.pending():
        try:
            read = reading.opened(outbox.read(message_id))
        except FileNotFoundError:
            continue  # it has just left
        if read is not None and read.kind == _KIND:
            yield read


def _open(site: Site, reader: Reader, waiting: list[Message]) -> Iterator[str]:
    """The notices that invite us, can still be answered, and have no answer of ours."""
    answered = {read.in_reply_to for read in waiting}
    after = 0
    while page := reader.inbox(after, _PAGE):
        after = page[-1].position
        for row in page:
            if row.state is not InboxState.VALID or not reading.is_notice(row.kind):
                continue
            joint = actions.joint_action_of(reader, row.id or "")
            if joint.notice.id in answered or any(a.member == site.code for a in joint.answers):
                continue
            try:
                _check(site, reader, joint, "decline", format_time(now()))
            except Refused:
                continue
            yield joint.notice.id


def _check(site: Site, reader: Reader, joint: JointAction, answer: str, time: str) -> None:
    new = Answer(reader.size(), time, site.code, answer)
    joint_action.check_answer(joint.notice.sender, joint.content, joint.answers, new)


def _response(
    site: Site,
    reader: Reader,
    wanted: _Wanted,
    waiting: list[Message],
    private: Ed25519PrivateKey,
) -> Message:
    """The message of one answer, allowed as far as it can be known here."""
    # A millisecond apart, so that they go out in the order they were asked for.
    at = now() + timedelta(milliseconds=wanted.number)
    try:
        joint = actions.joint_action_of(reader, wanted.notice_id)
        _check(site, reader, joint, wanted.answer, format_time(at))
        content: dict[str, object] = {"notice": wanted.notice_id, "answer": wanted.answer}
        if wanted.answer == "accept":
            content["signature"] = _cosigned(joint, private)
        response = Message(
            id=uuid7(at, secrets.token_bytes(10)),
            kind=_KIND,
            sender=site.code,
            created=format_time(at),
            audience=_audience(site, joint.notice),
            marking=joint.notice.marking,
            thread=joint.notice.thread or wanted.notice_id,
            in_reply_to=wanted.notice_id,
            supersedes=_earlier(site, joint, waiting) if wanted.answer in ANSWERS else None,
            texts=wanted.texts,
            content=content,
        )
        return message.parse(jsontext.encode(response))
    except Refused as refusal:
        sentence = f"{wanted.notice_id}: {refusal.detail} Nothing was sent."
        raise RefusedByHub(sentence) from None


def _audience(site: Site, notice: Message) -> tuple[str, ...]:
    everyone = dict.fromkeys((*notice.audience, notice.sender))
    return tuple(code for code in everyone if code != site.code)


def _earlier(site: Site, joint: JointAction, waiting: list[Message]) -> str | None:
    """Our newest answer before this one, also where it has not left yet."""
    own = [a.message_id for a in joint.answers if a.member == site.code and a.answer in ANSWERS]
    own += [read.id for read in waiting if read.in_reply_to == joint.notice.id]
    return own[-1] if own else None


def _cosigned(joint: JointAction, private: Ed25519PrivateKey) -> jsontext.Json:
    payload = signature.parse(joint.envelope, signature.MESSAGE_TYPE).payload
    signed = signature.sign_payload(payload, signature.MESSAGE_TYPE, private)
    return jsontext.parse(jsontext.encode(signed))
