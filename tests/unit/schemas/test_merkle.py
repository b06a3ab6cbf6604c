"""The Merkle tree by example: known roots, the edges of tiles, and what is refused."""

from hashlib import sha256

import pytest

from schemas import merkle
from schemas.merkle import ProofError

# The eight entries that Certificate Transparency implementations have always tested with, and the
# roots of the trees of the first 1, 2, … 8 of them.
ENTRIES = [
    bytes.fromhex(entry)
    for entry in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def numbered_leaves(count: int, start: int = 0) -> list[bytes]:
    return [merkle.leaf_hash(b"%d" % i) for i in range(start, start + count)]


class TestHashes:
    def test_the_empty_tree_has_the_hash_of_nothing(self):
        assert sha256(b"").digest() == merkle.EMPTY_ROOT
        assert merkle.root([]) == merkle.EMPTY_ROOT
        assert merkle.tree_root(0, {}) == merkle.EMPTY_ROOT

    def test_leaves_and_nodes_are_hashed_with_different_prefixes(self):
        left, right = LEAVES[0], LEAVES[1]
        assert merkle.leaf_hash(b"abc") == sha256(b"\x00abc").digest()
        assert merkle.node_hash(left, right) == sha256(b"\x01" + left + right).digest()

    @pytest.mark.parametrize(("size", "root"), ROOTS.items())
    def test_known_trees_have_their_known_roots(self, size, root):
        assert merkle.root(LEAVES[:size]).hex() == root

    def test_a_leaf_hash_of_a_wrong_length_is_refused(self):
        with pytest.raises(ProofError, match="32 bytes"):
            merkle.root([b"short"])


class TestVerification:
    TILES = merkle.append(0, {}, LEAVES)
    ROOT = merkle.root(LEAVES)

    @pytest.mark.parametrize(("index", "size"), [(-1, 8), (8, 8), (0, 0), (0, -1)])
    def test_an_entry_outside_the_tree_has_no_proof(self, index, size):
        with pytest.raises(ProofError, match="There is no entry"):
            merkle.verify_inclusion(index, size, LEAVES[0], [], self.ROOT)
        with pytest.raises(ProofError, match="There is no entry"):
            merkle.inclusion_proof(index, size, self.TILES)
        with pytest.raises(ProofError, match="There is no entry"):
            merkle.tiles_for_inclusion(index, size)

    @pytest.mark.parametrize(("old_size", "size"), [(-1, 8), (0, 0), (0, 8), (9, 8)])
    def test_only_a_tree_with_entries_is_consistent_with_a_later_one(self, old_size, size):
        with pytest.raises(ProofError, match="There is no proof"):
            merkle.verify_consistency(old_size, size, self.ROOT, self.ROOT, [])
        with pytest.raises(ProofError, match="There is no proof"):
            merkle.consistency_proof(old_size, size, self.TILES)
        with pytest.raises(ProofError, match="There is no proof"):
            merkle.tiles_for_consistency(old_size, size)

    def test_a_tree_is_consistent_with_itself_by_an_empty_proof(self):
        assert merkle.consistency_proof(8, 8, self.TILES) == []
        assert merkle.tiles_for_consistency(8, 8) == frozenset()
        merkle.verify_consistency(8, 8, self.ROOT, self.ROOT, [])
        with pytest.raises(ProofError, match="different roots"):
            merkle.verify_consistency(8, 8, merkle.root(LEAVES[:7]), self.ROOT, [])

    def test_a_byte_cannot_move_from_one_hash_to_its_neighbour(self):
        # The node's input stays the same when the first byte of the right hash goes to the left.
        left, right = LEAVES[0], LEAVES[1]
        root = merkle.node_hash(left, right)
        merkle.verify_inclusion(0, 2, left, [right], root)
        with pytest.raises(ProofError, match="32 bytes"):
            merkle.verify_inclusion(0, 2, left + right[:1], [right[1:]], root)
        with pytest.raises(ProofError, match="32 bytes"):
            merkle.verify_consistency(1, 2, left + right[:1], root, [right[1:]])

    def test_a_node_cannot_pass_for_a_leaf(self):
        # With two prefixes nobody can show the tree's inside as an entry of a smaller tree.
        entry = LEAVES[0] + LEAVES[1]
        with pytest.raises(ProofError, match="another root"):
            merkle.verify_inclusion(
                0, 1, merkle.leaf_hash(entry), [], merkle.node_hash(LEAVES[0], LEAVES[1])
            )


class TestTiles:
    def test_a_tree_of_70000_has_the_tiles_of_the_specification(self):
        # The example of tlog-tiles, "Partial Tiles".
        tiles = merkle.append(0, {}, numbered_leaves(70_000))
        widths = {tile: len(hashes) // merkle.HASH_SIZE for tile, hashes in tiles.items()}
        full = {(0, n): 256 for n in range(273)} | {(1, 0): 256}
        assert widths == full | {(0, 273): 112, (1, 1): 17, (2, 0): 1}
        assert merkle.edge_tiles(70_000) == {(0, 273), (1, 1), (2, 0)}
        for tile, width in widths.items():
            assert merkle.tile_width(*tile, 70_000) == width

    def test_a_tree_of_256_has_a_full_tile_and_one_above_it(self):
        leaves = numbered_leaves(256)
        tiles = merkle.append(0, {}, leaves)
        assert tiles == {(0, 0): b"".join(leaves), (1, 0): merkle.root(leaves)}
        assert merkle.edge_tiles(256) == {(1, 0)}

    def test_a_tile_outside_the_tree_is_empty(self):
        assert merkle.tile_width(0, 1, 256) == 0
        assert merkle.tile_width(1, 0, 255) == 0
        assert merkle.tile_width(0, 5, 300) == 0

    def test_a_tile_that_has_grown_since_serves_the_smaller_tree(self):
        leaves = numbered_leaves(300)
        tiles = merkle.append(0, {}, leaves)
        assert merkle.tree_root(7, tiles) == merkle.root(leaves[:7])
        proof = merkle.inclusion_proof(3, 7, tiles)
        merkle.verify_inclusion(3, 7, leaves[3], proof, merkle.root(leaves[:7]))
        assert merkle.append(7, tiles, leaves[7:]) == tiles

    def test_a_missing_or_short_tile_is_named(self):
        tiles = merkle.append(0, {}, numbered_leaves(300))
        without = {place: tile for place, tile in tiles.items() if place != (0, 1)}
        short = tiles | {(0, 1): tiles[0, 1][:-1]}
        for damaged in (without, short):
            with pytest.raises(ProofError, match="Tile 1 of level 0 is missing or too short"):
                merkle.tree_root(300, damaged)
            with pytest.raises(ProofError, match="Tile 1 of level 0"):
                merkle.inclusion_proof(299, 300, damaged)
            with pytest.raises(ProofError, match="Tile 1 of level 0"):
                merkle.consistency_proof(299, 300, damaged)
            with pytest.raises(ProofError, match="Tile 1 of level 0"):
                merkle.append(300, damaged, numbered_leaves(1))

    def test_there_is_no_tree_of_a_negative_size(self):
        for refused in (merkle.edge_tiles, merkle.tiles_for_root):
            with pytest.raises(ProofError, match="no tree"):
                refused(-1)
        with pytest.raises(ProofError, match="no tree"):
            merkle.tree_root(-1, {})
        with pytest.raises(ProofError, match="no tree"):
            merkle.append(-1, {}, [])

    def test_appending_nothing_changes_nothing(self):
        tiles = merkle.append(0, {}, numbered_leaves(5))
        assert merkle.append(5, tiles, []) == {}

    def test_appending_a_hash_of_a_wrong_length_is_refused(self):
        with pytest.raises(ProofError, match="32 bytes"):
            merkle.append(0, {}, [b"short"])

    def test_the_third_level_of_tiles_proves_entries_and_growth(self):
        leaves = numbered_leaves(65_536 + 300)
        old_size, size = 65_536 - 10, len(leaves)
        tiles = merkle.append(0, {}, leaves[:old_size])
        tiles |= merkle.append(old_size, tiles, leaves[old_size:])
        root = merkle.root(leaves)
        assert merkle.tree_root(size, tiles) == root
        indices = [0, 255, 256, 65_535, 65_536, size - 1]
        proofs = merkle.inclusion_proofs(indices, size, tiles)
        for index, proof in zip(indices, proofs, strict=True):
            merkle.verify_inclusion(index, size, leaves[index], proof, root)
        consistency = merkle.consistency_proof(old_size, size, tiles)
        merkle.verify_consistency(old_size, size, merkle.root(leaves[:old_size]), root, consistency)


class TestManyProofs:
    @pytest.mark.parametrize("index", [-1, 300, 511])
    def test_of_an_entry_that_is_not_there_are_refused(self, index):
        tiles = merkle.append(0, {}, numbered_leaves(300))
        with pytest.raises(ProofError, match="There is no entry"):
            merkle.inclusion_proofs([0, index], 300, tiles)
        with pytest.raises(ProofError, match="There is no entry"):
            merkle.tiles_for_inclusions([0, index, 299], 300)

    def test_from_a_tile_that_is_too_short_are_refused(self):
        tiles = merkle.append(0, {}, numbered_leaves(300))
        with pytest.raises(ProofError, match="too short"):
            merkle.inclusion_proofs([0], 300, tiles | {(0, 0): tiles[0, 0][:-1]})


class TestTilePaths:
    PATHS = (
        ("tile/0/x001/x234/067", (0, 1_234_067, 256)),
        ("tile/0/x001/x234/067.p/8", (0, 1_234_067, 8)),
        ("tile/0/000", (0, 0, 256)),
        ("tile/1/999.p/255", (1, 999, 255)),
        ("tile/63/x001/000.p/1", (63, 1000, 1)),
        ("tile/entries/x123/456", ("entries", 123_456, 256)),
        ("tile/entries/000.p/1", ("entries", 0, 1)),
        ("tile/2/x009/x223/x372/x036/x854/x775/807", (2, 2**63 - 1, 256)),
    )

    @pytest.mark.parametrize(("path", "tile"), PATHS)
    def test_a_path_is_written_and_read(self, path, tile):
        assert merkle.tile_path(*tile) == path
        assert merkle.parse_tile_path(path) == tile

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "tile/0",
            "tile/0/",
            "tile/00/000",
            "tile/01/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/Entries/000",
            "tile/0/0",
            "tile/0/67",
            "tile/0/0067",
            "tile/0/x000/067",
            "tile/0/x000/x001/067",
            "tile/0/001/067",
            "tile/0/x001/x067",
            "tile/0/x001067",
            "tile/0/000.p",
            "tile/0/000.p/",
            "tile/0/000.p/0",
            "tile/0/000.p/08",
            "tile/0/000.p/256",
            "tile/0/000.p/1000",
            "tile/0/000/p/8",
            "tile/0/000 ",
            "tile/0/000\n",
            "/tile/0/000",
            "log/tile/0/000",
            "tile/0/../000",
            "tile/0/\u0660\u0660\u0660",
            "tile/0/x009/x223/x372/x036/x854/x775/808",
            "tile/0/" + "x001/" * 1000 + "000",
        ],
    )
    def test_any_other_path_is_refused(self, path):
        with pytest.raises(ValueError, match="tile"):
            merkle.parse_tile_path(path)

    @pytest.mark.parametrize(
        "tile", [(-1, 0, 256), (64, 0, 256), (0, -1, 256), (0, 2**63, 256), (0, 0, 0), (0, 0, 257)]
    )
    def test_a_tile_that_cannot_be_has_no_path(self, tile):
        with pytest.raises(ValueError, match="There is no tile"):
            merkle.tile_path(*tile)


