"""What the demo shows: one line for each message, once all its receipts are back.

On a terminal in colours (NO_COLOR takes them away) and with the counters below; into a file or a
pipe as plain lines.
"""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from hub.demo.corpus import PARTICIPANTS
from hub.demo.traffic import Mail, Traffic
from schemas.joint_action import ActionState

_PIPE_WIDTH: Final = 150
_WIDE: Final = 110
"""Columns from which on a line has room for eight codes."""

_RECEIPTS_WIDTH: Final = 8


class Show:
    """The demo's output on the terminal."""

    def __init__(self, expected: int) -> None:
        """``expected`` is how many messages there will be."""
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal that has no ✓ shows ?
        self._console = Console(highlight=False)
        if not self._console.is_terminal and "COLUMNS" not in os.environ:
            self._console.width = _PIPE_WIDTH
        self._codes = 31 if self._console.width >= _WIDE else 20
        self._expected = expected
        self._status = self._console.status("")

    def title(self, text: str) -> None:
        """Begin a part of the demo."""
        self._console.print()
        self._console.print(Text(text, style="bold"))

    def say(self, text: str, style: str = "") -> None:
        """A sentence."""
        self._console.print(Text(text, style=style))

    def command(self, *words: str | Path, note: str) -> None:
        """A command line to copy: never folded."""
        line = Text(shlex.join(map(_from_here, words)), style="cyan")
        line.append(f"  # {note}", style="not bold dim")
        self._console.print(line, soft_wrap=True)

    def last(self, text: str) -> None:
        """A line for programs: never folded, never coloured."""
        self._console.file.write(f"{text}\n")
        self._console.file.flush()

    def joined(self, code: str, name: str, fingerprint: str) -> None:
        """A participant is in."""
        self._print(_line((f"{code:>8}  ", "bold"), (fingerprint, "cyan"), (f"  {name}", "")))

    def mail(self, mail: Mail) -> None:
        """A message is through, or refused."""
        head = (f"{mail.sender:>8} ", "bold")
        if mail.refusal is not None:
            self._print(_line(head, (f"{mail.title}: refused, {mail.refusal}", "red")))
            return
        to = " ".join(code for code in PARTICIPANTS if code in mail.recipients)
        self._print(
            _line(
                head,
                (f"→ {_fitted(to, self._codes)} ", ""),
                (f"{'✓' * len(mail.receipts):<{_RECEIPTS_WIDTH}} ", "green"),
                (f"{mail.kind:<9}", "cyan"),
                (mail.title, ""),
            )
        )

    def action(self, state: str, signers: Sequence[str], title: str) -> None:
        """A joint action: its state, and who signed it, the proposer first."""
        colour = "green" if state == ActionState.AGREED else "yellow"
        signed = _fitted(" ".join(signers), self._codes)
        self._print(
            _line((f"{state.replace('_', ' '):>14}  ", colour), (f"{signed} ", "bold"), (title, ""))
        )

    def counters(self, traffic: Traffic) -> None:
        """Bring the counters up to date; only a terminal shows them."""
        self._status.update(
            f"accepted {traffic.accepted} of {self._expected}"
            f" · refused {traffic.refused}"
            f" · delivered {traffic.deliveries} of {traffic.wanted}"
            f" · receipts back {traffic.receipts} of {traffic.wanted}"
        )

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Show the counters for a while, below everything else."""
        self._status.start()
        try:
            yield
        finally:
            self._status.stop()

    def _print(self, line: Text) -> None:
        line.truncate(self._console.width - 1, overflow="ellipsis")
        self._console.print(line)


def _from_here(word: str | Path) -> str:
    """A path below the working folder is shorter without it."""
    here = Path.cwd()
    if isinstance(word, Path) and word.is_relative_to(here):
        word = word.relative_to(here)
    return str(word)


def _line(*parts: tuple[str, str]) -> Text:
    return Text.assemble(*parts)


def _fitted(text: str, width: int) -> str:
    return f"{text[: width - 1]}…" if len(text) > width else f"{text:<{width}}"
