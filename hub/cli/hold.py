"""``nhri-hub audit hold``: keep a message that a court or an inquiry needs."""

from typing import TYPE_CHECKING
from urllib.parse import quote

import click
import msgspec

from hub.cli.command import asks_hub, examples
from hub.cli.output import print_json, say
from schemas import jsontext

if TYPE_CHECKING:
    from hub.cli.client import Hub

_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


class Recorded(msgspec.Struct, frozen=True):
    """The answer: the log entry that says so."""

    index: int


@click.command(
    epilog=examples(
        f'nhri-hub audit hold {_ID} --reason "Case 7/26 of the Supreme Court"',
        f'nhri-hub audit hold {_ID} --release --reason "Case 7/26 is closed"',
    )
)
@click.argument("message_id", metavar="ID")
@click.option("--reason", required=True, help="Why, for the record; at least 10 characters.")
@click.option("--release", is_flag=True, help="End the hold.")
@asks_hub
async def hold(hub: "Hub", message_id: str, reason: str, release: bool) -> None:
    """Hold a message: no rule of retention erases it, and no operator, until it is released.

    Both are recorded in the log. That a message is held can be read there; the reason cannot.
    """
    path = f"/v1/messages/{quote(message_id, safe='')}/hold"
    answer = await hub.post(path, {"reason": reason, "release": release})
    if hub.as_json:
        print_json(answer)
        return
    done = jsontext.convert(answer, Recorded)
    what = "is released" if release else "is held: nothing erases it until it is released"
    say(f"The message {message_id} {what}; entry {done.index} of the log says so.")
