"""The recorder: nobody is told "accepted" before the commit, and nothing is ever half-written."""

import asyncio

import pytest
from msgspec.structs import replace

from hub.intake import recorder as recording
from hub.intake.batch import Batch, Loaded, Outcome, State, Token
from hub.intake.recorder import Recorder, StorageError
from hub.ledger.sequence import Appended, Draft, LogKey
from schemas import acceptance, checkpoint, merkle
from schemas import entry as entries
from schemas.refusal import Refused
from tests import builders

KEY = LogKey(builders.LOG, builders.LOG_KEY)


class Journal:
    """A store in memory. It can fail where a disk can: on beginning, on writing, on committing."""

    def __init__(self):
        self.committed: list[tuple[Batch, Appended | None]] = []
        self.size = 0
        self.state = State()
        self.signed: dict[int, bytes] = {}
        self.fail_at = None
        self.give_back = lambda raw: raw
        self.begun = asyncio.Event()
        self.roots = {0: merkle.EMPTY_ROOT}
        self.may_commit = asyncio.Event()
        self.may_commit.set()

    async def transact(self, work):
        self.check("begin")
        self.begun.set()
        transaction = Transaction(self)
        result = work(transaction)
        await self.may_commit.wait()
        self.check("commit")
        assert transaction.written is not None
        batch, appended = transaction.written
        self.committed.append((batch, appended))
        if appended is not None:
            self.size = appended.tree.size
            self.signed[self.size] = appended.checkpoint
            self.roots[self.size] = appended.tree.root
            self.state = batch.state(appended.tree)
        self.check("answer")
        return result

    def kept(self):
        """What is stored, to go back to."""
        return self.size, self.state, dict(self.signed), dict(self.roots)

    def go_back(self, kept):
        self.size, self.state, signed, roots = kept
        self.signed, self.roots = dict(signed), dict(roots)

    def check(self, step):
        if self.fail_at == step:
            raise StorageError(f"failed to {step}")


class Transaction:
    def __init__(self, journal):
        self._journal = journal
        self.written: tuple[Batch, Appended | None] | None = None

    def head(self, known):
        return self._journal.size, self._journal.signed.get(known)

    def root(self, size):
        return self._journal.roots.get(size, b"another")

    def state(self, known):
        return self._journal.state

    def facts(self, needs, now):
        return Loaded({}, {}, set(), {}, {}, {})

    def append(self, entries):
        return [self._journal.give_back(each.raw) for each in entries]

    def write(self, batch, appended):
        self._journal.check("write")
        self.written = (batch, appended)


class Append:
    """A job that appends one entry, uses a token, and rings for somebody."""

    def __init__(self, subject="x", token=None):
        self.token = token
        self._subject = subject

    def needs(self, needs):
        pass

    def decide(self, batch):
        batch.use(self.token)
        batch.touched.add(self._subject)
        return Outcome(batch.append(Draft(entries.HUB_STARTED, "hub", self._subject, private=b"p")))


class Refuse(Append):
    def decide(self, batch):
        raise Refused("quota", "Later.")


class Break(Append):
    def decide(self, batch):
        raise ZeroDivisionError


class Deliver(Append):
    def decide(self, batch):
        batch.deliver(self._subject)
        return super().decide(batch)


