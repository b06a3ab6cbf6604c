"""Whether what the hub hands over holds: what is backed, and what is valid."""

import msgspec
import pytest

from connectors import verification
from schemas import acceptance as acceptances
from schemas import entry as entries
from schemas import jsontext, merkle
from schemas.acceptance import Broken
from schemas.directory import Directory
from schemas.encoding import b64url
from schemas.entry import AcceptedPrivate, Recipient, RefusedPrivate
from schemas.refusal import Refused
from schemas.signature import JwsEnvelope, JwsSignature
from tests import builders
from tests.builders import message_id, time

ENVELOPE = builders.signed(builders.message())
DIRECTORY = builders.directory()
INDEX = len(builders.directory_log())
"""Where the messages of these tests stand in the log: after everybody has joined."""


def recorded(kind, subject, actor="kz", private=b"", at=None):
    """The opened acceptance of any entry, after those of the directory."""
    line = entries.encode(builders.entry(kind, subject, actor=actor, private=private, at=at))
    before = [entries.encode(entry) for entry in builders.directory_log()]
    proof = builders.prove(line, before)
    packed = acceptances.pack(line, private, builders.salt(), proof)
    return verification.back(packed, builders.LOG)


def described(envelope=ENVELOPE, **overrides):
    private = AcceptedPrivate(
        entries.digest(envelope),
        "activity_bulletin.v1",
        "TLP:GREEN",
        None,
        {"kg": Recipient(3, "group:region")},
        {},
    )
    return jsontext.encode(msgspec.structs.replace(private, **overrides))


def entered(envelope=ENVELOPE, subject=None, actor="kz", at=None, **overrides):
    private = described(envelope, **overrides)
    return verification.entered(
        recorded(entries.MESSAGE_ACCEPTED, subject or message_id(), actor, private, at)
    )


# --- Backed ---


def test_an_acceptance_is_backed_by_the_logs_key_alone():
    backed = verification.back(builders.acceptance(), builders.LOG)
    assert backed.opened.entry.subject == message_id()
    assert backed.note.startswith(builders.ORIGIN.encode())
    forged = builders.acceptance(log_key=builders.key("another entry"))
    with pytest.raises(Broken):
        verification.back(forged, builders.LOG)


@pytest.mark.parametrize(
    ("kind", "subject", "actor", "overrides"),
    [
        (entries.MESSAGE_REFUSED, message_id(), "kz", {}),
        (entries.MESSAGE_ACCEPTED, None, "kz", {}),
        (entries.MESSAGE_ACCEPTED, "no id", "kz", {}),
        (entries.MESSAGE_ACCEPTED, message_id(), "No Code\n", {}),
        (entries.MESSAGE_ACCEPTED, message_id(), "kz", {"kind": "\x1b[2J"}),
    ],
)
def test_an_entry_that_names_no_message_is_no_acceptance(kind, subject, actor, overrides):
    backed = recorded(kind, subject, actor, described(**overrides))
    with pytest.raises(Broken):
        verification.entered(backed)


def test_the_acceptance_of_our_message_is_about_it_and_nothing_else():
    read = verification.check_message(entered(), ENVELOPE, DIRECTORY)
    verification.check_own_acceptance(entered(), "kz", read, ENVELOPE)
    other = builders.signed(builders.message(id=message_id(2)))
    for wrong in (
        entered(subject=message_id(2)),
        entered(actor="kg"),
        entered(other),
        entered(marking="TLP:CLEAR"),
        entered(thread=message_id(9)),
        entered(kind="joint_action_notice.v1"),
    ):
        with pytest.raises(Broken):
            verification.check_own_acceptance(wrong, "kz", read, ENVELOPE)


def test_a_recorded_refusal_is_about_our_message_and_nothing_else():
    private = jsontext.encode(RefusedPrivate("No.", None, entries.digest(ENVELOPE)))
    refusal = recorded(entries.MESSAGE_REFUSED, message_id(), private=private)
    verification.check_own_refusal(refusal, "kz", message_id(), ENVELOPE)
    for code, number, envelope in (
        ("kg", 1, ENVELOPE),
        ("kz", 2, ENVELOPE),
        ("kz", 1, b"another"),
    ):
        with pytest.raises(Broken):
            verification.check_own_refusal(refusal, code, message_id(number), envelope)


def test_our_position_is_the_one_that_the_log_has():
    assert verification.own_position(entered(), "kg") == 3
    with pytest.raises(Broken, match="tj is not among the recipients"):
        verification.own_position(entered(), "tj")


def test_the_envelope_is_the_one_that_the_log_commits_to():
    verification.check_envelope(entered(), ENVELOPE)
    with pytest.raises(Broken, match="another envelope"):
        verification.check_envelope(entered(), ENVELOPE + b" ")


# --- Valid ---


def rejected(entry, envelope, directory=DIRECTORY):
    with pytest.raises(Refused) as caught:
        verification.check_message(entry, envelope, directory)
    return caught.value.code


def test_a_valid_message_is_read():
    assert verification.check_message(entered(), ENVELOPE, DIRECTORY).texts["en"].title == "A visit"


