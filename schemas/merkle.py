"""The log's Merkle tree: RFC 6962 hashing over SHA-256, stored as C2SP tlog-tiles.

Everything rests on one idea: a root or a proof is a list of hashes of ranges of entries, and which
ranges these are follows from indices and sizes alone (RFC 6962 §2.1). So the same plan tells which
tiles to fetch, builds the proof from them, and verifies it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final, Literal, TypeAlias

HASH_SIZE: Final = 32
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT
MAX_ENTRY_SIZE: Final = 0xFFFF
"""Bytes; what the uint16 before an entry in a bundle can say."""
MAX_TREE_SIZE: Final = 2**63 - 1
"""Entries; what a signed 64-bit integer of a database can hold."""
EMPTY_ROOT: Final = sha256(b"").digest()

_TILE_BYTES: Final = TILE_WIDTH * HASH_SIZE
_MAX_LEVEL: Final = 63
_TILE_PATH: Final = re.compile(
    r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?"
)

Tile: TypeAlias = tuple[int, int]
"""A tile's place: (level, n), both from 0."""
Tiles: TypeAlias = Mapping[Tile, bytes]
"""Each tile's concatenated hashes. A tile may hold more than a smaller tree has: readers cut it."""
Level: TypeAlias = int | Literal["entries"]
Range: TypeAlias = tuple[int, int]
"""The entries from a start (inclusive) to an end (exclusive), standing for their tree hash."""


class ProofError(ValueError):
    """A proof does not hold, or cannot be made from what was given; the message says why."""


# --- Hashes (RFC 6962 §2.1) ---


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one log entry. The prefix keeps leaves and nodes apart."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an interior node from its two children's."""
    return sha256(b"\x01" + left + right).digest()


