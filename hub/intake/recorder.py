"""The recording loop: jobs are gathered and committed together (group commit).

Nobody is told "accepted" before the commit. A crash before it: nothing was promised, and the sender
sends again. A crash after it, before the answer: the sender sends again and gets the first
acceptance, since the message's id is known. If the commit fails (a full disk), the batch is dropped
whole, every job is answered with a refusal to be tried again, and the state before still holds.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias, TypeVar

import structlog

from hub.intake.batch import MAX_ENTRIES, Batch, Committed, Job, Loaded, Needs, Outcome, State
from hub.ledger import sequence
from hub.ledger.sequence import Appended, LogKey, Sequenced
from schemas import checkpoint
from schemas.acceptance import Acceptance
from schemas.checkpoint import Checkpoint
from schemas.entry import SALT_SIZE
from schemas.refusal import TRY_AGAIN, Refused

MAX_BATCH = 256
"""Jobs in one commit: enough to share the disk's sync, few enough to answer within a blink."""

MAX_WAITING = 2_048
"""Jobs waiting for their turn; beyond it a door answers "busy" instead of taking more memory."""

_STOPPING = f"The hub is stopping; {TRY_AGAIN}."

log = structlog.get_logger("hub.recorder")


T = TypeVar("T")


class StorageError(Exception):
    """The store did not take the transaction; nothing of it is written."""


class WentBack(StorageError):
    """The store has lost what was committed: to write on would fork the log."""


class Transaction(Protocol):
    """One writing transaction, which holds the lock on the head of the log."""

    def head(self, known: int) -> tuple[int, bytes | None]:
        """The size of the log, and the checkpoint that was signed when it had a known size."""
        ...

    def root(self, size: int) -> bytes:
        """The root of the first entries, of which there are as many."""
        ...

    def state(self, known: State) -> State:
        """The state as stored, when ``known`` was stored before it."""
        ...

    def facts(self, needs: Needs, now: datetime) -> Loaded:
        """What the jobs asked for."""
        ...

    def append(self, entries: Sequence[Sequenced]) -> Sequence[bytes]:
        """Write log entries, and read their bytes back."""
        ...

    def write(self, batch: Batch, appended: Appended | None) -> None:
        """Write all else of a batch; it counts when the transaction has ended without an error."""
        ...


class Journal(Protocol):
    """Where the log and everything derived from it is written."""

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """Do something in one transaction, off the event loop; commit when ``work`` returns.

        Raises:
            StorageError: it failed, and left no trace.
        """
        ...


Transacted: TypeAlias = tuple[Batch, list[Outcome], Appended | None]


class Recorded:
    """A job's outcome; ``acceptance`` is there when it appended an entry with a private part."""

    def __init__(self, outcome: Outcome, acceptance: Acceptance | None) -> None:
        """Keep both."""
        self.outcome = outcome
        self.acceptance = acceptance


Results: TypeAlias = "Sequence[Recorded | Refused]"


