"""Webhook subscriptions, as commands ask for them and show them to a person. Pure.

Operators and owners have commands of the same names in two programs; they say the same.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias
from urllib.parse import quote

import msgspec

from schemas import jsontext
from schemas.jsontext import Json

PATH: Final = "/v1/subscriptions"

FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "sender": "Whose messages.",
        "kind": "A kind of message, such as activity_bulletin.",
        "theme": "A theme.",
        "sdg": "A goal or target.",
        "marking": "A marking, such as TLP:CLEAR.",
        "thread": "A thread, by the id of its first message.",
        "language": "A language of the texts; the first one asked for comes first.",
    }
)
"""What can be asked for, each of them more than once; a filter's field has an s at its end."""


class Table(msgspec.Struct, frozen=True):
    """Rows under headings, which may all be empty."""

    headings: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


Shown: TypeAlias = "str | Table"
"""What a person is shown: a sentence where there are no rows."""


class Wish(msgspec.Struct, frozen=True):
    """A subscription, as far as it is shown."""

    id: str
    owner: str
    url: str
    state: str
    ordered: bool
    created: str
    key: str
    filter: dict[str, list[str | int]] = {}
    failing_since: str | None = None


class WithSecret(msgspec.Struct, frozen=True):
    """A subscription with its new secret, which is not shown again."""

    id: str
    state: str
    secret: str
    key: str

    @property
    def sentence(self) -> str:
        """What there is to know besides the secret."""
        return f"The subscription is {self.id}, {self.state}; its public key is {self.key}."


class Tested(msgspec.Struct, frozen=True):
    """What an endpoint made of a challenge; ``excerpt`` of its answer is for the owner alone."""

    proven: bool
    state: str
    error: str | None = None
    excerpt: str | None = None

    @property
    def sentence(self) -> str:
        """The same in words."""
        if self.proven:
            return f"The endpoint answered the challenge; the subscription is {self.state}."
        answered = f" It answered “{self.excerpt}”." if self.excerpt else ""
        return f"{self.error}{answered} The subscription is {self.state}."


class Counted(msgspec.Struct, frozen=True):
    """How many messages are sent again, and where to go on."""

    messages: int
    next: int | None = None


class Tried(msgspec.Struct, frozen=True):
    """What of the last days a filter would have let in; ``whole``: all of them was looked at."""

    since: str
    whole: bool
    matched: int
    messages: list["_Match"]

    @property
    def sentence(self) -> str:
        """What there is to know besides the rows."""
        only = len(self.messages)
        first = f" Only the first {only} are shown." if only < self.matched else ""
        rest = "" if self.whole else " There were so many that only the newest were looked at."
        return f"{self.matched} messages since {self.since}.{first}{rest}"


class _Match(msgspec.Struct, frozen=True):
    id: str
    sender: str
    kind: str
    marking: str
    accepted: str


class _Wishes(msgspec.Struct, frozen=True):
    subscriptions: list[Wish]


class _Attempt(msgspec.Struct, frozen=True):
    message: str
    attempt: int
    time: str
    status: int | None = None
    error: str | None = None
    excerpt: str | None = None


class _Attempts(msgspec.Struct, frozen=True):
    attempts: list[_Attempt]


class _Dead(msgspec.Struct, frozen=True):
    message: str
    index: int
    attempts: int


class _DeadLetters(msgspec.Struct, frozen=True):
    dead: list[_Dead]


def path(subscription_id: str, what: str = "") -> str:
    """The path of one subscription, or of something about it."""
    return f"{PATH}/{quote(subscription_id, safe='')}{what}"


def filter_of(wanted: Mapping[str, tuple[str, ...]]) -> dict[str, Json]:
    """The fields of a filter that were given as words; a goal is a number, a target is not."""
    return {
        f"{name}s": [int(word) if name == "sdg" and word.isdecimal() else word for word in words]
        for name, words in wanted.items()
        if words
    }


def listed(answer: Json) -> Shown:
    """The answer of ``GET /v1/subscriptions``.

    Raises:
        Refused: ``schema``: it is not one. This and those below raise nothing else.
    """
    found = jsontext.convert(answer, _Wishes).subscriptions
    if not found:
        return "There are no subscriptions."
    return Table(
        ("subscription", "owner", "state", "failing since", "url"),
        tuple((each.id, each.owner, each.state, each.failing_since, each.url) for each in found),
    )


def one(answer: Json) -> Table:
    """The answer of ``GET …/{id}``."""
    found = jsontext.convert(answer, Wish)
    wishes = [
        f"{name}: {', '.join(map(str, words))}" for name, words in found.filter.items() if words
    ]
    return Table(
        ("", ""),
        (
            ("owner", found.owner),
            ("url", found.url),
            ("state", found.state),
            ("failing since", found.failing_since),
            ("wants", "; ".join(wishes) or "everything that its owner may have"),
            ("order", "by thread" if found.ordered else "none"),
            ("created", found.created),
            ("public key", found.key),
        ),
    )


def attempted(answer: Json) -> Shown:
    """The answer of ``GET …/attempts``; what endpoints answered comes to the owner alone."""
    made = jsontext.convert(answer, _Attempts).attempts
    if not made:
        return "Nothing was sent yet."
    headings = ("time", "message", "attempt", "status", "error")
    rows = tuple((each.time, each.message, each.attempt, each.status, each.error) for each in made)
    if all(each.excerpt is None for each in made):
        return Table(headings, rows)
    answers = ((each.excerpt,) for each in made)
    return Table((*headings, "answer"), tuple(map(tuple.__add__, rows, answers)))


def set_aside(answer: Json) -> Shown:
    """The answer of ``GET …/dead``."""
    letters = jsontext.convert(answer, _DeadLetters).dead
    if not letters:
        return "No message was set aside."
    return Table(
        ("message", "entry", "attempts"),
        tuple((each.message, each.index, each.attempts) for each in letters),
    )


def matching(answer: Json) -> Shown:
    """The answer of ``POST …/dry-run``."""
    matches = jsontext.convert(answer, Tried).messages
    if not matches:
        return "No message would have been sent."
    return Table(
        ("message", "accepted", "from", "kind", "marking"),
        tuple((each.id, each.accepted, each.sender, each.kind, each.marking) for each in matches),
    )


def redriven(answer: Json) -> str:
    """The answer of ``POST …/redrive``."""
    return f"{jsontext.convert(answer, Counted).messages} messages are tried anew."
