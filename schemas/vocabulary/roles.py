"""Roles in the directory, and what each role may send. ``MARKINGS`` says what it may receive."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import msgspec

RoleCode: TypeAlias = Literal["member", "partner", "observer"]


class Role(msgspec.Struct, frozen=True):
    """A role: its code and the markings under which its holder may send."""

    code: RoleCode
    may_send: frozenset[str]


ROLES: Mapping[str, Role] = MappingProxyType(
    {
        role.code: role
        for role in (
            Role(
                "member",
                frozenset({"TLP:CLEAR", "TLP:GREEN", "TLP:AMBER", "TLP:AMBER+STRICT", "TLP:RED"}),
            ),
            Role("partner", frozenset({"TLP:CLEAR", "TLP:GREEN"})),
            Role("observer", frozenset()),
        )
    }
)
"""Members are national human rights institutions; partners are international bodies."""
