"""``nhri-hub key``: the signing keys of the participants."""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
import msgspec

from hub.cli.command import asks_hub, examples
from hub.cli.output import print_json, print_table, say
from schemas import jsontext

if TYPE_CHECKING:
    from hub.cli.client import Hub

REASONS = ("superseded", "lost", "compromised")


class Key(msgspec.Struct, frozen=True):
    """One signing key; ``since`` and ``until`` are log indices."""

    kid: str
    member: str
    since: int
    until: int | None = None
    expires: str | None = None


class Keys(msgspec.Struct, frozen=True):
    """The answer of ``GET /v1/keys``."""

    keys: list[Key]


@click.group()
def key() -> None:
    """List and revoke signing keys."""


@key.command("list", epilog=examples("nhri-hub key list --member kz"))
@click.option("--member", metavar="CODE", help="Only the keys of this participant.")
@asks_hub
async def list_keys(hub: "Hub", member: str | None) -> None:
    """List the signing keys, also those that ended."""
    answer = await hub.get("/v1/keys", {"member": member})
    if hub.as_json:
        print_json(answer)
    else:
        print_keys(jsontext.convert(answer, Keys).keys)


def print_keys(keys: Iterable[Key]) -> None:
    """A table of keys."""
    rows = ((k.member, k.kid, k.since, k.until, k.expires) for k in keys)
    print_table(("member", "key", "from entry", "until entry", "expires"), rows)


# A kid is base64url and may begin with a dash.
@key.command(
    context_settings={"ignore_unknown_options": True},
    epilog=examples(
        "nhri-hub key revoke 0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWh --reason compromised"
    ),
)
@click.argument("kid")
@click.option("--reason", required=True, type=click.Choice(REASONS), help="Recorded in the log.")
@asks_hub
async def revoke(hub: "Hub", kid: str, reason: str) -> None:
    """Revoke a key: what it signs from now on is refused, what it signed before stays valid."""
    answer = await hub.post(f"/v1/keys/{quote(kid, safe='')}/revoke", {"reason": reason})
    if hub.as_json:
        print_json(answer)
    else:
        say(f"The key {kid} is revoked.")
