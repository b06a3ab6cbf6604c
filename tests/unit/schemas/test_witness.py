"""A witness's decision: what it cosigns, and with which status of tlog-witness it does not."""

import pytest

from schemas import checkpoint, cosignature, merkle, note, witness
from schemas.checkpoint import Checkpoint
from schemas.note import Note, NoteError, ed25519_vkey
from schemas.witness import Rejected, Request
from tests import builders

LOG, ORIGIN = builders.LOG, builders.LOG.name
LOGS = {ORIGIN: LOG}
LEAVES = [merkle.leaf_hash(b"entry %d" % n) for n in range(11)]
TILES = merkle.append(0, {}, LEAVES)

# The example of tlog-witness.
EXAMPLE = (
    "old 20852014\n"
    "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n"
    "jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
    "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n"
    "/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n"
    "\n"
    "example.com/behind-the-sofa\n"
    "20852163\n"
    "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q"
    "1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V626"
    "7UEjw6QUXTS5Rovnzv++qbSzm9Q=\n"
).encode()


def head(size, leaves=LEAVES, origin=ORIGIN):
    return Checkpoint(origin, size, merkle.root(leaves[:size]))


def signed(at, key=builders.LOG_KEY):
    vkey = ed25519_vkey(at.origin, builders.public(key))
    return checkpoint.sign_checkpoint(at, vkey, key)


def request(old, size):
    proof = merkle.consistency_proof(old, size, TILES) if old else ()
    return Request(old, tuple(proof), signed(head(size)))


def rejected(asked, cosigned=None):
    with pytest.raises(Rejected) as caught:
        witness.check(asked, LOGS, {} if cosigned is None else {ORIGIN: cosigned})
    return caught.value


class TestRequest:
    def test_of_the_specification_is_read_and_written(self):
        found = witness.parse(EXAMPLE)
        assert (found.old, len(found.proof)) == (20_852_014, 4)
        assert len(note.parse_note(found.note).signatures) == 2
        assert witness.encode(found) == EXAMPLE

    def test_without_a_proof_has_the_empty_line_at_once(self):
        asked = request(0, 5)
        assert witness.encode(asked).startswith(b"old 0\n\n" + ORIGIN.encode())
        assert witness.parse(witness.encode(asked)) == asked

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            pytest.param(b"old 20852014", b"old 020852014", id="leading zero"),
            pytest.param(b"old 20852014", b"old -1", id="negative"),
            pytest.param(b"old 20852014", b"old  1", id="two spaces"),
            pytest.param(b"old 20852014", b"size 1", id="another word"),
            pytest.param(b"old 20852014", b"old 9223372036854775808", id="too large"),
            pytest.param(b"old 20852014", b"\xd9\xa1", id="no ASCII"),
            pytest.param(b"pkaw=", b"pka=", id="no base64"),
            pytest.param(b"jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=", b"AAAA", id="short hash"),
            pytest.param(b"\n\n", b"\n", id="no empty line"),
        ],
    )
    def test_that_is_malformed_is_rejected(self, old, new):
        with pytest.raises(Rejected) as caught:
            witness.parse(EXAMPLE.replace(old, new))
        assert caught.value.status == 400

    @pytest.mark.parametrize(("hashes", "fits"), [(63, True), (64, False)])
    def test_has_a_proof_of_63_hashes_at_most(self, hashes, fits):
        raw = witness.encode(Request(1, (bytes(32),) * hashes, b"note"))
        if fits:
            assert len(witness.parse(raw).proof) == hashes
        else:
            with pytest.raises(Rejected):
                witness.parse(raw)

    def test_that_is_too_large_is_rejected(self):
        with pytest.raises(Rejected):
            witness.parse(b"old 0\n\n" + b"x" * witness.MAX_SIZE)


class TestCosigned:
    def test_is_the_first_checkpoint_that_is_seen(self):
        accepted = witness.check(request(0, 5), LOGS, {})
        assert accepted.checkpoint == head(5)
        assert accepted.text == checkpoint.format(head(5))

    @pytest.mark.parametrize(("old", "size"), [(5, 5), (5, 6), (4, 11), (8, 11), (1, 2)])
    def test_is_what_extends_the_last_one(self, old, size):
        accepted = witness.check(request(old, size), LOGS, {ORIGIN: head(old)})
        assert accepted.checkpoint == head(size)

    def test_is_the_same_checkpoint_again(self):
        asked = Request(5, (), signed(head(5)))
        assert witness.check(asked, LOGS, {ORIGIN: head(5)}).checkpoint == head(5)

    def test_is_the_empty_log(self):
        assert witness.check(request(0, 0), LOGS, {}).checkpoint.size == 0
        assert witness.check(request(0, 7), LOGS, {ORIGIN: head(0)}).checkpoint.size == 7

    def test_keeps_the_log_s_signature_and_no_stranger_s(self):
        stranger = cosignature.cosign(
            checkpoint.format(head(5)), "w.example", builders.key("thief"), 1
        )
        asked = Request(0, (), witness.merge(signed(head(5)), [stranger]))
        assert witness.check(asked, LOGS, {}).note == signed(head(5))