class Recorder:
    """The one writer of the log in this process.

    ``stale`` says that rows may have come under a log of the same size, so that the next commit
    reads the state anew.
    """

    def __init__(
        self,
        journal: Journal,
        key: LogKey,
        state: State,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        on_commit: Callable[[Committed], None],
        on_setback: Callable[[], None] = lambda: None,
    ) -> None:
        """Take over a state that was just loaded.

        Args:
            journal: where to write.
            key: signs the checkpoints.
            state: what the journal holds.
            clock: gives the time of a batch.
            random_bytes: gives the salts.
            on_commit: is told after each commit what it brought; must not wait.
            on_setback: is told when the store has lost what was committed.
        """
        self.state = state
        self.clock = clock
        self.failing: str | None = None
        self.stale = False
        self._journal = journal
        self._key = key
        self._random_bytes = random_bytes
        self._on_commit = on_commit
        self._on_setback = on_setback
        self._groups: deque[_Group] = deque()
        self._arrived = asyncio.Event()
        self._waiting = 0
        self._unanswered: dict[asyncio.Future[Results], float] = {}

    @property
    def waiting(self) -> int:
        """Jobs that wait for their turn."""
        return self._waiting

    def waited(self) -> float:
        """Seconds that the oldest request without an answer has waited."""
        # Requests are in the order in which they came.
        oldest = next(iter(self._unanswered.values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    async def record(self, job: Job) -> Recorded:
        """Have a job decided and committed; returns after the commit.

        Raises:
            Refused: the job was refused without a record, or ``busy`` / ``storage``.
        """
        result = (await self.record_all([job]))[0]
        if isinstance(result, Refused):
            raise result
        return result

    async def record_all(self, jobs: Sequence[Job]) -> "Results":
        """Have jobs, at most ``MAX_BATCH``, decided and committed in one commit.

        A job that was refused without a record gives its refusal: ``busy`` or ``storage``.
        """
        if self._waiting + len(jobs) > MAX_WAITING:
            refusal = Refused("busy", f"Too many requests are waiting; {TRY_AGAIN}.")
            return [refusal] * len(jobs)
        future: asyncio.Future[Results] = asyncio.get_running_loop().create_future()
        self._waiting += len(jobs)
        self._groups.append(_Group(jobs, future))
        self._arrived.set()
        self._unanswered[future] = time.monotonic()
        try:
            return await future
        finally:
            del self._unanswered[future]

    async def run(self) -> None:
        """Commit batches until cancelled; what waits then is refused as ``busy``."""
        taken: list[_Group] = []
        try:
            while True:
                taken = []
                await self._arrived.wait()
                taken = self._take()
                await self._commit(taken)
        finally:
            # What was being committed may be in the log; sent again, it is a duplicate.
            for group in (*taken, *self._groups):
                group.answer([Refused("busy", _STOPPING)] * len(group.jobs))
            self._groups.clear()

    def _take(self) -> "list[_Group]":
        """The groups that have waited longest, as many as go into one commit."""
        taken: list[_Group] = []
        size = 0
        while self._groups and (not taken or size + len(self._groups[0].jobs) <= MAX_BATCH):
            taken.append(self._groups.popleft())
            size += len(taken[-1].jobs)
        self._waiting -= size
        if not self._groups:
            self._arrived.clear()
        return taken

    async def _commit(self, taken: Sequence["_Group"]) -> None:
        jobs = [job for group in taken for job in group.jobs]
        results = await self._record(jobs)
        start = 0
        for group in taken:
            end = start + len(group.jobs)
            group.answer(results[start:end])
            start = end

    async def _record(self, jobs: Sequence[Job]) -> "Results":
        """Commit jobs together, or each by itself where one of them has a fault."""
        try:
            batch, outcomes, appended = await self._journal.transact(
                lambda transaction: self._transact(transaction, jobs)
            )
        except Exception as error:
            # Rolled back: nothing of the batch is written, and nothing was promised. The loop
            # outlives any one batch.
            if not isinstance(error, StorageError):
                self.stale = True  # a row that is there already: we do not know of it
            if len(jobs) > 1 and not isinstance(error, StorageError):
                # A fault of ours about one job is not its neighbours'.
                return [result for job in jobs for result in await self._record([job])]
            if isinstance(error, WentBack):
                self._on_setback()
            self.failing = str(error)
            log.exception("store.failed", jobs=len(jobs))
            refusal = Refused("storage", f"Nothing was stored; {TRY_AGAIN}.")
            return [refusal] * len(jobs)
        self.failing = None
        if appended is not None:
            self.state = batch.state(appended.tree)
        acceptances = appended.acceptances if appended is not None else {}
        self._on_commit(batch.committed(acceptances))
        return [
            Recorded(outcome, None if outcome.index is None else acceptances.get(outcome.index))
            for outcome in outcomes
        ]

    def _transact(self, transaction: Transaction, jobs: Sequence[Job]) -> Transacted:
        now = self.clock()
        self._catch_up(transaction)
        needs = Needs(self.state.directory)
        for job in jobs:
            if job.token is not None:
                needs.tokens.add(job.token.jti)
            job.needs(needs)
        loaded = transaction.facts(needs, now)
        salts = self._random_bytes(SALT_SIZE * MAX_ENTRIES * len(jobs))
        batch = Batch(self.state, loaded, now, salts)
        outcomes = [_decide(job, batch) for job in jobs]
        appended = None
        if batch.entries:
            stored = write_entries(transaction, batch.entries)
            appended = sequence.append(self.state.tree, batch.entries, stored, self._key)
        transaction.write(batch, appended)
        return batch, outcomes, appended

    def _catch_up(self, transaction: Transaction) -> None:
        """Take over what another hub on the same log has appended since our last commit.

        A database that is reached anew may be another than before: a standby that lacks the last
        commits, or one on which another hub has gone on without them.

        Raises:
            WentBack: the log that we know is no part of it.
        """
        tree = self.state.tree
        size, signed = transaction.head(tree.size)
        known = checkpoint.format(Checkpoint(self._key.vkey.name, tree.size, tree.root)).encode()
        if signed is not None:
            held = signed.startswith(known)
        else:
            # A tail that came back has checkpoints of other sizes.
            held = size >= tree.size and transaction.root(tree.size) == tree.root
        if not held:
            raise WentBack(
                f"The database does not hold the {tree.size} entries that were committed: it has "
                "lost some of them, as after a failover to a standby that was behind; nothing is "
                "signed (deploy/runbooks/signing-stopped.md)"
            )
        if size != tree.size or self.stale:
            self.state = transaction.state(self.state)
            self.stale = False


def write_entries(transaction: Transaction, entries: Sequence[Sequenced]) -> Sequence[bytes]:
    """Write entries, and give what the database holds then: that is signed, not what it was given.

    A driver, a COPY or a trigger that changes a byte is found here, before the commit: nothing was
    promised, and nothing is signed that could not be shown. A disk that changes one later is found
    by the check of the whole log (``hub.ledger.verify``).

    Raises:
        StorageError: the database holds other bytes.
    """
    stored = transaction.append(entries)
    if [*stored] != [sequenced.raw for sequenced in entries]:
        first, last = entries[0].index, entries[-1].index
        raise StorageError(
            f"The database gave back other bytes than it was given for entries {first} to "
            f"{last}; nothing was signed (deploy/runbooks/hub-store-failing.md)"
        )
    return stored


class _Group:
    """Jobs of one caller, and what it waits for."""

    def __init__(self, jobs: Sequence[Job], results: "asyncio.Future[Results]") -> None:
        self.jobs = jobs
        self._results = results

    def answer(self, results: "Results") -> None:
        if not self._results.done():  # whoever asked may have gone
            self._results.set_result(results)


def _decide(job: Job, batch: Batch) -> Outcome:
    try:
        return job.decide(batch)
    except Refused as refusal:
        return Outcome(refused=refusal)
