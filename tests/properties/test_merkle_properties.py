"""The Merkle tree against an oracle written from the text of RFC 6962 §2.1, and against damage."""

from functools import cache
from hashlib import sha256

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas import merkle
from schemas.merkle import ProofError

# A tree with several tiles of level 0, whose entries are all different.
LARGEST = 1_100
LEAVES = [merkle.leaf_hash(b"entry %d" % i) for i in range(LARGEST)]
TILES = merkle.append(0, {}, LEAVES)

sizes = st.integers(1, LARGEST) | st.sampled_from([1, 2, 255, 256, 257, 511, 512, 513, 768, 1024])


# --- The oracle: ranges D[a:b] of the entries, and the recursions of the RFC, word for word ---


def k(n: int) -> int:
    """The largest power of two smaller than n."""
    power = 1
    while power * 2 < n:
        power *= 2
    return power


@cache
def mth(a: int, b: int) -> bytes:
    n = b - a
    if n == 0:
        return sha256(b"").digest()
    if n == 1:
        return sha256(b"\x00entry %d" % a).digest()
    return sha256(b"\x01" + mth(a, a + k(n)) + mth(a + k(n), b)).digest()


def path(m: int, a: int, b: int) -> list[bytes]:
    n = b - a
    if n == 1:
        return []
    if m < k(n):
        return [*path(m, a, a + k(n)), mth(a + k(n), b)]
    return [*path(m - k(n), a + k(n), b), mth(a, a + k(n))]


def subproof(m: int, a: int, b: int, complete: bool) -> list[bytes]:
    n = b - a
    if m == n:
        return [] if complete else [mth(a, b)]
    if m <= k(n):
        return [*subproof(m, a, a + k(n), complete), mth(a + k(n), b)]
    return [*subproof(m - k(n), a + k(n), b, False), mth(a, a + k(n))]


# --- Strategies ---


@st.composite
def entries_in_trees(draw, largest=sizes):
    size = draw(largest)
    return draw(st.integers(0, size - 1)), size


@st.composite
def grown_trees(draw, largest=sizes):
    size = draw(largest)
    return draw(st.integers(1, size)), size


@st.composite
def batches(draw):
    """Where a log of some size is cut into commits: the sizes after each."""
    size = draw(sizes)
    cuts = draw(st.lists(st.integers(1, size), max_size=8))
    return sorted({*cuts, size})


def only(places):
    return {place: TILES[place] for place in places}


def with_one_bit_flipped(data: bytes):
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def damaged_proofs(proof: list[bytes]):
    """The proof with one bit flipped, a hash left out, doubled or added, or two exchanged."""
    for i, value in enumerate(proof):
        yield from (
            [*proof[:i], flipped, *proof[i + 1 :]] for flipped in with_one_bit_flipped(value)
        )
        yield [*proof[:i], *proof[i + 1 :]]
        yield [*proof[:i], value, *proof[i:]]
    for i in range(len(proof) - 1):
        yield [*proof[:i], proof[i + 1], proof[i], *proof[i + 2 :]]
    yield [*proof, bytes(32)]
    yield [bytes(32), *proof]


# --- Roots and proofs are those of the RFC, from exactly the tiles that are named ---


@given(st.integers(0, LARGEST))
def test_a_root_is_the_tree_hash_of_the_rfc(size):
    assert merkle.root(LEAVES[:size]) == mth(0, size)
    assert merkle.tree_root(size, only(merkle.tiles_for_root(size))) == mth(0, size)


@given(entries_in_trees())
def test_an_inclusion_proof_is_the_path_of_the_rfc_and_verifies(entry):
    index, size = entry
    proof = merkle.inclusion_proof(index, size, only(merkle.tiles_for_inclusion(index, size)))
    assert proof == path(index, 0, size)
    merkle.verify_inclusion(index, size, LEAVES[index], proof, mth(0, size))


@given(sizes, st.data())
def test_proofs_in_a_batch_are_the_proofs_one_by_one(size, data):
    indices = data.draw(st.lists(st.integers(0, size - 1), max_size=20))
    tiles = only(merkle.tiles_for_inclusions(indices, size))
    proofs = merkle.inclusion_proofs(indices, size, tiles)
    assert proofs == [path(index, 0, size) for index in indices]


@given(grown_trees())
def test_a_consistency_proof_is_the_proof_of_the_rfc_and_verifies(tree):
    old_size, size = tree
    tiles = only(merkle.tiles_for_consistency(old_size, size))
    proof = merkle.consistency_proof(old_size, size, tiles)
    assert proof == subproof(old_size, 0, size, complete=True)
    merkle.verify_consistency(old_size, size, mth(0, old_size), mth(0, size), proof)


@given(entries_in_trees(), st.data())
def test_no_named_tile_can_be_done_without(entry, data):
    index, size = entry
    needed = merkle.tiles_for_inclusion(index, size)
    if needed:
        missing = data.draw(st.sampled_from(sorted(needed)))
        with pytest.raises(ProofError, match="missing"):
            merkle.inclusion_proof(index, size, only(needed - {missing}))


# --- Tiles ---


