"""``nhri-connector join``: keys are made here, and the hub is asked to take them."""

import asyncio
from pathlib import Path
from typing import Annotated

import click
import msgspec
from msgspec import Meta

from connectors import config as configs
from connectors import files, joined, keys
from connectors.cli.options import common_options, examples
from connectors.cli.outcome import Mistaken, NotSo, RefusedByHub, Unreached
from connectors.cli.output import print_json, say
from connectors.cli.site import now
from connectors.config import Config, ConfigError
from connectors.joined import Join, JoinedError
from connectors.keys import Keyring, KeysError
from connectors.link import HubRefused, LinkError, Pending
from connectors.link.http import HttpLink
from schemas import jsontext, statement
from schemas.encoding import CODE_PATTERN, b64url, format_time, unb64url
from schemas.note import NoteError, Vkey
from schemas.refusal import Refused

MAX_BUNDLE = 64 * 1024
"""Bytes."""


class Bundle(msgspec.Struct, frozen=True):
    """An invitation, as the hub's operator gives it out. Members of later versions are ignored."""

    v: int
    hub: Annotated[str, Meta(pattern=r"^https?://[^\s]+$", max_length=500)]
    log: str
    code: Annotated[str, Meta(pattern=CODE_PATTERN)]
    invitation: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{22}$")]
    expires: str


@click.command(
    epilog=examples(
        "nhri-connector join kz.bundle.json",
        "nhri-connector join kz.bundle.json --config /etc/nhri/kz.toml",
    )
)
@click.argument(
    "bundle", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="BUNDLE"
)
@common_options
def join(config: Path | None, bundle: Path, as_json: bool) -> None:
    """Make the institution's keys and ask to join the hub of a BUNDLE.

    The keys never leave this machine. The fingerprint that is printed has to be compared aloud with
    the hub's operator: a forged bundle gives other digits. Asking again after a crash repeats the
    same request with the same keys.
    """
    invited = _read(bundle)
    path = config or Path(f"{invited.code}.toml")
    try:
        settings = _settings(path, invited)
        asked, keyring = _request(settings, invited)
        # From here on the request is known to be ours; sent twice, it gets the same answer.
        _write_settings(path, invited)
        pending = asyncio.run(_send(invited, unb64url(asked.statement)))
    except (ConfigError, KeysError, JoinedError) as error:
        raise NotSo(str(error)) from None
    except OSError as error:
        raise NotSo(f"{error.filename} cannot be written: {error.strerror}.") from None
    if pending.fingerprint != asked.fingerprint:
        raise NotSo(
            "The hub computes another fingerprint than we do. The bundle is not the one that this "
            "hub gave out: do not go on, and call the operator."
        )
    _tell(path, invited, asked, keyring, as_json=as_json)


def _read(path: Path) -> Bundle:
    try:
        raw = path.read_bytes()[: MAX_BUNDLE + 1]
        bundle = jsontext.decode(raw, Bundle)
        Vkey.parse(bundle.log)
    except OSError as error:
        raise Mistaken(f"{path} cannot be read: {error.strerror}.") from None
    except Refused as refusal:
        raise Mistaken(f"{path} is no bundle: {refusal.detail}") from None
    except NoteError as error:
        raise Mistaken(f"{path} is no bundle: {error}") from None
    if bundle.v != 1:
        raise Mistaken(f"{path} is a bundle of version {bundle.v}; update this program.")
    if bundle.expires <= format_time(now()):
        raise NotSo(f"The invitation ended at {bundle.expires}; ask the operator for a new one.")
    return bundle


def _settings(path: Path, bundle: Bundle) -> Config:
    """The settings that are there, or those that there will be; never another institution's."""
    if not path.exists():
        hub = configs.HubConfig(url=bundle.hub, log=bundle.log)
        state = path.resolve().parent / bundle.code
        return Config(bundle.code, state, hub, configs.ReceiptsConfig())
    settings = configs.load(path)
    if settings.code != bundle.code or settings.hub.log != bundle.log:
        raise NotSo(
            f"{path} is for {settings.code} on another hub or institution; give another --config."
        )
    return settings


def _write_settings(path: Path, bundle: Bundle) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, configs.template(bundle.code, bundle.hub, bundle.log).encode())


def _request(settings: Config, bundle: Bundle) -> tuple[Join, Keyring]:
    """The request under this invitation: the one that was made before, or a new one.

    Keys that served an earlier join are set aside: the hub expects new ones.
    """
    known = joined.read(settings.joined, bundle.code)
    for earlier in known.joins:
        if earlier.invitation == bundle.invitation:
            return earlier, keys.load(settings.keys)
    files.make_folder(settings.state)
    if known.joins and settings.keys.exists():
        keys.set_aside(settings.keys)
    keyring = keys.load(settings.keys) if settings.keys.exists() else keys.make(settings.keys)
    time = format_time(now())
    signed = keys.join_statement(keyring, bundle.code, bundle.invitation, time)
    digits = statement.fingerprint(keyring.kid, bundle.log, bundle.invitation)
    asked = Join(bundle.invitation, b64url(signed), digits, time)
    joined.add(settings.joined, bundle.code, asked)
    return asked, keyring


async def _send(bundle: Bundle, signed: bytes) -> Pending:
    link = HttpLink(bundle.hub, None)
    try:
        return await link.join(signed)
    except HubRefused as error:
        raise RefusedByHub(f"The hub refused: {error.detail}") from None
    except LinkError as error:
        raise Unreached(
            f"The hub {bundle.hub} does not answer ({error}). Run the same command again later; "
            "it goes on with the same keys."
        ) from None
    finally:
        await link.close()


def _tell(path: Path, bundle: Bundle, asked: Join, keyring: Keyring, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "code": bundle.code,
                "config": str(path),
                "kid": keyring.kid,
                "fingerprint": asked.fingerprint,
            }
        )
        return
    say(f"The keys of {bundle.code} are made, and the hub has been asked to take them.")
    say("")
    say(f"    {statement.spoken(asked.fingerprint)}")
    say("")
    say("Call the hub's operator and read these digits aloud. Only if the operator sees the same")
    say("ones, the request is approved. Then start the daemon:")
    say(f"    nhri-connector run --config {path}")
