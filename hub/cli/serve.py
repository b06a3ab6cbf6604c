"""``nhri-hub init`` and ``serve``: a new hub, and the daemon that everything else speaks to."""

from pathlib import Path

import click

from hub.cli.command import config_option, config_path, examples
from hub.cli.outcome import NotSo
from hub.cli.output import say
from hub.settings import StartError, initialise, load


@click.command(epilog=examples("nhri-hub serve --config /etc/nhri/hub.toml"))
@config_option
def serve(config: Path | None) -> None:
    """Run the hub until it is told to stop (Ctrl-C or SIGTERM)."""
    # The daemon loads what no other command needs.
    from hub.app import serve as run  # noqa: PLC0415

    try:
        run(load(config_path(config)))
    except StartError as error:
        raise NotSo(str(error)) from None


@click.command(epilog=examples("nhri-hub init /etc/nhri --name hub.example.org"))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@click.option(
    "--name",
    required=True,
    metavar="HOST",
    help="The hub's host name; the log is named after it, and neither ever changes.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8080,
    show_default=True,
    help="Port of the HTTP door.",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address that the door listens at."
)
def init(folder: Path, name: str, port: int, host: str) -> None:
    """Make the settings and the log key of a new hub in DIR."""
    try:
        settings = initialise(folder, name, port, host)
    except StartError as error:
        raise NotSo(str(error)) from None
    say(f"The settings are in {settings}, and the log's key beside them.")
    say("Keep a copy of the key in a safe place: nobody can make it again.")
    say("")
    say("What comes next:")
    say(f"  nhri-hub serve --config {settings}")
    say(f"  nhri-hub member invite CODE --profile FILE -o CODE.json --config {settings}")
    say(f"  nhri-hub doctor --config {settings}")
