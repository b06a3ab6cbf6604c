"""Retention: how long a message is kept, by its kind and marking. Pure.

Rules are written as ``"TLP:AMBER" = 365``, ``"activity_bulletin.v1" = 3650`` or with both words,
in days from the acceptance. Of the rules that fit a message the one that says most of it holds:
kind and marking, then kind, then marking. What no rule fits is kept.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from schemas.encoding import format_time
from schemas.kinds import KINDS
from schemas.vocabulary import MARKINGS


class Cutoff(msgspec.Struct, frozen=True):
    """Messages of this kind and marking that were accepted before this time are due.

    ``rule`` is the rule as it is written in the settings.
    """

    kind: str
    marking: str
    before: str
    rule: str


def check(rules: Mapping[str, int]) -> None:
    """See that every rule can fit a message.

    Raises:
        ValueError: one cannot; names it.
    """
    for rule in rules:
        words = rule.split(" ")
        kinds = [word for word in words if word in KINDS]
        markings = [word for word in words if word in MARKINGS]
        if len(kinds) + len(markings) != len(words) or max(len(kinds), len(markings)) > 1:
            raise ValueError(
                f"retention: {rule!r} is neither a kind ({', '.join(KINDS)}), nor a marking "
                f"({', '.join(MARKINGS)}), nor a kind and a marking"
            )


def cutoffs(rules: Mapping[str, int], now: datetime) -> Sequence[Cutoff]:
    """What is due now, for every kind and marking that a rule fits."""
    found = []
    for kind in KINDS:
        for marking in MARKINGS:
            fitting = (f"{kind} {marking}", f"{marking} {kind}", kind, marking)
            rule = next((rule for rule in fitting if rule in rules), None)
            if rule is not None:
                before = format_time(now - timedelta(days=rules[rule]))
                found.append(Cutoff(kind, marking, before, f"{rule} = {rules[rule]}"))
    return found