class TestBundles:
    def test_each_entry_follows_its_length(self):
        assert merkle.encode_bundle([b"ab", b"", b"c"]) == b"\x00\x02ab\x00\x00\x00\x01c"

    @pytest.mark.parametrize(
        "entries", [[], [b""], [b"x" * 65_535], [b"%d" % i for i in range(256)]]
    )
    def test_a_bundle_gives_back_its_entries(self, entries):
        assert merkle.decode_bundle(merkle.encode_bundle(entries)) == entries

    def test_an_entry_over_65535_bytes_is_refused(self):
        with pytest.raises(ValueError, match="65535 bytes"):
            merkle.encode_bundle([b"x" * 65_536])

    def test_more_entries_than_a_tile_has_hashes_are_refused(self):
        with pytest.raises(ValueError, match="at most 256"):
            merkle.encode_bundle([b""] * 257)
        with pytest.raises(ValueError, match="at most 256"):
            merkle.decode_bundle(b"\x00\x00" * 257)

    @pytest.mark.parametrize("cut", [1, 2, 3, 5, 6, 8])
    def test_a_bundle_cut_within_an_entry_is_refused(self, cut):
        whole = merkle.encode_bundle([b"ab", b"cde"])
        with pytest.raises(ValueError, match="ends within entry"):
            merkle.decode_bundle(whole[:cut])
