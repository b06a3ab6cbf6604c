"""``nhri-connector evidence``, and the part of ``verify`` that checks what it writes."""

import asyncio
from importlib import resources
from pathlib import Path

import click
import msgspec

from connectors import evidence as gathering
from connectors import files
from connectors.cli.inbox import at
from connectors.cli.options import examples
from connectors.cli.outcome import NotSo
from connectors.cli.output import note, print_json, say
from connectors.cli.site import Site, on_site
from connectors.link import LinkError
from schemas.evidence import archive
from schemas.evidence import check as checking
from schemas.evidence.bundle import Evidence
from schemas.jsontext import Json
from schemas.merkle import ProofError
from schemas.note import NoteError
from schemas.policy import Policy, PolicyError, parse
from schemas.refusal import Refused

_PATIENCE = 10
"""Seconds that the hub may take to give its checkpoint."""


@click.command(
    epilog=examples(
        "nhri-connector evidence 12 -o visit.zip --config kz.toml",
        "nhri-connector evidence 019f270c-11ca-7000-8000-000000000000 -o x.zip --config kz.toml",
    )
)
@click.argument("message", metavar="ID|POSITION")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="Where to write it; a file that is there is not overwritten.",
)
@on_site
def evidence(site: Site, message: str, output: Path) -> None:
    """Write everything that proves a message, sent or received, into one zip.

    The message, the log's entries about it with their proofs, the delivery receipts, and the
    history of all keys concerned. Its index.html checks all of it in any browser, offline. Give it
    only to those who may read the message. The hub is asked for nothing but the cosignatures of
    witnesses, and where it does not answer, it goes without.
    """
    if output.exists():
        raise NotSo(f"{output} is there already.")
    made = _gathered(site, message, asyncio.run(_served(site)))
    raw = archive.write(made, cover())
    trusted = Policy((site.config.log_key,))
    report = checking.check(raw, cover(), trusted)
    if not report.holds:
        raise NotSo(f"Nothing was written. {checking.verdict(report)}")
    try:
        files.write(output, raw)
    except OSError as error:
        raise NotSo(f"{output} cannot be written: {error.strerror}.") from None
    if site.as_json:
        print_json({"id": made.id, "file": str(output), "size": len(raw)})
    else:
        say(f"{output}: {len(report.findings)} checks hold.")
        say(f"Whoever gets it runs: nhri-connector verify {output} --policy FILE")


async def _served(site: Site) -> bytes | None:
    """The checkpoint that the hub serves, which needs no account; None where it does not answer."""
    # aiohttp is slow to import, and verifying a file does without it.
    from connectors.link.http import HttpLink  # noqa: PLC0415

    link = HttpLink(site.config.hub.url, None)
    try:
        async with asyncio.timeout(_PATIENCE):
            return await link.checkpoint()
    except (LinkError, TimeoutError):
        note("The hub does not answer: the evidence has the cosignatures that are in the store.")
        return None
    finally:
        await link.close()


def _gathered(site: Site, message: str, served: bytes | None) -> Evidence:
    with site.reader() as reader, reader.snapshot():
        sent = None if message.isdecimal() else reader.sent(message)
        row = sent or at(reader, message)
        if row is None:
            raise NotSo(f"There is no message {message} in the store.")
        try:
            return gathering.gather(reader, site.config.log_key, row, served)
        except (NoteError, ProofError, Refused) as error:
            raise NotSo(f"The store does not hold what it must: {error}") from None


def cover() -> str:
    """The cover page, with a place for the data."""
    return resources.files("schemas.evidence").joinpath("cover.html").read_text("utf-8")


def verify_file(file: Path, policy: Path | None, *, as_json: bool) -> None:
    """Check an evidence file and say each thing that was checked; raises ``NotSo``."""
    trusted = None if policy is None else _policy(policy)
    report = checking.check(_read(file), cover(), trusted)
    if as_json:
        findings: Json = msgspec.to_builtins(report.findings)
        limits: Json = [*report.limits]
        print_json({"ok": report.holds, "findings": findings, "not_checked": limits})
    else:
        for line in checking.lines(report):
            say(line)
    if not report.holds:
        raise NotSo(checking.verdict(report))
    if not as_json:
        say(checking.verdict(report))


def _policy(path: Path) -> Policy:
    try:
        return parse(_read(path))
    except PolicyError as error:
        raise click.UsageError(f"{path}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(archive.MAX_SIZE + 1)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}.") from None
