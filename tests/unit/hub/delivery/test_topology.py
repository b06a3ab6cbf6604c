"""What RabbitMQ is given to import: who may do what, and queues that lose nothing."""

import base64
import hashlib
import re
from typing import Any

import pytest

from hub.delivery import topology
from schemas import amqp

CODES = ("uz-nhrc", "kz")


@pytest.fixture
def document():
    return topology.definitions(CODES, {"hub": "h", "kz": "k"})


def permissions(document, user):
    (found,) = (row for row in document["permissions"] if row["user"] == user)
    return found


def test_there_is_an_account_for_the_hub_and_for_each_participant(document):
    assert [user["name"] for user in document["users"]] == ["hub", "kz", "uz-nhrc"]
    assert {tuple(user["tags"]) for user in document["users"]} == {()}


def test_the_hub_s_account_can_be_left_as_it_is():
    document: dict[str, Any] = topology.definitions(CODES, {}, with_hub=False)
    accounts = {row["name"] for row in document["users"]}
    assert accounts == {row["user"] for row in document["permissions"]} == set(CODES)


def test_who_has_no_password_comes_in_by_its_certificate_alone(document):
    hashes = {user["name"]: user["password_hash"] for user in document["users"]}
    assert hashes == {"hub": "h", "kz": "k", "uz-nhrc": ""}


def test_a_password_hash_is_salted_sha_256():
    hashed = base64.b64decode(topology.password_hash("secret", b"salt"))
    assert hashed == b"salt" + hashlib.sha256(b"saltsecret").digest()


def test_a_salt_has_four_bytes():
    with pytest.raises(ValueError, match="4 bytes"):
        topology.password_hash("secret", b"sa")


NAMES = ("submissions", "deliveries", "quarantine", "hub.submissions", "inbox.kz", "inbox.uz")


@pytest.mark.parametrize(
    ("what", "allowed"),
    [("configure", set()), ("write", {"submissions"}), ("read", {"inbox.kz"})],
)
def test_a_participant_writes_submissions_and_reads_its_own_inbox(document, what, allowed):
    pattern = permissions(document, "kz")[what]
    assert {name for name in NAMES if re.search(pattern, name)} == allowed


@pytest.mark.parametrize("other", ["inbox.kz2", "xinbox.kz", "inboxxkz", "inbox.kz.x"])
def test_a_name_that_is_alike_is_another_s(document, other):
    assert not re.search(permissions(document, "kz")["read"], other)


def test_a_participant_writes_its_own_routing_key_alone(document):
    (row,) = (row for row in document["topic_permissions"] if row["user"] == "kz")
    assert (row["exchange"], row["read"]) == (amqp.SUBMISSIONS, "^$")
    keys = ("kz", "kg", "kz.kg", "kz2", "#", "")
    assert {key for key in keys if re.search(row["write"], key)} == {"kz"}


def test_everything_is_durable_and_in_the_one_virtual_host(document):
    for kind in ("exchanges", "queues"):
        for row in document[kind]:
            assert (row["vhost"], row["durable"], row["auto_delete"]) == (amqp.VHOST, True, False)


def test_no_queue_drops_or_refuses_by_itself(document):
    queues = {row["name"]: row["arguments"] for row in document["queues"]}
    assert set(queues) == {amqp.SUBMISSIONS_QUEUE, amqp.QUARANTINE, "inbox.kz", "inbox.uz-nhrc"}
    for arguments in queues.values():
        assert arguments["x-queue-type"] == "quorum"
        assert arguments["x-delivery-limit"] == 10**9
        assert not {"x-max-length", "x-max-length-bytes", "x-message-ttl"} & set(arguments)


def test_what_is_rejected_is_moved_to_quarantine_without_being_lost_on_the_way(document):
    (arguments,) = (
        row["arguments"] for row in document["queues"] if row["name"] == amqp.SUBMISSIONS_QUEUE
    )
    assert arguments["x-dead-letter-exchange"] == amqp.QUARANTINE
    assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert arguments["x-overflow"] == "reject-publish"


def test_every_queue_is_reached(document):
    bound = {
        (row["source"], row["destination"], row["routing_key"]) for row in document["bindings"]
    }
    assert bound == {
        (amqp.SUBMISSIONS, amqp.SUBMISSIONS_QUEUE, "#"),
        (amqp.QUARANTINE, amqp.QUARANTINE, ""),
        (amqp.DELIVERIES, "inbox.kz", "inbox.kz"),
        (amqp.DELIVERIES, "inbox.uz-nhrc", "inbox.uz-nhrc"),
    }
