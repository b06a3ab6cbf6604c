"""The log itself: hashing it again against hashlib alone, and proofs from the store."""

import hashlib
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from hub.intake.batch import Batch, Needs
from hub.intake.offload import Offload
from hub.ledger import sequence
from hub.ledger.sequence import Draft, LogKey
from hub.ledger.verify import Check, verify
from hub.store import facts
from hub.store.database import Database, open_database
from hub.store.journal import Journal, Transaction
from hub.store.queries import Queries
from schemas import entry as entries
from schemas import merkle
from schemas.directory import Directory
from tests import builders
from tests.bench.scale import Scale

KEY = LogKey(builders.LOG, builders.LOG_KEY)

BATCH = 256
"""Entries in one commit."""

PRIVATE = 400
"""Bytes of a private part; that of a message to five recipients."""


class LedgerFigures(msgspec.Struct, frozen=True):
    """Entries a second, the median round; ``ratio`` is hashed to hashlib.

    hashlib has the 2N - 1 inputs of the tree ready; ``hashed`` is from the entries' bytes to the
    root and all tiles; ``checked`` is the whole check of the stored log, reading included;
    ``proofs`` are inclusion proofs of entries at random, their tiles read from the store.
    """

    hashlib: float
    hashed: float
    ratio: float
    checked: float
    proofs: float


async def measure(folder: Path, scale: Scale) -> LedgerFigures:
    """On a new log in SQLite, in ``folder``."""
    database = await open_database("sqlite:///ledger.sqlite", folder)
    offload = Offload()
    try:
        await fill(database, scale.entries)
        queries = Queries(database)
        raws = await queries.entries(0, scale.entries)
        inputs = tree_inputs(raws)
        pairs = [
            (rate(len(raws), lambda: alone(inputs)), rate(len(raws), lambda: hashed(raws)))
            for _ in range(scale.rounds)
        ]
        middle = statistics.median_low([ours / bare for bare, ours in pairs])
        bare, ours = next(pair for pair in pairs if pair[1] / pair[0] == middle)
        began = time.perf_counter()
        assert (await verify(Check(queries, offload, KEY.vkey))).ok
        checked = scale.entries / (time.perf_counter() - began)
        proofs = [await prove(database, scale) for _ in range(scale.rounds)]
        return LedgerFigures(bare, ours, middle, checked, statistics.median_low(proofs))
    finally:
        offload.close()
        await database.close()


async def fill(database: Database, count: int) -> None:
    """Let a log have so many entries, each with a private part."""
    state, _ = await Queries(database).head()

    def work(transaction: Transaction, start: int, size: int) -> None:
        nonlocal state
        loaded = transaction.facts(Needs(Directory()), builders.NOW)
        batch = Batch(state, loaded, builders.NOW, os.urandom(32 * size))
        for number in range(start, start + size):
            private = os.urandom(PRIVATE)
            subject = builders.message_id(number)
            batch.append(Draft(entries.OPERATOR_QUERY, "account:bench", subject, private=private))
        stored = transaction.append(batch.entries)
        appended = sequence.append(state.tree, batch.entries, stored, KEY)
        transaction.write(batch, appended)
        state = batch.state(appended.tree)

    journal = Journal(database)
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        await journal.transact(lambda t, start=start, size=size: work(t, start, size))  # type: ignore[misc]


def tree_inputs(raws: Sequence[bytes]) -> list[bytes]:
    """Everything that is hashed for a tree: N leaves and N - 1 nodes."""
    inputs = [b"\x00" + raw for raw in raws]
    row = [hashlib.sha256(value).digest() for value in inputs]
    while len(row) > 1:
        pairs = [b"\x01" + left + right for left, right in zip(row[::2], row[1::2], strict=False)]
        inputs += pairs
        row = [hashlib.sha256(value).digest() for value in pairs] + row[len(row) & ~1 :]
    assert len(inputs) == 2 * len(raws) - 1
    return inputs


def alone(inputs: Sequence[bytes]) -> None:
    """What hashlib takes."""
    sha256 = hashlib.sha256
    for value in inputs:
        sha256(value).digest()


def hashed(raws: Sequence[bytes]) -> bytes:
    """What we take, in parts as a check does."""
    part = 4 * merkle.TILE_WIDTH
    tiles: dict[merkle.Tile, bytes] = {}
    for start in range(0, len(raws), part):
        leaves = [merkle.leaf_hash(raw) for raw in raws[start : start + part]]
        tiles |= merkle.append(start, tiles, leaves)
    return merkle.tree_root(len(raws), tiles)


def rate(count: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


async def prove(database: Database, scale: Scale) -> float:
    """Proofs a second, of entries at random, in one batch."""
    count = min(scale.proofs, scale.entries)
    indices = random.sample(range(scale.entries), count)
    began = time.perf_counter()
    wanted = merkle.tiles_for_inclusions(indices, scale.entries)
    tiles = await database.read(lambda connection: facts.load_tiles(connection, wanted))
    assert len(merkle.inclusion_proofs(indices, scale.entries, tiles)) == count
    return count / (time.perf_counter() - began)
