"""What the connector compares: each rule of keeping the hub honest, from both sides."""

from datetime import timedelta

import msgspec
import pytest

from connectors import monitor
from connectors.monitor import Own
from connectors.tables import Erased, Expected, Followed, InboxState, Received, Sent, SentState
from schemas import entry as entries
from schemas import jsontext, routing
from schemas.checkpoint import Checkpoint
from schemas.encoding import b64url
from schemas.entry import AcceptedPrivate, Recipient
from schemas.receipt import Item
from schemas.refusal import Refused
from tests import builders
from tests.builders import NOW, message_id, time

HASH = b"h" * 32
ROOT = b"r" * 32


# --- The log ---


def followed(size, served):
    return Followed(size, ROOT, b"our note", served, time())


def checkpoint(size):
    return Checkpoint(builders.ORIGIN, size, ROOT)


def test_a_fork_keeps_both_signed_checkpoints_as_evidence():
    finding = monitor.forked(followed(7, 7), checkpoint(9), b"their note")
    assert finding.kind == "log-forked"
    assert finding.evidence == {"ours": b64url(b"our note"), "theirs": b64url(b"their note")}


@pytest.mark.parametrize(("served", "size", "shrank"), [(7, 7, False), (7, 8, False), (7, 6, True)])
def test_a_log_shrinks_only_against_what_the_hub_itself_gave_as_its_newest(served, size, shrank):
    # 9 entries were followed by way of acceptances, which are ahead of what has a quorum.
    finding = monitor.shrank(followed(9, served), checkpoint(size), b"note")
    assert (finding is not None) is shrank


# --- The directory ---


JOIN = b64url(builders.join("kz"))
OWN = Own(
    code="kz",
    kid=builders.kid(builders.key("kz")),
    statements=frozenset({JOIN}),
    invitations=frozenset({entries.digest(builders.invitation("kz").encode())}),
    knows=lambda message_id: message_id == builders.message_id(1),
)


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (builders.invited("kz"), None),
        (builders.invited("kz", name="another"), None),
        (builders.joined("kz"), None),
        (builders.joined("kz", seed="thief"), "own-keys"),
        (builders.joined("kz", name="another"), "own-keys"),
        (builders.replaced("kz", "thief", "another"), "own-keys"),
        (builders.rotated("kz", "new"), "own-keys"),
        (builders.held("kz", "kz"), None),
        (builders.held("kz", "another"), "own-standing"),
        (builders.revoked("kz"), "own-standing"),
        (builders.revoked("kz", by="kz"), "own-standing"),
        (builders.suspended("kz"), "own-standing"),
        (builders.resumed("kz"), "own-standing"),
        (builders.entry(entries.MESSAGE_ACCEPTED, message_id(1), actor="kz"), None),
        (builders.entry(entries.MESSAGE_ACCEPTED, message_id(2), actor="kz"), "own-message"),
        (builders.entry(entries.MESSAGE_REFUSED, message_id(2), actor="kz"), "own-message"),
        (builders.entry(entries.MESSAGE_REFUSED, None, actor="kz"), None),
    ],
)
def test_an_entry_about_ourselves_is_one_we_asked_for_or_an_alarm(entry, kind):
    assert monitor.about_ourselves(entry, "kz")
    finding = monitor.unasked(OWN, 5, entry, builders.directory())
    assert (finding and finding.kind) == kind


@pytest.mark.parametrize(
    "entry",
    [
        builders.joined("kg"),
        builders.group("network", "kz"),
        builders.entry(entries.MESSAGE_ACCEPTED, message_id(2), actor="kg"),
        builders.entry(entries.RECEIPTS_RECORDED, actor="kz"),
        builders.entry(entries.OPERATOR_QUERY, "kz", actor="auditor"),
    ],
)
def test_all_other_entries_are_not_about_ourselves(entry):
    assert not monitor.about_ourselves(entry, "kz")


def test_a_public_part_of_the_wrong_form_is_nothing_we_asked_for():
    entry = builders.entry(entries.KEY_ROTATED, "kz", {"statement": [JOIN]})
    finding = monitor.unasked(OWN, 5, entry, builders.directory())
    assert finding is not None
    assert finding.kind == "own-keys"


