"""What a command prints: words and tables for people, JSON for programs.

Texts come from other institutions and a terminal obeys what it is told: no control character and no
bidirectional override of theirs ever reaches it.
"""

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TypeAlias

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from schemas.jsontext import Json

_UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

_PIPE_WIDTH = 200
"""Columns of a table that goes into a file or a pipe, so that its rows stay on one line."""

Advance: TypeAlias = Callable[[int, int], None]
"""Called with how many are done, and of how many."""


def clean(text: str) -> str:
    """A text on one line, without the characters that a terminal or an eye would obey."""
    return _UNSAFE.sub("", text.replace("\n", " "))


def say(text: str) -> None:
    """A line of the answer."""
    click.echo(clean(text))


def say_lines(text: str, indent: str = "") -> None:
    """A text of several lines."""
    for line in text.split("\n"):
        click.echo(f"{indent}{clean(line)}".rstrip())


def note(text: str) -> None:
    """What a person should know besides the answer; in a pipe the two never mix."""
    click.echo(clean(text), err=True)


def print_json(value: Json) -> None:
    """The answer for programs; unsafe characters stay, as JSON's own escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    click.echo(_UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under their headings, which may all be empty; None is shown as nothing."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # As Text: a title in square brackets is a title, not markup.
        table.add_row(*(Text("" if cell is None else clean(str(cell))) for cell in row))
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    console.print(table)


@contextlib.contextmanager
def progress(what: str) -> Iterator[Advance]:
    """A bar on the error stream while something lasts; nothing where that is no terminal."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextlib.contextmanager
def new_private_file(path: Path) -> Iterator[IO[str]]:
    """A file that only its owner reads and that was not there before; gone again on an error.

    It is made before the hub is asked: what the hub shows once must not be lost to a mistake in a
    path.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be made: {error.strerror}.") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
    except BaseException:
        path.unlink()
        raise
