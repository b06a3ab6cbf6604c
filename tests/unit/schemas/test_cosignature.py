"""Cosignatures: the example of the specification, what a witness signs, and what is refused."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from schemas import checkpoint, cosignature, merkle, note
from schemas.checkpoint import Checkpoint
from schemas.note import Note, NoteError, SignatureLine, Vkey
from tests import builders

TIME = 1_679_315_147
ORIGIN = builders.LOG.name
NAME = cosignature.witness_name(ORIGIN, "kz")
HEAD = Checkpoint(ORIGIN, 1, merkle.leaf_hash(b"one entry"))
TEXT = checkpoint.format(HEAD)

KEYS = [
    pytest.param(builders.key("kz witness"), id="Ed25519"),
    pytest.param(MLDSA44PrivateKey.from_seed_bytes(b"\x05" * 32), id="ML-DSA-44"),
]

# The example of tlog-cosignature. Nobody published the witness's key.
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5"
    "/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJ"
    "sX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
).encode()


def line_with(line, time=None, signature=None):
    time = line.signature[:8] if time is None else time.to_bytes(8, "big")
    signature = line.signature[8:] if signature is None else signature
    return SignatureLine(line.name, line.key_id, time + signature)


def test_the_line_of_the_example_has_a_time_and_a_signature_of_64_bytes():
    _, line = note.parse_note(EXAMPLE).signatures
    assert int.from_bytes(line.signature[:8], "big") == TIME
    assert len(line.signature) == 8 + 64
    assert note.encode(note.parse_note(EXAMPLE)) == EXAMPLE


def test_an_ed25519_cosignature_is_over_a_header_the_time_and_the_note_text():
    private = builders.key("kz witness")
    line = cosignature.cosign(TEXT, NAME, private, TIME)
    message = f"cosignature/v1\ntime {TIME}\n{TEXT}".encode()
    key = Ed25519PublicKey.from_public_bytes(builders.public(private))
    key.verify(line.signature[8:], message)  # raises where it does not
    hashed = hashlib.sha256(f"{NAME}\n\x04".encode() + builders.public(private)).digest()
    assert (line.name, line.key_id) == (NAME, hashed[:4])


def test_an_ml_dsa_44_cosignature_is_over_the_tree_and_names_its_witness():
    private = MLDSA44PrivateKey.from_seed_bytes(b"\x05" * 32)
    public = private.public_key().public_bytes_raw()
    line = cosignature.cosign(TEXT, NAME, private, TIME)
    message = (
        b"subtree/v1\n\0"
        + bytes([len(NAME)])
        + NAME.encode()
        + TIME.to_bytes(8, "big")
        + bytes([len(ORIGIN)])
        + ORIGIN.encode()
        + bytes(8)
        + (1).to_bytes(8, "big")
        + HEAD.root
    )
    MLDSA44PublicKey.from_public_bytes(public).verify(line.signature[8:], message)
    assert len(line.signature) == 8 + 2420
    assert line.key_id == hashlib.sha256(f"{NAME}\n\x06".encode() + public).digest()[:4]


@pytest.mark.parametrize("private", KEYS)
class TestOfEitherType:
    def test_gives_the_time_at_which_it_was_made(self, private):
        line = cosignature.cosign(TEXT, NAME, private, TIME)
        assert cosignature.time_of(line, cosignature.vkey_of(NAME, private), TEXT) == TIME

    def test_has_a_verifier_key_that_is_written_and_read(self, private):
        vkey = cosignature.vkey_of(NAME, private)
        assert Vkey.parse(str(vkey)) == vkey

    def test_is_of_one_checkpoint_alone(self, private):
        line = cosignature.cosign(TEXT, NAME, private, TIME)
        other = checkpoint.format(Checkpoint(ORIGIN, 2, HEAD.root))
        with pytest.raises(NoteError, match="does not verify"):
            cosignature.time_of(line, cosignature.vkey_of(NAME, private), other)

    def test_is_of_one_time_alone(self, private):
        line = cosignature.cosign(TEXT, NAME, private, TIME)
        with pytest.raises(NoteError, match="does not verify"):
            cosignature.time_of(
                line_with(line, time=TIME + 1), cosignature.vkey_of(NAME, private), TEXT
            )

    def test_does_not_verify_with_any_bit_of_its_ends_flipped(self, private):
        line = cosignature.cosign(TEXT, NAME, private, TIME)
        signed = line.signature[8:]
        for place in (0, 1, len(signed) // 2, len(signed) - 1):
            flipped = bytearray(signed)
            flipped[place] ^= 1
            with pytest.raises(NoteError, match="does not verify"):
                cosignature.time_of(
                    line_with(line, signature=bytes(flipped)),
                    cosignature.vkey_of(NAME, private),
                    TEXT,
                )

    @pytest.mark.parametrize("time", [0, -1, 2**63])
    def test_has_a_time_that_can_be(self, private, time):
        with pytest.raises(NoteError, match="has a time"):
            cosignature.cosign(TEXT, NAME, private, time)

    def test_without_a_time_is_not_taken(self, private):
        line = cosignature.cosign(TEXT, NAME, private, TIME)
        with pytest.raises(NoteError, match="has a time"):
            cosignature.time_of(line_with(line, time=0), cosignature.vkey_of(NAME, private), TEXT)

    def test_of_a_wrong_length_is_not_taken(self, private):
        line = cosignature.cosign(TEXT, NAME, private, TIME)
        longer = line_with(line, signature=line.signature[8:] + b"\0")
        with pytest.raises(NoteError, match="wrong length"):
            cosignature.time_of(longer, cosignature.vkey_of(NAME, private), TEXT)

    def test_of_another_key_is_not_taken_for_ours(self, private):
        line = cosignature.cosign(TEXT, NAME, builders.key("thief"), TIME)
        with pytest.raises(NoteError, match="no cosignature by the key"):
            cosignature.time_of(line, cosignature.vkey_of(NAME, private), TEXT)

    def test_is_made_of_checkpoints_only(self, private):
        with pytest.raises(NoteError, match="three lines"):
            cosignature.cosign("any text\n", NAME, private, TIME)


class TestCosigners:
    def signed(self, *lines):
        return Note(TEXT, (note.sign(TEXT, builders.LOG, builders.key("log")), *lines))

    def test_are_the_known_ones_each_with_its_latest_time(self):
        kz = builders.key("kz witness")
        later, earlier = (cosignature.cosign(TEXT, NAME, kz, TIME + n) for n in (1, 0))
        stranger = cosignature.cosign(TEXT, "elsewhere.example/w", builders.key("thief"), TIME)
        vkey = cosignature.vkey_of(NAME, kz)
        signed = self.signed(stranger, later, earlier)
        assert cosignature.cosigners(signed, [vkey]) == {vkey: TIME + 1}

    def test_are_none_where_a_line_in_the_name_of_one_does_not_verify(self):
        kz = builders.key("kz witness")
        line = line_with(cosignature.cosign(TEXT, NAME, kz, TIME), time=TIME + 1)
        with pytest.raises(NoteError, match="does not verify"):
            cosignature.cosigners(self.signed(line), [cosignature.vkey_of(NAME, kz)])

    def test_do_not_include_the_log_that_signed(self):
        assert cosignature.cosigners(self.signed(), []) == {}


class TestVkey:
    def test_is_not_that_of_another_use(self):
        with pytest.raises(NoteError, match="for cosignatures"):
            cosignature.vkey(NAME, b"\x01" * 32, note.ED25519)

    def test_is_not_a_key_that_verifies_anything(self):
        with pytest.raises(NoteError, match="not a real key"):
            cosignature.vkey(NAME, b"\x01" + bytes(31))

    def test_has_the_length_of_its_type(self):
        with pytest.raises(NoteError, match="wrong length"):
            cosignature.vkey(NAME, b"\x01" * 32, cosignature.ML_DSA_44)

    def test_of_a_name_too_long_for_ml_dsa_signs_nothing(self):
        private = MLDSA44PrivateKey.from_seed_bytes(b"\x05" * 32)
        with pytest.raises(NoteError, match="1 to 255 bytes"):
            cosignature.cosign(TEXT, "w" * 256, private, TIME)
