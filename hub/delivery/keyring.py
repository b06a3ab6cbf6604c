"""The keys that sign webhooks, all derived from the log's key. Pure: no I/O, no clock.

Nothing is kept of them: the same come out at every hub of the log and after every restore
(docs/decisions). HKDF (RFC 5869) with another ``info`` for each gives keys that tell nothing of one
another, nor of the log's key.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hub.delivery.subscription import Subscription
from schemas.webhook import Held, Secret, Signer, SigningKey, in_force

_LENGTH: Final = 32
_DOMAIN: Final = "nhri-exchange webhooks"


class Keyring(msgspec.Struct, frozen=True):
    """What signs ``v1`` for each subscription of a log, and ``v1a`` for all."""

    origin: str
    seed: bytes

    def __repr__(self) -> str:
        return "Keyring(…)"  # a log must not hold it

    @property
    def key(self) -> SigningKey:
        """The hub's one key for ``v1a``."""
        return SigningKey(self._derive("v1a"))

    def secret(self, subscription_id: str, number: int) -> Secret:
        """A subscription's secret for ``v1`` by its number."""
        return Secret(self._derive(f"v1 {subscription_id} {number}"))

    def signers(self, subscription: Subscription, now: datetime) -> Sequence[Signer]:
        """All that sign at this moment, the present secret first."""
        held = (
            Held(self.secret(subscription.id, each.number), each.until)
            for each in subscription.secrets
        )
        return (*in_force(held, now), self.key)

    def _derive(self, purpose: str) -> bytes:
        info = f"{_DOMAIN} {self.origin} {purpose}".encode()
        return HKDF(SHA256(), _LENGTH, None, info).derive(self.seed)


def of_log_key(origin: str, private: Ed25519PrivateKey) -> Keyring:
    """The keys that belong to the log of this origin."""
    return Keyring(origin, private.private_bytes_raw())
