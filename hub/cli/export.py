"""``nhri-hub audit export``: the log, or what matches, as a file that is whole or not there."""

import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from hub.cli.audit import LONG_PATIENCE, filter_options, vkey_option
from hub.cli.command import asks_hub, examples
from hub.cli.outcome import NotSo
from hub.cli.output import note, print_json, progress, say
from hub.ledger.export import FORMS, Check, End, Format, Head
from schemas import checkpoint
from schemas.checkpoint import Checkpoint
from schemas.note import NoteError, parse_note

if TYPE_CHECKING:
    from hub.cli.client import Hub

MAX_LINE = 4 * 1024 * 1024
"""Bytes; an entry with its private part is far shorter, and no hub can fill the memory here."""

STDOUT = Path("-")
"""What names standard output."""


@click.command(
    epilog=examples(
        "nhri-hub audit export --format csv -o january.csv --since 2026-01-01 --until 2026-01-31",
        "nhri-hub audit export --format ndjson -o - --member tm | gzip > tm.ndjson.gz",
    )
)
@click.option(
    "--format", "form", type=click.Choice([*FORMS]), required=True, help="For people or programs."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    required=True,
    metavar="FILE",
    help="Where to write it; a file that is there is not overwritten. A - is standard output.",
)
@filter_options
@vkey_option
@asks_hub
async def export(
    hub: "Hub", form: Format, output: Path, vkey: str | None, **filters: str | None
) -> None:
    """Write all entries that match into a file, in the order of the log; it is itself recorded.

    The file carries the checkpoint up to which it is of the log, the number of its rows and the
    SHA-256 of what stands before its last line. It has its name only once all of that was checked.

    csv: one line an entry, the checkpoint in the first of them and the end in the last. A text that
    a spreadsheet would take for a formula has an apostrophe before it. Where yours expects
    semicolons, import the file as text with commas. ndjson: a JSON object a line, with the bytes
    that are hashed into the log.
    """
    check = Check(FORMS[form])
    query = {"format": form, **filters}
    signed: Checkpoint | None = None
    with written(output) as file, progress("Exporting") as advance:
        coming = hub.chunks("/v1/audit/export", query, LONG_PATIENCE)
        async with contextlib.aclosing(coming) as chunks:
            async for lines in _lines(chunks):
                for line in lines:
                    check.take(line)
                file.write(b"".join(lines))
                if signed is None and check.head is not None:
                    signed = _checkpoint(hub, check.head, vkey)
                advance(check.index + 1, signed.size if signed else 0)
        end = _whole(check)
    assert signed is not None  # it is in the head, and without one there is no end
    assert check.head is not None
    _report(hub, output, form, signed, check.head, end)


def _whole(check: Check) -> End:
    try:
        return check.end()
    except ValueError as error:
        raise NotSo(f"{error} Export it again.") from None


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """The lines that are whole with each piece; at the end, what is left."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE:
            raise NotSo("What comes is not an export: a line has no end.")
        yield [line + b"\n" for line in lines]
    if rest:
        yield [rest]


def _checkpoint(hub: "Hub", head: Head, vkey: str | None) -> Checkpoint:
    """The checkpoint of an export, verified where the log's key is known here."""
    raw = head.checkpoint.encode()
    try:
        if vkey is None and not hub.access.config.exists():
            return checkpoint.parse(parse_note(raw).text)
        return checkpoint.open_checkpoint(raw, hub.access.log_vkey(vkey))
    except NoteError as error:
        raise NotSo(f"The checkpoint of the export does not hold: {error}") from None


def _report(
    hub: "Hub", output: Path, form: Format, signed: Checkpoint, head: Head, end: End
) -> None:
    if output == STDOUT:
        note(f"{end.rows} of the first {signed.size} entries of {signed.origin}.")
    elif hub.as_json:
        print_json(
            {
                "file": str(output),
                "format": form,
                "rows": end.rows,
                "sha256": end.sha256,
                "origin": signed.origin,
                "size": signed.size,
                "recorded": head.recorded,
            }
        )
    else:
        say(
            f"{output}: {end.rows} of the first {signed.size} entries of {signed.origin}, all here."
        )


@contextlib.contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A file that gets its name when it is whole, and is gone on an error; or standard output.

    A crash leaves what there was of it under a hidden name that ends in ``.part``.
    """
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.exists():
        raise click.UsageError(f"{path} is there already; name another file.")
    try:
        # Only its owner may read it.
        descriptor, name = tempfile.mkstemp(".part", f".{path.name}.", path.parent)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be made: {error.strerror}.") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).rename(path)
    except OSError as error:
        raise NotSo(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        Path(name).unlink(missing_ok=True)
