"""``nhri-hub rabbitmq``: the broker's topology to import, and the messages in quarantine."""

import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from hub.cli.command import asks_hub, examples
from hub.cli.outcome import NotSo
from hub.cli.output import note, print_json, print_table, say
from hub.delivery import topology
from schemas import jsontext
from schemas.encoding import unb64url
from schemas.refusal import Refused

if TYPE_CHECKING:
    from hub.cli.client import Hub


class Member(msgspec.Struct, frozen=True):
    """A participant of the directory."""

    code: str


class Members(msgspec.Struct, frozen=True):
    """The answer to ``GET /v1/members``."""

    members: list[Member]


class Message(msgspec.Struct, frozen=True):
    """A message in quarantine; ``body`` comes with a single one only."""

    digest: str
    reason: str | None
    quarantined: str | None
    user: str | None
    routing_key: str
    type: str | None
    size: int
    copies: int
    body: str = ""


class Messages(msgspec.Struct, frozen=True):
    """The answer to ``GET /v1/quarantine``."""

    messages: list[Message]


@click.group()
def rabbitmq() -> None:
    """Print what RabbitMQ has to import, and deal with messages in quarantine."""


@rabbitmq.command(
    epilog=examples(
        "nhri-hub rabbitmq definitions --passwords-to accounts.json > definitions.json",
        "nhri-hub rabbitmq definitions --external --with-hub > definitions.json",
        "rabbitmqctl import_definitions definitions.json",
    )
)
@click.option(
    "--passwords-to",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Take the accounts' passwords from this JSON file; those missing are drawn and added.",
)
@click.option("--external", is_flag=True, help="No passwords: accounts show client certificates.")
@click.option(
    "--with-hub",
    is_flag=True,
    help="With the hub's own account, for a broker that has none yet.",
)
@asks_hub
async def definitions(hub: "Hub", file: Path | None, external: bool, with_hub: bool) -> None:
    """Print vhost, accounts, permissions, exchanges, queues and bindings for RabbitMQ.

    Import it again after a participant has joined. What is there already stays as it is, except
    that the accounts in it get the passwords in FILE. The hub's own account is left out unless you
    ask for it or FILE has its password: the hub would be locked out with another.

    The broker needs max_message_size = 1048576 in rabbitmq.conf; definitions cannot say that.
    """
    if (file is None) != external:
        raise click.UsageError("Give one of --passwords-to FILE and --external.")
    answer = jsontext.convert(await hub.get("/v1/members"), Members)
    codes = [member.code for member in answer.members]
    hashes: dict[str, str] = {}
    if file is not None:
        passwords = _passwords(file, codes, with_hub=with_hub)
        hashes = {
            account: topology.password_hash(password, secrets.token_bytes(4))
            for account, password in passwords.items()
        }
        note(f"The passwords are in {file}; give each participant its own and no other.")
        with_hub = topology.HUB_ACCOUNT in passwords
    print_json(msgspec.to_builtins(topology.definitions(codes, hashes, with_hub=with_hub)))


def _passwords(file: Path, codes: Iterable[str], *, with_hub: bool) -> Mapping[str, str]:
    """The passwords in a file that only its owner reads, with new ones for who has none."""
    try:
        known = _read(file) if file.exists() else {}
        hub = [topology.HUB_ACCOUNT] if with_hub or topology.HUB_ACCOUNT in known else []
        every = {name: known.get(name) or secrets.token_urlsafe(24) for name in (*hub, *codes)}
        if drawn := sorted(every.keys() - known.keys()):
            _replace(file, {**known, **every})
            note(f"New passwords were drawn for {', '.join(drawn)}; an import replaces others.")
    except OSError as error:
        raise click.UsageError(f"{file} cannot be used: {error.strerror}.") from None
    return every


def _read(file: Path) -> dict[str, str]:
    if file.stat().st_mode & 0o077:
        raise NotSo(f"{file} can be read by others; run chmod 600 {file}.")
    try:
        return jsontext.decode(file.read_bytes(), dict[str, str])
    except Refused as refusal:
        raise NotSo(f"{file} does not hold passwords by account: {refusal.detail}") from None


def _replace(file: Path, passwords: Mapping[str, str]) -> None:
    """Whole or not at all: the broker keeps only hashes, so that a lost password is lost."""
    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as written:
        written.write(msgspec.json.format(msgspec.json.encode(passwords, order="sorted")) + b"\n")
        written.flush()
        os.fsync(written.fileno())
    draft.replace(file)


@rabbitmq.group()
def quarantine() -> None:
    """See, release and discard what came over the broker and could not be answered."""


@quarantine.command("list", epilog=examples("nhri-hub rabbitmq quarantine list"))
@asks_hub
async def list_messages(hub: "Hub") -> None:
    """List the messages in quarantine, the oldest first, with the reason."""
    answer = await hub.get("/v1/quarantine")
    if hub.as_json:
        print_json(answer)
        return
    found = jsontext.convert(answer, Messages).messages
    print_table(
        ("digest", "user", "type", "bytes", "copies", "since", "reason"),
        ((m.digest, m.user, m.type, m.size, m.copies, m.quarantined, m.reason) for m in found),
    )


_digest = click.argument("digest")
_reason = click.option("--reason", default="", help="Why, for the record.")


@quarantine.command(
    epilog=examples(
        "nhri-hub rabbitmq quarantine show DIGEST",
        "nhri-hub rabbitmq quarantine show DIGEST --reason 'kz asks why it was not taken'",
    )
)
@_digest
@_reason
@asks_hub
async def show(hub: "Hub", digest: str, reason: str) -> None:
    """Show one message with its body. That you read it is recorded.

    Anything but a message marked TLP:CLEAR or TLP:GREEN takes a reason.
    """
    answer = await hub.get(f"/v1/quarantine/{_checked(digest)}", {"reason": reason or None})
    if hub.as_json:
        print_json(answer)
        return
    found = jsontext.convert(answer, Message)
    names = ("digest", "reason", "quarantined", "user", "routing_key", "type", "size", "copies")
    print_table(("", ""), ((name, getattr(found, name)) for name in names))
    say(unb64url(found.body).decode("utf-8", "backslashreplace"))


@quarantine.command(epilog=examples('nhri-hub rabbitmq quarantine release DIGEST --reason "kz"'))
@_digest
@_reason
@asks_hub
async def release(hub: "Hub", digest: str, reason: str) -> None:
    """Take a message in again as if it had just come; its sender gets the answer."""
    await _decide(hub, digest, "release", reason, "is taken in")


@quarantine.command(epilog=examples('nhri-hub rabbitmq quarantine discard DIGEST --reason "test"'))
@_digest
@_reason
@asks_hub
async def discard(hub: "Hub", digest: str, reason: str) -> None:
    """Throw a message away for good; its digest stays in the log."""
    await _decide(hub, digest, "discard", reason, "is thrown away")


async def _decide(hub: "Hub", digest: str, what: str, reason: str, done: str) -> None:
    answer = await hub.post(f"/v1/quarantine/{_checked(digest)}/{what}", {"reason": reason})
    if hub.as_json:
        print_json(answer)
    else:
        say(f"The message {digest} {done}.")


def _checked(digest: str) -> str:
    if not digest.replace("-", "").replace("_", "").isalnum():
        raise click.BadParameter("it is no digest; `nhri-hub rabbitmq quarantine list` has them.")
    return digest