class TestNotCosigned:
    def test_is_a_log_that_nobody_named(self):
        asked = Request(0, (), signed(head(5, origin="other/log")))
        assert rejected(asked).status == 404

    def test_is_what_the_log_did_not_sign(self):
        assert rejected(Request(0, (), signed(head(5), builders.key("thief")))).status == 403

    def test_is_a_signature_of_the_log_that_does_not_verify(self):
        raw = signed(head(5)).replace(b"\n5\n", b"\n6\n")
        assert rejected(Request(0, (), raw)).status == 403

    def test_is_no_note_at_all(self):
        assert rejected(Request(0, (), b"")).status == 400

    def test_is_a_signed_text_that_is_no_checkpoint(self):
        text = f"{ORIGIN}\nfive\n"
        raw = note.encode(Note(text, (note.sign(text, LOG, builders.LOG_KEY),)))
        assert rejected(Request(0, (), raw)).status == 400

    def test_is_an_empty_log_with_another_root(self):
        text = f"{ORIGIN}\n0\n{note.b64(LEAVES[0])}\n"
        raw = note.encode(Note(text, (note.sign(text, LOG, builders.LOG_KEY),)))
        assert rejected(Request(0, (), raw)).status == 422

    def test_is_a_request_whose_old_size_is_the_greater_one(self):
        rejection = rejected(Request(6, (), signed(head(5))), head(6))
        assert (rejection.status, rejection.theirs.checkpoint) == (400, head(5))

    @pytest.mark.parametrize("old", [0, 3, 5])
    def test_is_a_request_that_begins_elsewhere_and_the_answer_is_where(self, old):
        rejection = rejected(request(old, 9), head(4))
        assert (rejection.status, rejection.size, rejection.body) == (409, 4, b"4\n")

    def test_is_a_request_that_goes_back(self):
        rejection = rejected(request(5, 5), head(9))
        assert (rejection.status, rejection.size) == (409, 9)

    def test_is_another_tree_of_the_same_size(self):
        other = head(5, [*LEAVES[:4], merkle.leaf_hash(b"another")])
        rejection = rejected(Request(5, (), signed(other)), head(5))
        assert (rejection.status, rejection.theirs.checkpoint) == (422, other)

    def test_is_a_larger_tree_of_another_history(self):
        leaves = [merkle.leaf_hash(b"another"), *LEAVES[1:]]
        other = merkle.append(0, {}, leaves)
        proof = tuple(merkle.consistency_proof(5, 9, other))
        rejection = rejected(Request(5, proof, signed(head(9, leaves))), head(5))
        assert (rejection.status, rejection.theirs.checkpoint) == (422, head(9, leaves))

    def test_is_what_comes_with_a_proof_of_something_else(self):
        proof = tuple(merkle.consistency_proof(5, 10, TILES))
        assert rejected(Request(5, proof, signed(head(9))), head(5)).status == 422

    def test_is_what_comes_with_a_proof_from_nothing(self):
        assert rejected(Request(0, (bytes(32),), signed(head(9)))).status == 422


class TestMerging:
    def test_keeps_the_last_line_of_each_key(self):
        text, key = checkpoint.format(head(5)), builders.key("kz witness")
        lines = [cosignature.cosign(text, f"{ORIGIN}/kz", key, at) for at in (7, 8)]
        merged = note.parse_note(witness.merge(signed(head(5)), lines))
        vkey = cosignature.vkey_of(f"{ORIGIN}/kz", key)
        assert cosignature.cosigners(merged, [vkey]) == {vkey: 8}
        assert len(merged.signatures) == 2

    def test_ends_where_a_note_is_full(self):
        text = checkpoint.format(head(5))
        lines = [
            cosignature.cosign(text, f"w.example/{n}", builders.key(f"w{n}"), 1) for n in range(64)
        ]
        with pytest.raises(NoteError, match="1 to 64"):
            witness.merge(signed(head(5)), lines)
