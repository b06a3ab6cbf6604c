"""``nhri-hub audit body``: what a message says, for an operator, who is recorded as its reader."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click
import msgspec

from hub.cli.audit import message_path
from hub.cli.command import asks_hub, examples
from hub.cli.output import print_json, print_table, say
from schemas import jsontext, message
from schemas.message import Message, Text

if TYPE_CHECKING:
    from hub.cli.client import Hub

_FALLBACKS = ("en", "ru")


class Body(msgspec.Struct, frozen=True):
    """The answer to ``…/body``."""

    recorded: int
    message: Message


@click.command(
    epilog=examples(
        "nhri-hub audit body 01890a5d-ac96-774b-bcce-b302099a8057 --language ru",
        "nhri-hub audit body 01890a5d-ac96-774b-bcce-b302099a8057 --reason 'Complaint 7/26 of kz'",
    )
)
@click.argument("message_id", metavar="ID")
@click.option("--reason", default="", help="Why you have to read it; in 10 characters or more.")
@click.option(
    "--language", metavar="TAG", help="The language to read it in.  [default: en, ru, or any]"
)
@asks_hub
async def body(hub: "Hub", message_id: str, reason: str, language: str | None) -> None:
    """Show what a message says. That you read it is recorded, with your reason.

    A message above TLP:GREEN takes a reason. TLP:RED, sealed and expired ones are shown to nobody
    at the hub, and auditors see none: ask the sender or one of the receivers.
    """
    answer = await hub.post(f"{message_path(message_id)}/body", {"reason": reason})
    if hub.as_json:
        print_json(answer)
        return
    shown = jsontext.convert(answer, Body)
    for line in _text(shown.message.texts, language):
        say(line)
    print_table(("", ""), [(name, value) for name, value in _facts(shown) if value])


def _text(texts: Mapping[str, Text], language: str | None) -> Iterator[str]:
    """The words in the wanted language, or else the nearest; and which others there are."""
    if not texts:
        return
    tag = min(texts, key=lambda tag: _distance(tag, language))
    for part in filter(None, (texts[tag].title, texts[tag].summary, texts[tag].body)):
        yield from part.split("\n")
        yield ""
    others = ", ".join(other for other in texts if other != tag)
    yield f"In {tag}; there is also {others}." if others else f"In {tag}."


def _distance(tag: str, wanted: str | None) -> tuple[int, bool]:
    """Another script or country comes before another language."""
    language = tag.partition("-")[0]
    order = [name.partition("-")[0] for name in (wanted, *_FALLBACKS) if name]
    return (order.index(language) if language in order else len(order)), tag != wanted


def _facts(shown: Body) -> Iterator[tuple[str, str]]:
    read = shown.message
    yield "kind", read.kind
    yield "from", read.sender
    yield "to", ", ".join(read.audience)
    yield "marking", read.marking
    yield "created", read.created
    yield "expires", read.expires or ""
    yield "thread", read.thread or ""
    yield "in reply to", read.in_reply_to or ""
    yield "supersedes", read.supersedes or ""
    yield "themes", ", ".join(read.themes)
    yield "sdgs", ", ".join(map(str, read.sdgs))
    yield from message.lines(read)
    yield "recorded", f"as entry {shown.recorded}, that you read it"
