"""``nhri-hub message``: erase a message, and see what the rules of retention erase next."""

from typing import TYPE_CHECKING
from urllib.parse import quote

import click
import msgspec

from hub.cli.command import asks_hub, examples
from hub.cli.output import note, print_json, print_table, say
from schemas import jsontext

if TYPE_CHECKING:
    from hub.cli.client import Hub

_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


class Erased(msgspec.Struct, frozen=True):
    """The answer to an erasure: its log entry, who has a copy for certain, and who may have one."""

    index: int
    received: list[str] = []
    waiting: list[str] = []


class Due(msgspec.Struct, frozen=True):
    """A message that a rule says is to be erased."""

    id: str
    kind: str
    marking: str
    accepted: str
    rule: str


class Retained(msgspec.Struct, frozen=True):
    """The answer to ``GET /v1/retention``."""

    rules: dict[str, int] = {}
    due: list[Due] = []


@click.group()
def message() -> None:
    """Erase messages, and see which ones are due."""


@message.command(
    epilog=examples(
        f'nhri-hub message erase {_ID} --reason "Request 12/26 of the person concerned"'
    )
)
@click.argument("message_id", metavar="ID")
@click.option(
    "--reason",
    required=True,
    help="Why, for the record; at least 10 characters, and nothing of what the message says.",
)
@asks_hub
async def erase(hub: "Hub", message_id: str, reason: str) -> None:
    """Erase the content of a message for good. The decision is recorded; all proofs stay valid.

    Copies that were handed out stay with their institutions, which are told by the log.
    """
    answer = await hub.post(f"/v1/messages/{quote(message_id, safe='')}/erase", {"reason": reason})
    if hub.as_json:
        print_json(answer)
        return
    done = jsontext.convert(answer, Erased)
    say(f"The message {message_id} is erased here; entry {done.index} of the log says so.")
    if done.received:
        say(f"A copy is with {', '.join(done.received)}: ask them to erase it, too.")
    if done.waiting:
        say(
            f"No receipt came from {', '.join(done.waiting)}: a copy may be in the inbox queue or "
            "on its way, and cannot be called back."
        )
    note("Backups that have it: docs/erasure.md says when they lose it.")


@message.command(epilog=examples("nhri-hub message due --json"))
@asks_hub
async def due(hub: "Hub") -> None:
    """List what the rules of retention erase next, without erasing anything.

    The rules are in the section [retention] of the settings; what none of them fits is kept.
    """
    answer = await hub.get("/v1/retention")
    if hub.as_json:
        print_json(answer)
        return
    found = jsontext.convert(answer, Retained)
    if not found.rules:
        say("There are no rules of retention: every message is kept.")
        return
    print_table(("rule", "days"), found.rules.items())
    say("")
    if not found.due:
        say("No message is due.")
        return
    print_table(
        ("message", "accepted", "kind", "marking", "rule"),
        ((one.id, one.accepted, one.kind, one.marking, one.rule) for one in found.due),
    )
