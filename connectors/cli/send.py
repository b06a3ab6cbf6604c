"""``nhri-connector send``: message files into the outbox."""

import secrets
from datetime import timedelta
from pathlib import Path

import click
import msgspec

from connectors.cli import reading
from connectors.cli.options import examples
from connectors.cli.outcome import Mistaken
from connectors.cli.outgoing import Outgoing, check_rules, put, wait_options
from connectors.cli.output import print_json, progress
from connectors.cli.site import Site, now, on_site
from connectors.compose import ComposeError, compose, sign
from connectors.source import FORMATS
from schemas.message import Message
from schemas.signature import MAX_ENVELOPE


class Mistake(msgspec.Struct, frozen=True):
    """What is wrong with a file, where. ``field`` is empty where it is not about one."""

    file: str
    line: int
    field: str
    sentence: str

    def __str__(self) -> str:
        """One line, as compilers write it."""
        return f"{self.file}:{self.line}: {self.field}{': ' if self.field else ''}{self.sentence}"


_SAMPLE = """

\b
A message in Markdown, in two languages:
  ---
  kind: activity_bulletin
  to: region
  marking: GREEN
  activity: visit
  language: ru
  ---
  # Посещение колонии
  Первый абзац — краткое изложение.

\b
  Остальное — сам текст.
  --- kk
  # Колонияға бару
"""


@click.command(
    epilog=examples(
        "nhri-connector send visit.md --config kz.toml",
        "nhri-connector send reports/*.yaml --wait --config kz.toml",
    )
    + _SAMPLE
)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@wait_options
@on_site
def send(site: Site, files: tuple[Path, ...], patience: float | None) -> None:
    """Sign message files and put them in the outbox; the daemon sends them.

    FILES are YAML (.yaml), JSON (.json) or Markdown (.md). All are checked before the first is put
    in the outbox: with a mistake in one of them nothing is sent, and every mistake is named with
    its line. What can be filled in may be left out: id, created, sender, thread.
    """
    private = site.keys().sign
    mistakes: list[Mistake] = []
    outgoing: list[Outgoing] = []
    with progress("Checking the files") as advance:
        for number, file in enumerate(files):
            try:
                message = _threaded(site, _compose(site, file, number))
                outgoing.append(Outgoing(str(file), message, sign(message, private)))
            except ComposeError as error:
                mistakes.append(Mistake(str(file), error.line, error.field, error.sentence))
            advance(number + 1, len(files))
    mistakes += _twice(outgoing)
    if mistakes:
        if site.as_json:
            print_json({"mistakes": msgspec.to_builtins(mistakes)})
        lines = "\n".join(map(str, mistakes))
        raise Mistaken(f"{lines}\nNothing was sent.")
    check_rules(site, [one.message for one in outgoing])
    put(site, outgoing, patience)


def _compose(site: Site, file: Path, number: int) -> Message:
    form = FORMATS.get(file.suffix.lower())
    if form is None:
        raise ComposeError(1, "", f"The name must end in one of {', '.join(FORMATS)}.")
    if file.stat().st_size > 4 * MAX_ENVELOPE:
        raise ComposeError(1, "", "It is larger than any message can be.")
    raw = file.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ComposeError(line, "", "It is not in UTF-8; save it in that encoding.") from None
    return compose(
        text,
        form,
        code=site.code,
        # A millisecond apart, so that they go out, by id, in the order they were named.
        now=now() + timedelta(milliseconds=number),
        randomness=secrets.token_bytes(10),
        profile=site.profile,
    )


def _threaded(site: Site, message: Message) -> Message:
    """A reply whose file names no thread goes on in that of the message it replies to."""
    replied_to = message.in_reply_to
    if replied_to is None or message.thread != replied_to:
        return message
    reader = site.glance()
    if reader is None:
        return message
    with reader:
        replied = reading.known(reader, replied_to)
    thread = replied.thread if replied else None
    return msgspec.structs.replace(message, thread=thread or replied_to)


def _twice(outgoing: list[Outgoing]) -> list[Mistake]:
    seen: dict[str, str] = {}
    mistakes = []
    for one in outgoing:
        if one.message.id in seen:
            sentence = f"{seen[one.message.id]} has the same id."
            mistakes.append(Mistake(one.source, 1, "id", sentence))
        seen[one.message.id] = one.source
    return mistakes
