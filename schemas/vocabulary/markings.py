"""Markings of the Traffic Light Protocol and what the exchange enforces for each.

The labels are those of TLP 2.0 (FIRST, August 2022). The columns of the table are this exchange's
own rules: who its circles are, and what carries a message to them.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from schemas.vocabulary.roles import RoleCode


class Marking(msgspec.Struct, frozen=True, kw_only=True):
    """What may be done with a message under one marking.

    ``receivers``: the roles that may receive it. ``groups``: whether a group may stand in the
    audience, where its members of other roles are left out; otherwise everyone is named one by one.
    ``webhooks`` and ``public_feed``: whether these may carry it. ``sealed``: whether it travels
    only encrypted to its receivers.
    """

    label: str
    receivers: frozenset[RoleCode]
    groups: bool
    webhooks: bool
    public_feed: bool
    sealed: bool


_MEMBERS: frozenset[RoleCode] = frozenset({"member"})
_ALL: frozenset[RoleCode] = frozenset({"member", "partner", "observer"})

MARKINGS: Mapping[str, Marking] = MappingProxyType(
    {
        marking.label: marking
        for marking in (
            Marking(
                label="TLP:CLEAR",
                receivers=_ALL,
                groups=True,
                webhooks=True,
                public_feed=True,
                sealed=False,
            ),
            Marking(
                label="TLP:GREEN",
                receivers=_ALL,
                groups=True,
                webhooks=True,
                public_feed=False,
                sealed=False,
            ),
            Marking(
                label="TLP:AMBER",
                receivers=_MEMBERS,
                groups=True,
                webhooks=True,
                public_feed=False,
                sealed=False,
            ),
            Marking(
                label="TLP:AMBER+STRICT",
                receivers=_MEMBERS,
                groups=False,
                webhooks=False,
                public_feed=False,
                sealed=False,
            ),
            Marking(
                label="TLP:RED",
                receivers=_MEMBERS,
                groups=False,
                webhooks=False,
                public_feed=False,
                sealed=True,
            ),
        )
    }
)
"""The five markings by label, from the most open to the most closed."""
