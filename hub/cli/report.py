"""``nhri-hub audit report``: the figures of some days as a page to read, print and keep."""

import contextlib
import hashlib
import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.cli.audit import LONG_PATIENCE
from hub.cli.command import asks_hub, examples
from hub.cli.export import STDOUT, written
from hub.cli.outcome import NotSo, Unreachable
from hub.cli.output import note, print_json, progress, say
from schemas.encoding import b64url

if TYPE_CHECKING:
    from hub.cli.client import Hub

LANGUAGES = ("kk", "ky", "tg", "tk", "uz-Latn", "ru", "en")

MAX_PAGE = 8 * 1024 * 1024
"""Bytes; a report is far shorter, and no hub can fill the memory here."""

_BEGINS = b"<!doctype html>"
_ENDS = b"</html>"


def _day(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A day, as YYYY-MM-DD."""
    if value is None:
        return None
    try:
        if not re.fullmatch(r"2\d{3}-\d{2}-\d{2}", value):
            raise ValueError("a day is written YYYY-MM-DD, from 2000-01-01 on")
        return date.fromisoformat(value).isoformat()
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


@click.command(
    epilog=examples(
        "nhri-hub audit report -o quarter.html",
        "nhri-hub audit report --from 2026-01-01 --to 2026-06-30 --language ru -o report.html",
    )
)
@click.option("--from", "first", metavar="DAY", callback=_day, help="The first day (UTC).")
@click.option(
    "--to",
    "last",
    metavar="DAY",
    callback=_day,
    help="The last day (UTC).  [default: the last quarter that is over]",
)
@click.option(
    "--language",
    type=click.Choice(LANGUAGES),
    default="en",
    show_default=True,
    help="In which language it is written.",
)
@click.option(
    "--at",
    type=click.IntRange(min=1),
    metavar="SIZE",
    help="Of the log up to the checkpoint of this size, as an earlier report says at its end.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    required=True,
    metavar="FILE",
    help="Where to write it; a file that is there is not overwritten. A - is standard output.",
)
@asks_hub
async def report(
    hub: "Hub",
    first: str | None,
    last: str | None,
    language: str,
    at: int | None,
    output: Path,
) -> None:
    """Write a report on some days as one HTML page that prints well; asking for it is recorded.

    It counts messages by institution, kind, theme and goal, says how joint actions ended, how long
    deliveries took and what failed, and compares that with the period before. It has no texts and
    no persons. The page loads nothing: open it in any browser, and print it or save it as PDF.
    """
    if (first is None) != (last is None):
        raise click.UsageError("Give both --from and --to, or neither.")
    if first is not None and last is not None and last < first:
        raise click.UsageError("--from is after --to.")
    query = {"from": first, "to": last, "language": language, "at": None if at is None else str(at)}
    with written(output) as file, progress("Counting"):
        made = await _made(hub, query)
        file.write(made)
    sha256 = b64url(hashlib.sha256(made).digest())
    if output == STDOUT:
        note(f"The report has {len(made)} bytes.")
    elif hub.as_json:
        print_json({"file": str(output), "bytes": len(made), "sha256": sha256})
    else:
        say(f"{output}: open it in a browser.")


async def _made(hub: "Hub", query: dict[str, str | None]) -> bytes:
    """The page, whole."""
    coming = hub.chunks("/v1/audit/report", query, LONG_PATIENCE)
    made = bytearray()
    async with contextlib.aclosing(coming) as chunks:
        async for chunk in chunks:
            made += chunk
            if len(made) > MAX_PAGE:
                raise NotSo("What comes is no report: it does not end.")
    if not (made.startswith(_BEGINS) and made.rstrip().endswith(_ENDS)):
        raise Unreachable(f"What answers at {hub.place} is not a hub: no report.")
    return bytes(made)
