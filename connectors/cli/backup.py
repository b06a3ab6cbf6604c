"""``nhri-connector backup`` and ``restore``: all that an institution has, in one sealed file."""

from pathlib import Path

import click

from connectors import backup as backups
from connectors.backup import MIN_PASSPHRASE, BackupError
from connectors.cli.options import common_options, config_path, examples
from connectors.cli.outcome import Mistaken, NotSo
from connectors.cli.output import print_json, progress, say
from connectors.cli.site import Site, on_site

passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Its first line is the passphrase.  [default: you are asked]",
)


@click.command(
    epilog=examples(
        "nhri-connector backup -o /media/usb/kz-2026-07-01.backup --config kz.toml",
        "nhri-connector backup -o kz.backup --passphrase-file /root/passphrase --config kz.toml",
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
@passphrase_option
@on_site
def backup(site: Site, output: Path, passphrase_file: Path | None) -> None:
    """Write settings, private keys, outbox and store into FILE, while the daemon runs or not.

    All of it is sealed with a passphrase of at least 12 characters. Keep it apart from FILE:
    without it nobody can open FILE, with both anybody can speak as the institution.
    """
    passphrase = _passphrase(passphrase_file, new=True)
    try:
        with progress("Writing"):
            count = backups.write(output, site.path, site.config, passphrase)
    except BackupError as error:
        raise NotSo(str(error)) from None
    if site.as_json:
        print_json({"file": str(output), "code": site.code, "files": count})
    else:
        say(f"{output} holds all that {site.code} has here, its private keys included.")
        say("It was opened again with the passphrase: nothing is missing.")


@click.command(epilog=examples("nhri-connector restore kz.backup --config kz.toml"))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@passphrase_option
@common_options
def restore(config: Path | None, as_json: bool, file: Path, passphrase_file: Path | None) -> None:
    """Bring back what FILE holds, as it was; nothing is written over what is there.

    The settings go to --config, or stay as they are where they are there. What was received since
    comes in again. The connector witnesses nothing until it has new keys: it cannot know what it
    has cosigned since.
    """
    path = config_path(config)
    passphrase = _passphrase(passphrase_file, new=False)
    try:
        with progress("Restoring"):
            restored = backups.restore(file, path, passphrase)
    except BackupError as error:
        raise NotSo(str(error)) from None
    if as_json:
        state = str(restored.state)
        print_json({"code": restored.code, "settings": str(path), "state": state})
        return
    say(f"What {restored.code} had is in {restored.state}, and its settings are {path}.")
    say("")
    say("What comes next:")
    say(f"  nhri-connector run --config {path}     # until nothing waits in the outbox")
    say(f"  nhri-connector rotate --config {path}  # new keys, so that it witnesses again")
    say(f"  nhri-connector doctor --config {path}")
    say("Messages sent since the backup are known to the hub and not here: they raise the alarms")
    say("own-message and receipt-differs. Nothing may run any more where the backup was made.")


def _passphrase(file: Path | None, *, new: bool) -> str:
    if file is None:
        given = str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True))
    else:
        try:
            given = (file.read_text("utf-8").splitlines() or [""])[0]
        except (OSError, UnicodeDecodeError) as error:
            raise Mistaken(f"{file} cannot be read: {error}.") from None
    if new and len(given) < MIN_PASSPHRASE:
        raise Mistaken(f"The passphrase has fewer than {MIN_PASSPHRASE} characters; take more.")
    return given
