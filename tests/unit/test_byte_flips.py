"""Every byte of what proves something is flipped: each flip is detected, or provably irrelevant.

Irrelevant are exactly these, and each test says where they stand:

- the ``extra`` line of a tlog-proof, of which the specification says that nobody vouches for it;
- a witness's line under a checkpoint for whoever asks for the log's signature alone: it says
  nothing about the log. Whoever asks for a quorum detects it there, too.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import msgspec
import pytest
from msgspec.structs import replace

from hub.intake.offload import Offload
from schemas import acceptance, checkpoint, cosignature, note, policy, proof
from schemas.acceptance import Acceptance, Broken
from schemas.encoding import unb64url
from schemas.merkle import ProofError
from schemas.note import NoteError
from tests import builders
from tests.unit.hub.ledger.test_verify import Stored, check_of

MASKS = (0x01, 0x20, 0x80)
"""The lowest bit, the one between small and capital letters, and the one that leaves ASCII."""

DETECTED = (NoteError, ProofError, Broken, msgspec.MsgspecError, UnicodeDecodeError)


def flips(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """Every byte with its bits flipped, and where."""
    for at in range(len(raw)):
        for mask in MASKS:
            yield at, raw[:at] + bytes([raw[at] ^ mask]) + raw[at + 1 :]


def undetected(raw: bytes, read: Callable[[bytes], object]) -> set[int]:
    """Where a flip is not detected. What is then read must be what was read before."""
    before = read(raw)
    found = set()
    for at, flipped in flips(raw):
        try:
            assert read(flipped) == before, f"byte {at} changes what is believed: {flipped!r}"
        except DETECTED:
            continue
        found.add(at)
    return found


def span(raw: bytes, start: bytes, end: bytes) -> set[int]:
    """The places from the first of some bytes to the last before others."""
    first = raw.index(start)
    return set(range(first, raw.index(end, first)))


# --- The stored log ---


@pytest.fixture
def offload():
    made = Offload()
    yield made
    made.close()


async def holds(stored, offload):
    check = check_of(stored, offload)
    while await check.step():
        pass
    return check.verdict().ok


async def test_of_the_stored_log_every_byte_of_every_row(offload):
    stored = Stored(3)
    assert await holds(stored, offload)
    for index, row in stored.columns.items():
        for _, flipped in flips(row.raw):
            stored.columns[index] = replace(row, raw=flipped)
            assert not await holds(stored, offload), f"entry {index}: {flipped!r}"
        for name in ("type", "time", "actor", "subject"):
            for _, flipped in flips(getattr(row, name).encode("latin-1")):
                stored.columns[index] = replace(row, **{name: flipped.decode("latin-1")})
                assert not await holds(stored, offload), f"{name} of {index}: {flipped!r}"
        stored.columns[index] = row
    assert await holds(stored, offload)


async def test_of_the_stored_log_every_byte_of_every_tile(offload):
    stored = Stored(257)
    assert {*stored.rows_of_tiles} == {(0, 0), (0, 1), (1, 0)}
    for tile, hashes in [*stored.rows_of_tiles.items()]:
        # Each of the full tile's 8,192 bytes in the first of the ways only.
        every = len(MASKS) if len(hashes) == 256 * 32 else 1
        for _, flipped in islice(flips(hashes), 0, None, every):
            stored.rows_of_tiles[tile] = flipped
            assert not await holds(stored, offload), tile
        stored.rows_of_tiles[tile] = hashes


async def test_of_the_stored_log_every_byte_of_salts_private_parts_and_the_checkpoint(offload):
    stored = Stored(2)
    for index, (salt, private) in stored.secrets.items():
        assert salt is not None
        assert private is not None
        for _, flipped in flips(salt + private):
            stored.secrets[index] = flipped[:32], flipped[32:]
            assert not await holds(stored, offload), f"private part {index}"
        stored.secrets[index] = salt, private
    signed = stored.note
    assert signed is not None
    for at, flipped in flips(signed):
        stored.note = flipped
        assert not await holds(stored, offload), f"byte {at} of the checkpoint"


async def test_of_the_stored_log_a_row_that_has_another_number(offload):
    stored = Stored(3)
    row = stored.columns.pop(1)
    for index in (3, 4, 2**40):
        stored.columns[index] = replace(row, index=index)
        assert not await holds(stored, offload), index


# --- A checkpoint ---


def test_of_a_checkpoint_every_byte():
    raw = note_of(acceptance_of())
    assert undetected(raw, lambda it: checkpoint.open_checkpoint(it, builders.LOG)) == set()


def test_of_a_cosigned_checkpoint_every_byte_but_the_witness_s_line():
    raw, wanted = cosigned()
    believed = undetected(raw, lambda it: checkpoint.open_checkpoint(it, builders.LOG))
    line = span(raw, b"\xe2\x80\x94 hub.example/log/kz ", b"\xe2\x80\x94 hub.example/log/kg ")
    both = line | span(raw, b"\xe2\x80\x94 hub.example/log/kg ", raw[-1:]) | {len(raw) - 1}
    assert believed <= both
    assert believed & line, "a witness's line says nothing about the log"
    assert undetected(raw, lambda it: policy.open_witnessed(it, wanted)) == set()


def cosigned() -> tuple[bytes, policy.Policy]:
    """A checkpoint with the cosignatures of two witnesses, and the policy that wants both."""
    signed = note.parse_note(note_of(acceptance_of()))
    names = [cosignature.witness_name(builders.ORIGIN, code) for code in ("kz", "kg")]
    keys = [builders.key(name) for name in names]
    lines = [
        cosignature.cosign(signed.text, name, key, 1_780_000_000)
        for name, key in zip(names, keys, strict=True)
    ]
    vkeys = [cosignature.vkey_of(name, key) for name, key in zip(names, keys, strict=True)]
    text = (
        f"log {builders.LOG}\nwitness a {vkeys[0]}\nwitness b {vkeys[1]}\n"
        "group both all a b\nquorum both\n"
    )
    raw = note.encode(note.Note(signed.text, (*signed.signatures, *lines)))
    return raw, policy.parse(text.encode())


# --- A proof ---


def test_of_a_proof_every_byte():
    made = acceptance_of()
    entry = unb64url(made.entry)
    assert undetected(made.proof.encode(), lambda it: proven(it, entry)) == set()


def test_of_a_proof_with_extra_data_every_byte_but_those():
    made = acceptance_of()
    entry = unb64url(made.entry)
    text = proof.encode(replace(proof.parse(made.proof), extra=b"nobody vouches for this"))
    raw = text.encode()
    believed = undetected(raw, lambda it: proven(it, entry))
    line = span(raw, b"extra ", b"\nindex ")
    assert believed <= line
    assert len(believed) > len(line) / 2


def proven(raw: bytes, entry: bytes) -> object:
    """What somebody believes because of a proof."""
    read = proof.parse(raw.decode())
    return read.index, proof.verify(read, entry, builders.LOG)


# --- An acceptance ---


def test_of_an_acceptance_every_byte():
    raw = msgspec.json.encode(acceptance_of())
    assert undetected(raw, opened) == set()


def opened(raw: bytes) -> object:
    """What somebody believes because of an acceptance."""
    return acceptance.open_acceptance(msgspec.json.decode(raw, type=Acceptance), builders.LOG)


def acceptance_of() -> Acceptance:
    """An acceptance in the middle of a small log."""
    return builders.acceptance(before=[b"one", b"two", b"three"])


def note_of(made: Acceptance) -> bytes:
    return proof.parse(made.proof).checkpoint
