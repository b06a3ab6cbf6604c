"""Witnessing: cosign what extends all that was cosigned before, and nothing else, ever.

The hub cannot reach us, so we ask it what there is (``schemas.witness`` decides). Two things must
hold: the consistency proof from the checkpoint that we cosigned last, and that the entries, read
and hashed here by the follower, give the root. What is cosigned is in the store before the
cosignature leaves; a crash in between repeats the same checkpoint.
"""

import asyncio
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
from schemas.note import NoteError, SignatureLine
from schemas.witness import Accepted, Rejected

BOUND = "witness.bound"
"""A file beside the keys. What the store knows of it does not outlive a copy from a backup."""

_CURSOR = "witness.bound"

RESTORED = "witness-restored"


class Witness:
    """The institution as witness of the hub's log."""

    def __init__(self, parts: Parts, keys: Sequence[Private], folder: Path) -> None:
        """Cosign with these keys, which are in this folder."""
        self._parts = parts
        self._keys = keys
        self._folder = folder
        self._name = cosignature.witness_name(parts.log.name, parts.code)
        self._vkeys = [cosignature.vkey_of(self._name, key) for key in keys]
        self._one_at_a_time = asyncio.Lock()

    @property
    def latest(self) -> Cosigned | None:
        """What was cosigned last."""
        return self._parts.store.cosigned()

    async def step(self) -> bool:
        """Ask the hub what there is to cosign, and cosign it; True when there may be more at once.

        Raises:
            LinkError: the hub cannot be reached, or what it gave does not hold.
        """
        if not self._may_cosign():
            return False
        last, link = self.latest, self._parts.link
        try:
            raw = await link.witness_request(last.size if last else 0)
        except HubRefused as refused:
            if refused.code != "conflict" or last is None:
                raise
            await self._show(last, monitor.behind(last, refused.detail))
            return False
        if not raw:
            return False
        try:
            cosigned = await self.cosign(raw)
        except Rejected as rejected:
            raise Later(f"What the hub wants cosigned does not hold: {rejected}") from None
        # A crash here: the hub asks for the same checkpoint again, and it is cosigned again.
        await link.witness_response(cosigned.note)
        self._parts.events.cosigned(cosigned.size)
        return True

    async def cosign(self, raw: bytes) -> Cosigned:
        """Cosign what the body of an ``add-checkpoint`` asks for; it is in the store afterwards.

        Raises:
            Rejected: it is not cosigned; whoever had to be told was.
            LinkError: the hub cannot be reached, to see the entries.
        """
        async with self._one_at_a_time:
            accepted = await self._judge(raw, self.latest)
            now, head = int(self._parts.clock().timestamp()), accepted.checkpoint
            lines = [cosignature.cosign(accepted.text, self._name, key, now) for key in self._keys]
            cosigned = Cosigned(head.size, head.root, witness.merge(accepted.note, lines))
            with self._parts.store.transaction():
                self._parts.store.set_cosigned(cosigned)
        return cosigned

    def lines(self, cosigned: Cosigned) -> str:
        """Our signature lines in a cosigned checkpoint."""
        signed = note.parse_note(cosigned.note)
        return "".join(note.encode_line(line) for line in signed.signatures if self._is_ours(line))

    async def _judge(self, raw: bytes, last: Cosigned | None) -> Accepted:
        if not self._may_cosign():
            raise Rejected(503, "This witness needs a new key.")
        log = self._parts.log
        latest = {log.name: Checkpoint(log.name, last.size, last.root)} if last else {}
        try:
            request = witness.parse(raw)
            accepted = witness.check(request, {log.name: log}, latest)
        except Rejected as rejected:
            if rejected.theirs is not None and last is not None:
                await self._dispute(last, rejected.theirs)
            raise
        head = accepted.checkpoint
        if not await self._parts.follower.agrees(head, accepted.note):
            raise Rejected(422, "It is not of the history that is followed here.", theirs=accepted)
        if (last is None or head.size > last.size) and self._signed_by_us(request.note):
            self._restored(f"A checkpoint of {head.size} entries has our cosignature already.")
            raise Rejected(503, "This witness needs a new key.")
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

    async def _show(self, last: Cosigned, finding: Finding) -> None:
        """Raise the alarm, and show the hub its own signature: an honest one stops signing."""
        self._parts.fork(finding)
        with suppress(HubRefused):
            await self._parts.link.witness_response(last.note)

    def _is_ours(self, line: SignatureLine) -> bool:
        return (line.name, line.key_id) in {(vkey.name, vkey.key_id) for vkey in self._vkeys}

    def _signed_by_us(self, raw: bytes) -> bool:
        try:
            return bool(cosignature.cosigners(note.parse_note(raw), self._vkeys))
        except NoteError:
            return False  # somebody else's line in our name

    # --- A key that may have cosigned more than is remembered ---

    def _may_cosign(self) -> bool:
        """Whether the store remembers all that the key cosigned; a new key ends the alarm."""
        store = self._parts.store
        if not bind(self._folder, store):
            self._restored("The store or the keys were brought back from a backup.")
        found = {a.subject for a in store.alarms() if a.kind == RESTORED}
        if found - {self._key_id}:
            with store.transaction():
                for subject in found - {self._key_id}:
                    store.end_alarm(RESTORED, subject, self._parts.now())
        return self._key_id not in found

    def _restored(self, sentence: str) -> None:
        self._parts.found([Finding(RESTORED, self._key_id, sentence)])

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
