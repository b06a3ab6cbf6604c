"""``nhri-connector respond``: answers to joint actions, and the proposer's steps."""

import secrets
from collections.abc import Iterator
from datetime import timedelta

import click
from msgspec.structs import replace

from connectors import actions
from connectors.actions import JointAction
from connectors.cli import reading
from connectors.cli.options import examples
from connectors.cli.outcome import Mistaken, RefusedByHub
from connectors.cli.outgoing import Outgoing, put, wait_option
from connectors.cli.output import say
from connectors.cli.site import Site, now, on_site
from connectors.compose import sign
from connectors.outbox import Outbox
from connectors.store import Reader
from connectors.tables import InboxState
from schemas import joint_action, signature
from schemas.encoding import format_time, uuid7
from schemas.joint_action import Answer
from schemas.jsontext import encode, parse
from schemas.kinds.joint_action_response import ANSWERS, STEPS
from schemas.message import Message, Text
from schemas.refusal import Refused
from schemas.vocabulary import is_language_tag

PAGE = 200

_WORDS = {name.replace("_", "-"): name for name in (*ANSWERS, *STEPS)}


@click.command(
    epilog=examples(
        "nhri-connector respond accept 0197… --config kz.toml",
        'nhri-connector respond decline 0197… -m "Outside our mandate." --language en',
        "nhri-connector respond accept --all-open --wait --config kz.toml",
    )
)
@click.argument("answer", type=click.Choice(list(_WORDS)))
@click.argument("notices", nargs=-1, metavar="[ID]...")
@click.option("--all-open", is_flag=True, help="Every invitation that has no answer of ours yet.")
@click.option("-m", "--message", "words", help="Words that go with the answer.")
@click.option("--language", metavar="TAG", help="The language of the words.  [default: first own]")
@wait_option
@on_site
def respond(
    site: Site,
    answer: str,
    notices: tuple[str, ...],
    all_open: bool,
    words: str | None,
    language: str | None,
    patience: float | None,
) -> None:
    """Answer joint actions that we were invited to, or take our own a step further.

    Answers: accept, accept-with-reservation (say it with -m), decline, withdraw. Steps of the
    proposer: start, conclude, cancel. A later answer takes the place of an earlier one. To accept
    is to sign the notice itself: all signatures together make one document.
    """
    if bool(notices) == all_open:
        raise click.UsageError("Give the ids of notices, or --all-open.")
    texts = _texts(site, words, language)
    private = site.keys().sign
    with site.reader() as reader:
        wanted = [*_open(site, reader)] if all_open else [*notices]
        outgoing = []
        for number, notice_id in enumerate(wanted):
            response = _response(site, reader, notice_id, _WORDS[answer], texts, number)
            outgoing.append(Outgoing(notice_id, response, sign(response, private)))
    if not outgoing and not site.as_json:
        say("There is no open invitation.")
        return
    put(site, outgoing, patience)


def _texts(site: Site, words: str | None, language: str | None) -> dict[str, Text]:
    if words is None:
        return {}
    tag = language or site.profile.languages[0]
    if not is_language_tag(tag):
        raise click.UsageError(f"{tag!r} is not a language tag such as ru; Uzbek is uz-Latn.")
    title, _, body = words.strip().partition("\n")
    return {tag: Text(title, body=body.strip())}


def _open(site: Site, reader: Reader) -> Iterator[str]:
    """The notices that invite us, have no answer of ours, and can still be answered."""
    waiting = {m.in_reply_to for m in _in_outbox(site)}
    after = 0
    while page := reader.inbox(after, PAGE):
        after = page[-1].position
        for row in page:
            is_notice = (row.kind or "").startswith("joint_action_notice.")
            if row.id is None or row.state is not InboxState.VALID or not is_notice:
                continue
            joint = actions.joint_action_of(reader, row.id)
            answered = any(a.member == site.code for a in joint.answers) or row.id in waiting
            over = joint.content.answer_by < format_time(now())
            invited = site.code in joint.content.invited
            if invited and not (answered or over or joint.action.state in joint_action.ENDED):
                yield row.id


def _in_outbox(site: Site) -> Iterator[Message]:
    outbox = Outbox(site.config.outbox)
    for message_id in outbox.pending():
        try:
            read = reading.opened(outbox.read(message_id))
        except FileNotFoundError:
            continue  # it has just left
        if read is not None:
            yield read


def _response(
    site: Site,
    reader: Reader,
    notice_id: str,
    answer: str,
    texts: dict[str, Text],
    number: int,
) -> Message:
    """The response to one notice, as far as we know allowed."""
    at = now() + timedelta(milliseconds=number)
    try:
        joint = actions.joint_action_of(reader, notice_id)
        new = Answer(reader.size(), format_time(at), site.code, answer)
        joint_action.check_answer(joint.notice.sender, joint.content, joint.answers, new)
    except Refused as refusal:
        raise RefusedByHub(f"{notice_id}: {refusal.detail} Nothing was sent.") from None
    if answer == "accept_with_reservation" and not texts:
        raise Mistaken("Say the reservation with -m.")
    audience = [code for code in (*joint.notice.audience, joint.notice.sender) if code != site.code]
    own = joint.action.answers.get(site.code)
    response = Message(
        id=uuid7(at, secrets.token_bytes(10)),
        kind="joint_action_response.v1",
        sender=site.code,
        created=format_time(at),
        audience=tuple(dict.fromkeys(audience)),
        marking=joint.notice.marking,
        thread=joint.notice.thread or notice_id,
        in_reply_to=notice_id,
        supersedes=own.message_id if own and answer in ANSWERS else None,
        texts=texts,
    )
    return replace(response, content=_content(site, joint, notice_id, answer))


def _content(site: Site, joint: JointAction, notice_id: str, answer: str) -> dict[str, object]:
    content: dict[str, object] = {"notice": notice_id, "answer": answer}
    if answer == "accept":
        payload = signature.parse(joint.envelope, signature.MESSAGE_TYPE).payload
        signed = signature.sign_payload(payload, signature.MESSAGE_TYPE, site.keys().sign)
        content["signature"] = parse(encode(signed))
    return content
