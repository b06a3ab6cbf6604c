"""Witnessing: cosign what extends all that was cosigned before, and nothing else, ever.

The hub cannot reach us, so we ask it what there is (``schemas.witness`` decides). Two things must
hold: the consistency proof from the checkpoint that we cosigned last, and that the entries, read
and hashed here by the follower, give the root. What is cosigned is in the store before the
cosignature leaves; a crash in between repeats the same checkpoint.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from connectors import files, monitor
from connectors.alarms import Finding
from connectors.link import HubRefused, Later
from connectors.parts import Parts
from connectors.store import Store
from connectors.tables import Cosigned
from schemas import cosignature, note, witness
from schemas.checkpoint import Checkpoint
from schemas.cosignature import Private
from schemas.note import NoteError
from schemas.witness import Accepted, Rejected

BOUND = "witness.bound"
"""A file beside the keys. What the store knows of it does not outlive a copy from a backup."""

_CURSOR = "witness.bound"


class Witness:
    """The worker that cosigns the hub's checkpoints with the institution's witness keys."""

    def __init__(self, parts: Parts, keys: Sequence[Private], folder: Path) -> None:
        """Cosign with these keys, which are in this folder."""
        self._parts = parts
        self._keys = keys
        self._folder = folder
        self._name = cosignature.witness_name(parts.log.name, parts.code)
        self._vkeys = [cosignature.vkey_of(self._name, key) for key in keys]

    async def step(self) -> bool:
        """Ask for what there is to cosign, and cosign it; True when there may be more at once.

        Raises:
            LinkError: the hub cannot be reached, or what it gave does not hold.
        """
        if not bind(self._folder, self._parts.store):
            self._restored("The store or the keys were brought back from a backup.")
            return False
        last = self._parts.store.cosigned()
        try:
            raw = await self._parts.link.witness_request(last.size if last else 0)
        except HubRefused as refused:
            if refused.code != "conflict" or last is None:
                raise
            await self._show(last, monitor.behind(last, refused.detail))
            return False
        if not raw:
            return False
        accepted = await self._judge(raw, last)
        return accepted is not None and await self._cosign(accepted)

    async def _judge(self, raw: bytes, last: Cosigned | None) -> Accepted | None:
        """What may be cosigned; None where we must not, and somebody was told."""
        log = self._parts.log
        latest = {log.name: Checkpoint(log.name, last.size, last.root)} if last else {}
        try:
            request = witness.parse(raw)
            accepted = witness.check(request, {log.name: log}, latest)
        except Rejected as rejected:
            if rejected.theirs is not None and last is not None:
                await self._dispute(last, rejected.theirs)
            raise Later(f"What the hub wants cosigned does not hold: {rejected}") from None
        head = accepted.checkpoint
        if not await self._parts.follower.agrees(head, accepted.note):
            return None  # the follower has told of it
        if (last is None or head.size > last.size) and self._signed_by_us(request.note):
            self._restored(f"A checkpoint of {head.size} entries has our cosignature already.")
            return None
        return accepted

    async def _dispute(self, last: Cosigned, theirs: Accepted) -> None:
        """See what a checkpoint is that is not shown to extend the one that we cosigned.

        A proof that does not hold shows nothing by itself; the entries do.
        """
        head = theirs.checkpoint
        if not await self._parts.follower.agrees(head, theirs.note):
            await self._show(last, monitor.contradicts(last, head, theirs.note))
        elif head.size < last.size:
            detail = f"it wants a log of {head.size} entries cosigned instead"
            await self._show(last, monitor.behind(last, detail))

    async def _cosign(self, accepted: Accepted) -> bool:
        parts, head = self._parts, accepted.checkpoint
        now = int(parts.clock().timestamp())
        lines = [cosignature.cosign(accepted.text, self._name, key, now) for key in self._keys]
        cosigned = Cosigned(head.size, head.root, witness.merge(accepted.note, lines))
        with parts.store.transaction():
            parts.store.set_cosigned(cosigned)
        # A crash here: the hub asks for the same checkpoint again, and it is cosigned again.
        await parts.link.witness_response(cosigned.note)
        parts.events.cosigned(head.size)
        return True

    async def _show(self, last: Cosigned, finding: Finding) -> None:
        """Raise the alarm, and show the hub its own signature: an honest one stops signing."""
        self._parts.fork(finding)
        with suppress(HubRefused):
            await self._parts.link.witness_response(last.note)

    def _signed_by_us(self, raw: bytes) -> bool:
        try:
            return bool(cosignature.cosigners(note.parse_note(raw), self._vkeys))
        except NoteError:
            return False  # somebody else's line in our name

    def _restored(self, sentence: str) -> None:
        self._parts.found([Finding("witness-restored", self._key_id, sentence)])

    @property
    def _key_id(self) -> str:
        return self._vkeys[0].key_id.hex()


def bind(folder: Path, store: Store) -> bool:
    """Whether keys and store are still the two that belong together.

    A copy from a backup remembers less than was cosigned, and looks the same. But its files were
    made anew: the file beside the keys has another time of change (``st_ctime``, which only the
    system sets) than the store knows. A crash at the very first start, between the two writes, is
    taken for such a copy as well.

    Raises:
        OSError: the folder cannot be read or written.
    """
    path, known = folder / BOUND, store.cursor(_CURSOR, 0)
    if path.exists():
        return path.stat().st_ctime_ns == known
    files.write(path, b"Belongs to the store beside it. Not to be copied or touched.\n")
    with store.transaction():
        store.set_cursor(_CURSOR, path.stat().st_ctime_ns)
    return True
