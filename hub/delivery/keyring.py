"""The keys that sign webhooks, all derived from the log's key. Pure: no I/O, no clock.

Nothing is kept of them: the same come out at every hub of the log and after every restore
(docs/decisions). HKDF (RFC 5869) with another ``info`` for each gives keys that tell nothing of one
another, nor of the log's key.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hub.delivery.subscription import Subscription
from schemas import webhook
from schemas.webhook import Secret, Signer, SigningKey

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
        secrets = (
            self.secret(subscription.id, each.number)
            for each in subscription.secrets
            if each.until is None or now < each.until
        )
        return (*secrets, self.key)

    def _derive(self, purpose: str) -> bytes:
        return _derived(self.seed, f"{_DOMAIN} {self.origin} {purpose}")


class Signed:
    """An event that goes to many. What is alike for all of them is signed once a second."""

    def __init__(self, keyring: Keyring, name: str, body: bytes) -> None:
        """``name`` is the ``webhook-id``."""
        self.body = body
        self._keyring = keyring
        self._name = name
        self._alike: dict[str, str] = {}

    def headers(self, subscription: Subscription, now: datetime) -> Mapping[str, str]:
        """The headers of an attempt, as ``webhook.sign`` makes them."""
        *secrets, key = self._keyring.signers(subscription, now)
        headers = webhook.sign(secrets, self._name, now, self.body)
        if headers[webhook.TIMESTAMP] != self._alike.get(webhook.TIMESTAMP):
            self._alike = webhook.sign([key], self._name, now, self.body)
        signatures = f"{headers[webhook.SIGNATURE]} {self._alike[webhook.SIGNATURE]}"
        return headers | {webhook.SIGNATURE: signatures}


@lru_cache(4096)
def _derived(seed: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), _LENGTH, None, purpose.encode()).derive(seed)


def of_log_key(origin: str, private: Ed25519PrivateKey) -> Keyring:
    """The keys that belong to the log of this origin."""
    return Keyring(origin, private.private_bytes_raw())
