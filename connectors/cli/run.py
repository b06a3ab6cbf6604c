"""``nhri-connector run``: the daemon."""

from pathlib import Path

import click

from connectors import daemon
from connectors.cli.options import common_options, config_path, examples


@click.command(
    epilog=examples(
        "nhri-connector run --config kz.toml", "NHRI_CONFIG=/etc/nhri/kz.toml nhri-connector run"
    )
)
@common_options
@click.pass_context
def run(context: click.Context, config: Path | None, as_json: bool) -> None:
    """Run the daemon: send what is in the outbox, receive, verify, give receipts, watch the hub.

    It runs until it is told to stop (SIGTERM, Ctrl-C). It writes one JSON line an event to the
    error stream, with --json or without. Stopped at any moment, it loses nothing and doubles
    nothing.
    """
    path = config_path(config)
    if not path.exists():
        raise click.UsageError(f"There is no {path}; `nhri-connector join BUNDLE` makes it.")
    context.exit(daemon.main(path))
