"""The broker's topology from one place: exchanges, queues, accounts, permissions. Pure.

``definitions`` gives the document that RabbitMQ imports. Inbox queues have no delivery limit and no
length limit: a limit on deliveries loses good messages to bad connections, and a full queue would
hold up everybody in the same publish. The hub bounds them instead (``hub.delivery.publisher``).

What a queue must not be without are its arguments, and there are no policies: see
docs/decisions/0010-queues-keep-their-arguments.md.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from schemas import amqp

HUB_ACCOUNT = "hub"

CARRIER = "hub.carrier"
"""An exclusive queue, not part of the topology: the one hub that has it fills the inboxes."""

MAX_MESSAGE = 1024 * 1024
"""Bytes; what the broker has to be set to take at most (``max_message_size``). The hub holds many
messages at once before it has looked at them, and by itself RabbitMQ lets each have 16 MiB or more.
"""

READER = "hub.quarantine.reader"
"""The same for the one hub that reads the quarantine just now."""

Arguments = Mapping[str, str | int]


class Exchange(msgspec.Struct, frozen=True):
    """A durable exchange."""

    name: str
    type: str


class Queue(msgspec.Struct, frozen=True):
    """A durable quorum queue."""

    name: str
    arguments: Arguments


class Binding(msgspec.Struct, frozen=True):
    """What of an exchange reaches a queue."""

    source: str
    destination: str
    routing_key: str


EXCHANGES = (
    Exchange(amqp.SUBMISSIONS, "topic"),
    Exchange(amqp.DELIVERIES, "direct"),
    Exchange(amqp.QUARANTINE, "fanout"),
)

_QUORUM: Arguments = {
    "x-queue-type": "quorum",
    # As good as none. Without it RabbitMQ 4 drops what was given back twenty times, and what lives
    # at the end of a bad line is given back at each of its ends; "no limit" cannot be said to
    # RabbitMQ 3.
    "x-delivery-limit": 1_000_000_000,
}

HUB_QUEUES = (
    Queue(
        amqp.SUBMISSIONS_QUEUE,
        {
            **_QUORUM,
            "x-dead-letter-exchange": amqp.QUARANTINE,
            # At-least-once needs reject-publish; plain dead-lettering can lose the message.
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    ),
    Queue(amqp.QUARANTINE, _QUORUM),
)

HUB_BINDINGS = (
    Binding(amqp.SUBMISSIONS, amqp.SUBMISSIONS_QUEUE, "#"),
    Binding(amqp.QUARANTINE, amqp.QUARANTINE, ""),
)


def inbox_queue(code: str) -> Queue:
    """The inbox of a participant."""
    return Queue(amqp.inbox(code), _QUORUM)


def inbox_binding(code: str) -> Binding:
    """How deliveries reach it."""
    return Binding(amqp.DELIVERIES, amqp.inbox(code), amqp.inbox(code))


def password_hash(password: str, salt: bytes) -> str:
    """RabbitMQ's salted SHA-256 of a password (4 bytes of salt).

    https://www.rabbitmq.com/docs/passwords
    """
    if len(salt) != 4:
        raise ValueError("RabbitMQ's salt has 4 bytes")
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def definitions(
    codes: Iterable[str], password_hashes: Mapping[str, str], *, with_hub: bool = True
) -> dict[str, object]:
    """The document for ``rabbitmqctl import_definitions``.

    Args:
        codes: the participants.
        password_hashes: by account. An account without one has no password: it comes in by its
            client certificate (``auth_mechanisms.1 = EXTERNAL``).
        with_hub: with the hub's own account; an import replaces the password that it has.
    """
    participants = sorted(codes)
    queues = [*HUB_QUEUES, *(inbox_queue(code) for code in participants)]
    bindings = [*HUB_BINDINGS, *(inbox_binding(code) for code in participants)]
    hub = [HUB_ACCOUNT] if with_hub else []
    return {
        "vhosts": [{"name": amqp.VHOST}],
        "users": [
            _user(account, password_hashes.get(account, "")) for account in [*hub, *participants]
        ],
        "permissions": [
            *(_permission(account, ".*", ".*", ".*") for account in hub),
            *(_participant_permission(code) for code in participants),
        ],
        "topic_permissions": [_topic_permission(code) for code in participants],
        "exchanges": [
            {**msgspec.to_builtins(exchange), **_durable(), "internal": False, "arguments": {}}
            for exchange in EXCHANGES
        ],
        "queues": [{**msgspec.to_builtins(queue), **_durable()} for queue in queues],
        "bindings": [
            {
                **msgspec.to_builtins(binding),
                "vhost": amqp.VHOST,
                "destination_type": "queue",
                "arguments": {},
            }
            for binding in bindings
        ],
        "policies": [],
    }


def _durable() -> dict[str, object]:
    return {"vhost": amqp.VHOST, "durable": True, "auto_delete": False}


def _user(name: str, hashed: str) -> dict[str, object]:
    return {
        "name": name,
        "password_hash": hashed,
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": [],
    }


def _permission(user: str, configure: str, write: str, read: str) -> dict[str, object]:
    return {
        "user": user,
        "vhost": amqp.VHOST,
        "configure": configure,
        "write": write,
        "read": read,
    }


def _participant_permission(code: str) -> dict[str, object]:
    """It may declare nothing, write only submissions and read only its own inbox."""
    return _permission(code, "^$", f"^{amqp.SUBMISSIONS}$", f"^inbox\\.{code}$")


def _topic_permission(code: str) -> dict[str, object]:
    """Of the submissions it may write only its own routing key."""
    return {
        "user": code,
        "vhost": amqp.VHOST,
        "exchange": amqp.SUBMISSIONS,
        "write": f"^{code}$",
        "read": "^$",
    }
