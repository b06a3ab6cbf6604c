"""What all commands have in common: the options that name the hub, and how they are run."""

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeAlias, TypeVar

import click

from hub.cli.access import Access
from hub.cli.outcome import RefusedByHub, Unreachable
from hub.cli.output import print_json
from schemas.refusal import Refused

Command: TypeAlias = Callable[..., None]
F = TypeVar("F", bound=Callable[..., object])


def examples(*lines: str) -> str:
    """The end of a command's help: lines to copy. A backspace is click's sign to keep lines."""
    return "\n  ".join(("\b\nExamples:", *lines))


def _or_of_root(context: click.Context, parameter: click.Parameter, value: object) -> object:
    """An option's value here, or else the one given before the command's name."""
    return value or context.find_root().params.get(parameter.name or "")


def option(*names: str, **attributes: object) -> Callable[[F], F]:
    """A click option that may stand before or after the command's name."""
    return click.option(*names, callback=_or_of_root, **attributes)  # type: ignore[arg-type]


config_option = option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings of the hub on this machine.  [default: NHRI_CONFIG, or hub.toml]",
)

_OPTIONS = (
    config_option,
    option("--hub", metavar="URL", help="A hub elsewhere, instead of the one on this machine."),
    option(
        "--token-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Your token for --hub.",
    ),
    option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
)


def access_options(command: F) -> F:
    """The options that every command understands."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command


def config_path(given: Path | None) -> Path:
    """The settings file: as given, or else as NHRI_CONFIG or custom says."""
    return given or Path(os.environ.get("NHRI_CONFIG", "hub.toml"))


def asks_hub(command: Callable[..., Coroutine[None, None, None]]) -> Command:
    """Run a coroutine as a command: it gets the ``Hub`` first, then its own arguments."""

    @functools.wraps(command)
    def run(
        config: Path | None,
        hub: str | None,
        token_file: Path | None,
        as_json: bool,
        **arguments: object,
    ) -> None:
        # aiohttp is slow to import, and --help does without it.
        from hub.cli.client import connect  # noqa: PLC0415

        if token_file and not hub:
            raise click.UsageError("--token-file goes with --hub URL.")
        access = Access(config_path(config), hub, token_file)

        async def ask() -> None:
            async with connect(access, as_json=as_json) as connected:
                await command(connected, **arguments)

        try:
            asyncio.run(ask())
        except RefusedByHub as refused:
            if as_json:
                print_json(refused.document)
            raise
        except Refused as misread:
            raise Unreachable(
                f"The hub's answer is not understood ({misread}): is it of another version?"
            ) from None

    return access_options(run)
