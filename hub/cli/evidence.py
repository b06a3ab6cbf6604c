"""``nhri-hub evidence`` and ``verify``: what proves a message to somebody who trusts nobody."""

import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
import msgspec

from hub.cli.command import asks_hub, examples
from hub.cli.outcome import NotSo
from hub.cli.output import print_json, say
from schemas.evidence import archive
from schemas.evidence import check as checking
from schemas.evidence.check import Report, Result
from schemas.jsontext import Json
from schemas.policy import Policy, PolicyError, parse

if TYPE_CHECKING:
    from hub.cli.client import Hub


@click.command(
    epilog=examples(
        "nhri-hub evidence 01890a5d-ac96-774b-bcce-b302099a8057 -o visit.zip",
        "nhri-hub evidence 01890a5d-ac96-774b-bcce-b302099a8057 -o a.zip --reason 'Case 7/2026'",
    )
)
@click.argument("message_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="Where to write it; a file that is there is not overwritten.",
)
@click.option("--reason", help="Why you have to read a message above TLP:GREEN; it is recorded.")
@asks_hub
async def evidence(hub: "Hub", message_id: str, output: Path, reason: str | None) -> None:
    """Write everything that proves a message into one zip.

    The message, the log's entries about it with their proofs, the delivery receipts, and the
    history of all keys concerned. Its index.html checks all of it in any browser, offline.
    """
    path = f"/v1/audit/messages/{quote(message_id, safe='')}/evidence"
    raw = await hub.download(path, {"reason": reason}, archive.MAX_SIZE)
    report = checking.check(raw, cover(), None)
    failed = [f.sentence for f in report.findings if f.result is Result.FAILS]
    if failed:
        raise NotSo(f"What the hub gave does not hold, and was not written: {' '.join(failed)}")
    _write(output, raw)
    if hub.as_json:
        print_json({"id": message_id, "file": str(output), "size": len(raw)})
    else:
        say(f"{output}: {len(report.findings)} checks hold but for the trust in the log's key.")
        say(f"Whoever gets it runs: nhri-hub verify {output} --policy FILE")


def _write(path: Path, raw: bytes) -> None:
    """Only for its owner to read, and never over what is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
    except OSError as error:
        raise NotSo(f"{path} cannot be written: {error.strerror}.") from None


def cover() -> str:
    """The cover page, with a place for the data."""
    return resources.files("schemas.evidence").joinpath("cover.html").read_text("utf-8")


@click.command(epilog=examples("nhri-hub verify visit.zip --policy policy.txt"))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@click.option(
    "--policy",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Whose log to believe, and how many witnesses (C2SP tlog-policy).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def verify(file: Path, policy: Path | None, as_json: bool) -> None:
    """Check an evidence file, offline, and say each thing that was checked.

    Ends with 1 when anything does not hold, and also without a policy: the keys in the file prove
    nothing by themselves. `nhri-hub audit key` prints the line `log` of a policy.
    """
    trusted = None if policy is None else _policy(policy)
    report = checking.check(_read(file), cover(), trusted)
    if as_json:
        print_json(as_plain(report))
    else:
        for line in checking.lines(report):
            say(line)
    if not report.holds:
        raise NotSo(checking.verdict(report))
    if not as_json:
        say(checking.verdict(report))


def as_plain(report: Report) -> Json:
    """A report for programs."""
    findings: Json = msgspec.to_builtins(report.findings)
    return {"ok": report.holds, "findings": findings, "not_checked": [*report.limits]}


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
