"""``nhri-hub ca``: the small private certificate authority for members' TLS links."""

import contextlib
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from hub.cli.access import Access
from hub.cli.command import access_options, asks_hub, config_path, examples
from hub.cli.outcome import NotSo
from hub.cli.output import print_json, print_table, say
from hub.delivery.topology import HUB_ACCOUNT
from hub.settings import Settings, StartError
from schemas import amqp, jsontext

if TYPE_CHECKING:
    from hub.authority import Authority
    from hub.cli.client import Hub


class Certificate(msgspec.Struct, frozen=True):
    """A participant's newest certificate."""

    code: str
    serial: str
    not_after: str
    days_left: int
    certificate: str


class Certificates(msgspec.Struct, frozen=True):
    """The answer to ``GET /v1/certificates``; ``own`` are the days left of those of no member."""

    certificates: list[Certificate]
    own: dict[str, int]


@click.group()
def ca() -> None:
    """Certify members' TLS links: make the authority, issue, renew, list what ends when."""


@ca.command(epilog=examples("nhri-hub ca init --config /etc/nhri/hub.toml"))
@access_options
def init(config: Path | None, **_: object) -> None:
    """Make the authority's certificate and key beside the settings."""
    from hub import certificates  # noqa: PLC0415 - cryptography's X.509 takes its time

    settings = _settings(config)
    with _stops_as_not_so():
        certificates.create_authority(Path(settings.folder), settings.name, *_now_and_serial())
    say("The authority is made. Add this to the settings and restart the hub:")
    say("")
    say("[authority]")
    say(f'certificate = "{certificates.CERTIFICATE_FILE}"')
    say(f'key = "{certificates.KEY_FILE}"')


@ca.command(epilog=examples("nhri-hub ca server hub.example.org 192.0.2.7"))
@click.argument("names", nargs=-1, required=True)
@access_options
def server(config: Path | None, names: tuple[str, ...], **_: object) -> None:
    """Make a certificate for a server (the hub's door, the broker) with these NAMES."""
    from hub import certificates  # noqa: PLC0415 - cryptography's X.509 takes its time

    settings = _settings(config)
    with _stops_as_not_so():
        issuer = _issuer(settings)
        files = certificates.create_server(issuer, Path(settings.folder), names, *_now_and_serial())
    say(f"The certificate is in {files[0]}, its key in {files[1]}.")


@ca.command(epilog=examples("nhri-hub ca hub"))
@access_options
def hub(config: Path | None, **_: object) -> None:
    """Make the certificate that the hub itself shows the broker."""
    from hub import certificates  # noqa: PLC0415 - cryptography's X.509 takes its time

    settings = _settings(config)
    with _stops_as_not_so():
        issuer, folder = _issuer(settings), Path(settings.folder).absolute()
        files = certificates.create_client(issuer, folder, HUB_ACCOUNT, *_now_and_serial())
    say(f"The certificate is in {files[0]}, its key in {files[1]}. Into the settings, with the")
    say("broker's host, and the file of the authority that certified it:")
    say("")
    say("[broker]")
    ca_file = folder / settings.authority.certificate
    query = f"auth=external&cafile={ca_file}&certfile={files[0]}&keyfile={files[1]}"
    say(f'url = "amqps://broker.example.org/{amqp.VHOST}?{query}"')


@contextlib.contextmanager
def _stops_as_not_so() -> Iterator[None]:
    try:
        yield
    except StartError as error:
        raise NotSo(str(error)) from None


def _issuer(settings: Settings) -> "Authority":
    from hub import certificates  # noqa: PLC0415 - cryptography's X.509 takes its time

    found = certificates.load_authority(settings)
    if found is None:
        raise NotSo("The settings name no authority; make one: nhri-hub ca init.")
    return found


def _settings(config: Path | None) -> Settings:
    return Access(config_path(config)).settings()


def _now_and_serial() -> tuple[datetime, int]:
    return datetime.now(UTC), secrets.randbits(127) | 1


@ca.command("list", epilog=examples("nhri-hub ca list"))
@asks_hub
async def list_certificates(hub: "Hub") -> None:
    """List all certificates, members' first; exit 1 if one ends within 3 days.

    What ends first stands first. hub:authority is the authority itself, hub:door what the hub shows
    at its door, hub:broker what it shows the broker; server:NAME was made with `ca server`.
    """
    answer = await hub.get("/v1/certificates")
    found = jsontext.convert(answer, Certificates)
    if hub.as_json:
        print_json(answer)
    else:
        members = [(c.code, c.not_after, c.days_left, c.serial) for c in found.certificates]
        own = sorted((days, name) for name, days in found.own.items())
        rows = [*members, *((name, "", days, "") for days, name in own)]
        print_table(("whose", "ends", "days left", "serial"), rows)
    lefts = [(c.code, c.days_left) for c in found.certificates] + [*found.own.items()]
    ending = [name for name, days in lefts if days <= 3]
    if ending:
        raise NotSo(
            f"These end within three days: {', '.join(ending)}. "
            "nhri-hub ca issue renews a member's; for others see runbooks/certificate-ends.md."
        )


@ca.command(epilog=examples("nhri-hub ca issue kz"))
@click.argument("code")
@asks_hub
async def issue(hub: "Hub", code: str) -> None:
    """Issue (or renew) CODE's certificate for the request that it registered when it joined."""
    answer = await hub.post(f"/v1/certificates/{code}", {})
    issued = jsontext.convert(answer, Certificate)
    if hub.as_json:
        print_json(answer)
    else:
        say(f"{issued.code} has a certificate until {issued.not_after}; its connector fetches it.")
