"""``nhri-hub backup`` and ``restore``: the database in one file, and a database from it."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path

import click

from hub.backup import BackupError, Manifest
from hub.cli.access import Access
from hub.cli.command import config_option, config_path, examples, option
from hub.cli.outcome import NotSo
from hub.cli.output import print_json, progress, say
from hub.settings import StartError
from schemas.jsontext import Json

json_option = option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.command(
    epilog=examples(
        "nhri-hub backup -o /srv/backup/hub-2026-07-01.zip --config /etc/nhri/hub.toml",
        "nhri-hub backup -o hub.zip --with-key",
    )
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="Where to write it; a file that is there is not overwritten.",
)
@click.option(
    "--with-key",
    is_flag=True,
    help="Put the log's private key in: whoever has the file can then sign in the hub's name.",
)
@config_option
@json_option
def backup(config: Path | None, output: Path, with_key: bool, as_json: bool) -> None:
    """Write the whole database into FILE, while the hub runs or not, and read it all again.

    FILE holds messages and can be read by its owner alone: keep it as you keep the database. The
    log's key, hub.toml, certificates and the policy are not in it; keep a copy of them apart.
    """
    from hub import recovery  # noqa: PLC0415 - slow to import, and --help does without it

    settings = Access(config_path(config)).settings()
    made = _run(recovery.back_up(settings, output, progress, with_key=with_key))
    if as_json:
        print_json(_document(made, output))
        return
    say(f"{output} holds {made.size} entries of {made.origin} and {made.rows} rows in all.")
    say("It was read again: every part is as it was written, and the entries lead to the root.")
    if with_key:
        say("The log's private key is in it: let nobody see it, and never send it.")
    else:
        say(f"The log's key is not in it: keep a copy of {settings.log_key_path} apart.")


@click.command(epilog=examples("nhri-hub restore hub.zip --config /etc/nhri/hub.toml"))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@config_option
@json_option
def restore(config: Path | None, file: Path, as_json: bool) -> None:
    """Fill an empty database from FILE, whichever kind either database is of.

    Everything is verified before anything is written, and nothing is written over a database that
    is there. Needs the settings and the log's key as they were; the hub must not run.
    """
    from hub import recovery  # noqa: PLC0415

    settings = Access(config_path(config)).settings()
    found = _run(recovery.restore(settings, file, progress))
    if as_json:
        print_json(_document(found, file))
        return
    say(f"The database has the {found.size} entries of {found.origin} as of {found.time}.")
    say("What was accepted later comes back from the connectors. The hub signs nothing until then,")
    say("and until a quorum of witnesses is not ahead; the file `restored` says so to it.")
    say("")
    say("What comes next:")
    say(f"  nhri-hub serve --config {config_path(config)}")
    say(f"  nhri-hub doctor --config {config_path(config)}")
    say(f"  nhri-hub audit verify --config {config_path(config)}")
    say("deploy/runbooks/restore.md says what else there is to do.")


def _run(work: Coroutine[None, None, Manifest]) -> Manifest:
    try:
        return asyncio.run(work)
    except (BackupError, StartError) as error:
        raise NotSo(str(error)) from None


def _document(manifest: Manifest, file: Path) -> Json:
    return {
        "file": str(file),
        "origin": manifest.origin,
        "time": manifest.time,
        "size": manifest.size,
        "rows": manifest.rows,
        "with_key": manifest.with_key,
    }