def test_what_was_sent_before_our_keys_were_registered_is_one_alarm_together():
    directory = builders.directory(kz="member", kg="member")
    before = builders.fold([builders.suspended("kz")], directory)
    lost = msgspec.structs.replace(OWN, kid=builders.kid(builders.key("kz new")))
    for number in (2, 3):
        entry = builders.entry(entries.MESSAGE_ACCEPTED, message_id(number), actor="kz")
        finding = monitor.unasked(lost, number, entry, before)
        assert finding is not None
        assert finding.subject == "before joining"


def test_a_group_of_our_own_name_is_an_impossible_change_and_nothing_else():
    before, entry = builders.directory(kz="member", kg="member"), builders.group("kz", "kg")
    assert monitor.unasked(OWN, 50, entry, before) is None
    after, finding = monitor.fold(before, 50, entry)
    assert after == before
    assert finding is not None
    assert finding.kind == "directory-impossible"


def test_an_impossible_change_is_not_believed():
    before = builders.directory()
    after, finding = monitor.fold(before, 50, builders.rotated("kg", "new", previous="thief"))
    assert after == before
    assert finding is not None
    assert finding.kind == "directory-impossible"
    after, finding = monitor.fold(before, 50, builders.suspended("kg"))
    assert finding is None
    assert after != before


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (builders.invited("aa", "partner"), "aa was invited as partner"),
        (builders.joined("kg"), "kg joined and registered its keys"),
        (builders.held("kg", "x"), "the keys of kg ended, as lost or stolen"),
        (builders.replaced("kg", "new", "x"), "kg registered new keys in place of lost or stolen"),
        (builders.rotated("kg", "new"), "kg changed its keys"),
        (builders.revoked("kg"), "a key of kg was revoked (compromised)"),
        (builders.suspended("kg"), "kg was suspended"),
        (builders.resumed("kg"), "kg is no longer suspended"),
        (builders.group("network", "kg", "tj"), "the group network consists of: kg, tj."),
    ],
)
def test_every_change_of_the_directory_has_its_sentence(entry, said):
    finding = monitor.changed(5, entry)
    assert finding.kind == "directory-changed"
    assert said in finding.sentence


def test_there_is_a_sentence_for_every_type_of_change():
    assert set(monitor._CHANGES) == set(entries.DIRECTORY_TYPES)


# --- Recipients ---


def private(recipients, left_out=()):
    return AcceptedPrivate(
        "digest",
        "activity_bulletin.v1",
        "TLP:AMBER",
        None,
        {code: Recipient(1, reason) for code, reason in dict(recipients).items()},
        dict(left_out),
    )


OURS = routing.Routing({"kg": "group:region", "tj": "named"}, {"kz": "sender", "undp": "marking"})
TRUE = private(OURS.recipients, OURS.left_out)


@pytest.mark.parametrize(
    ("theirs", "found"),
    [
        (TRUE, []),
        (private({"tj": "named"}, OURS.left_out), [("recipient-missing", "kg")]),
        (
            private({**OURS.recipients, "xx": "named"}, OURS.left_out),
            [("recipient-ghost", "xx")],
        ),
        (
            private({**OURS.recipients, "undp": "named"}, {"kz": "sender"}),
            [("recipient-ghost", "undp")],
        ),
        (
            private({"tj": "named"}, {**OURS.left_out, "kg": "suspended"}),
            [("recipient-missing", "kg")],
        ),
        (
            private({"kg": "named", "tj": "named"}, OURS.left_out),
            [("routing-differs", "kg")],
        ),
        (
            private(OURS.recipients, {"kz": "sender", "undp": "suspended"}),
            [("routing-differs", "undp")],
        ),
        (private(OURS.recipients, {"kz": "sender"}), [("routing-differs", "undp")]),
    ],
)
def test_recipients_are_those_that_we_reckon_ourselves(theirs, found):
    findings = monitor.recipients(message_id(), OURS, theirs)
    assert [(f.kind, f.subject.removeprefix(f"{message_id()} ")) for f in findings] == found


# --- Positions ---


def row(position=2, number=1):
    raw = jsontext.encode(builders.delivery())
    return Received(
        position, InboxState.VALID, raw, time(), id=message_id(number), sender="kg", entry_hash=HASH
    )


