"""Witnesses: one frozen checkpoint until the quorum has cosigned it, and what they hold against us.

Members reach the hub and not it them, so they ask what there is to cosign and bring their answer.
The candidate stands still meanwhile: otherwise each would cosign another size, and none would ever
have a quorum. Nothing here is written into the log: an entry for each cosignature would be one more
thing to cosign, for ever.

The hub stops signing when it is shown its own signature under a log that it does not have. Then its
database is an older copy, or somebody else signs with its key; to go on would be to fork the log.
It stops as well while the stored log is not the one that it signed (``hub.ledger.patrol``).
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import msgspec
import structlog

from hub.intake.batch import Token
from hub.intake.recorder import Journal, StorageError, Transaction
from hub.ledger.queries import Queries
from schemas import checkpoint, cosignature, merkle, note, policy, witness
from schemas.checkpoint import Checkpoint
from schemas.directory import Directory
from schemas.encoding import format_time, parse_time
from schemas.note import Note, NoteError, SignatureLine, Vkey
from schemas.policy import Policy
from schemas.refusal import Refused
from schemas.tail import Wanted

T = TypeVar("T")

OVERDUE = timedelta(hours=24)
"""How long a witness may be behind before that is recorded."""

_RESTORED = (
    "The database was restored, and it is not known yet whether it is the newest: nothing is "
    "signed until a quorum of witnesses has said how far they are, and what they hold and this hub "
    "lacks is back (deploy/runbooks/signing-stopped.md)"
)

log = structlog.get_logger("hub.witnesses")


class Watcher(msgspec.Struct, frozen=True):
    """How far a witness is: the size that it cosigned last, and when (by our clock)."""

    code: str
    size: int
    time: str


class Shown(msgspec.Struct, frozen=True):
    """A checkpoint that our key signed, and who showed it when our log was another one."""

    code: str
    note: bytes
    time: str


class Witnessed(msgspec.Struct, frozen=True):
    """A checkpoint that was frozen; ``quorum`` is when it had one, None while it is waiting."""

    size: int
    note: bytes
    quorum: str | None


class Standing(msgspec.Struct, frozen=True):
    """All that is kept. ``waiting`` is the candidate, ``last`` the newest one with a quorum."""

    waiting: Witnessed | None
    last: Witnessed | None
    watchers: Sequence[Watcher]
    shown: Sequence[Shown]


class WitnessStore(Protocol):
    """Where it is kept."""

    async def standing(self) -> Standing:
        """What is kept, of one moment."""
        ...

    async def served(self) -> bytes | None:
        """The last checkpoint with a quorum; before the first, the candidate or the last signed."""
        ...

    async def freeze(self) -> None:
        """Make the last signed checkpoint the candidate, unless one waits or it has its quorum."""
        ...

    async def thaw(self) -> None:
        """Let no candidate wait any more."""
        ...

    async def cosigned(
        self,
        watcher: Watcher,
        token: Token | None,
        lines: Sequence[SignatureLine],
        holds: Callable[[bytes], bool],
    ) -> bool:
        """Add cosignatures to the checkpoint of their size, where it was frozen.

        Returns:
            Whether that checkpoint has a quorum.

        Raises:
            Refused: ``unauthenticated``: the token was used before.
        """
        ...

    async def settle(self, size: int, time: str) -> None:
        """The checkpoint of a size has its quorum."""
        ...

    async def keep(self, shown: Shown) -> None:
        """Keep what a witness holds against us, the last of each witness."""
        ...


class Witnesses:
    """The hub's side of witnessing. ``seen`` is when each witness asked last.

    ``damage`` says why what is stored is not the log that was signed; None where it is.
    """

    def __init__(
        self,
        store: WitnessStore,
        queries: Queries,
        vkey: Vkey,
        fixed: Policy | None,
        clock: Callable[[], datetime],
        given_up: frozenset[int] = frozenset(),
    ) -> None:
        """Work on this store.

        Args:
            store: where candidates and cosignatures are kept.
            queries: read the log.
            vkey: the log's verifier key.
            fixed: the quorum policy of the settings; None for the one of the region.
            clock: gives the time.
            given_up: entries whose content is lost, and an operator decided to go on without it.
        """
        self.given_up = given_up
        self.seen: dict[str, datetime] = {}
        self.damage: str | None = None
        self._store = store
        self._queries = queries
        self._vkey = vkey
        self._fixed = fixed
        self._clock = clock
        self._contradiction: str | None = None
        self._asked: set[str] = set()
        self._offered: dict[str, int] = {}
        self._release: Callable[[], None] | None = None

    # --- Signing, and when not ---

    @property
    def stopped(self) -> str | None:
        """Why nothing is signed; None where it is."""
        waiting = _RESTORED if self.waiting else None
        return self._contradiction or self.damage or waiting

    @property
    def waiting(self) -> bool:
        """Whether it is not known yet that none of the witnesses is ahead of the log."""
        return self._release is not None

    def guard(self, journal: Journal) -> Journal:
        """The same journal, which takes nothing while signing is stopped."""
        return _Guarded(journal, self)

    def distrust(self, damage: str | None) -> None:
        """Sign nothing while what is stored is not what was signed; None: it is again."""
        self.damage = damage

    def wait_for_witnesses(self, directory: Directory, release: Callable[[], None]) -> None:
        """Sign nothing until a quorum has said that none of it is ahead; then call ``release``.

        After a restore the log may be shorter than what was signed. Whoever is ahead shows it, and
        brings what is missing. What was said before this counts no more.
        """
        self._asked.clear()
        self._release = release
        if not policy.witnesses(self._vkey.name, directory):
            self._heard("", directory)  # there is nobody to ask

    async def check(self) -> None:
        """See whether what witnesses showed still contradicts the log that there is.

        It does so until the missing tail is back. Another hub on the same database finds it, too.
        """
        for shown in (await self._store.standing()).shown:
            head = checkpoint.open_checkpoint(shown.note, self._vkey)
            if await self.root(head.size) != head.root:
                self._stop(shown.code, head)
                return
        if self._contradiction is not None:
            log.warning("signing.resumed", size=await self._size())
        self._contradiction = None

    async def thaw(self) -> None:
        """Let the candidate go that waited in an older copy of the database.

        Cosignatures under it were lost with the newest one: whoever gave them has cosigned more
        since, and gives no others for that size. A crash after it: the next one is frozen later.
        """
        await self._store.thaw()

    # --- What there is ---

    async def root(self, size: int) -> bytes | None:
        """The root of the first entries; None where there are not so many."""
        if size > await self._size():
            return None
        tiles = await self._queries.tiles(merkle.tiles_for_root(size))
        return merkle.tree_root(size, tiles)

    async def served(self) -> bytes | None:
        """What ``/log/checkpoint`` serves; None for an empty log."""
        return await self._store.served()

    async def standing(self) -> Standing:
        """How far the witnesses are."""
        return await self._store.standing()

    def policy(self, directory: Directory) -> Policy | None:
        """The quorum that is wanted; None while there are too few witnesses for any."""
        if self._fixed is not None:
            return None if self._fixed.quorum == policy.NONE else self._fixed
        text = policy.regional(self._vkey, policy.witnesses(self._vkey.name, directory))
        return None if text is None else policy.parse(text.encode())

    def known(self, directory: Directory) -> tuple[Vkey, ...]:
        """Every witness that may stand under a checkpoint: of the directory, and of the policy."""
        fixed = {} if self._fixed is None else self._fixed.witnesses
        return (*policy.witnesses(self._vkey.name, directory).values(), *fixed.values())

    # --- What witnesses ask and bring ---

    async def request(self, code: str, old: int, directory: Directory) -> bytes | None:
        """The body of ``add-checkpoint`` for a witness that is at size ``old``; None: nothing.

        Raises:
            Refused: ``conflict``: the witness has cosigned more than there is.
        """
        self.seen[code] = self._clock()
        size = await self._size()
        if old > size:
            log.error("witness.ahead", code=code, theirs=old, ours=size)
            raise Refused(
                "conflict",
                f"The log has {size} entries here, fewer than the {old} that you cosigned; show "
                "that checkpoint: POST /v1/witness/response.",
            )
        raw = None if self.stopped else await self._candidate(directory)
        if raw is None:
            return None
        signed = note.parse_note(raw)
        head = checkpoint.parse(signed.text)
        ours = {vkey for vkey in self._keys(code, directory) if vkey.kind == cosignature.ED25519}
        done = old == head.size and not ours.isdisjoint(cosignature.cosigners(signed, ours))
        if old > head.size or done:
            return None
        proof: Sequence[bytes] = ()
        if 0 < old < head.size:
            tiles = await self._queries.tiles(merkle.tiles_for_consistency(old, head.size))
            proof = merkle.consistency_proof(old, head.size, tiles)
        return witness.encode(witness.Request(old, tuple(proof), raw))

    async def followed(self, code: str, size: int, directory: Directory) -> Wanted:
        """What the hub lacks, for somebody who has followed the log to a size.

        A witness counts among those that are waited for when it is not ahead and nothing is
        missing. What it cosigned is not asked for here: the log that it followed, by acceptances
        under checkpoints that nobody has cosigned yet, is longer.
        """
        have = await self._size()
        if self.stopped is None:
            return Wanted(False, have, ())
        missing = await self._offer(code)
        self._asked.discard(code)
        if size <= have and not missing:
            self._heard(code, directory)
        return Wanted(self.stopped is not None, have, missing)

    async def respond(
        self, code: str, raw: bytes, token: Token | None, directory: Directory
    ) -> bool:
        """Take the note of a checkpoint with a witness's cosignatures.

        Returns:
            Whether that checkpoint has a quorum now.

        Raises:
            Refused: ``bad-request`` or ``bad-signature``: it is no cosigned checkpoint of this log;
                ``conflict``: it is of another history. If our key signed that, we stop signing.
        """
        try:
            signed = note.parse_note(raw)
            head = checkpoint.parse(signed.text)
        except NoteError as error:
            raise Refused("bad-request", f"It is no checkpoint: {error}") from None
        if head.origin != self._vkey.name:
            raise Refused("bad-request", f"It is of the log {head.origin}, not of this one.")
        if await self.root(head.size) != head.root:
            await self._contradicted(code, signed, head)
            raise Refused("conflict", "This hub has another log than that of the checkpoint.")
        keys = self._keys(code, directory)
        try:
            times = cosignature.cosigners(signed, keys)
        except NoteError as error:
            raise Refused("bad-signature", str(error)) from None
        if not times:
            raise Refused("bad-signature", "There is no cosignature by your registered key.")
        self.seen[code] = now = self._clock()
        mine = {(vkey.name, vkey.key_id) for vkey in times}
        lines = [line for line in signed.signatures if (line.name, line.key_id) in mine]
        watcher = Watcher(code, head.size, format_time(now))
        return await self._store.cosigned(watcher, token, lines, self._holder(directory))

    async def show(self, code: str, raw: bytes) -> None:
        """Take a checkpoint of ours that is beyond the log; nothing is signed until that is back.

        Raises:
            NoteError: it is no checkpoint.
        """
        signed = note.parse_note(raw)
        await self._contradicted(code, signed, checkpoint.parse(signed.text))

    # --- Inside ---

    async def _offer(self, code: str) -> tuple[int, ...]:
        """What is missing, for somebody who brings it; each time what comes after the last time.

        What nobody has does not stand for ever before what somebody has.
        """
        page = await lacking(self._queries, self.given_up, self._offered.get(code, -1))
        if not page:
            page = await lacking(self._queries, self.given_up)
        self._offered[code] = max(page, default=-1)
        return tuple(page)

    async def _candidate(self, directory: Directory) -> bytes | None:
        wanted = self.policy(directory)
        if wanted is None:
            # No quorum can be had: whoever asks is given the newest, and nothing waits.
            return await self._queries.checkpoint()
        await self._store.freeze()
        standing = await self._store.standing()
        waiting = standing.waiting
        if waiting is not None and self._holder(directory)(waiting.note):
            # The policy was changed since it was cosigned last.
            await self._store.settle(waiting.size, format_time(self._clock()))
        found = waiting or standing.last
        return None if found is None else found.note

    def _holder(self, directory: Directory) -> Callable[[bytes], bool]:
        """Whether a note is cosigned by a quorum."""
        wanted = self.policy(directory)

        def holds(raw: bytes) -> bool:
            if wanted is None:
                return False
            keys = wanted.witnesses.values()
            return wanted.holds(cosignature.cosigners(note.parse_note(raw), keys))

        return holds

    def _keys(self, code: str, directory: Directory) -> list[Vkey]:
        """The keys of a witness: the registered one, and those that the settings' policy names."""
        registered = policy.witnesses(self._vkey.name, directory).get(code)
        name = cosignature.witness_name(self._vkey.name, code)
        fixed = self._fixed.witnesses.values() if self._fixed is not None else ()
        named = (vkey for vkey in fixed if vkey.name == name)
        return list(dict.fromkeys(vkey for vkey in (registered, *named) if vkey is not None))

    async def _size(self) -> int:
        """The size of the log as stored: another hub may have appended to it since we did."""
        raw = await self._queries.checkpoint()
        return 0 if raw is None else checkpoint.parse(note.parse_note(raw).text).size

    async def _contradicted(self, code: str, signed: Note, head: Checkpoint) -> None:
        try:
            note.verify(signed, [self._vkey])
        except NoteError:
            log.warning("witness.mistaken", code=code, size=head.size)
            return
        ours = [s for s in signed.signatures if s.key_id == self._vkey.key_id]
        raw = note.encode(Note(signed.text, tuple(ours)))
        self._stop(code, head)
        await self._store.keep(Shown(code, raw, format_time(self._clock())))

    def _heard(self, code: str, directory: Directory) -> None:
        """Note that a witness is not ahead of us; a quorum of such witnesses ends the waiting."""
        if self._release is None:
            return
        self._asked.add(code)
        wanted = self.policy(directory)
        if wanted is None:
            enough = self._asked >= policy.witnesses(self._vkey.name, directory).keys()
        else:
            keys = [vkey for each in self._asked for vkey in self._keys(each, directory)]
            enough = wanted.holds(keys)
        if enough:
            log.warning("signing.released", witnesses=sorted(self._asked))
            self._release()
            self._release = None

    def _stop(self, code: str, head: Checkpoint) -> None:
        if self._contradiction is None:
            log.error("signing.stopped", code=code, size=head.size, root=note.b64(head.root))
        self._contradiction = (
            f"{code} holds a checkpoint of {head.size} entries that this log's key signed, and the "
            "database has another log: it is an older copy, or somebody else signs with this key. "
            "Restore the newest database (deploy/runbooks/signing-stopped.md)"
        )


