"""``nhri-connector rotate``: new keys by a statement that the old and the new one sign."""

import asyncio

import click

from connectors import joined
from connectors.cli import succession
from connectors.cli.options import examples
from connectors.cli.outcome import NotSo, RefusedByHub, Unreached
from connectors.cli.output import print_json, progress, say
from connectors.cli.site import Site, now, on_site
from connectors.joined import Rotation
from connectors.keys import Keyring
from connectors.link import HubRefused, LinkError
from connectors.link.http import HttpLink, Identity
from connectors.outbox import Outbox
from schemas import statement
from schemas.encoding import b64url, format_time, unb64url
from schemas.statement import Rotate


@click.command(epilog=examples("nhri-connector rotate --config kz.toml"))
@on_site
def rotate(site: Site) -> None:
    """Replace all keys of the institution by new ones, made here.

    Stop the daemon first and start it again afterwards. The change is recorded in the log, where
    everybody sees it. Run it again after a crash: it goes on where it stopped. For keys that were
    lost or stolen call the hub's operator instead.
    """
    with succession.daemon_kept_out(site.config):
        if site.config.keys.exists():
            with progress("Asking the hub"):
                asyncio.run(_change(site, site.keys()))
        # A crash before this: the new keys hold and are not in use yet; doing it again finds out.
        succession.take_over(site.config)
    kid = site.keys().kid
    if site.as_json:
        print_json({"code": site.code, "kid": kid})
    else:
        say(f"The keys of {site.code} are new ones; the signing key is {kid}.")
        say(f"Start the daemon: nhri-connector run --config {site.path}")


def _check_nothing_waits(site: Site) -> None:
    """Afterwards no message that the present key signed is taken; receipts are signed anew."""
    waiting = set(Outbox(site.config.outbox).pending())
    receipts = 0
    reader = site.glance()
    if reader is not None:
        with reader:
            waiting.update(reader.pending())
            receipts = len(reader.pending_answers())
    if waiting or receipts:
        raise NotSo(
            f"{len(waiting)} messages and {receipts} receipts signed with the present key wait for "
            "the hub; let the daemon send them first."
        )


async def _change(site: Site, old: Keyring) -> None:
    """Have the hub record the change, once, however often this is tried."""
    folder = succession.next_keys(site.config)
    try:
        # After an attempt before, the daemon may have gone on with the present key; but where the
        # hub has the new one already, it takes nothing of the present one any more.
        if not (folder.exists() and await _known(site, succession.made(folder))):
            _check_nothing_waits(site)
        new = succession.made(folder)
        refused = await _offer(site, old, _statement(site, old, new))
        # Perhaps it was recorded the last time, and only the answer was lost.
        if refused is not None and not await _known(site, new):
            raise RefusedByHub(f"The hub refused: {refused.detail} The old keys stay in use.")
    except LinkError as error:
        raise Unreached(f"{error} The old keys stay in use; run the same command again.") from None


async def _offer(site: Site, old: Keyring, stated: bytes) -> HubRefused | None:
    link = _link(site, old)
    try:
        await link.state_keys(stated)
    except HubRefused as refused:
        return refused
    finally:
        await link.close()
    return None


async def _known(site: Site, new: Keyring) -> bool:
    """Whether the hub knows who asks with the new key."""
    link = _link(site, new)
    try:
        await link.receipts(-1, 1, 0)
    except HubRefused:
        return False
    finally:
        await link.close()
    return True


def _link(site: Site, keyring: Keyring) -> HttpLink:
    who = Identity(site.code, keyring.sign, site.config.log_key.name)
    return HttpLink(site.config.hub.url, who)


def _statement(site: Site, old: Keyring, new: Keyring) -> bytes:
    """The statement for these keys: as it was made before, or a new one.

    It is noted before it is sent, so that its entry in the log will be known for ours.
    """
    for rotation in joined.read(site.config.joined, site.code).rotations:
        signed = unb64url(rotation.statement)
        jws, _ = statement.parse(signed)
        if {s.kid for s in jws.signatures} == {old.kid, new.kid}:
            return signed
    time = format_time(now())
    signed = statement.sign(Rotate(site.code, new.public(site.code), time), old.sign, new.sign)
    joined.add_rotation(site.config.joined, site.code, Rotation(b64url(signed), time))
    return signed
