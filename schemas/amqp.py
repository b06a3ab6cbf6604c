"""The names on the broker: what a connector and the hub must spell alike (AMQP 0-9-1).

A participant publishes to ``SUBMISSIONS`` with its own code as routing key and as the ``user_id``
that the broker validates, and consumes ``inbox.<code>``. The hub answers and delivers there.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.acceptance import Acceptance

VHOST = "nhri"

SUBMISSIONS = "submissions"
"""Topic exchange: from participants to the hub."""

SUBMISSIONS_QUEUE = "hub.submissions"

DELIVERIES = "deliveries"
"""Direct exchange: from the hub to inboxes; the routing key is the queue's name."""

QUARANTINE = "quarantine"
"""Exchange and queue of what the hub could not even refuse."""

MESSAGE = "message"
RECEIPT = "receipt"
ACCEPTANCE = "acceptance"
REFUSAL = "refusal"
DELIVERY = "delivery"


def inbox(code: str) -> str:
    """The queue of a participant."""
    return f"inbox.{code}"


class Accepted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One answer of an ``acceptance``: ``id`` is the AMQP message id of what was submitted."""

    id: str
    acceptance: Acceptance


class Acceptances(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of type ``acceptance``: the answers to many submissions of one sender."""

    acceptances: Annotated[list[Accepted], Meta(max_length=1_000)]


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of type ``refusal``; ``refusal`` is its place in the log, where it was recorded."""

    id: str
    code: Annotated[str, Meta(pattern=r"^[a-z-]{1,40}$")]
    detail: str
    retryable: bool
    path: str | None = None
    refusal: Acceptance | None = None
