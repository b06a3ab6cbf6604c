"""Checkpoints: the example of the specification, what a log signs, and what is refused."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import checkpoint, merkle, note
from schemas.checkpoint import Checkpoint
from schemas.note import Note, NoteError, SignatureLine

ORIGIN = "hub.example/log"
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
VKEY = note.ed25519_vkey(ORIGIN, PRIVATE.public_key().public_bytes_raw())
ROOT = merkle.leaf_hash(b"one entry")
HEAD = Checkpoint(ORIGIN, 1, ROOT)

# The example of tlog-checkpoint.
EXAMPLE_TEXT = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
)
EXAMPLE = (
    EXAMPLE_TEXT
    + "\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4"
    "URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
).encode()


def signed(text: str) -> bytes:
    return note.encode(Note(text, (note.sign(text, VKEY, PRIVATE),)))


class TestText:
    def test_the_example_is_read_and_written(self):
        head = checkpoint.parse(note.parse_note(EXAMPLE).text)
        assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20_852_163)
        assert head.root.hex().startswith("0ac5186a9186")
        assert checkpoint.format(head) == EXAMPLE_TEXT

    def test_the_empty_tree_has_a_checkpoint_with_its_one_root(self):
        empty = Checkpoint(ORIGIN, 0, merkle.EMPTY_ROOT)
        assert checkpoint.parse(checkpoint.format(empty)) == empty
        with pytest.raises(NoteError, match="empty tree"):
            Checkpoint(ORIGIN, 0, ROOT)

    def test_the_largest_size_is_that_of_a_signed_64_bit_integer(self):
        largest = Checkpoint(ORIGIN, 2**63 - 1, ROOT)
        assert checkpoint.parse(checkpoint.format(largest)) == largest

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            pytest.param("20852163", "020852163", id="leading zero"),
            pytest.param("20852163", "+20852163", id="plus"),
            pytest.param("20852163", "-1", id="negative"),
            pytest.param("20852163", "", id="no size"),
            pytest.param("20852163", "1_000", id="underscore"),
            pytest.param("20852163", "\u0661", id="a digit of another script"),
            pytest.param("20852163", "9223372036854775808", id="too large"),
            pytest.param("20852163", "9" * 5000, id="far too large"),
            pytest.param("20852163", "0", id="the empty tree with another root"),
            pytest.param("example.com/behind-the-sofa", "", id="no origin"),
            pytest.param("q2I=\n", "q2I=", id="no last newline"),
            pytest.param("q2I=\n", "q2I=\nmore", id="more without a newline"),
            pytest.param("q2I=\n", "q2I=\n\n", id="an empty line"),
            pytest.param("q2I=", "q2J=", id="trailing bits"),
            pytest.param("q2I=", "q2I", id="no padding"),
            pytest.param("q2I=", "", id="a short root"),
            pytest.param("CsUY", "CsUYCsUY", id="a long root"),
            pytest.param("CsUY", " CsUY", id="a space"),
            pytest.param("CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n", "", id="no root"),
        ],
    )
    def test_any_other_text_is_refused(self, old, new):
        assert old in EXAMPLE_TEXT
        with pytest.raises(NoteError):
            checkpoint.parse(EXAMPLE_TEXT.replace(old, new))

    def test_extension_lines_are_refused(self):
        with pytest.raises(NoteError, match="extension lines"):
            checkpoint.parse(EXAMPLE_TEXT + "an extension\n")

    @pytest.mark.parametrize(
        ("origin", "size", "root"),
        [("", 1, ROOT), ("a\nb", 1, ROOT), (ORIGIN, -1, ROOT), (ORIGIN, 2**63, ROOT)]
        + [(ORIGIN, 1, root) for root in (b"", ROOT[:-1], ROOT + b"x")],
    )
    def test_what_could_not_be_read_back_is_no_checkpoint(self, origin, size, root):
        with pytest.raises(NoteError):
            Checkpoint(origin, size, root)


class TestSigning:
    def test_what_the_log_signed_opens_with_its_key(self):
        raw = checkpoint.sign_checkpoint(HEAD, VKEY, PRIVATE)
        assert raw.startswith(b"hub.example/log\n1\n")
        assert checkpoint.open_checkpoint(raw, VKEY) == HEAD

    def test_cosignatures_of_witnesses_do_not_matter_to_the_log_signature(self):
        parsed = note.parse_note(checkpoint.sign_checkpoint(HEAD, VKEY, PRIVATE))
        witness = SignatureLine("hub.example/log/kz", b"wxyz", b"s" * 72)
        raw = note.encode(Note(parsed.text, (witness, *parsed.signatures)))
        assert checkpoint.open_checkpoint(raw, VKEY) == HEAD

    def test_a_log_signs_only_under_its_own_origin(self):
        with pytest.raises(NoteError, match="the key of"):
            checkpoint.sign_checkpoint(Checkpoint("other.example/log", 1, ROOT), VKEY, PRIVATE)

    def test_a_log_signs_only_with_its_own_key(self):
        with pytest.raises(NoteError, match="private key"):
            checkpoint.sign_checkpoint(
                HEAD, VKEY, Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
            )

    def test_an_origin_with_control_characters_is_never_signed(self):
        with pytest.raises(NoteError):
            checkpoint.sign_checkpoint(Checkpoint("hub\texample", 1, ROOT), VKEY, PRIVATE)


class TestOpening:
    def test_a_checkpoint_signed_by_another_key_is_refused(self):
        other = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
        vkey = note.ed25519_vkey(ORIGIN, other.public_key().public_bytes_raw())
        with pytest.raises(NoteError, match="No known key"):
            checkpoint.open_checkpoint(checkpoint.sign_checkpoint(HEAD, vkey, other), VKEY)

    def test_a_changed_size_is_refused(self):
        raw = checkpoint.sign_checkpoint(HEAD, VKEY, PRIVATE).replace(b"\n1\n", b"\n2\n")
        with pytest.raises(NoteError, match="does not verify"):
            checkpoint.open_checkpoint(raw, VKEY)

    def test_a_checkpoint_of_another_origin_is_refused_although_the_signature_holds(self):
        text = checkpoint.format(Checkpoint("other.example/log", 1, ROOT))
        with pytest.raises(NoteError, match=r"of other\.example/log"):
            checkpoint.open_checkpoint(signed(text), VKEY)

    def test_a_signed_text_that_is_no_checkpoint_is_refused(self):
        with pytest.raises(NoteError, match="extension lines"):
            checkpoint.open_checkpoint(signed(checkpoint.format(HEAD) + "more\n"), VKEY)
        with pytest.raises(NoteError, match="three lines"):
            checkpoint.open_checkpoint(signed("hello\n"), VKEY)

    def test_bytes_that_are_no_note_are_refused(self):
        with pytest.raises(NoteError, match="UTF-8"):
            checkpoint.open_checkpoint(b"\xff", VKEY)
