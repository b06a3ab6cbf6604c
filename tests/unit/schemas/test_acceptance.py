"""An acceptance: the log entry itself with its proof, and every way in which it can be broken."""

import msgspec
import pytest

from schemas import acceptance, jsontext, merkle
from schemas import entry as entries
from schemas.acceptance import Acceptance, Broken, Delivery, Tombstone
from schemas.encoding import b64url, unb64url
from tests import builders
from tests.builders import LOG, key, message, message_id, salt, signed


def opened(made):
    return acceptance.open_acceptance(made, LOG)


def broken(made):
    with pytest.raises(Broken) as caught:
        opened(made)
    return str(caught.value)


def changed(made, **fields):
    return msgspec.structs.replace(made, **fields)


class TestAnAcceptance:
    def test_tells_index_entry_and_checkpoint(self):
        found = opened(builders.acceptance(before=[b"a", b"b"]))
        assert (found.index, found.checkpoint.size) == (2, 3)
        assert found.checkpoint.origin == builders.ORIGIN
        assert (found.entry.type, found.entry.actor) == ("message.accepted", "kz")
        assert found.entry.subject == message_id()

    def test_names_the_leaf_that_a_receipt_refers_to(self):
        made = builders.acceptance()
        assert opened(made).entry_hash == merkle.leaf_hash(unb64url(made.entry))

    def test_tells_recipients_with_their_positions_and_who_was_left_out(self):
        envelope = signed(message(thread=message_id(9)))
        made = builders.acceptance(
            envelope, recipients={"kg": 7, "tj": 1}, left_out={"tm": "suspended"}
        )
        private = acceptance.accepted_private(opened(made))
        assert {code: r.position for code, r in private.recipients.items()} == {"kg": 7, "tj": 1}
        assert private.left_out == {"tm": "suspended"}
        assert private.envelope == entries.digest(envelope)
        assert private.thread == message_id(9)

    def test_crosses_the_wire(self):
        made = builders.acceptance()
        assert jsontext.decode(jsontext.encode(made), Acceptance) == made

    def test_shows_nothing_of_the_message_in_its_public_entry(self):
        public = unb64url(builders.acceptance().entry)
        for told in (b"kg", b"GREEN", b"bulletin", b"A visit"):
            assert told not in public


class TestItIsBrokenWhen:
    @pytest.fixture
    def made(self):
        return builders.acceptance(before=[b"a", b"b", b"c"])

    def test_the_entry_is_another(self, made):
        entry = entries.encode(builders.entry("message.accepted", private=b"{}"))
        assert broken(changed(made, entry=b64url(entry)))

    def test_one_bit_of_the_entry_is_another(self, made):
        raw = bytearray(unb64url(made.entry))
        raw[-3] ^= 1
        assert broken(changed(made, entry=b64url(bytes(raw))))

    def test_the_private_part_was_exchanged(self, made):
        other = unb64url(made.private).replace(b'"kg"', b'"tj"')
        assert "private part" in broken(changed(made, private=b64url(other)))

    def test_the_salt_is_another(self, made):
        assert "private part" in broken(changed(made, salt=b64url(salt("other"))))

    @pytest.mark.parametrize("size", [0, 31, 33, 64])
    def test_the_salt_has_another_length(self, made, size):
        assert "32 bytes" in broken(changed(made, salt=b64url(bytes(size))))

    def test_a_byte_moved_from_the_salt_to_the_private_part(self, made):
        grown = changed(
            made,
            salt=b64url(unb64url(made.salt)[:-1]),
            private=b64url(unb64url(made.salt)[-1:] + unb64url(made.private)),
        )
        assert "32 bytes" in broken(grown)

    @pytest.mark.parametrize("field", ["entry", "private", "salt"])
    @pytest.mark.parametrize("text", ["=", "A", "Zh", "é", "\ud800"])
    def test_a_part_is_not_strict_base64url(self, made, field, text):
        assert "base64url" in broken(changed(made, **{field: text}))

    def test_another_log_signed(self):
        assert broken(builders.acceptance(log_key=key("false hub")))

    def test_the_proof_is_of_another_entry(self, made):
        other = builders.prove(b"d", [b"a", b"b", b"c"])
        assert broken(changed(made, proof=other))

    def test_the_proof_claims_another_index(self, made):
        assert broken(changed(made, proof=made.proof.replace("index 3", "index 2")))

    @pytest.mark.parametrize("text", ["", "x", "\ud800", "c2sp.org/tlog-proof@v1\nindex 0\n\n"])
    def test_the_proof_is_none(self, made, text):
        assert broken(changed(made, proof=text))

    @pytest.mark.parametrize(
        "line", [b"", b"{}", b"\xff", b'{"v":2}', b'{"v":1,"v":1}', b"[" * 10_000]
    )
    def test_the_log_holds_something_that_is_no_entry(self, made, line):
        forged = acceptance.pack(line, unb64url(made.private), salt(), builders.prove(line))
        assert broken(forged)

    def test_the_entry_commits_to_no_private_part(self, made):
        line = entries.encode(builders.entry("hub.started"))
        forged = acceptance.pack(line, unb64url(made.private), salt(), builders.prove(line))
        assert "private part" in broken(forged)


