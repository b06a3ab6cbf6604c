"""tlog-proofs: what convinces somebody who trusts nobody, and what does not."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from schemas import checkpoint, merkle, note, proof
from schemas.checkpoint import Checkpoint
from schemas.merkle import ProofError
from schemas.note import NoteError
from schemas.proof import Proof

ORIGIN = "hub.example/log"
PRIVATE = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
VKEY = note.ed25519_vkey(ORIGIN, PRIVATE.public_key().public_bytes_raw())

ENTRIES = [b"entry %d" % i for i in range(300)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]
HEAD = Checkpoint(ORIGIN, 300, merkle.root(LEAVES))
SIGNED = checkpoint.sign_checkpoint(HEAD, VKEY, PRIVATE)
PROOFS = merkle.inclusion_proofs(range(300), 300, merkle.append(0, {}, LEAVES))

# The example of tlog-proof, with signatures as cut there.
EXAMPLE = """\
c2sp.org/tlog-proof@v1
extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6kYXJ3aW4tYXJ
index 73894
gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=
EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=
RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=
AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=

example.com/fancylog
109482
sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=

— example.com/fancylog hI2DJw[...]1roloI=
"""


def proof_of(index: int) -> Proof:
    return Proof(index, tuple(PROOFS[index]), SIGNED)


class TestText:
    def test_the_example_is_read_and_written(self):
        read = proof.parse(EXAMPLE)
        assert (read.index, len(read.hashes)) == (73_894, 5)
        assert read.hashes[0].hex().startswith("8122b25e86")
        assert read.extra is not None
        assert read.extra.startswith(b"age-v1.2.1-darwin-arm64.tar.gz")
        assert read.checkpoint.startswith(b"example.com/fancylog\n109482\n")
        assert proof.encode(read) == EXAMPLE

    def test_a_proof_is_written_line_by_line(self):
        lines = proof.encode(proof_of(0)).split("\n")
        assert lines[:2] == ["c2sp.org/tlog-proof@v1", "index 0"]
        assert lines[2:11] == [note.b64(value) for value in PROOFS[0]]
        assert lines[11:14] == ["", ORIGIN, "300"]

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(Proof(0, (), SIGNED), id="an entry alone in its log"),
            pytest.param(proof_of(299), id="without extra data"),
            pytest.param(Proof(7, tuple(PROOFS[7]), SIGNED, b"\x00"), id="with extra data"),
            pytest.param(Proof(2**63 - 2, (bytes(32),) * 63, SIGNED), id="the largest"),
        ],
    )
    def test_a_proof_is_read_as_it_was_written(self, value):
        assert proof.parse(proof.encode(value)) == value

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            pytest.param("proof@v1", "proof@v2", id="another version"),
            pytest.param("c2sp.org/tlog-proof@v1\n", "", id="no header"),
            pytest.param("c2sp", " c2sp", id="a space before"),
            pytest.param("index 73894\n", "", id="no index"),
            pytest.param("index 73894", "index 073894", id="leading zero"),
            pytest.param("index 73894", "index -1", id="negative"),
            pytest.param("index 73894", "index 1 ", id="a space after"),
            pytest.param("index 73894", "index  1", id="two spaces"),
            pytest.param("index 73894", "index \u0661", id="a digit of another script"),
            pytest.param("index 73894", "index 9223372036854775807", id="too large"),
            pytest.param("index 73894", "index " + "9" * 5000, id="far too large"),
            pytest.param("index 73894", "index 1\nindex 1", id="two indices"),
            pytest.param("extra YWdl", "extra  YWdl", id="a space in extra"),
            pytest.param("extra YWdl", "extra YW-_", id="base64url in extra"),
            pytest.param("YXJ\nindex", "YXJ=\nindex", id="padding in extra"),
            pytest.param("extra YWdl", "extra AAAA\nextra YWdl", id="two extras"),
            pytest.param("PlQ=\n", "PlR=\n", id="trailing bits in a hash"),
            pytest.param("PlQ=\n", "PlQ\n", id="no padding of a hash"),
            pytest.param("PlQ=\n", "\n", id="a short hash"),
            pytest.param("PlQ=\n", "PlQ= \n", id="a space after a hash"),
            pytest.param("\n\n", "\n" + (note.b64(bytes(32)) + "\n") * 59 + "\n", id="64 hashes"),
            pytest.param("\n\n", "\n", id="no empty line"),
            pytest.param("\n", "\r\n", id="carriage returns"),
            pytest.param("fancylog", "\ud800", id="not encodable"),
        ],
    )
    def test_any_other_text_is_refused(self, old, new):
        assert old in EXAMPLE
        with pytest.raises(ProofError):
            proof.parse(EXAMPLE.replace(old, new))

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "\n\n",
            "c2sp.org/tlog-proof@v1\nindex 0",
            "c2sp.org/tlog-proof@v1\nindex 0\n",
            "c2sp.org/tlog-proof@v1\n\n" + SIGNED.decode(),
        ],
    )
    def test_a_text_without_the_parts_is_refused(self, text):
        with pytest.raises(ProofError):
            proof.parse(text)

    def test_empty_extra_data_is_refused(self):
        with pytest.raises(ProofError, match="left out"):
            proof.parse("c2sp.org/tlog-proof@v1\nextra \nindex 0\n\n" + SIGNED.decode())
        with pytest.raises(ProofError, match="left out"):
            Proof(0, (), SIGNED, b"")

    def test_a_checkpoint_that_is_not_text_is_not_written(self):
        with pytest.raises(ProofError, match="UTF-8"):
            proof.encode(Proof(0, (), b"\xff"))

    @given(st.text(max_size=60), st.integers(0, 400), st.integers(0, 20))
    def test_any_text_is_one_proof_or_refused(self, inserted, at, removed):
        text = EXAMPLE[:at] + inserted + EXAMPLE[at + removed :]
        try:
            read = proof.parse(text)
        except ProofError:
            return
        assert proof.encode(read) == text


class TestVerification:
    @pytest.mark.parametrize("index", [0, 1, 255, 256, 299])
    def test_an_entry_in_the_log_is_proved(self, index):
        read = proof.parse(proof.encode(proof_of(index)))
        assert proof.verify(read, ENTRIES[index], VKEY) == HEAD

    def test_another_entry_is_not_proved(self):
        with pytest.raises(ProofError, match="another root"):
            proof.verify(proof_of(7), ENTRIES[8], VKEY)

    def test_another_index_is_not_proved(self):
        with pytest.raises(ProofError, match="another root"):
            proof.verify(msgspec.structs.replace(proof_of(7), index=8), ENTRIES[7], VKEY)
        with pytest.raises(ProofError, match="no entry 300"):
            proof.verify(msgspec.structs.replace(proof_of(7), index=300), ENTRIES[7], VKEY)

    def test_a_shortened_proof_is_refused(self):
        shortened = Proof(7, tuple(PROOFS[7][:-1]), SIGNED)
        with pytest.raises(ProofError, match="8 hashes where 9 are needed"):
            proof.verify(shortened, ENTRIES[7], VKEY)

    def test_a_proof_under_a_checkpoint_of_another_log_is_refused(self):
        other = Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
        vkey = note.ed25519_vkey(ORIGIN, other.public_key().public_bytes_raw())
        with pytest.raises(NoteError, match="No known key"):
            proof.verify(proof_of(7), ENTRIES[7], vkey)

    def test_a_proof_under_a_changed_checkpoint_is_refused(self):
        changed = SIGNED.replace(b"\n300\n", b"\n301\n")
        with pytest.raises(NoteError, match="does not verify"):
            proof.verify(Proof(7, tuple(PROOFS[7]), changed), ENTRIES[7], VKEY)

    def test_a_proof_without_a_checkpoint_is_refused(self):
        with pytest.raises(NoteError):
            proof.verify(Proof(7, tuple(PROOFS[7]), b""), ENTRIES[7], VKEY)

    def test_extra_data_changes_nothing(self):
        with_extra = msgspec.structs.replace(proof_of(7), extra=b"anything")
        assert proof.verify(with_extra, ENTRIES[7], VKEY) == HEAD
