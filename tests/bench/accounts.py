"""The members of a hub as a file, for the processes that act as them."""

from pathlib import Path
from typing import TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Account(msgspec.Struct, frozen=True):
    """A member's address on the broker, with its password, and its signing key."""

    url: str
    seed: bytes

    @property
    def private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


Accounts: TypeAlias = dict[str, Account]
"""By code."""


def write(path: Path, accounts: Accounts) -> None:
    path.write_bytes(msgspec.json.encode(accounts))


def read(path: Path) -> Accounts:
    return msgspec.json.decode(path.read_bytes(), type=Accounts)
