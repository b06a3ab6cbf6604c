"""``nhri-connector join``: keys are made here, and the hub is asked to take them."""

import asyncio
from pathlib import Path
from typing import Annotated

import click
import msgspec
from msgspec import Meta

from connectors import config as configs
from connectors import files, joined, keys
from connectors.cli import succession
from connectors.cli.options import common_options, config_path, examples
from connectors.cli.outcome import Mistaken, NotSo, RefusedByHub, Unreached
from connectors.cli.output import note, print_json, progress, say
from connectors.cli.site import now
from connectors.config import Config, ConfigError
from connectors.joined import Join, JoinedError
from connectors.keys import KeysError
from connectors.link import HubRefused, LinkError, Pending
from connectors.link.http import HttpLink
from schemas import jsontext, statement
from schemas.encoding import CODE_PATTERN, TIME_PATTERN, b64url, format_time, unb64url
from schemas.note import NoteError, Vkey
from schemas.refusal import Refused

MAX_BUNDLE = 64 * 1024
"""Bytes."""


class Bundle(msgspec.Struct, frozen=True):
    """An invitation as the hub's operator hands it out (docs/protocol.md); it is good for one join.

    Members that a later hub may add are passed over.
    """

    v: int
    hub: Annotated[str, Meta(pattern=r"^https?://[^\s]+$", max_length=500)]
    log: str
    code: Annotated[str, Meta(pattern=CODE_PATTERN)]
    invitation: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{22}$")]
    expires: Annotated[str, Meta(pattern=TIME_PATTERN)]


@click.command(
    epilog=examples(
        "nhri-connector join kz.bundle.json --config kz.toml",
        "nhri-connector join kz.bundle.json --config /etc/nhri/kz.toml",
    )
)
@click.argument(
    "bundle", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="BUNDLE"
)
@common_options
def join(config: Path | None, bundle: Path, as_json: bool) -> None:
    """Make the institution's keys and ask to join the hub of a BUNDLE.

    The keys are made here and never leave this machine. Compare the fingerprint that is printed
    with the hub's operator, aloud: a forged bundle gives other digits. Asking again, after a crash
    or when the hub was away, repeats the same request with the same keys.
    """
    invited = _read(bundle)
    path = config_path(config)
    try:
        settings = _settings(path, invited)
        asked, folder = _request(settings, invited)
        with progress("Asking the hub"):
            pending = asyncio.run(_send(settings, invited, unb64url(asked.statement)))
        if pending.fingerprint != asked.fingerprint:
            raise NotSo(
                "The hub shows another fingerprint than the one computed here. Do not let it be "
                "approved: the bundle is not this hub's, or somebody stands in between."
            )
        if folder == succession.next_keys(settings):
            succession.take_over(settings)
        kid = keys.load(settings.keys).kid
    except (ConfigError, KeysError, JoinedError) as error:
        raise NotSo(str(error)) from None
    except OSError as error:
        raise NotSo(f"{error.filename} cannot be written: {error.strerror}.") from None
    _tell(path, settings, asked, kid, as_json=as_json)


def _read(path: Path) -> Bundle:
    with path.open("rb") as file:
        raw = file.read(MAX_BUNDLE)
    try:
        bundle = jsontext.decode(raw, Bundle)
        Vkey.parse(bundle.log)
    except Refused as refusal:
        raise Mistaken(f"{path} is no bundle: {refusal.detail}") from None
    except NoteError as error:
        raise Mistaken(f"{path} is no bundle: {error}") from None
    if bundle.v != 1:
        raise Mistaken(f"{path} is a bundle of version {bundle.v}; update this program.")
    return bundle


def _settings(path: Path, bundle: Bundle) -> Config:
    """The settings, written where there are none; never another institution's or hub's."""
    if not path.exists():
        files.make_folder(path.resolve().parent)
        files.write(path, configs.template(bundle.code, bundle.hub, bundle.log).encode())
    settings = configs.load(path)
    if settings.code != bundle.code:
        raise NotSo(f"{path} is that of {settings.code}; give another file with --config.")
    if settings.hub.log != bundle.log:
        raise NotSo(
            f"{path} is for another log than the bundle, and a hub never changes its log's key: "
            "call the operator. For another hub, give another file with --config."
        )
    return settings


def _request(settings: Config, bundle: Bundle) -> tuple[Join, Path]:
    """The request under this invitation and its keys: as it was made before, or a new one.

    It is noted before it is sent, so that its entry in the log will be known for ours. Under a
    second invitation, after keys were lost or stolen, new keys are made: what is left over from a
    change that was not finished may have been lost or stolen with them, or be known to the hub.
    """
    known = joined.read(settings.joined, bundle.code)
    for asked in known.joins:
        if asked.invitation == bundle.invitation:
            return asked, _folder_of(settings, asked)
    files.make_folder(settings.state)
    left_over = succession.next_keys(settings)
    if left_over.exists():
        # A crash after this: the next request finds none and makes new ones, as this one would.
        keys.set_aside(left_over)
    in_use = bool(known.joins) and settings.keys.exists()
    folder = succession.next_keys(settings) if in_use else settings.keys
    keyring = succession.made(folder)
    time = format_time(now())
    signed = keys.join_statement(keyring, bundle.code, bundle.invitation, time)
    digits = statement.fingerprint(keyring.kid, bundle.log, bundle.invitation)
    asked = Join(bundle.invitation, b64url(signed), digits, time)
    joined.add(settings.joined, bundle.code, asked)
    return asked, folder


def _folder_of(settings: Config, asked: Join) -> Path:
    """Where the keys of a request are that was made before."""
    for folder in (succession.next_keys(settings), settings.keys):
        if folder.exists():
            kid = keys.load(folder).kid
            if statement.fingerprint(kid, settings.hub.log, asked.invitation) == asked.fingerprint:
                return folder
    raise KeysError("The keys of this request were replaced since; ask for a new bundle.")


async def _send(settings: Config, bundle: Bundle, signed: bytes) -> Pending:
    link = HttpLink(settings.hub.url, None)
    try:
        return await link.join(signed)
    except HubRefused as refused:
        raise RefusedByHub(f"The hub refused: {refused.detail}{_hint(bundle, refused)}") from None
    except LinkError as error:
        raise Unreached(
            f"{error} Nothing is lost: run the same command again later, it goes on with the same "
            "keys."
        ) from None
    finally:
        await link.close()


def _hint(bundle: Bundle, refused: HubRefused) -> str:
    if refused.code not in ("unknown-invitation", "conflict"):
        return ""
    if bundle.expires <= format_time(now()):
        return f" This bundle ended at {bundle.expires}."
    return (
        " A bundle is good for one join. If this was yours and it was approved already, there is "
        "nothing more to do: start the daemon."
    )


def _tell(path: Path, settings: Config, asked: Join, kid: str, *, as_json: bool) -> None:
    if not settings.encrypted:
        note(f"{settings.hub.url} is not encrypted: others on the way can read along.")
    if as_json:
        print_json(
            {
                "code": settings.code,
                "config": str(path),
                "kid": kid,
                "fingerprint": asked.fingerprint,
            }
        )
        return
    say(f"The keys of {settings.code} are made, and the hub was asked to take them.")
    say("Call the hub's operator and read this join fingerprint aloud:")
    click.echo(f"\n    {'   '.join(statement.spoken(asked.fingerprint).split())}\n")
    say("Only if the operator sees the same digits, the request may be approved. Then start the")
    say("daemon (if it runs already, start it anew):")
    say(f"    nhri-connector run --config {path}")
