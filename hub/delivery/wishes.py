"""Which subscriptions want a message, found without asking each of them. Pure: no I/O, no clock.

Subscriptions with the same filter are asked once. A filter stands under the terms of its narrowest
field; a message looks under the terms that it has, and meets few filters that do not take it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from hub.delivery.subscription import Filter, Subscription, Term, Terms, egress, terms
from schemas.directory import Directory, State
from schemas.message import Message

CLEAR: Final = "TLP:CLEAR"

NARROWEST: Final = ("threads", "senders", "sdgs", "themes", "kinds", "markings")
"""Fields by how few messages meet them. Not ``languages``: a message without texts meets any."""


class Wishes:
    """Subscriptions by what they wish for."""

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        alike: dict[Filter, list[Subscription]] = {}
        for each in subscriptions:
            alike.setdefault(each.filter, []).append(each)
        self._alike = list(alike.items())
        self._under: dict[tuple[str, Term], list[int]] = defaultdict(list)
        self._anywhere: list[int] = []
        for number, wished in enumerate(alike):
            field = next((name for name in NARROWEST if getattr(wished, name)), None)
            if field is None:
                self._anywhere.append(number)
            else:
                for term in getattr(wished, field):
                    self._under[field, term].append(number)

    def of(
        self, sent: Message, recipients: frozenset[str], directory: Directory
    ) -> Iterator[Subscription]:
        """Those whose owner may have a message, by webhook, and wishes for it, in any order.

        Args:
            sent: the message.
            recipients: the participants that routing gave a copy.
            directory: who takes part now, and in which role.
        """
        having = terms(sent)
        may: dict[str, bool] = {}
        for number in self._near(having):
            wished, subscriptions = self._alike[number]
            if wished.passes_over(having) is not None:
                continue
            for each in subscriptions:
                if each.owner not in may:
                    may[each.owner] = _may_have(each.owner, sent, recipients, directory)
                if may[each.owner]:
                    yield each

    def _near(self, having: Terms) -> set[int]:
        """The filters that could take it; all others do not."""
        near = set(self._anywhere)
        for field in NARROWEST:
            for term in having[field] or ():
                near.update(self._under.get((field, term), ()))
        return near


def _may_have(code: str, sent: Message, recipients: frozenset[str], directory: Directory) -> bool:
    """Whether a participant may have a message by webhook.

    It may have what routing gave it, and what everybody may read; never its own.
    """
    owner = directory.participants.get(code)
    if owner is None or owner.state is not State.ACTIVE or sent.sender == code:
        return False
    if code not in recipients and sent.marking != CLEAR:
        return False
    return egress(sent.marking, owner.role) is None