class TestAnErasedOne:
    @pytest.fixture
    def made(self):
        return builders.acceptance(before=[b"a"])

    def test_still_has_its_entry_in_the_log(self, made):
        erased = changed(made, private=None, salt=None)
        found = acceptance.open_erased(erased, LOG)
        assert found == msgspec.structs.replace(opened(made), private=b"")

    def test_is_no_acceptance_to_whoever_expects_one(self, made):
        assert "erased" in broken(changed(made, private=None, salt=None))

    @pytest.mark.parametrize("kept", ["private", "salt"])
    def test_has_neither_private_part_nor_salt(self, made, kept):
        erased = changed(made, **{name: None for name in ("private", "salt") if name != kept})
        with pytest.raises(Broken, match="is there"):
            acceptance.open_erased(erased, LOG)
        assert "erased" in broken(erased)

    def test_is_that_of_a_message(self):
        line = entries.encode(builders.entry("receipts.recorded", private=b"{}"))
        erased = acceptance.pack(line, None, None, builders.prove(line))
        with pytest.raises(Broken, match=r"receipts\.recorded, not message\.accepted"):
            acceptance.open_erased(erased, LOG)

    def test_does_not_hold_under_another_log(self):
        other = builders.acceptance(log_key=key("false hub"))
        with pytest.raises(Broken):
            acceptance.open_erased(changed(other, private=None, salt=None), LOG)

    def test_cannot_be_delivered(self, made):
        with pytest.raises(AssertionError):
            acceptance.deliver(changed(made, private=None, salt=None), b"")


class TestThePrivatePartOfAMessage:
    def in_log(self, kind, private):
        line = entries.encode(builders.entry(kind, message_id(), private=private))
        return opened(acceptance.pack(line, private, salt(), builders.prove(line)))

    def test_is_not_looked_for_in_another_entry(self):
        found = self.in_log("message.refused", b"{}")
        with pytest.raises(Broken, match=r"message\.refused, not message\.accepted"):
            acceptance.accepted_private(found)

    @pytest.mark.parametrize(
        "private", [b"", b"{}", b"\xff", b"[]", b'{"kind":1}', b'{"kind":"a","kind":"b"}']
    )
    def test_has_its_form(self, private):
        with pytest.raises(Broken):
            acceptance.accepted_private(self.in_log("message.accepted", private))

    @pytest.mark.parametrize("position", [0, -1, 1.5, "1"])
    def test_counts_positions_from_one(self, position):
        private = jsontext.encode(
            {
                "envelope": "A" * 43,
                "kind": "activity_bulletin.v1",
                "marking": "TLP:GREEN",
                "thread": None,
                "recipients": {"kg": {"position": position, "reason": "named"}},
                "left_out": {},
            }
        )
        with pytest.raises(Broken, match="position"):
            acceptance.accepted_private(self.in_log("message.accepted", private))


class TestADelivery:
    def test_is_an_acceptance_with_the_envelope(self):
        envelope = signed(message())
        made = builders.delivery(envelope, recipients={"kg": 3})
        assert made.acceptance == builders.acceptance(envelope, recipients={"kg": 3})
        assert unb64url(made.envelope) == envelope
        assert jsontext.decode(jsontext.encode(made), Delivery) == made

    def test_leaves_a_tombstone_at_its_position(self):
        made = Tombstone(3, "erased", builders.acceptance())
        assert jsontext.decode(jsontext.encode(made), Tombstone) == made