def test_a_message_must_be_signed_by_its_sender():
    for privates, code in (
        ([builders.key("thief")], "unknown-key"),
        ([builders.key("kg")], "sender-unsigned"),
    ):
        envelope = builders.signed(builders.message(), *privates)
        assert rejected(entered(envelope), envelope) == code


def test_a_message_with_a_spoilt_signature_is_not_valid():
    whole = builders.signed(builders.message(), builders.key("kz"), builders.key("kg"))
    wire = jsontext.decode(whole, JwsEnvelope)
    first, second = wire.signatures
    swapped = [
        JwsSignature(first.protected, second.signature),
        JwsSignature(second.protected, first.signature),
    ]
    envelope = jsontext.encode(JwsEnvelope(wire.payload, swapped))
    assert rejected(entered(envelope), envelope) == "bad-signature"


def test_a_key_counts_only_while_it_held():
    before = DIRECTORY.apply(INDEX - 1, builders.revoked("kz"))
    assert rejected(entered(), ENVELOPE, before) == "revoked-key"
    after = DIRECTORY.apply(INDEX + 1, builders.revoked("kz"))
    assert verification.check_message(entered(), ENVELOPE, after).id == message_id()


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ({"subject": message_id(2)}, "sender-mismatch"),
        ({"actor": "kg"}, "sender-mismatch"),
        ({"kind": "joint_action_notice.v1"}, "schema"),
        ({"marking": "TLP:CLEAR"}, "schema"),
        ({"at": time(-10)}, "created-out-of-range"),
        ({"at": time(91 * 24 * 60)}, "created-out-of-range"),
    ],
)
def test_a_message_is_what_the_log_says_of_it(overrides, code):
    assert rejected(entered(**overrides), ENVELOPE) == code


def test_a_sender_without_the_right_to_send_is_not_heard():
    suspended = DIRECTORY.apply(INDEX - 1, builders.suspended("kz"))
    assert rejected(entered(), ENVELOPE, suspended) == "suspended"
    guests = builders.signed(builders.message(sender="guest"))
    assert rejected(entered(guests, actor="guest"), guests) == "role-may-not-send"


def test_nobody_is_known_in_an_empty_directory():
    assert rejected(entered(), ENVELOPE, Directory()) == "unknown-key"


# --- Receipts ---


def receipted(raw, actor="kg"):
    return recorded(entries.RECEIPTS_RECORDED, None, actor, raw)


def test_a_receipt_counts_when_its_receiver_alone_signed_it():
    read = verification.check_receipt(receipted(builders.signed_receipt()), DIRECTORY)
    assert (read.receiver, read.items[0][0]) == ("kg", message_id())


@pytest.mark.parametrize(
    "backed",
    [
        receipted(builders.signed_receipt(private=builders.key("thief"))),
        receipted(builders.signed_receipt(private=builders.key("kz"))),
        receipted(builders.signed_receipt(), actor="tj"),
        receipted(b"nonsense"),
        recorded(entries.MESSAGE_ACCEPTED, message_id(), private=builders.signed_receipt()),
    ],
    ids=["unknown key", "another's key", "another's entry", "nonsense", "another entry"],
)
def test_any_other_receipt_does_not_count(backed):
    with pytest.raises(Broken):
        verification.check_receipt(backed, DIRECTORY)


def told(*positions, status="received", entry=b"an entry", **how):
    """A receipt of kg for messages at these positions."""
    hashed = b64url(merkle.leaf_hash(entry))
    items = [(message_id(position), hashed, position, status, "") for position in positions]
    return builders.signed_receipt(*items, **how)


def test_the_hub_records_the_very_receipt_that_we_sent():
    raw = told(1, 2)
    assert verification.check_own_receipt(receipted(raw), "kg", raw, DIRECTORY) == {1, 2}


def test_of_an_earlier_receipt_of_ours_that_counts_which_covers_the_same_messages():
    earlier = receipted(told(1, 2, status="read"))
    assert verification.check_own_receipt(earlier, "kg", told(2, 3), DIRECTORY) == {2}


@pytest.mark.parametrize(
    ("backed", "code"),
    [
        (receipted(told(1, 2)), "tj"),
        (receipted(told(1, 4)), "kg"),
        (receipted(told(2, entry=b"another")), "kg"),
        (receipted(told(2, private=builders.key("thief"))), "kg"),
        (recorded(entries.OPERATOR_QUERY, None, "kg", told(2)), "kg"),
        (receipted(b"nonsense"), "kg"),
    ],
    ids=["another's", "other messages", "another log", "a thief's", "no receipt", "nonsense"],
)
def test_no_other_entry_stands_for_a_receipt_of_ours(backed, code):
    with pytest.raises(Broken):
        verification.check_own_receipt(backed, code, told(2, 3), DIRECTORY)


def test_an_envelope_that_is_no_base64url_is_no_delivery():
    delivery = msgspec.structs.replace(builders.delivery(), envelope="=")
    with pytest.raises(Broken, match="envelope"):
        verification.envelope_of(delivery)
    assert verification.envelope_of(builders.delivery()) == ENVELOPE