class _Guarded:
    def __init__(self, journal: Journal, witnesses: Witnesses) -> None:
        self._journal = journal
        self._witnesses = witnesses

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """Do something in one transaction of the other journal.

        Raises:
            StorageError: signing is stopped, or it failed.
        """
        if self._witnesses.stopped is not None:
            raise StorageError(self._witnesses.stopped)
        return await self._journal.transact(work)


async def lacking(
    queries: Queries, given_up: frozenset[int], after: int = -1
) -> dict[int, int | None]:
    """The next entries after this one that lack their content, without what was given up.

    With each the later entry that erased its message, if one did; empty where there are none.
    """
    while page := await queries.missing(after):
        wanted = {index: erased for index, erased in page.items() if index not in given_up}
        if wanted:
            return wanted
        after = max(page)
    return {}


def overdue(standing: Standing, now: datetime) -> set[str]:
    """The witnesses that are behind the others, and cosigned nothing for longer than usual."""
    quorum = standing.last.size if standing.last is not None else 0
    return {
        watcher.code
        for watcher in standing.watchers
        if watcher.size < quorum and now - parse_time(watcher.time) > OVERDUE
    }


def lags(standing: Standing, codes: Mapping[str, object], size: int) -> dict[str, int]:
    """By how many entries each witness is behind; whoever never cosigned is behind by all."""
    sizes = {watcher.code: watcher.size for watcher in standing.watchers}
    return {code: max(0, size - sizes.get(code, 0)) for code in codes}
