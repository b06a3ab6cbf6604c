"""The program ``nhri-connector``: all commands under one name."""

import importlib

import click

from connectors.cli.options import common_options


class Later(click.Command):
    """A command whose module is imported when it is used: ``--help`` must not wait for them all."""

    def __init__(self, name: str, module: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self._module = module

    def _command(self) -> click.Command:
        command = getattr(importlib.import_module(f"connectors.cli.{self._module}"), str(self.name))
        assert isinstance(command, click.Command)
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: object,
    ) -> click.Context:
        """From here on the command itself takes over."""
        return self._command().make_context(info_name, args, parent, **extra)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The arguments and options of the command itself."""
        return self._command().get_params(ctx)


@click.group()
@common_options
@click.version_option(package_name="nhri-exchange", prog_name="nhri-connector")
def main(**_: object) -> None:
    """Exchange signed messages with other human rights institutions.

    An institution's own side of the exchange: it signs what you send, verifies what you receive,
    and keeps watch over the hub. --config and --json may stand before or after a command's name.

    \b
    Examples:
      nhri-connector join bundle.json
      nhri-connector run --config kz.toml
      nhri-connector send visit.md --config kz.toml
      nhri-connector inbox --config kz.toml
      nhri-connector verify --all --config kz.toml

    \b
    Exit codes: 0 done, 1 the thing asked about is not so, 2 usage (also a message file with a
    mistake), 3 the hub or the daemon does not answer, 4 the hub refused.
    Environment: NHRI_CONFIG, NHRI_HUB_URL and the other settings, NO_COLOR.
    """  # noqa: D301 - \b keeps the lines of an example apart


for _name, _module, _help in (
    ("join", "join", "Make keys and ask to join a hub."),
    ("run", "run", "Run the daemon that sends, receives and verifies."),
    ("send", "send", "Sign message files and put them in the outbox."),
    ("inbox", "inbox", "List what was received."),
    ("show", "show", "Show one message, sent or received."),
    ("respond", "respond", "Answer joint actions, or take them a step further."),
    ("evidence", "evidence", "Write all that proves one message into one file."),
    ("verify", "verify", "Verify the store, or an evidence file, all over again and offline."),
    ("doctor", "doctor", "See whether all is well, and what to do if not."),
    ("alarms", "alarms", "List the alarms, and note what came of them."),
    ("witness", "witness", "Show the keys that the log is cosigned with."),
    ("policy", "witness", "Print the region's quorum, to verify with offline."),
    ("console", "console", "Sign in at the hub's console, for its webhooks."),
    ("subscription", "subscription", "Look after the institution's webhook subscriptions."),
    ("rotate", "rotate", "Replace the keys by new ones."),
    ("backup", "backup", "Write settings, keys, outbox and store into one sealed file."),
    ("restore", "backup", "Bring all of it back from such a file."),
):
    main.add_command(Later(_name, _module, _help))
