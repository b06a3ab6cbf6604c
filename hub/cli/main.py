"""The program ``nhri-hub``: all commands under one name."""

import importlib

import click

from hub.cli.audit import audit
from hub.cli.backup import backup, restore
from hub.cli.body import body
from hub.cli.ca import ca
from hub.cli.command import access_options, examples
from hub.cli.doctor import doctor
from hub.cli.evidence import evidence, verify
from hub.cli.export import export
from hub.cli.hold import hold
from hub.cli.key import key
from hub.cli.listen import listen
from hub.cli.member import member
from hub.cli.message import message
from hub.cli.rabbitmq import rabbitmq
from hub.cli.report import report
from hub.cli.serve import init, serve
from hub.cli.subscription import subscription
from hub.cli.token import token


class Later(click.Command):
    """A command whose module is imported when it is used, and not for the others."""

    def __init__(self, name: str, module: str, short_help: str) -> None:
        super().__init__(name, help=short_help)
        self._module = module

    def _command(self) -> click.Command:
        command = getattr(importlib.import_module(self._module), self.name or "")
        assert isinstance(command, click.Command)
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: object,
    ) -> click.Context:
        """Hand over to the command itself."""
        return self._command().make_context(info_name, args, parent, **extra)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The options of the command itself."""
        return self._command().get_params(ctx)


@click.group(
    epilog=examples(
        "nhri-hub init /etc/nhri --name hub.example.org",
        "nhri-hub serve --config /etc/nhri/hub.toml",
        "nhri-hub member list --config /etc/nhri/hub.toml",
        "nhri-hub audit verify --hub https://hub.example.org --token-file me.token --vkey KEY",
    )
)
@access_options
@click.version_option(package_name="nhri-exchange", prog_name="nhri-hub")
def main(**_: object) -> None:
    """Run a message hub for human rights institutions, and ask the one that runs.

    All commands but init, serve, backup, restore, verify, demo and subscription listen speak to the
    running hub: on this machine over the socket that the settings name, elsewhere over --hub URL
    with --token-file FILE. These options may stand before or after the command's name.

    Exit codes: 0 done, 1 the thing asked about is not so, 2 usage, 3 the hub cannot be reached, 4
    the hub refused. The environment: NHRI_CONFIG names the settings, NO_COLOR takes the colours
    away.
    """


for command in (body, export, hold, report):
    audit.add_command(command)
for command in (
    *(init, serve, member, key, token, message, audit, evidence, verify, ca, rabbitmq),
    *(subscription, backup, restore, doctor),
):
    main.add_command(command)
subscription.add_command(listen)
main.add_command(Later("demo", "hub.cli.demo", "Show the whole exchange on this machine."))
