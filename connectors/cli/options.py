"""The options that every command has, and the examples at the end of its help."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

F = TypeVar("F", bound=Callable[..., object])


def examples(*lines: str) -> str:
    """The end of a command's help: command lines to copy, after click's sign to keep lines."""
    return "\n  ".join(("\b\nExamples:", *lines))


def common_options(command: F) -> F:
    """``--config`` and ``--json``; each may stand before or after the command's name."""
    config = click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        callback=_or_of_root,
        help="The connector's settings.  [default: NHRI_CONFIG, or connector.toml]",
    )
    as_json = click.option(
        "--json", "as_json", is_flag=True, callback=_or_of_root, help="Print JSON, for programs."
    )
    return config(as_json(command))


def _or_of_root(context: click.Context, parameter: click.Parameter, value: object) -> object:
    return value or context.find_root().params.get(str(parameter.name))


def config_path(given: Path | None) -> Path:
    """The settings file: as given, or else as NHRI_CONFIG or custom says."""
    return given or Path(os.environ.get("NHRI_CONFIG", "connector.toml"))
