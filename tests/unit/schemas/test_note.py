"""Signed notes: the examples of the specification, what verifies, and what is refused."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from schemas import note
from schemas.note import Note, NoteError, SignatureLine, Vkey

# The examples of signed-note.
EXAMPLE_VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE = (
    "This is an example message.\n"
    "\n"
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuw"
    "HjG1Yu72IneyaQM=\n"
).encode()
POEM = (
    "Ognuno sta solo sul cuor della terra\n"
    "trafitto da un raggio di sole:\n"
    "\n"
    "ed è subito sera.\n"
    "\n"
    "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU"
    "0xMcXxj99ihAQwaqP3ZekRwNtIc=\n"
).encode()

TEXT = "One line.\n\nAfter an empty one: Тошкент.\n"


def key(number: int, name: str = "hub.example/log") -> tuple[Vkey, Ed25519PrivateKey]:
    private = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    return note.ed25519_vkey(name, private.public_key().public_bytes_raw()), private


VKEY, PRIVATE = key(1)
OTHER_VKEY, OTHER_PRIVATE = key(2, "witness.example/kz")


def signed(*lines: SignatureLine, text: str = TEXT) -> Note:
    return Note(text, lines)


class TestVkeys:
    def test_the_example_is_read_and_written(self):
        vkey = Vkey.parse(EXAMPLE_VKEY)
        assert (vkey.name, vkey.key_id.hex(), vkey.kind) == ("example.com/foo", "530d903a", 1)
        assert str(vkey) == EXAMPLE_VKEY
        assert note.ed25519_vkey("example.com/foo", vkey.public) == vkey

    def test_a_key_whose_base64_has_a_plus_is_read(self):
        texts = (str(key(number)[0]) for number in range(256))
        text = next(text for text in texts if text.count("+") > 2)
        assert str(Vkey.parse(text)) == text

    @pytest.mark.parametrize(
        ("kind", "size"), [(0x04, 32), (0x06, 1312)], ids=["Ed25519", "ML-DSA-44"]
    )
    def test_the_keys_of_cosignatures_are_read(self, kind, size):
        public = bytes(range(32)) * (size // 32)
        vkey = Vkey("w.example", note.key_id("w.example", kind, public), kind, public)
        assert Vkey.parse(str(vkey)) == vkey

    def test_a_key_of_an_unknown_type_is_carried_as_it_is(self):
        vkey = Vkey("example.com/foo", b"\x01\x02\x03\x04", 0xFF, b"anything")
        assert Vkey.parse(str(vkey)) == vkey

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "example.com/foo",
            "example.com/foo+530d903a",
            "example.com/foo+530d903a+",
            "example.com/foo+530d903a+AQ==",
            EXAMPLE_VKEY.replace("530d903a", "530D903A"),
            EXAMPLE_VKEY.replace("530d903a", "530d903"),
            EXAMPLE_VKEY.replace("530d903a", "530d903a0"),
            EXAMPLE_VKEY.replace("530d903a", "530d903b"),
            EXAMPLE_VKEY.replace("530d903a", ""),
            EXAMPLE_VKEY.replace("foo", "fop"),
            EXAMPLE_VKEY.replace("example.com/foo", ""),
            EXAMPLE_VKEY.replace("/foo", " foo"),
            EXAMPLE_VKEY.replace("/foo", "\ud800"),
            EXAMPLE_VKEY[:-1],
            EXAMPLE_VKEY[:-4],
            EXAMPLE_VKEY + "\n",
            " " + EXAMPLE_VKEY,
            EXAMPLE_VKEY + "+",
        ],
    )
    def test_any_other_text_is_refused(self, text):
        assert text != EXAMPLE_VKEY
        with pytest.raises(NoteError):
            Vkey.parse(text)

    @pytest.mark.parametrize("kind", [0x01, 0x04], ids=["note", "cosignature"])
    @pytest.mark.parametrize("size", [0, 31, 33])
    def test_an_ed25519_key_has_32_bytes(self, kind, size):
        public = b"k" * size
        with pytest.raises(NoteError, match="public key"):
            Vkey("hub.example", note.key_id("hub.example", kind, public), kind, public)

    def test_a_key_under_which_one_signature_verifies_everything_is_refused(self):
        identity = b"\x01" + bytes(31)
        with pytest.raises(NoteError, match="refused"):
            note.ed25519_vkey("hub.example/log", identity)

    @pytest.mark.parametrize(
        "name", ["", "a b", "a+b", "a\nb", "a\tb", "a\u00a0b", "a\u2003b", "a\u3000b", "\x00"]
    )
    def test_a_key_name_is_not_empty_and_has_no_space_plus_or_control_character(self, name):
        with pytest.raises(NoteError, match="key name"):
            note.ed25519_vkey(name, VKEY.public)


class TestFormat:
    @pytest.mark.parametrize("raw", [EXAMPLE, POEM], ids=["example", "poem"])
    def test_the_examples_are_read_and_written(self, raw):
        assert note.encode(note.parse_note(raw)) == raw

    def test_the_last_empty_line_ends_the_text(self):
        parsed = note.parse_note(POEM)
        assert parsed.text.endswith("\n\ned è subito sera.\n")
        assert [line.name for line in parsed.signatures] == ["quasimodo.example/salvatore"]

    def test_a_note_gives_back_its_text_and_signatures_in_order(self):
        whole = signed(
            note.sign(TEXT, VKEY, PRIVATE),
            SignatureLine("unknown.example", b"\x00\x00\x00\x01", b"x" * 5000),
        )
        assert note.parse_note(note.encode(whole)) == whole

    @pytest.mark.parametrize(
        "raw",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"\n", id="one newline"),
            pytest.param(b"\n\n", id="two newlines"),
            pytest.param(b"text\n", id="text alone"),
            pytest.param(b"text\n\n", id="no signature"),
            pytest.param(EXAMPLE[:-1], id="no last newline"),
            pytest.param(EXAMPLE[:-1] + b"x", id="something else than the last newline"),
            pytest.param(EXAMPLE + b"\n", id="an empty line at the end"),
            pytest.param(EXAMPLE + b"more\n", id="a line that is no signature"),
            pytest.param(EXAMPLE.replace(b"\n\n", b"\n"), id="no blank line"),
            pytest.param(EXAMPLE.replace(b"\n", b"\r\n"), id="carriage returns"),
            pytest.param(EXAMPLE.replace(b"This is", b"This\tis"), id="a tab"),
            pytest.param(EXAMPLE.replace(b"This is", b"This\x00is"), id="a zero"),
            pytest.param(EXAMPLE.replace(b"This", b"\xff"), id="not UTF-8"),
            pytest.param(EXAMPLE.replace(b"This", b"\xed\xa0\x80"), id="a surrogate"),
            pytest.param(EXAMPLE.replace("—".encode(), b"-"), id="a hyphen"),
            pytest.param(EXAMPLE.replace("— ".encode(), "—".encode()), id="no space"),
            pytest.param(EXAMPLE.replace("— ".encode(), "—  ".encode()), id="two spaces"),
            pytest.param(EXAMPLE.replace(b"foo Uw", b"foo  Uw"), id="two spaces later"),
            pytest.param(EXAMPLE.replace(b"=\n", b"= \n"), id="a space at the end"),
            pytest.param(EXAMPLE.replace(b"com/foo", b"com+foo"), id="a plus in the name"),
            pytest.param(EXAMPLE.replace(b"example.com/foo", b""), id="no name"),
            pytest.param(EXAMPLE.replace(b"/foo", "\u00a0foo".encode()), id="a space in the name"),
            pytest.param(EXAMPLE.replace(b"QM=", b"QM"), id="no padding"),
            pytest.param(EXAMPLE.replace(b"QM=", b"QM=="), id="more padding"),
            pytest.param(EXAMPLE.replace(b"QM=", b"QN="), id="trailing bits"),
            pytest.param(EXAMPLE.replace(b"Uw2Q", b"Uw-_"), id="base64url"),
            pytest.param("text\n\n— a AAAAAA==\n".encode(), id="an id without a signature"),
            pytest.param("text\n\n— a AAA=\n".encode(), id="half an id"),
        ],
    )
    def test_any_other_bytes_are_refused(self, raw):
        assert raw != EXAMPLE
        with pytest.raises(NoteError):
            note.parse_note(raw)

    @pytest.mark.parametrize(
        ("name", "key_id", "signature"),
        [("", b"wxyz", b"s"), ("a b", b"wxyz", b"s"), ("w", b"wxy", b"s"), ("w", b"wxyz", b"")],
    )
    def test_a_line_that_could_not_be_read_back_is_refused(self, name, key_id, signature):
        with pytest.raises(NoteError):
            SignatureLine(name, key_id, signature)

    def test_sixteen_post_quantum_signatures_are_taken(self):
        lines = tuple(SignatureLine(f"w{i}.example", b"wxyz", b"s" * 5000) for i in range(16))
        assert note.parse_note(note.encode(Note(TEXT, lines))).signatures == lines

    def test_a_note_has_a_signature_and_at_most_64(self):
        line = SignatureLine("w.example", b"wxyz", b"s")
        with pytest.raises(NoteError, match="1 to 64"):
            Note(TEXT, ())
        with pytest.raises(NoteError, match="1 to 64"):
            Note(TEXT, (line,) * 65)
        with pytest.raises(NoteError, match="1 to 64"):
            note.parse_note(note.encode(Note(TEXT, (line,) * 64)) + b"\xe2\x80\x94 a AAAAAAA=\n")

    def test_a_note_over_256_kib_is_neither_read_nor_written(self):
        line = SignatureLine("w.example", b"wxyz", b"s")
        room = note.MAX_SIZE - len(note.encode(Note("\n", (line,))))
        largest = note.encode(Note("x" * room + "\n", (line,)))
        assert len(note.parse_note(largest).text) == room + 1
        with pytest.raises(NoteError, match="limit"):
            note.parse_note(b"x" + largest)
        with pytest.raises(NoteError, match="limit"):
            note.encode(Note("x" * (room + 1) + "\n", (line,)))

    @pytest.mark.parametrize("text", ["", "no newline", "tab\t\n", "\r\n", "\x00\n", "\ud800\n"])
    def test_a_text_that_cannot_be_read_back_is_not_signed(self, text):
        with pytest.raises(NoteError, match="text"):
            note.sign(text, VKEY, PRIVATE)
        with pytest.raises(NoteError, match="text"):
            Note(text, (SignatureLine("w.example", b"wxyz", b"s"),))


class TestVerification:
    def test_the_example_verifies(self):
        vkey = Vkey.parse(EXAMPLE_VKEY)
        assert note.verify(note.parse_note(EXAMPLE), [vkey]) == (vkey,)

    def test_what_was_signed_verifies_by_all_known_keys(self):
        lines = (
            note.sign(TEXT, VKEY, PRIVATE),
            note.sign(TEXT, OTHER_VKEY, OTHER_PRIVATE),
            note.sign(TEXT, VKEY, PRIVATE),
        )
        both = note.verify(signed(*lines), [OTHER_VKEY, VKEY])
        assert both == (VKEY, OTHER_VKEY)
        assert note.verify(signed(*lines), [OTHER_VKEY]) == (OTHER_VKEY,)

    def test_unknown_keys_are_ignored_even_if_they_share_a_name_or_an_id(self):
        lines = (
            SignatureLine(VKEY.name, b"\x00\x00\x00\x01", b"same name"),
            SignatureLine("other.example", VKEY.key_id, b"same id"),
            note.sign(TEXT, VKEY, PRIVATE),
        )
        assert note.verify(signed(*lines), [VKEY]) == (VKEY,)

    def test_no_signature_of_a_known_key_is_refused(self):
        with pytest.raises(NoteError, match="No known key"):
            note.verify(signed(note.sign(TEXT, VKEY, PRIVATE)), [OTHER_VKEY])
        with pytest.raises(NoteError, match="No known key"):
            note.verify(signed(note.sign(TEXT, VKEY, PRIVATE)), [])

    @pytest.mark.parametrize("signature", [b"x", bytes(64), bytes(65)])
    def test_one_failing_signature_of_a_known_key_rejects_the_whole_note(self, signature):
        good = note.sign(TEXT, OTHER_VKEY, OTHER_PRIVATE)
        bad = SignatureLine(VKEY.name, VKEY.key_id, signature)
        for lines in ((good, bad), (bad, good)):
            with pytest.raises(NoteError, match=r"hub\.example/log does not verify"):
                note.verify(signed(*lines), [VKEY, OTHER_VKEY])

    def test_a_signature_of_another_text_does_not_verify(self):
        line = note.sign(TEXT, VKEY, PRIVATE)
        with pytest.raises(NoteError, match="does not verify"):
            note.verify(signed(line, text=TEXT + "\n"), [VKEY])

    def test_a_known_key_of_another_signature_type_is_refused(self):
        good = signed(note.sign(TEXT, VKEY, PRIVATE))
        cosigner_id = note.key_id(VKEY.name, 0x04, VKEY.public)
        cosigner = Vkey(VKEY.name, cosigner_id, 0x04, VKEY.public)
        with pytest.raises(NoteError, match="not an Ed25519 key for notes"):
            note.verify(good, [VKEY, cosigner])

    def test_only_the_key_of_the_vkey_signs(self):
        with pytest.raises(NoteError, match="not the one of"):
            note.sign(TEXT, VKEY, OTHER_PRIVATE)
        other_kind = Vkey(VKEY.name, b"\x01\x02\x03\x04", 0xFF, VKEY.public)
        with pytest.raises(NoteError, match="not the one of"):
            note.sign(TEXT, other_kind, PRIVATE)


class TestBase64:
    def test_the_one_encoding_is_read(self):
        assert [note.unb64(text) for text in ("", "AA==", "+/8=")] == [b"", b"\x00", b"\xfb\xff"]

    @pytest.mark.parametrize(
        "text",
        ["A", "AA", "AB==", "AA=", "AA===", "AA==\n", " AA==", "A A==", "-_8=", "==", "é==="],
    )
    def test_any_other_encoding_is_refused(self, text):
        with pytest.raises(NoteError):
            note.unb64(text)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda s: s.encode(errors="replace")))
def test_any_bytes_are_a_note_or_refused(data):
    for raw in (data, data + EXAMPLE, EXAMPLE + "— ".encode() + data + b"\n"):
        try:
            parsed = note.parse_note(raw)
        except NoteError:
            continue
        assert note.encode(parsed) == raw


@given(st.data())
def test_a_note_with_any_byte_changed_is_refused_or_loses_its_signature(data):
    at = data.draw(st.integers(0, len(EXAMPLE) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != EXAMPLE[at]))
    with pytest.raises(NoteError):
        note.verify(
            note.parse_note(EXAMPLE[:at] + bytes([byte]) + EXAMPLE[at + 1 :]),
            [Vkey.parse(EXAMPLE_VKEY)],
        )