@given(st.integers(0, LARGEST))
def test_a_tile_holds_the_tree_hashes_that_tlog_tiles_defines(size):
    tiles = merkle.append(0, {}, LEAVES[:size])
    for (level, n), tile in tiles.items():
        span = 256**level
        starts = [(n * 256 + i) * span for i in range(merkle.tile_width(level, n, size))]
        assert tile == b"".join(mth(start, start + span) for start in starts)
    partial = {place for place, tile in tiles.items() if len(tile) < 256 * 32}
    assert merkle.edge_tiles(size) == partial


@settings(deadline=None)
@given(batches())
def test_appending_in_any_batches_gives_the_same_tiles(commits):
    tiles: dict[tuple[int, int], bytes] = {}
    old_size = 0
    for size in commits:
        tiles |= merkle.append(old_size, tiles, LEAVES[old_size:size])
        old_size = size
    assert tiles == merkle.append(0, {}, LEAVES[:old_size])


@settings(deadline=None)
@given(batches())
def test_the_edge_and_the_changed_tiles_are_all_that_a_commit_needs(commits):
    edge: dict[tuple[int, int], bytes] = {}
    old_size = 0
    for size in commits:
        known = edge | merkle.append(old_size, edge, LEAVES[old_size:size])
        assert merkle.tree_root(size, known) == mth(0, size)
        proofs = merkle.inclusion_proofs(range(old_size, size), size, known)
        assert proofs == [path(index, 0, size) for index in range(old_size, size)]
        edge = {place: known[place] for place in merkle.edge_tiles(size)}
        old_size = size


@settings(deadline=None)
@given(batches())
def test_append_names_exactly_the_tiles_that_change(commits):
    before: dict[tuple[int, int], bytes] = {}
    old_size = 0
    for size in commits:
        changed = merkle.append(old_size, before, LEAVES[old_size:size])
        after = merkle.append(0, {}, LEAVES[:size])
        assert changed == {
            place: tile for place, tile in after.items() if before.get(place) != tile
        }
        before, old_size = after, size


# --- Damage: nothing but the true proof verifies ---

small = st.integers(1, 300)


@settings(max_examples=25, deadline=None)
@given(entries_in_trees(small))
def test_an_inclusion_proof_with_any_damage_fails(entry):
    index, size = entry
    leaf, root, proof = LEAVES[index], mth(0, size), path(index, 0, size)
    for damaged in damaged_proofs(proof):
        with pytest.raises(ProofError):
            merkle.verify_inclusion(index, size, leaf, damaged, root)
    for flipped in with_one_bit_flipped(leaf):
        with pytest.raises(ProofError):
            merkle.verify_inclusion(index, size, flipped, proof, root)
    for flipped in with_one_bit_flipped(root):
        with pytest.raises(ProofError):
            merkle.verify_inclusion(index, size, leaf, proof, flipped)


@given(entries_in_trees(small), st.integers(-1, 301))
def test_an_inclusion_proof_at_another_index_fails(entry, other):
    index, size = entry
    assume(other != index)
    proof = path(index, 0, size)
    with pytest.raises(ProofError):
        merkle.verify_inclusion(other, size, LEAVES[index], proof, mth(0, size))


@settings(max_examples=25, deadline=None)
@given(grown_trees(small))
def test_a_consistency_proof_with_any_damage_fails(tree):
    old_size, size = tree
    old_root, root = mth(0, old_size), mth(0, size)
    proof = subproof(old_size, 0, size, complete=True)
    for damaged in damaged_proofs(proof):
        with pytest.raises(ProofError):
            merkle.verify_consistency(old_size, size, old_root, root, damaged)
    for flipped in with_one_bit_flipped(old_root):
        with pytest.raises(ProofError):
            merkle.verify_consistency(old_size, size, flipped, root, proof)
    for flipped in with_one_bit_flipped(root):
        with pytest.raises(ProofError):
            merkle.verify_consistency(old_size, size, old_root, flipped, proof)


@given(grown_trees(small), st.data())
def test_a_rewritten_history_is_not_consistent(tree, data):
    old_size, size = tree
    leaves = LEAVES[:size]
    leaves[data.draw(st.integers(0, old_size - 1))] = merkle.leaf_hash(b"rewritten")
    proof = merkle.consistency_proof(old_size, size, merkle.append(0, {}, leaves))
    with pytest.raises(ProofError):
        merkle.verify_consistency(old_size, size, mth(0, old_size), merkle.root(leaves), proof)


# --- Paths and bundles ---


@given(st.integers(0, 63) | st.just("entries"), st.integers(0, 2**63 - 1), st.integers(1, 256))
def test_every_tile_has_one_path(level, n, width):
    assert merkle.parse_tile_path(merkle.tile_path(level, n, width)) == (level, n, width)


@settings(deadline=None)
@given(st.from_regex(r"tile/(entries|[0-9]{1,2})(/x?[0-9]{3})+(\.p/[0-9]{1,3})?", fullmatch=True))
def test_what_looks_like_a_path_is_read_as_it_would_be_written_or_refused(text):
    try:
        tile = merkle.parse_tile_path(text)
    except ValueError:
        return
    assert merkle.tile_path(*tile) == text


@given(st.lists(st.binary(max_size=300), max_size=256))
def test_a_bundle_gives_back_its_entries(entries):
    assert merkle.decode_bundle(merkle.encode_bundle(entries)) == entries


@given(st.binary(max_size=400))
def test_any_bytes_are_one_bundle_or_refused(data):
    try:
        entries = merkle.decode_bundle(data)
    except ValueError:
        return
    assert merkle.encode_bundle(entries) == data