class Hub:
    """A recorder upon a journal, and what it told whom."""

    def __init__(self, journal=None):
        self.journal = journal or Journal()
        self.rung: list[tuple[frozenset[str], int]] = []
        self.setbacks = 0
        self.recorder = Recorder(
            self.journal,
            KEY,
            State(),
            lambda: builders.NOW,
            bytes,
            lambda new: self.rung.append((new.touched, len(self.journal.committed))),
            self.set_back,
        )
        self.task = asyncio.create_task(self.recorder.run())

    def set_back(self):
        self.setbacks += 1

    async def record(self, *jobs):
        """Have jobs recorded together."""
        return await asyncio.gather(
            *(self.recorder.record(job) for job in jobs), return_exceptions=True
        )

    async def stop(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.fixture
async def hub():
    made = Hub()
    yield made
    made.journal.may_commit.set()
    await made.stop()


def codes(outcomes):
    return [outcome.code for outcome in outcomes if isinstance(outcome, Refused)]


class TestACommit:
    async def test_takes_all_jobs_that_wait(self, hub):
        await hub.record(*(Append() for _ in range(10)))
        assert len(hub.journal.committed) == 1
        assert hub.recorder.state.tree.size == 10

    async def test_takes_no_more_jobs_than_a_batch_has(self, hub):
        outcomes = await hub.record(*(Append() for _ in range(recording.MAX_BATCH + 1)))
        assert [len(batch.entries) for batch, _ in hub.journal.committed] == [256, 1]
        assert [recorded.outcome.index for recorded in outcomes] == list(range(257))

    async def test_gives_each_job_the_acceptance_of_its_own_entry(self, hub):
        outcomes = await hub.record(Append("a"), Append("b"))
        opened = [acceptance.open_acceptance(o.acceptance, builders.LOG) for o in outcomes]
        assert [o.entry.subject for o in opened] == ["a", "b"]
        assert [o.index for o in opened] == [0, 1]
        assert {o.checkpoint.size for o in opened} == {2}

    async def test_signs_one_checkpoint_for_the_whole_of_it(self, hub):
        await hub.record(Append(), Append())
        [(_, appended)] = hub.journal.committed
        assert checkpoint.open_checkpoint(appended.checkpoint, builders.LOG).size == 2

    async def test_comes_before_anybody_is_told(self, hub):
        hub.journal.may_commit.clear()
        waiting = asyncio.create_task(hub.recorder.record(Append()))
        await hub.journal.begun.wait()
        assert not waiting.done()
        assert hub.rung == []
        hub.journal.may_commit.set()
        await waiting
        assert hub.rung == [({"x"}, 1)]

    async def test_goes_on_where_the_last_one_ended(self, hub):
        for _ in range(3):
            await hub.record(Append())
        [*_, (batch, appended)] = hub.journal.committed
        assert (batch.entries[0].index, appended.tree.size) == (2, 3)

    async def test_of_refusals_alone_appends_nothing(self, hub):
        [outcome] = await hub.record(Refuse())
        assert outcome.outcome.refused.code == "quota"
        assert outcome.acceptance is None
        assert hub.journal.size == 0

    async def test_refuses_a_token_that_another_job_of_it_used(self, hub):
        token = Token("kz:1", 9)
        first, second = await hub.record(Append(token=token), Append(token=token))
        assert first.outcome.refused is None
        assert second.outcome.refused.code == "unauthenticated"


class TestAFailure:
    @pytest.mark.parametrize("step", ["begin", "write", "commit"])
    async def test_refuses_the_whole_batch_for_now_and_leaves_no_trace(self, hub, step):
        hub.journal.fail_at = step
        outcomes = await hub.record(Append(), Append())
        assert codes(outcomes) == ["storage", "storage"]
        assert hub.journal.committed == []
        assert hub.recorder.state == State()
        assert hub.rung == []

    async def test_is_told_until_a_commit_succeeds(self, hub):
        hub.journal.fail_at = "commit"
        await hub.record(Append())
        assert hub.recorder.failing == "failed to commit"
        hub.journal.fail_at = None
        [recorded] = await hub.record(Append())
        assert recorded.outcome.index == 0
        assert hub.recorder.failing is None

    @pytest.mark.parametrize("give_back", [lambda raw: raw[:-1], lambda raw: raw[:-1] + b" "])
    async def test_to_give_back_the_bytes_of_an_entry_signs_and_stores_nothing(
        self, hub, give_back
    ):
        hub.journal.give_back = give_back
        assert codes(await hub.record(Append(), Append())) == ["storage", "storage"]
        assert hub.journal.committed == []
        assert hub.recorder.state == State()
        assert "other bytes than it was given for entries 0 to 1" in hub.recorder.failing
        hub.journal.give_back = lambda raw: raw
        [recorded] = await hub.record(Append())
        assert recorded.outcome.index == 0

    async def test_after_the_commit_does_not_lose_what_was_committed(self, hub):
        """The connection broke before the answer: the sender is told to send again."""
        hub.journal.fail_at = "answer"
        assert codes(await hub.record(Append())) == ["storage"]
        hub.journal.fail_at = None
        [recorded] = await hub.record(Append())
        assert recorded.outcome.index == 1

    async def test_of_one_job_does_not_reach_its_neighbours(self, hub):
        good, broken, also_good = await hub.record(Append(), Break(), Append())
        assert (good.outcome.index, also_good.outcome.index) == (0, 1)
        assert isinstance(broken, Refused)
        assert broken.code == "storage"

    async def test_that_is_about_a_row_has_the_state_read_anew(self, hub):
        """Positions were given in the database though the log has its size."""
        await hub.record(Append())
        hub.journal.state = replace(hub.journal.state, positions={"kg": 7})
        await hub.record(Break())
        await hub.record(Deliver("kg"))
        assert hub.recorder.state.positions == {"kg": 8}


class TestAnotherHubOnTheSameLog:
    async def test_is_noticed_by_the_size_of_the_log(self, hub):
        other = Hub(hub.journal)
        await hub.record(Append())
        [recorded] = await other.record(Append())
        await other.stop()
        assert recorded.outcome.index == 1
        assert hub.journal.size == 2


class TestAStoreThatWentBack:
    """As when a standby takes over that lacks the last commits."""

    async def went_back(self, hub):
        await hub.record(Append("a"))
        kept = hub.journal.kept()
        await hub.record(Append("b"))
        hub.journal.go_back(kept)

    async def gone_on(self, hub, entries):
        """Another hub, which did not know what was lost, went on."""
        await self.went_back(hub)
        other = Hub(hub.journal)
        await other.record(*(Append("c") for _ in range(entries)))
        await other.stop()

    async def check_nothing_is_signed(self, hub):
        before = hub.journal.kept()
        assert codes(await hub.record(Append("d"), Append("e"))) == ["storage", "storage"]
        assert hub.journal.kept() == before
        assert "does not hold the 2 entries that were committed" in hub.recorder.failing
        assert "deploy/runbooks/signing-stopped.md" in hub.recorder.failing
        assert hub.setbacks == 1

    async def test_is_not_written_to(self, hub):
        await self.went_back(hub)
        await self.check_nothing_is_signed(hub)

    @pytest.mark.parametrize("entries", [1, 2])
    async def test_is_not_written_to_when_others_went_on(self, hub, entries):
        """It has as many entries as before, or more: others."""
        await self.gone_on(hub, entries)
        await self.check_nothing_is_signed(hub)

    async def test_whose_tail_came_back_in_other_parts_is_gone_on_with(self, hub):
        await hub.record(Append("a"))
        del hub.journal.signed[1]
        other = Hub(hub.journal)
        await other.record(Append("b"))
        await other.stop()
        [recorded] = await hub.record(Append("c"))
        assert recorded.outcome.index == 2

    async def test_that_has_all_of_it_again_is_gone_on_with(self, hub):
        await hub.record(Append("a"))
        kept = hub.journal.kept()
        await hub.record(Append("b"))
        whole = hub.journal.kept()
        hub.journal.go_back(kept)
        await hub.record(Append("c"))
        hub.journal.go_back(whole)
        [recorded] = await hub.record(Append("c"))
        assert recorded.outcome.index == 2
        assert hub.recorder.failing is None


class TestManyJobs:
    async def test_beyond_the_limit_are_told_to_come_later(self, hub):
        hub.journal.may_commit.clear()
        first = asyncio.create_task(hub.recorder.record(Append()))
        await hub.journal.begun.wait()
        jobs = [
            asyncio.create_task(hub.recorder.record(Append()))
            for _ in range(recording.MAX_WAITING + 3)
        ]
        hub.journal.may_commit.set()
        outcomes = await asyncio.gather(first, *jobs, return_exceptions=True)
        assert codes(outcomes) == ["busy"] * 3

    async def test_whose_callers_have_gone_are_recorded_all_the_same(self, hub):
        hub.journal.may_commit.clear()
        gone = asyncio.create_task(hub.recorder.record(Append()))
        await hub.journal.begun.wait()
        gone.cancel()
        hub.journal.may_commit.set()
        [recorded] = await hub.record(Append())
        assert recorded.outcome.index == 1


class TestStopping:
    async def test_refuses_what_waits_and_what_is_being_written(self, hub):
        hub.journal.may_commit.clear()
        writing = asyncio.create_task(hub.recorder.record(Append()))
        await hub.journal.begun.wait()
        waiting = asyncio.create_task(hub.recorder.record(Append()))
        await asyncio.sleep(0)  # let it take its place in the queue
        await hub.stop()
        outcomes = await asyncio.gather(writing, waiting, return_exceptions=True)
        assert codes(outcomes) == ["busy", "busy"]