def root(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root of the tree over these leaf hashes; ``EMPTY_ROOT`` when there are none.

    Raises:
        ProofError: a leaf hash has a wrong length.
    """
    _check_lengths(leaf_hashes)
    if not leaf_hashes:
        return EMPTY_ROOT
    row = b"".join(leaf_hashes)
    while len(row) > HASH_SIZE:
        # A last node without a sibling moves up unchanged: this is how splitting at the largest
        # power of two looks from below.
        unpaired = row[len(row) - len(row) % (2 * HASH_SIZE) :]
        row = _parents(row) + unpaired
    return row


def _parents(row: bytes) -> bytes:
    """The concatenated parents of a row of concatenated hashes, without an unpaired last one."""
    pairs = range(0, len(row) - HASH_SIZE, 2 * HASH_SIZE)
    return b"".join([sha256(b"\x01" + row[i : i + 2 * HASH_SIZE]).digest() for i in pairs])


# --- Plans: which ranges make a proof ---


def _split(start: int, end: int) -> int:
    """Where RFC 6962 splits a range of two entries or more: the largest power of two below."""
    return start + (1 << ((end - start - 1).bit_length() - 1))


def _inclusion_plan(index: int, size: int) -> list[Range]:
    """PATH of RFC 6962 §2.1.1 as ranges, from the leaf's sibling to the root's child."""
    if not 0 <= index < size:
        raise ProofError(f"There is no entry {index} in a tree of {size} entries.")
    start, end = 0, size
    plan = []
    while end - start > 1:
        middle = _split(start, end)
        if index < middle:
            plan.append((middle, end))
            end = middle
        else:
            plan.append((start, middle))
            start = middle
    return plan[::-1]


def _consistency_plan(old_size: int, size: int) -> list[Range]:
    """PROOF of RFC 6962 §2.1.2 as ranges, in the proof's order."""
    if not 0 < old_size <= size:
        raise ProofError(f"There is no proof from a tree of {old_size} entries to one of {size}.")
    start, end = 0, size
    plan = []
    while end != old_size:
        middle = _split(start, end)
        if old_size <= middle:
            plan.append((middle, end))
            end = middle
        else:
            plan.append((start, middle))
            start = middle
    if start > 0:
        # The old tree's last subtree. At start 0 it is the whole old tree, which the verifier has.
        plan.append((start, end))
    return plan[::-1]


def _subtrees(start: int, end: int) -> Iterator[tuple[int, int]]:
    """The complete subtrees (height, index) of a planned range, from right to left.

    A planned range starts at a multiple of a power of two that is no smaller than its length, so
    the bits of the length are its subtrees.
    """
    while start < end:
        height = _lowest_bit(end - start)
        yield height, (end >> height) - 1
        end -= 1 << height


def _lowest_bit(number: int) -> int:
    return (number & -number).bit_length() - 1


# --- Verification ---


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that ``leaf`` (a leaf hash) is entry ``index`` of the tree with this size and root.

    Source: RFC 6962 §2.1.1.

    Raises:
        ProofError: that is not shown.
    """
    plan = _inclusion_plan(index, size)
    _check_proof(proof, len(plan))
    _check_lengths([leaf])
    computed = leaf
    for (start, _), sibling in zip(plan, proof, strict=True):
        left = start <= index
        computed = node_hash(sibling, computed) if left else node_hash(computed, sibling)
    if computed != root:
        raise ProofError("The inclusion proof leads to another root.")


def verify_consistency(
    old_size: int, size: int, old_root: bytes, root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of ``size`` only appends to that of ``old_size``.

    ``old_size`` is at least 1: anything extends the empty tree, so there is nothing to check and a
    call with 0 is refused. Source: RFC 6962 §2.1.2.

    Raises:
        ProofError: that is not shown.
    """
    plan = _consistency_plan(old_size, size)
    if old_size == size:
        _check_proof(proof, 0)
        if old_root != root:
            raise ProofError("Two trees of the same size have different roots.")
        return
    if old_size == 1 << _lowest_bit(old_size):
        # The old tree is one complete subtree of the new, so the proof leaves out its root.
        plan, proof = [(0, old_size), *plan], [old_root, *proof]
    _check_proof(proof, len(plan))
    old_computed = computed = proof[0]
    for (_, end), sibling in zip(plan[1:], proof[1:], strict=True):
        if end <= old_size:
            old_computed = node_hash(sibling, old_computed)
            computed = node_hash(sibling, computed)
        else:
            computed = node_hash(computed, sibling)
    if old_computed != old_root:
        raise ProofError("The consistency proof leads to another old root.")
    if computed != root:
        raise ProofError("The consistency proof leads to another root.")


def _check_proof(proof: Sequence[bytes], expected: int) -> None:
    if len(proof) != expected:
        raise ProofError(f"The proof has {len(proof)} hashes where {expected} are needed.")
    _check_lengths(proof)


def _check_lengths(hashes: Iterable[bytes]) -> None:
    # Otherwise a byte could move from one child of a node to the other unseen.
    if any(len(value) != HASH_SIZE for value in hashes):
        raise ProofError(f"A hash is not {HASH_SIZE} bytes long.")


# --- Tiles (C2SP tlog-tiles) ---


def tile_width(level: int, n: int, size: int) -> int:
    """How many hashes tile ``n`` of ``level`` has in a tree of ``size`` entries: 0 to 256."""
    return min(max((size >> (TILE_HEIGHT * level)) - n * TILE_WIDTH, 0), TILE_WIDTH)


def edge_tiles(size: int) -> frozenset[Tile]:
    """The partial tiles of a tree, at most one a level: all that ``append`` needs of it.

    Raises:
        ProofError: the size is negative.
    """
    return tiles_for_root(size)


def tiles_for_root(size: int) -> frozenset[Tile]:
    """The tiles that ``tree_root`` reads.

    Raises:
        ProofError: the size is negative.
    """
    # These are the partial tiles: a full one is already a hash in the level above.
    return _tiles_of(_root_plan(size))


def tiles_for_inclusion(index: int, size: int) -> frozenset[Tile]:
    """The tiles that ``inclusion_proof`` reads.

    Raises:
        ProofError: there is no such entry.
    """
    return _tiles_of(_inclusion_plan(index, size))


def tiles_for_inclusions(indices: Iterable[int], size: int) -> frozenset[Tile]:
    """The tiles that ``inclusion_proofs`` reads.

    Raises:
        ProofError: there is no such entry.
    """
    # Entries of one tile have all that lies outside of it in common; the last stands for them.
    last = {index // TILE_WIDTH: index for index in sorted(indices)}
    return frozenset[Tile]().union(*(tiles_for_inclusion(index, size) for index in last.values()))


def tiles_for_consistency(old_size: int, size: int) -> frozenset[Tile]:
    """The tiles that ``consistency_proof`` reads.

    Raises:
        ProofError: unless 1 <= ``old_size`` <= ``size``.
    """
    return _tiles_of(_consistency_plan(old_size, size))


def tree_root(size: int, tiles: Tiles) -> bytes:
    """The root of the tree's first ``size`` entries.

    Raises:
        ProofError: a tile is missing or too short.
    """
    nodes = _Nodes(size, tiles)
    return nodes.proof(_root_plan(size))[0] if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, tiles: Tiles) -> list[bytes]:
    """The proof that entry ``index`` is in the tree of ``size`` (RFC 6962 §2.1.1).

    Raises:
        ProofError: there is no such entry, or a tile is missing or too short.
    """
    return _Nodes(size, tiles).proof(_inclusion_plan(index, size))


def inclusion_proofs(indices: Iterable[int], size: int, tiles: Tiles) -> list[list[bytes]]:
    """``inclusion_proof`` of each index, hashing every tile's interior only once.

    Meanwhile each tile touched takes some 17 kB, so ask for proofs of a very large log in parts.

    Raises:
        ProofError: there is no such entry, or a tile is missing or too short.
    """
    nodes = _Nodes(size, tiles)
    return [nodes.inclusion(index) for index in indices]


def consistency_proof(old_size: int, size: int, tiles: Tiles) -> list[bytes]:
    """The proof that the tree of ``size`` appends to that of ``old_size`` (RFC 6962 §2.1.2).

    Raises:
        ProofError: unless 1 <= ``old_size`` <= ``size``, or a tile is missing or too short.
    """
    return _Nodes(size, tiles).proof(_consistency_plan(old_size, size))


def append(size: int, edge: Tiles, leaf_hashes: Sequence[bytes]) -> dict[Tile, bytes]:
    """The tiles that change when these leaf hashes follow the first ``size`` entries.

    ``edge`` holds at least ``edge_tiles(size)``. The new root and the appended entries' inclusion
    proofs can be computed from ``edge`` overlaid with the result.

    Raises:
        ProofError: an edge tile is missing or too short, or a leaf hash has a wrong length.
    """
    _check_lengths(leaf_hashes)
    partial = {tile: _cut(edge, tile, size) for tile in edge_tiles(size)}
    changed: dict[Tile, bytes] = {}
    level, added = 0, list(leaf_hashes)
    while added:
        first = size >> (TILE_HEIGHT * (level + 1))
        row = partial.get((level, first), b"") + b"".join(added)
        added = []
        for n, offset in enumerate(range(0, len(row), _TILE_BYTES), first):
            tile = changed[level, n] = row[offset : offset + _TILE_BYTES]
            if len(tile) == _TILE_BYTES:
                added.append(_interior(tile)[TILE_HEIGHT])
        level += 1
    return changed


class _Nodes:
    """Reads tree hashes of planned ranges from tiles; hashes each tile's interior once."""

    def __init__(self, size: int, tiles: Tiles) -> None:
        self._size = size
        self._tiles = tiles
        self._interiors: dict[Tile, list[bytes]] = {}
        self._ragged: dict[Range, bytes] = {}
        self._above: dict[int, list[bytes]] = {}

    def proof(self, plan: list[Range]) -> list[bytes]:
        return [self._range(start, end) for start, end in plan]

    def inclusion(self, index: int) -> list[bytes]:
        """The inclusion proof of an entry; what lies above its tile is read once for each tile."""
        n, place = divmod(index, TILE_WIDTH)
        if index < 0 or (n + 1) * TILE_WIDTH > self._size:
            return self.proof(_inclusion_plan(index, self._size))
        if n not in self._above:
            self._above[n] = self.proof(_inclusion_plan(index, self._size)[TILE_HEIGHT:])
        rows = self._rows((0, n))
        within = [((place >> height) ^ 1) * HASH_SIZE for height in range(TILE_HEIGHT)]
        siblings = [row[at : at + HASH_SIZE] for row, at in zip(rows, within, strict=False)]
        return siblings + self._above[n]

    def _range(self, start: int, end: int) -> bytes:
        height = _lowest_bit(end - start)
        if end - start == 1 << height:
            return self._subtree(height, start >> height)
        if (start, end) not in self._ragged:
            computed, *others = [self._subtree(*subtree) for subtree in _subtrees(start, end)]
            for left in others:
                computed = node_hash(left, computed)
            self._ragged[start, end] = computed
        return self._ragged[start, end]

    def _subtree(self, height: int, index: int) -> bytes:
        level, above = divmod(height, TILE_HEIGHT)
        width_bits = TILE_HEIGHT - above
        position = (index & ((1 << width_bits) - 1)) * HASH_SIZE
        row = self._rows((level, index >> width_bits))[above]
        return row[position : position + HASH_SIZE]

    def _rows(self, tile: Tile) -> list[bytes]:
        """The hashes inside a tile, by height above its own."""
        rows = self._interiors.get(tile)
        if rows is None:
            rows = self._interiors[tile] = _interior(_cut(self._tiles, tile, self._size))
        return rows


def _root_plan(size: int) -> list[Range]:
    if size < 0:
        raise ProofError(f"There is no tree of {size} entries.")
    return [(0, size)]


def _tiles_of(plan: list[Range]) -> frozenset[Tile]:
    return frozenset(
        (height // TILE_HEIGHT, index >> (TILE_HEIGHT - height % TILE_HEIGHT))
        for start, end in plan
        for height, index in _subtrees(start, end)
    )


def _cut(tiles: Tiles, tile: Tile, size: int) -> bytes:
    """The tile's hashes in the tree of ``size``, without those of later entries."""
    needed = tile_width(*tile, size) * HASH_SIZE
    hashes = tiles.get(tile, b"")[:needed]
    if len(hashes) < needed:
        level, n = tile
        raise ProofError(f"Tile {n} of level {level} is missing or too short for {size} entries.")
    return hashes


def _interior(tile: bytes) -> list[bytes]:
    """The complete subtrees' hashes inside a tile, by height above the tile's own hashes."""
    rows = [tile]
    for _ in range(TILE_HEIGHT):
        rows.append(_parents(rows[-1]))
    return rows


# --- Tile paths and entry bundles (C2SP tlog-tiles) ---


def tile_path(level: Level, n: int, width: int = TILE_WIDTH) -> str:
    """Where a tile or an entry bundle is served, such as ``tile/0/x001/x234/067.p/8``.

    Raises:
        ValueError: unless ``level`` is ``"entries"`` or 0 to 63, ``n`` is 0 to 2**63 - 1, and
            ``width`` is 1 to 256.
    """
    if level != "entries" and not 0 <= level <= _MAX_LEVEL:
        raise ValueError(f"There is no tile level {level}.")
    if not 0 <= n <= MAX_TREE_SIZE:
        raise ValueError(f"There is no tile number {n}.")
    if not 1 <= width <= TILE_WIDTH:
        raise ValueError(f"There is no tile {width} hashes wide.")
    elements = [f"{n % 1000:03}"]
    while n := n // 1000:
        elements.insert(0, f"x{n % 1000:03}")
    suffix = f".p/{width}" if width < TILE_WIDTH else ""
    return f"tile/{level}/{'/'.join(elements)}{suffix}"


def parse_tile_path(path: str) -> tuple[Level, int, int]:
    """The level, number and width in a path; 256 is the width of a full tile.

    Raises:
        ValueError: the path is not exactly what ``tile_path`` gives.
    """
    match = _TILE_PATH.fullmatch(path)
    if match is None:
        raise ValueError("This is not the path of a tile.")
    name, elements, partial = match.groups()
    level: Level = "entries" if name == "entries" else int(name)
    n = int(elements.replace("x", "").replace("/", ""))
    width = int(partial) if partial else TILE_WIDTH
    # One tile has one path: whatever was read must be written in the same way.
    if tile_path(level, n, width) != path:
        raise ValueError("This is not the path of a tile: it has zeroes too many or is full.")
    return level, n, width


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """The entries of one tile, each after its length as a big-endian uint16.

    Raises:
        ValueError: an entry is over 65,535 bytes, or there are more than 256.
    """
    if len(entries) > TILE_WIDTH:
        raise ValueError(f"A bundle has at most {TILE_WIDTH} entries, not {len(entries)}.")
    if any(len(entry) > MAX_ENTRY_SIZE for entry in entries):
        raise ValueError(f"A log entry has at most {MAX_ENTRY_SIZE} bytes.")
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_bundle(bundle: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        ValueError: the bundle ends within an entry, or there are more than 256.
    """
    entries: list[bytes] = []
    position = 0
    while position < len(bundle):
        start = position + 2
        position = start + int.from_bytes(bundle[position:start], "big")
        if position > len(bundle):
            raise ValueError(f"The bundle ends within entry {len(entries)}.")
        entries.append(bundle[start:position])
    if len(entries) > TILE_WIDTH:
        raise ValueError(f"A bundle has at most {TILE_WIDTH} entries, not {len(entries)}.")
    return entries
