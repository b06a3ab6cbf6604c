"""One history of the world, as a hub tells it: a log, and what stands in whose inbox.

An honest hub has one history. A dishonest one keeps another for somebody (``SimulatedHub.fork``).
"""

import asyncio
import contextlib
import copy
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas import acceptance as acceptances
from schemas import checkpoint, merkle, proof
from schemas import entry as entries
from schemas.acceptance import Acceptance
from schemas.checkpoint import Checkpoint
from schemas.directory import Directory, DirectoryError
from schemas.encoding import format_time
from schemas.entry import Entry
from schemas.merkle import Tile
from schemas.note import Vkey
from schemas.proof import Proof


class History:
    """A log with its tree, the directory that follows from it, and the inboxes."""

    def __init__(
        self, log: Vkey, log_key: Ed25519PrivateKey, clock: Callable[[], datetime]
    ) -> None:
        self.log = log
        self.log_key = log_key
        self.clock = clock
        self.raws: list[bytes] = []
        self.tiles: dict[Tile, bytes] = {}
        self.privates: dict[int, tuple[bytes, bytes]] = {}
        self.directory = Directory()
        self.accepted: dict[str, int] = {}
        self.envelopes: dict[int, bytes] = {}
        self.inboxes: dict[str, list[int]] = {}
        self.receipts: dict[str, list[int]] = {}
        self.recorded_receipts: dict[bytes, int] = {}

    def another(self) -> "History":
        """A copy that goes its own way from here."""
        other = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, list | dict):
                setattr(other, name, copy.deepcopy(value))
        return other

    @property
    def size(self) -> int:
        return len(self.raws)

    def append(self, entry: Entry) -> int:
        """Log an entry as it is; the directory follows where it can."""
        raw = entries.encode(entry)
        leaf = merkle.leaf_hash(raw)
        edge = {tile: self.tiles[tile] for tile in merkle.edge_tiles(self.size)}
        self.tiles.update(merkle.append(self.size, edge, [leaf]))
        self.raws.append(raw)
        index = self.size - 1
        with contextlib.suppress(DirectoryError):  # a dishonest hub logs it all the same
            self.directory = self.directory.apply(index, entry)
        return index

    def record(
        self,
        kind: str,
        actor: str,
        subject: str | None = None,
        public: Mapping[str, object] | None = None,
        private: bytes | None = None,
    ) -> int:
        """Log an entry with its private part."""
        salt = secrets.token_bytes(entries.SALT_SIZE)
        committed = None if private is None else entries.commitment(salt, private)
        time = format_time(self.clock())
        index = self.append(Entry(1, kind, time, actor, subject, dict(public or {}), committed))
        if private is not None:
            self.privates[index] = (salt, private)
        return index

    def checkpoint(self, size: int | None = None) -> bytes:
        """The signed checkpoint of a size, the present one by default."""
        size = self.size if size is None else size
        head = Checkpoint(self.log.name, size, merkle.tree_root(size, self.tiles))
        return checkpoint.sign_checkpoint(head, self.log, self.log_key)

    def root(self, size: int) -> bytes:
        """The root of the first entries."""
        return merkle.tree_root(size, self.tiles)

    def acceptance(self, index: int) -> Acceptance:
        """What is given back for an entry."""
        salt, private = self.privates.get(index, (None, None))
        hashes = merkle.inclusion_proof(index, self.size, self.tiles)
        shown = proof.encode(Proof(index, tuple(hashes), self.checkpoint()))
        return acceptances.pack(self.raws[index], private, salt, shown)

    def bundle(self, n: int, width: int) -> bytes | None:
        """The first entries of a bundle; None where there are not as many."""
        found = self.raws[n * merkle.TILE_WIDTH :][:width]
        return merkle.encode_bundle(found) if len(found) == width else None


class Bell:
    """Wakes whoever waits for something to happen."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
