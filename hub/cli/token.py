"""``nhri-hub token``: how operators, auditors and readers of the log come in from elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
import msgspec

from hub.cli.command import asks_hub, examples
from hub.cli.output import new_private_file, note, print_json, print_table, say
from schemas import jsontext
from schemas.jsontext import Json

if TYPE_CHECKING:
    from hub.cli.client import Hub

SCOPES = ("operator", "auditor", "log", "metrics")


class Created(msgspec.Struct, frozen=True):
    """The answer to ``POST /v1/tokens``."""

    token: str


class Account(msgspec.Struct, frozen=True):
    """An account and what it may do."""

    account: str
    scopes: list[str]
    created: str | None = None
    revoked: str | None = None


class Accounts(msgspec.Struct, frozen=True):
    """The answer to ``GET /v1/tokens``."""

    tokens: list[Account]


@click.group()
def token() -> None:
    """Give out and revoke tokens of operators, auditors and readers of the log."""


@token.command(
    epilog=examples("nhri-hub token create aigul --scope auditor --scope log -o aigul.token")
)
@click.argument("account")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(SCOPES),
    help="What it opens; may be repeated.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the token there instead of printing it; the file must not exist.",
)
@asks_hub
async def create(hub: "Hub", account: str, scopes: tuple[str, ...], output: Path | None) -> None:
    """Make a token. It is shown this once; the hub keeps only its hash."""
    body: Json = {"account": account, "scopes": [*scopes]}
    if output is None:
        answer = await hub.post("/v1/tokens", body)
        if hub.as_json:
            print_json(answer)
        else:
            say(jsontext.convert(answer, Created).token)
        note("Keep it safe: it is not shown again.")
        return
    with new_private_file(output) as file:
        made = jsontext.convert(await hub.post("/v1/tokens", body), Created)
        file.write(f"{made.token}\n")
    if hub.as_json:
        print_json({"account": account, "file": str(output)})
    else:
        say(f"The token of {account} is in {output}.")


@token.command("list", epilog=examples("nhri-hub token list"))
@asks_hub
async def list_tokens(hub: "Hub") -> None:
    """List the accounts that have a token; no token is shown."""
    answer = await hub.get("/v1/tokens")
    if hub.as_json:
        print_json(answer)
        return
    accounts = jsontext.convert(answer, Accounts).tokens
    print_table(
        ("account", "scopes", "created", "revoked"),
        ((a.account, ", ".join(a.scopes), a.created, a.revoked) for a in accounts),
    )


@token.command(epilog=examples("nhri-hub token revoke aigul"))
@click.argument("account")
@asks_hub
async def revoke(hub: "Hub", account: str) -> None:
    """End an account's token and whatever it has open."""
    answer = await hub.post(f"/v1/tokens/{quote(account, safe='')}/revoke", {})
    if hub.as_json:
        print_json(answer)
    else:
        say(f"The token of {account} is revoked.")
