"""A hub that was restored from an older backup gets back what is held here.

It says how far its log goes and what it lacks; it verifies all that it is given, and whoever else
holds something brings that. What comes back is what institutions have: the entries, the messages
and receipts that they sent and received. Nothing is asked of a person.
"""

from collections.abc import Iterator

from connectors.link import HubRefused
from connectors.parts import Parts as Shared
from schemas import merkle
from schemas.encoding import b64url
from schemas.tail import MAX_BODY, MAX_PARTS, Part, Parts, Piece

_ROOM = MAX_BODY // 2
"""Bytes of base64 in a request: what stands around them has room, too."""


class Tail:
    """The worker that brings a hub what it has lost."""

    def __init__(self, parts: Shared) -> None:
        self._parts = parts

    async def step(self) -> bool:
        """Ask what is lacking and bring it; True when there may be more at once.

        Raises:
            LinkError: the hub cannot be reached, or takes nothing now.
        """
        store, link = self._parts.store, self._parts.link
        wanted = await link.tail_wanted(store.size())
        if not wanted.wanted:
            return False
        try:
            piece = self._piece(wanted.size)
            if piece is not None:
                await link.extend_tail(piece)
                return True
            taken = [await link.fill_tail(parts) for parts in self._held(wanted.missing)]
        except HubRefused as refused:
            if refused.code != "conflict":
                raise
            return False  # somebody else has brought it meanwhile
        return sum(taken) > 0

    def _piece(self, start: int) -> Piece | None:
        """The next entries that are held here beyond a size, with what proves them."""
        store, followed = self._parts.store, self._parts.store.followed()
        if followed is None or start >= followed.size:
            return None
        # Up to the end of a tile, as everywhere.
        raws = store.recent(start, merkle.TILE_WIDTH - start % merkle.TILE_WIDTH)
        entries = tuple(_fitting(map(b64url, raws)))
        if not entries:
            return None
        end, size = start + len(entries), followed.size
        tiles = store.tiles(merkle.tiles_for_consistency(end, size)) if end < size else {}
        proof = merkle.consistency_proof(end, size, tiles) if end < size else []
        return Piece(start, entries, followed.note.decode(), tuple(map(b64url, proof)))

    def _held(self, missing: tuple[int, ...]) -> Iterator[Parts]:
        """What is held here of the missing content, in requests of bounded size."""
        waiting: list[Part] = []
        room = _ROOM
        for index in missing:
            part = self._part(index)
            if part is None:
                continue
            size = len(part.private) + len(part.envelope or "")
            if waiting and (size > room or len(waiting) == MAX_PARTS):
                yield Parts(tuple(waiting))
                waiting, room = [], _ROOM
            waiting.append(part)
            room -= size
        if waiting:
            yield Parts(tuple(waiting))

    def _part(self, index: int) -> Part | None:
        held = self._parts.store.content(index)
        if held is None or held.acceptance.private is None or held.acceptance.salt is None:
            return None  # not here, or erased
        envelope = None if held.envelope is None else b64url(held.envelope)
        return Part(index, held.acceptance.private, held.acceptance.salt, envelope)


def _fitting(entries: Iterator[str]) -> Iterator[str]:
    """As many as fit into a request; one always does."""
    room = _ROOM
    for entry in entries:
        room -= len(entry)
        if room < 0:
            return
        yield entry
