"""``nhri-connector console``: a token to sign in with at the hub's console."""

import asyncio

import click

from connectors.cli.options import examples
from connectors.cli.outcome import Unreached
from connectors.cli.output import note, print_json, say
from connectors.cli.site import Site, on_site
from connectors.link import LinkError
from connectors.link.http import HttpLink, Identity

_PATH = "/console/login"


@click.command(epilog=examples("nhri-connector console --config undp.toml"))
@on_site
def console(site: Site) -> None:
    """Sign in at the hub's console, to look after the institution's webhooks.

    Prints the address and a token that the institution's key signs. It has to be pasted there
    within a minute and opens the console once; nobody else should see it until then. Run the
    command again for another one.
    """
    try:
        token = asyncio.run(_token(site))
    except LinkError as error:
        raise Unreached(str(error)) from None
    address = f"{site.config.hub.url.rstrip('/')}{_PATH}"
    if site.as_json:
        print_json({"address": address, "token": token})
        return
    note(f"Open {address} and paste this there within a minute:")
    say(token)


async def _token(site: Site) -> str:
    """By the hub's clock, which its answer tells: this machine's may be wrong."""
    link = HttpLink(
        site.config.hub.url, Identity(site.code, site.keys().sign, site.config.log_key.name)
    )
    try:
        await link.checkpoint()
        return link.token("POST", _PATH)
    finally:
        await link.close()