def test_findings_about_positions_name_the_message_and_keep_the_delivery():
    differs = monitor.position_differs(5, row())
    assert f"{message_id()} came as position 5; the log has position 2" in differs.sentence
    repeated = monitor.position_repeated(row(), row(number=2))
    assert f"Position 2 is that of {message_id(1)} and of {message_id(2)}" in repeated.sentence
    twice = monitor.message_repeated(row(1), row(4))
    assert "has the positions 1 and 4" in twice.sentence
    for finding in (differs, repeated):
        assert finding.evidence["item"] == msgspec.to_builtins(builders.delivery())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("bad-signature", "message-invalid"),
        ("unknown-kind", "message-unreadable"),
        ("unsupported-version", "message-unreadable"),
    ],
)
def test_a_message_that_only_we_cannot_read_is_nobodys_crime(code, kind):
    assert monitor.invalid(row(), Refused(code, "So it is."), {}).kind == kind


# --- Receipts ---


SENT = Sent(
    message_id(),
    "activity_bulletin.v1",
    None,
    b"envelope",
    SentState.ACCEPTED,
    time(),
    time(),
    None,
    None,
    jsontext.encode(builders.acceptance()),
    4,
    HASH,
    time(),
)
KG = Expected(message_id(), "kg", 2, time(), "waiting", None, None, "")
ITEM: Item = (message_id(), b64url(HASH), 2, "received", "")


@pytest.mark.parametrize(
    ("item", "sent", "expected", "kind"),
    [
        (ITEM, SENT, KG, None),
        ((*ITEM[:3], "read", ""), SENT, KG, None),
        ((*ITEM[:3], "refused", "schema"), SENT, KG, "receipt-refused"),
        ((ITEM[0], b64url(b"x" * 32), *ITEM[2:]), SENT, KG, "receipt-differs"),
        ((*ITEM[:2], 3, "received", ""), SENT, KG, "receipt-differs"),
        (ITEM, None, None, "receipt-differs"),
        (ITEM, SENT, None, "recipient-ghost"),
    ],
)
def test_a_receipt_speaks_of_the_message_that_we_sent(item, sent, expected, kind):
    finding = monitor.receipt_item(item, "kg", sent, expected, None, builders.acceptance())
    assert (finding and finding.kind) == kind
    if finding is not None:
        assert "receipt" in finding.evidence or sent is None


@pytest.mark.parametrize(
    ("state", "erased", "kind"),
    [
        (SentState.PENDING, None, None),
        (SentState.REFUSED, Erased(message_id(), 9, time()), None),
        (SentState.REFUSED, None, "receipt-differs"),
    ],
)
def test_a_receipt_for_what_has_no_answer_or_was_erased_before_it_differs_from_nothing(
    state, erased, kind
):
    sent = msgspec.structs.replace(SENT, state=state, raw=None, index=None, entry_hash=None)
    finding = monitor.receipt_item(ITEM, "kg", sent, None, erased, builders.acceptance())
    assert (finding and finding.kind) == kind


@pytest.mark.parametrize(
    ("state", "status", "after"),
    [
        ("waiting", "received", "received"),
        ("waiting", "refused", "refused"),
        ("received", "read", "read"),
        ("read", "received", "read"),
        ("refused", "received", "received"),
    ],
)
def test_what_was_read_stays_read(state, status, after):
    assert monitor.next_state(state, status) == after


def test_an_overdue_receipt_is_told_apart_by_message_and_recipient():
    (finding,) = monitor.overdue([KG])
    assert (finding.kind, finding.subject) == ("receipt-overdue", f"{message_id()} kg")


def test_overdue_begins_after_the_hours_that_are_set():
    assert monitor.due_before(NOW + timedelta(hours=72), 72) == time()


@pytest.mark.parametrize(("hours", "found"), [(24, 0), (25, 1)])
def test_a_hub_is_away_after_a_day(hours, found):
    now = NOW + timedelta(hours=hours)
    assert len(monitor.away(NOW, now, timedelta(hours=24))) == found


def test_a_waiting_message_says_what_keeps_it():
    waiting = msgspec.structs.replace(SENT, state=SentState.PENDING, detail="Too many messages.")
    (finding,) = monitor.waiting([waiting])
    assert finding.sentence.endswith(": Too many messages.")
