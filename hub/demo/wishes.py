"""What partners subscribe to in the demo, and which messages that has to bring them. Pure.

Which they are follows from the records, by the rules of the corpus. Nothing of it is asked of the
hub: what it sends is counted against this.
"""

from typing import Final

import msgspec

from hub.demo import corpus
from hub.demo.corpus import Record

RESPONSE: Final = "joint_action_response.v1"

READABLE: Final = frozenset({"TLP:GREEN", "TLP:CLEAR"})
"""The markings that a partner may be sent by webhook."""


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wished for; a field that is empty asks for nothing."""

    kinds: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()


class Wish(msgspec.Struct, frozen=True):
    """A subscription as its owner asks for it."""

    owner: str
    filter: Filter = Filter()
    ordered: bool = False


WISHES: Final = (
    Wish("undp", ordered=True),
    Wish("ohchr", Filter((corpus.BULLETIN, corpus.NOTICE), ("ru", "en"))),
)
"""All there is, in the order of its threads; and bulletins and notices, in Russian first."""


def is_due(wish: Wish, record: Record) -> bool:
    """Whether the message of a record has to come: others' that name the owner, and are wished."""
    return (
        wish.owner in corpus.audience(record)
        and _wished(corpus.kind(record), wish.filter.kinds)
        and _wished_any(record.title, wish.filter.languages)
    )


def is_answer_due(wish: Wish, record: Record) -> bool:
    """Whether the members' answers to a notice have to come: to who sent it and whom it names.

    They have no text that could be in another language.
    """
    named = (corpus.sender(record), *corpus.audience(record))
    return wish.owner in named and _wished(RESPONSE, wish.filter.kinds)


def _wished(kind: str, kinds: tuple[str, ...]) -> bool:
    return not kinds or kind in kinds


def _wished_any(texts: dict[str, str], languages: tuple[str, ...]) -> bool:
    return not languages or not texts.keys().isdisjoint(languages)
