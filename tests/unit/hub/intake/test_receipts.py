"""A delivery receipt counts when it says, item by item, what was delivered."""

import pytest

from hub.intake.batch import Delivery, Needs, Token
from hub.intake.opening import Opening
from hub.intake.receipts import STATES, OpenedReceipt, ReceiptSubmission
from schemas import signature
from schemas.encoding import b64url
from schemas.refusal import Refused
from tests import builders
from tests.builders import key, message_id, salt
from tests.unit.hub.intake.working import LOG, batch, recorded


def entry_hash(number):
    return salt(f"entry {number}")


def delivered(*senders, state="waiting"):
    """Facts: kg was delivered one message of each sender, at positions 1, 2, …"""
    return {
        ("kg", position): Delivery(
            message_id(position),
            sender,
            builders.time(-60 * position),
            entry_hash(position),
            state,
            None if state in {"waiting", "expired"} else 5,
        )
        for position, sender in enumerate(senders, 1)
    }


def item(position=1, status="received", reason="", **lies):
    told = {"id": message_id(position), "hash": b64url(entry_hash(position))} | lies
    return (told["id"], told["hash"], position, status, reason)


KNOWN = builders.directory()


def submission(*items, receiver="kg", signer=None, identity="kg", token=None):
    raw = builders.signed_receipt(*items, receiver=receiver, private=key(signer or receiver))
    return ReceiptSubmission(opening(raw), identity, token)


def opening(raw):
    return Opening(raw, KNOWN, OpenedReceipt)


def refused(batch, *items, **options):
    with pytest.raises(Refused) as caught:
        submission(*items, **options).decide(batch)
    assert batch.entries == []
    assert set(batch.rows) <= {"use_token"}
    return caught.value.code


def changes(made):
    """What a batch changes in deliveries: state, reason, positions."""
    return [(each.state, each.reason, at) for each, at in made.receipted.items()]


class TestAGoodReceipt:
    def test_becomes_an_entry_that_says_only_who_received_something(self):
        made = batch(deliveries=delivered("kz", "kz"))
        raw = builders.signed_receipt(item(1), item(2, "refused", "too large here"))
        outcome = ReceiptSubmission(opening(raw), "kg", None).decide(made)
        assert (outcome.index, outcome.new) == (len(LOG), True)
        assert recorded(made) == [("receipts.recorded", "kg", None, {})]
        assert made.entries[0].private == raw

    def test_is_kept_for_the_sender_who_is_rung_for(self):
        made = batch(deliveries=delivered("kz"))
        submission(item()).decide(made)
        [row] = made.rows["receipt"]
        assert (row["idx"], row["receiver"], row["sender"]) == (len(LOG), "kg", "kz")
        assert made.touched == {"kz"}

    def test_moves_each_delivery_that_it_names(self):
        made = batch(deliveries=delivered("kz", "kz"))
        submission(item(1, "read"), item(2, "refused", "too large here")).decide(made)
        assert changes(made) == [("read", "", [1]), ("refused", "too large here", [2])]

    def test_moves_deliveries_of_one_state_together(self):
        made = batch(deliveries=delivered("kz", "kz", "kz"))
        submission(item(1), item(2, "read"), item(3)).decide(made)
        assert changes(made) == [("received", "", [1, 3]), ("read", "", [2])]

    def test_tells_how_long_each_copy_waited_for_its_first_one(self):
        made = batch(deliveries=delivered("kz", "kz", "kz"))
        submission(item(1), item(3)).decide(made)
        submission(item(1, "read"), item(2)).decide(made)
        brought = made.committed({})
        assert (brought.receipts, brought.waited) == ({"kg": 3}, [3600, 10800, 7200])

    def test_uses_the_token_it_came_with(self):
        made = batch(deliveries=delivered("kz"))
        submission(item(), token=Token("kg:1", 9)).decide(made)
        assert made.rows["use_token"] == [{"jti": "kg:1", "expires": 9}]


class TestTheStatesOfADelivery:
    @pytest.mark.parametrize(("before", "status"), list(STATES))
    def test_move_by_the_table(self, before, status):
        made = batch(deliveries=delivered("kz", state=before))
        assert submission(item(1, status)).decide(made).new
        assert changes(made) == [(STATES[before, status], "", [1])]

    @pytest.mark.parametrize("status", ["received", "read", "refused"])
    def test_can_always_be_told_when_no_receipt_has_come_yet(self, status):
        assert ("waiting", status) in STATES
        assert ("expired", status) in STATES

    @pytest.mark.parametrize(
        ("before", "status"), [("received", "refused"), ("read", "received"), ("read", "refused")]
    )
    def test_never_move_back(self, before, status):
        made = batch(deliveries=delivered("kz", state=before))
        outcome = submission(item(1, status)).decide(made)
        assert (outcome.index, outcome.new) == (5, False)
        assert (made.entries, made.rows) == ([], {})


def test_the_same_receipt_twice_is_recorded_once_and_answered_with_the_first():
    made = batch(deliveries=delivered("kz"))
    first, second = (submission(item()).decide(made) for _ in range(2))
    assert (first.index, first.new) == (len(LOG), True)
    assert (second.index, second.new) == (len(LOG), False)
    assert len(made.entries) == 1


@pytest.mark.parametrize("said", [("received", "read"), ("read", "received")])
def test_a_position_named_twice_ends_where_both_lead(said):
    made = batch(deliveries=delivered("kz"))
    submission(*(item(1, status) for status in said)).decide(made)
    assert changes(made) == [("read", "", [1])]


class TestABadReceipt:
    def test_is_not_the_receivers_own(self):
        made = batch(deliveries=delivered("kz"))
        assert refused(made, item(), identity="tj") == "sender-mismatch"

    def test_is_signed_by_another(self):
        made = batch(deliveries=delivered("kz"))
        assert refused(made, item(), signer="tj") == "unknown-key"

    def test_is_signed_by_nobody_known(self):
        raw = builders.signed_receipt(item(), private=key("thief"))
        with pytest.raises(Refused) as caught:
            OpenedReceipt(raw, builders.directory())
        assert caught.value.code == "unknown-key"

    def test_is_signed_by_a_key_that_was_revoked_in_between(self):
        made = batch(builders.revoked("kg"), deliveries=delivered("kz"))
        assert refused(made, item()) == "revoked-key"

    def test_has_two_signatures(self):
        value = signature.parse(builders.signed_receipt(item()), "nhri-delivery+json").payload
        raw = signature.sign(value, "nhri-delivery+json", key("kg"), key("tj"))
        with pytest.raises(Refused) as caught:
            OpenedReceipt(raw, builders.directory())
        assert caught.value.code == "bad-receipt"

    @pytest.mark.parametrize(
        "wrong",
        [item(9), item(1, id=message_id(2)), item(1, hash=b64url(salt("another")))],
        ids=["a position not reached", "another message", "another entry"],
    )
    def test_does_not_match_what_was_delivered(self, wrong):
        assert refused(batch(deliveries=delivered("kz")), wrong) == "bad-receipt"

    def test_spoils_the_whole_with_one_wrong_item(self):
        assert refused(batch(deliveries=delivered("kz")), item(1), item(9)) == "bad-receipt"

    def test_is_about_messages_of_two_senders(self):
        made = batch(deliveries=delivered("kz", "tj"))
        assert refused(made, item(1), item(2)) == "bad-receipt"


def test_what_has_to_be_known_are_the_deliveries_at_its_positions():
    needs = Needs(KNOWN)
    submission(item(3), item(8)).needs(needs)
    assert needs.deliveries == {"kg": {3, 8}}
