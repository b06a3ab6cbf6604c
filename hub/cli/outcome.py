"""How a command ends otherwise than done (0): each way has its exit code.

1 the thing asked about is not so · 2 usage (click's own) · 3 cannot reach · 4 refused
"""

import click
import msgspec

from hub.cli.output import clean
from schemas import jsontext
from schemas.jsontext import Json
from schemas.refusal import Refused


class _Ended(click.ClickException):
    """Shows its sentences without control characters, whoever wrote them."""

    def format_message(self) -> str:
        """The sentences on one line."""
        return clean(self.message)


class NotSo(_Ended):
    """What was asked about is not so, or what was to be done cannot be."""

    exit_code = 1


class Unreachable(_Ended):
    """Nobody answers, or something answers that is not a hub."""

    exit_code = 3


class Problem(msgspec.Struct, frozen=True):
    """What a problem document (RFC 9457) says, as far as it is shown."""

    title: str
    detail: str = ""
    path: str | None = None
    retryable: bool = False


class RefusedByHub(_Ended):
    """The hub said no. ``document`` is its whole problem document, for programs."""

    exit_code = 4

    def __init__(self, document: Json, problem: Problem, retry_after: str | None) -> None:
        self.document = document
        # What the API calls a member of the request is an option here.
        detail = problem.detail.replace("`reason`", "--reason")
        sentences = [f"{problem.title}.", detail]
        if problem.path:
            sentences.append(f"It is about {problem.path}.")
        if problem.retryable and "again" not in detail:
            when = f"in {retry_after} seconds" if retry_after else "later"
            sentences.append(f"Nothing was written; try again {when}.")
        super().__init__(" ".join(filter(None, sentences)))


def refusal(data: bytes, retry_after: str | None) -> RefusedByHub | None:
    """The refusal in a problem document; None where the bytes are something else."""
    try:
        document = jsontext.parse(data)
        problem = jsontext.convert(document, Problem)
    except Refused:
        return None
    return RefusedByHub(document, problem, retry_after)
