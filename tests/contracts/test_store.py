"""What every store keeps: one suite for each database that the hub can use.

The store is reached as the hub reaches it: jobs are recorded through the journal, and everything is
read back through the queries.
"""

import asyncio
import json
import threading
from collections import Counter
from contextlib import asynccontextmanager
from datetime import date, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from msgspec.structs import replace
from sqlalchemy import insert, select, text

from hub.intake import access, admission, membership
from hub.intake.batch import Batch, Loaded, Needs, Token
from hub.intake.erasure import Erase, ErasedPrivate
from hub.intake.hold import Hold
from hub.intake.meter import RefusalMeter
from hub.intake.opening import Opening
from hub.intake.receipts import OpenedReceipt, ReceiptSubmission
from hub.intake.recorder import Recorder, StorageError
from hub.intake.submission import CountedRefusals, Submission
from hub.ledger import retention, sequence
from hub.ledger import search as ledger_search
from hub.ledger.queries import EventFilter, Flow, News, Session
from hub.ledger.report import Fate, Figures, Period
from hub.ledger.sequence import Draft, LogKey
from hub.settings import StartError
from hub.store import counts, erasures, index, journal, queries, report, search, tables
from hub.store.database import open_database
from hub.store.index import Index
from hub.store.journal import Journal
from hub.store.lanes import StoredLanes
from hub.store.migrations import upgrade
from hub.store.queries import Queries
from schemas import acceptance, checkpoint, jsontext, merkle
from schemas import entry as entries
from schemas.encoding import b64url, format_time, uuid7
from schemas.refusal import Refused
from tests import builders
from tests.builders import NOW, message, message_id, response, signed
from tests.setback import put_back, rows

KEY = LogKey(builders.LOG, builders.LOG_KEY)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def address(request):
    """Where an empty database is, of each kind."""
    if request.param == "sqlite":
        return "sqlite:///hub.sqlite"
    return request.getfixturevalue("postgresql").url


@pytest.fixture
async def database(address, tmp_path):
    """An empty database of each kind."""
    opened = await open_database(address, tmp_path)
    yield opened
    await opened.close()


class Store:
    """A database with a recorder upon it, as in a running hub."""

    def __init__(self, database, state):
        self.database = database
        self.queries = Queries(database)
        self.now = NOW
        self.meter = RefusalMeter(30)
        self.recorder = Recorder(
            Journal(database),
            KEY,
            state,
            lambda: self.now,
            lambda size: bytes(index % 251 for index in range(size)),
            lambda committed: None,
        )

    async def record(self, *jobs):
        """Record jobs in one commit."""
        recorded = await asyncio.gather(
            *(self.recorder.record(job) for job in jobs), return_exceptions=True
        )
        for outcome in recorded:
            if isinstance(outcome, BaseException):
                raise outcome
        return recorded

    def submission(self, value, *, token=None, messages_per_hour=1_000):
        raw = signed(value)
        opening = Opening(raw, self.recorder.state.directory, admission.open_envelope)
        return Submission(opening, value["sender"], token, self.meter, messages_per_hour)

    async def send(self, *values, **options):
        """Submit messages in one commit; their acceptances."""
        recorded = await self.record(*(self.submission(value, **options) for value in values))
        assert [each.outcome.refused for each in recorded] == [None] * len(values)
        return [each.acceptance for each in recorded]

    async def receive(self, code, *positions, status="received"):
        """Record one receipt of somebody for these positions."""
        items = []
        for item in await self.queries.inbox(code, 0, 100, self.time):
            if item.position in positions:
                opened = acceptance.open_acceptance(item.acceptance, builders.LOG)
                told = (opened.entry.subject, b64url(opened.entry_hash), item.position, status, "")
                items.append(told)
        raw = builders.signed_receipt(*items, receiver=code)
        opened_receipt = Opening(raw, self.recorder.state.directory, OpenedReceipt)
        [recorded] = await self.record(ReceiptSubmission(opened_receipt, code, None))
        return recorded

    async def facts(self, needs):
        """What a job that needs this would be given."""
        return await Journal(self.database).transact(lambda t: t.facts(needs, self.now))

    @property
    def time(self):
        return format_time(self.now)


@asynccontextmanager
async def running(database):
    """A store that records; begun again from what is stored."""
    state, _ = await Queries(database).head()
    made = Store(database, state)
    task = asyncio.create_task(made.recorder.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def store(database):
    """A store in which everybody of the default directory has joined."""
    async with running(database) as made:
        drafts = [
            Draft(each.type, each.actor, each.subject, each.public)
            for each in builders.directory_log()
        ]
        await made.record(*(membership.append(draft) for draft in drafts))
        yield made


def query(number):
    """A job that appends one entry with a private part."""
    draft = Draft(entries.OPERATOR_QUERY, "account:a", private=f"question {number}".encode())
    return membership.append(draft)


class TestAnEmptyStore:
    async def test_knows_nothing(self, database):
        queries = Queries(database)
        state, _ = await queries.head()
        assert (state.tree.size, state.positions, state.directory.participants) == (0, {}, {})
        assert await queries.checkpoint() is None
        assert await queries.entries(0, 10) == []
        assert await queries.acceptance(0) is None
        assert await queries.message(message_id()) is None
        assert await queries.tile(0, 0) is None


class TestACommit:
    async def test_of_several_jobs_has_one_checkpoint_over_all_of_them(self, store):
        before = store.recorder.state.tree.size
        await store.record(*(query(number) for number in range(5)))
        signed_head = await store.queries.checkpoint()
        assert checkpoint.open_checkpoint(signed_head, builders.LOG).size == before + 5
        sizes = await store.database.read(
            lambda connection: (
                connection.execute(text("SELECT size FROM checkpoints ORDER BY size"))
                .scalars()
                .all()
            )
        )
        assert sizes == [before, before + 5]

    async def test_keeps_every_entry_at_its_index_as_it_was_hashed(self, store):
        size = store.recorder.state.tree.size
        rows = await store.queries.entries(0, size)
        tiles = await store.queries.tiles(frozenset(merkle.tiles_for_root(size)))
        root = merkle.root([merkle.leaf_hash(row) for row in rows])
        assert len(rows) == size
        assert merkle.tree_root(size, tiles) == root

    async def test_can_be_gone_on_from_after_a_restart(self, store):
        await store.send(message())
        async with running(store.database) as again:
            assert again.recorder.state == store.recorder.state
            [accepted] = await again.send(message(id=message_id(2)))
            opened = acceptance.open_acceptance(accepted, builders.LOG)
            private = acceptance.accepted_private(opened)
            assert {r.position for r in private.recipients.values()} == {2}

    async def test_by_another_hub_is_noticed(self, store):
        async with running(store.database) as other:
            await other.send(message())
        [accepted] = await store.send(message(id=message_id(2)))
        opened = acceptance.open_acceptance(accepted, builders.LOG)
        assert acceptance.accepted_private(opened).recipients["kg"].position == 2

    async def test_of_another_hub_about_a_member_counts_from_then_on(self, store):
        await store.send(message())
        async with running(store.database) as other:
            await other.record(
                membership.change_state(entries.MEMBER_SUSPENDED, "tm", "account:a", "a reason")
            )
        await store.send(message(id=message_id(2)))
        stored, _ = await store.queries.head()
        assert store.recorder.state == stored
        assert stored.directory.participants["tm"].state == "suspended"
        assert (stored.positions["kg"], stored.positions["tm"]) == (2, 1)

    async def test_holds_more_jobs_than_one_statement_has_variables(self, store):
        ids = {message_id(number) for number in range(2_500)}
        needs = Needs(builders.directory())
        needs.messages |= ids
        needs.tokens |= {f"kz:{each}" for each in ids}
        needs.deliveries["kg"] = set(range(1, 2_500))
        assert await store.facts(needs) == Loaded({}, {}, set(), {}, {}, {})


class TestAStoreThatWentBack:
    """As when a standby takes over that lacks the last commits: to write on would fork the log."""

    async def test_is_not_written_to(self, store):
        await store.send(message())
        kept = await rows(store.database)
        await store.send(message(id=message_id(2)))
        await put_back(store.database, kept)
        await self.check_it_is_not_written_to(store)

    @pytest.mark.parametrize("count", [1, 3])
    async def test_is_not_written_to_when_another_hub_went_on(self, store, count):
        """It has as many entries as before, or more: others."""
        await store.send(message())
        kept = await rows(store.database)
        async with running(store.database) as other:
            await store.send(message(id=message_id(2)))
            await put_back(store.database, kept)
            await other.record(*map(query, range(count)))
        await self.check_it_is_not_written_to(store)

    async def check_it_is_not_written_to(self, store):
        before = await rows(store.database)
        with pytest.raises(Refused) as caught:
            await store.record(query(9))
        assert caught.value.code == "storage"
        assert "entries that were committed: it has lost some" in store.recorder.failing
        assert await rows(store.database) == before


class TestALogThatIsMadeWhole:
    """After a restore entries come back first, and their content part by part."""

    async def remove(self, store, table, index):
        """Take away what belongs to an entry, as if only the entry had come back."""

        def work(connection):
            own = select(tables.messages.c.id).where(tables.messages.c.idx == index)
            copies = tables.deliveries.delete()
            connection.execute(copies.where(tables.deliveries.c.message_id.in_(own)))
            connection.execute(table.delete().where(table.c.idx == index))

        await store.database.write(work)

    async def sent(self, store):
        """Three messages, with a receipt by kg and one by tj; gives the first entry's index."""
        first = store.recorder.state.tree.size
        for number in range(3):
            await store.send(message(id=message_id(number)))
        for code in ("kg", "tj"):
            await store.receive(code, 1, 2, 3)
        return first

    async def test_is_whole_up_to_the_first_entry_that_lacks_its_content(self, store):
        first = await self.sent(store)
        assert await store.queries.whole(frozenset()) == first + 5
        await self.remove(store, tables.receipts, first + 3)
        assert await store.queries.whole(frozenset()) == first + 3
        await self.remove(store, tables.messages, first + 1)
        assert await store.queries.whole(frozenset()) == first + 1

    async def test_is_whole_without_what_was_given_up(self, store):
        first = await self.sent(store)
        given_up = frozenset({first + 1, first + 3})
        await self.remove(store, tables.receipts, first + 3)
        await self.remove(store, tables.messages, first + 1)
        assert await store.queries.whole(given_up) == first + 5
        await self.remove(store, tables.receipts, first + 4)
        assert await store.queries.whole(given_up) == first + 4

    async def test_is_read_below_an_entry(self, store):
        first = await self.sent(store)
        below = first + 2
        items = await store.queries.inbox("tm", 0, 100, store.time, below)
        assert [item.position for item in items] == [1, 2]
        receipts = await store.queries.receipts("kz", -1, 100, first + 4)
        assert [index for index, _ in receipts] == [first + 3]


class TestWhatIsFedToTheBroker:
    async def test_goes_on_behind_messages_that_were_lost_and_given_up(self, store):
        await store.send(*(message(id=message_id(number)) for number in range(9)))
        lost = [message_id(number) for number in range(1, 6)]
        copies, messages = tables.deliveries, tables.messages

        def lose(connection):
            connection.execute(copies.delete().where(copies.c.message_id.in_(lost)))
            connection.execute(messages.delete().where(messages.c.id.in_(lost)))

        await store.database.write(lose)
        lanes = StoredLanes(store.database)
        for after, found in ((0, [1]), (1, [7, 8, 9]), (5, [7, 8, 9]), (9, [])):
            page = await lanes.owed("kg", after, 3, ["kg"], store.time, 0)
            assert [owed.positions for owed in page] == [{"kg": position} for position in found]

    async def test_goes_again_only_if_it_waits_for_a_receipt(self, store):
        numbers = range(9)
        ends = {number: builders.time(10) for number in (3, 7)}
        await store.send(
            *(message(id=message_id(number), expires=ends.get(number)) for number in numbers)
        )
        await store.receive("kg", 1, 3, 5, 9)
        await erase(store, message_id(5))
        store.now += timedelta(minutes=10)
        for number in ends:
            await store.record(access.ExpireDeliveries(message_id(number), ("kg",)))
        lanes = StoredLanes(store.database)

        async def page(after, again):
            found = await lanes.owed("kg", after, 3, ["kg"], store.time, again)
            return [(owed.positions["kg"], *owed.received) for owed in found]

        # 1, 3, 5 and 9 have receipts, 4 and 8 have expired, 6 is erased.
        assert await page(0, 0) == [(2,), (3, "kg"), (4,)]
        assert await page(0, 8) == [(2,), (3, "kg"), (4, "kg")]
        assert await page(4, 8) == [(7,), (8, "kg"), (9, "kg")]
        assert await page(4, 6) == [(7,), (8,), (9, "kg")]
        assert await page(7, 9) == [(9, "kg")]
        assert await page(9, 9) == []

    async def test_is_not_ahead_of_a_database_that_went_back(self, store):
        """The last cursor may be saved after that, and what was published then is no more."""
        await store.send(*(message(id=message_id(number)) for number in range(3)))
        lanes = StoredLanes(store.database)
        await lanes.save_lanes({"kg": 20, "tj": 2})
        found = await lanes.lanes()
        assert {code: found[code] for code in ("kg", "tj")} == {"kg": (3, 3, 3), "tj": (2, 3, 2)}


class TestAFailedCommit:
    async def test_leaves_nothing(self, store):
        before = await dump(store.database)

        def work(transaction):
            batch = one_of_everything(store, transaction)
            transaction.append(batch.entries)
            transaction.write(batch, appended(store, batch))
            raise OSError("no space left on device")

        with pytest.raises(StorageError, match="no space left"):
            await Journal(store.database).transact(work)
        assert await dump(store.database) == before

    @pytest.mark.parametrize("count", [1, 40])
    async def test_to_keep_the_bytes_of_an_entry_leaves_no_trace_and_signs_nothing(
        self, store, count
    ):
        """Whether they come by INSERT or, as many do on PostgreSQL, by COPY."""
        before = await dump(store.database)
        await store.database.write(spoil_entries)
        with pytest.raises(Refused) as caught:
            await store.record(*map(query, range(count)))
        assert caught.value.code == "storage"
        assert "other bytes than it was given" in store.recorder.failing
        assert await dump(store.database) == before

    async def test_of_one_row_of_ours_does_not_reach_its_neighbours(self, store):
        class Twice:
            token = None

            def needs(self, needs):
                pass

            def decide(self, batch):
                for _ in range(2):
                    batch.write("use_token", jti="twice", expires=1)

        jobs = [store.recorder.record(job) for job in (query(1), Twice())]
        good, bad = await asyncio.gather(*jobs, return_exceptions=True)
        assert not isinstance(good, BaseException)
        assert isinstance(bad, Refused)
        assert (await store.facts(needing(tokens={"twice"}))).tokens == set()


def spoil_entries(connection):
    """Let the database change a byte of every entry that comes in."""
    if connection.dialect.name == "sqlite":
        connection.execute(
            text(
                "CREATE TRIGGER spoil AFTER INSERT ON log_entries BEGIN UPDATE log_entries "
                "SET entry = CAST('[' || substr(CAST(entry AS TEXT), 2) AS BLOB) "
                "WHERE idx = new.idx; END"
            )
        )
        return
    connection.execute(
        text(
            "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN NEW.entry = set_byte(NEW.entry, 0, 91); RETURN NEW; END'"
        )
    )
    connection.execute(
        text(
            "CREATE TRIGGER spoil BEFORE INSERT ON log_entries "
            "FOR EACH ROW EXECUTE FUNCTION spoil()"
        )
    )


def one_of_everything(store, transaction):
    """A batch; nothing of it is written yet."""
    needs = Needs(builders.directory())
    jobs = [
        store.submission(message(), token=Token("kz:1", 9)),
        access.CreateToken("h" * 43, "desk", ("log",), "account:a"),
    ]
    for job in jobs:
        job.needs(needs)
    state = store.recorder.state
    batch = Batch(state, transaction.facts(needs, NOW), NOW, bytes(64))
    for job in jobs:
        job.decide(batch)
    return batch


def appended(store, batch):
    stored = [each.raw for each in batch.entries]
    return sequence.append(store.recorder.state.tree, batch.entries, stored, KEY)


async def dump(database):
    """Every row of every table."""

    def work(connection):
        return {
            table.name: sorted(map(repr, connection.execute(table.select()).all()))
            for table in tables.metadata.sorted_tables
        }

    return await database.read(work)


async def cells(database):
    """Every value in every table."""

    def work(connection):
        rows = (connection.execute(t.select()).all() for t in tables.metadata.sorted_tables)
        return {value for table in rows for row in table for value in row}

    return await database.read(work)


def needing(**what):
    needs = Needs(builders.directory())
    for name, values in what.items():
        setattr(needs, name, values)
    return needs


class TestAcceptances:
    async def test_are_read_back_as_they_were_given(self, store):
        given = await store.send(message(), message(id=message_id(2)))
        indices = [acceptance.open_acceptance(each, builders.LOG).index for each in given]
        assert [await store.queries.acceptance(index) for index in indices] == given

    async def test_stay_under_the_checkpoint_of_their_own_commit_as_the_log_grows(self, store):
        [given] = await store.send(message())
        for _ in range(3):
            await store.record(*(query(number) for number in range(100)))
        index = acceptance.open_acceptance(given, builders.LOG).index
        assert await store.queries.acceptance(index) == given

    async def test_are_not_given_for_entries_without_a_private_part(self, store):
        assert await store.queries.acceptance(0) is None

    async def test_are_not_given_for_entries_that_do_not_exist(self, store):
        assert await store.queries.acceptance(10_000) is None


@pytest.fixture
def page_of(monkeypatch):
    """Let pages have this many bytes."""
    return lambda size: monkeypatch.setattr(queries, "MAX_PAGE", size)


async def pages(ask):
    """The positions on each page, from the first to the last."""
    found: list[list[int]] = []
    while positions := await ask(found[-1][-1] if found else -1):
        found.append(positions)
    return found


class TestAnInbox:
    async def test_has_each_message_once_in_order_with_envelope_and_acceptance(self, store):
        given = await store.send(*(message(id=message_id(number)) for number in range(3)))
        items = await store.queries.inbox("kg", 0, 100, store.time)
        assert [item.position for item in items] == [1, 2, 3]
        assert [item.acceptance for item in items] == given
        assert items[0].envelope == signed(message(id=message_id(0)))

    async def test_is_read_from_a_position_on_and_in_parts(self, store):
        await store.send(*(message(id=message_id(number)) for number in range(5)))
        items = await store.queries.inbox("kg", 2, 2, store.time)
        assert [item.position for item in items] == [3, 4]

    async def test_does_not_have_what_went_to_others(self, store):
        await store.send(message(audience=["tj"]))
        assert await store.queries.inbox("kg", 0, 100, store.time) == []

    async def pages(self, store):
        async def ask(after):
            items = await store.queries.inbox("kg", after, 100, store.time)
            return [item.position for item in items]

        return await pages(ask)

    async def test_is_read_in_pages_that_are_not_too_large(self, store, page_of):
        await store.send(*(message(id=message_id(number)) for number in range(5)))
        size = len(signed(message()))
        assert await self.pages(store) == [[1, 2, 3, 4, 5]]
        page_of(2 * size)
        assert await self.pages(store) == [[1, 2], [3, 4], [5]]
        page_of(2 * size - 1)
        assert await self.pages(store) == [[1], [2], [3], [4], [5]]

    async def test_gives_the_next_message_however_large(self, store, page_of):
        await store.send(message(), message(id=message_id(2)))
        page_of(1)
        assert await self.pages(store) == [[1], [2]]

    async def test_counts_nothing_for_a_tombstone(self, store, page_of):
        sent = [message(id=message_id(number)) for number in range(5)]
        sent[1]["expires"] = builders.time(10)
        await store.send(*sent)
        await erase(store, message_id(2))
        store.now += timedelta(minutes=10)
        page_of(2 * len(signed(message())))
        assert await self.pages(store) == [[1, 2, 3, 4], [5]]
        items = await store.queries.inbox("kg", 0, 100, store.time)
        assert [item.tombstone for item in items] == [None, "expired", "erased", None]
        assert items[3].envelope == signed(sent[3])

    async def test_has_a_tombstone_where_a_message_expired_unfetched(self, store):
        await store.send(message(expires=builders.time(10)), message(id=message_id(2)))
        store.now += timedelta(minutes=10)
        first, second = await store.queries.inbox("kg", 0, 100, store.time)
        assert (first.position, first.envelope, first.tombstone) == (1, None, "expired")
        assert (second.position, second.tombstone) == (2, None)
        opened = acceptance.open_acceptance(first.acceptance, builders.LOG)
        assert opened.entry.subject == message_id()

    async def test_keeps_an_expired_message_that_was_received(self, store):
        await store.send(message(expires=builders.time(10)))
        await store.receive("kg", 1)
        store.now += timedelta(minutes=10)
        [item] = await store.queries.inbox("kg", 0, 100, store.time)
        assert item.tombstone is None
        assert item.envelope is not None


class TestAMessage:
    async def test_is_found_by_its_id(self, store):
        [given] = await store.send(message(thread=message_id(9)))
        found = await store.queries.message(message_id())
        assert (found.sender, found.kind, found.marking) == (
            "kz",
            "activity_bulletin.v1",
            "TLP:GREEN",
        )
        assert found.index == acceptance.open_acceptance(given, builders.LOG).index
        assert found.envelope == signed(message(thread=message_id(9)))

    async def test_is_known_to_the_next_jobs_by_its_payload(self, store):
        await store.send(message())
        [again] = await store.record(store.submission(message()))
        assert again.outcome.new is False
        [other] = await store.record(store.submission(message(marking="TLP:CLEAR")))
        assert other.outcome.refused.code == "id-conflict"


class TestExpiry:
    async def test_is_due_for_whoever_has_no_receipt_yet(self, store):
        await store.send(message(expires=builders.time(10), audience=["kg", "tj"]))
        await store.receive("kg", 1)
        assert await store.queries.due_to_expire(builders.time(9)) == {}
        assert await store.queries.due_to_expire(builders.time(10)) == {message_id(): ("tj",)}

    async def test_is_recorded_once(self, store):
        await store.send(message(expires=builders.time(10), audience=["kg", "tj"]))
        store.now += timedelta(minutes=10)
        await store.record(access.ExpireDeliveries(message_id(), ("kg", "tj")))
        assert await store.queries.due_to_expire(builders.time(10)) == {}
        states = {row.recipient: row.state for row in await store.queries.deliveries(message_id())}
        assert states == {"kg": "expired", "tj": "expired"}

    async def test_says_nothing_of_who_has_it_by_now(self, store):
        await store.send(message(expires=builders.time(10), audience=["kg", "tj"]))
        await store.receive("kg", 1)
        [recorded] = await store.record(access.ExpireDeliveries(message_id(), ("kg", "tj")))
        assert recorded.outcome.index is not None
        [private] = (
            await store.queries.private(recorded.outcome.index, recorded.outcome.index + 1)
        ).values()
        assert json.loads(private[1]) == {"recipients": ["tj"]}
        size = store.recorder.state.tree.size
        await store.record(access.ExpireDeliveries(message_id(), ("kg", "tj")))
        assert store.recorder.state.tree.size == size

    async def test_does_not_undo_a_receipt_of_the_same_commit(self, store):
        await store.send(message(expires=builders.time(10), audience=["kg"]))
        [item] = await store.queries.inbox("kg", 0, 100, store.time)
        opened = acceptance.open_acceptance(item.acceptance, builders.LOG)
        told = (message_id(), b64url(opened.entry_hash), 1, "received", "")
        directory = store.recorder.state.directory
        received = Opening(builders.signed_receipt(told), directory, OpenedReceipt)
        await store.record(
            access.ExpireDeliveries(message_id(), ("kg",)),
            ReceiptSubmission(received, "kg", None),
        )
        [row] = await store.queries.deliveries(message_id())
        assert row.state == "received"


class TestReceipts:
    async def test_reach_the_sender_by_log_index(self, store):
        await store.send(message(), message(id=message_id(2)))
        first = await store.receive("kg", 1, 2)
        second = await store.receive("tj", 1)
        found = await store.queries.receipts("kz", -1, 100)
        assert [index for index, _ in found] == [first.outcome.index, second.outcome.index]
        assert [accepted for _, accepted in found] == [first.acceptance, second.acceptance]
        assert await store.queries.receipts("kz", first.outcome.index, 100) == found[1:]
        assert await store.queries.receipts("kz", -1, 1) == found[:1]
        assert await store.queries.receipts("kg", -1, 100) == []

    async def test_are_read_in_pages_that_are_not_too_large(self, store, page_of):
        await store.send(*(message(id=message_id(number)) for number in range(5)))
        given = [await store.receive("kg", position) for position in range(1, 6)]
        indices = [each.outcome.index for each in given]
        size = len(acceptance.open_acceptance(given[0].acceptance, builders.LOG).private)

        async def ask(after):
            return [index for index, _ in await store.queries.receipts("kz", after, 100)]

        assert await pages(ask) == [indices]
        page_of(2 * size)
        assert await pages(ask) == [indices[:2], indices[2:4], indices[4:]]
        page_of(1)
        assert await pages(ask) == [[index] for index in indices]

    async def test_say_what_became_of_each_copy(self, store):
        await store.send(message(audience=["kg", "tj"]))
        store.now += timedelta(minutes=1)
        recorded = await store.receive("kg", 1, status="read")
        kg, tj = await store.queries.deliveries(message_id())
        assert (kg.recipient, kg.position, kg.state) == ("kg", 1, "read")
        assert (kg.receipt_index, kg.receipt_time) == (recorded.outcome.index, builders.time(1))
        assert (tj.recipient, tj.state, tj.receipt_index) == ("tj", "waiting", None)
        assert await store.queries.waiting() == {"tj": 1}
        assert await store.queries.oldest_waiting() == {"tj": builders.time(0)}

    async def test_that_say_nothing_new_are_answered_with_the_first(self, store):
        await store.send(message())
        first = await store.receive("kg", 1)
        again = await store.receive("kg", 1)
        assert again.outcome.new is False
        assert again.outcome.index == first.outcome.index


class TestTheQuota:
    async def test_counts_the_messages_of_the_last_hour(self, store):
        await store.send(message(), message(id=message_id(2)))
        assert (await store.facts(needing(senders={"kz", "kg"}))).sent == {"kz": 2}
        store.now += timedelta(minutes=30)
        await store.send(message(id=message_id(3)))
        assert (await store.facts(needing(senders={"kz"}))).sent == {"kz": 3}
        store.now += timedelta(minutes=30)
        assert (await store.facts(needing(senders={"kz"}))).sent == {"kz": 1}

    async def test_does_not_count_refusals(self, store):
        await store.record(store.submission(message(audience=["nobody"])))
        assert (await store.facts(needing(senders={"kz"}))).sent == {}


class TestUsedTokens:
    async def test_are_remembered(self, store):
        await store.send(message(), token=Token("kz:1", 9))
        [again] = await store.record(
            store.submission(message(id=message_id(2)), token=Token("kz:1", 9))
        )
        assert again.outcome.refused.code == "unauthenticated"

    async def test_are_forgotten_only_after_they_expired(self, store):
        seconds = int(NOW.timestamp())
        await store.send(message(), token=Token("kz:old", seconds))
        await store.send(message(id=message_id(2)), token=Token("kz:new", seconds + 60))
        wanted = needing(tokens={"kz:old", "kz:new"})
        await journal.forget(store.database, NOW)
        assert (await store.facts(wanted)).tokens == {"kz:old", "kz:new"}
        await journal.forget(store.database, NOW + timedelta(seconds=1))
        assert (await store.facts(wanted)).tokens == {"kz:new"}


class TestInvitations:
    def invite(self, name="secret"):
        entry = builders.invited("new", name=name)
        draft = Draft(entry.type, entry.actor, entry.subject, entry.public)
        return membership.invite(draft, "new", builders.invitation(name))

    def join(self, name="secret"):
        return membership.request_join(builders.join("new", name=name), str(builders.LOG))

    async def test_are_kept_until_they_are_used(self, store):
        await store.record(self.invite())
        await store.record(self.join())
        waiting = await store.queries.join_request("new")
        assert waiting.statement == builders.join("new", name="secret")
        assert waiting.received == store.time
        await store.record(membership.approve("new", waiting.fingerprint, "account:a"))
        assert await store.queries.join_request("new") is None
        assert store.recorder.state.directory.participants["new"].state == "active"

    async def test_are_replaced_by_a_newer_one_with_the_request_made_before(self, store):
        await store.record(self.invite())
        await store.record(self.join())
        await store.record(self.invite("another"))
        waiting = await store.queries.join_request("new")
        assert (waiting.kid, waiting.statement) == (None, None)
        [old] = await store.record(self.join())
        assert old.outcome.refused.code == "unknown-invitation"

    async def test_are_not_filled_by_a_request_for_the_one_before_in_the_same_commit(self, store):
        await store.record(self.invite())
        await store.record(self.join(), self.invite("another"))
        assert (await store.queries.join_request("new")).kid is None
        [joined] = await store.record(self.join("another"))
        assert joined.outcome.value["state"] == "pending"

    async def test_survive_an_approval_before_them_in_the_same_commit(self, store):
        await store.record(self.invite())
        await store.record(self.join())
        waiting = await store.queries.join_request("new")
        entry = builders.held("new", "again")
        draft = Draft(entry.type, entry.actor, entry.subject, entry.public)
        await store.record(
            membership.approve("new", waiting.fingerprint, "account:a"),
            membership.invite(draft, "new", builders.invitation("again")),
        )
        assert await store.queries.join_request("new") is not None


class TestAccessTokens:
    async def test_are_found_by_their_hash_until_and_after_they_are_revoked(self, store):
        await store.record(access.CreateToken("h" * 43, "desk", ("auditor", "log"), "account:a"))
        await store.record(access.CreateToken("i" * 43, "other", ("log",), "account:a"))
        found = await store.queries.access_token("h" * 43)
        assert (found.account, found.scopes, found.revoked) == ("desk", ("auditor", "log"), None)
        store.now += timedelta(minutes=1)
        await store.record(access.RevokeTokens("desk", "account:a"))
        assert (await store.queries.access_token("h" * 43)).revoked == builders.time(1)
        assert [token.revoked for token in await store.queries.access_tokens()] == [
            builders.time(1),
            None,
        ]
        assert await store.queries.access_token("j" * 43) is None


class TestJointActions:
    async def test_are_remembered_with_their_answers_and_recipients(self, store):
        notice = builders.notice(audience=["kg", "tj", "tm"])
        await store.send(notice)
        await store.send(response(to=notice))
        known = (await store.facts(needing(notices={message_id(100)}))).notices[message_id(100)]
        assert known.sender == "kz"
        assert known.payload == builders.payload(notice)
        assert known.recipients == {"kg", "tj", "tm"}
        assert [(each.member, each.answer, each.message_id) for each in known.answers] == [
            ("kg", "accept", message_id(101))
        ]

    async def test_are_not_made_of_other_messages(self, store):
        await store.send(message())
        assert (await store.facts(needing(notices={message_id()}))).notices == {}


class TestTheLog:
    async def test_gives_tiles_for_every_size_that_was_signed(self, store):
        for number in range(10):
            await store.record(*(query(each) for each in range(30 + number)))
        sizes = await store.database.read(
            lambda connection: connection.execute(
                text("SELECT size, note FROM checkpoints ORDER BY size")
            ).all()
        )
        rows = await store.queries.entries(0, 10_000)
        assert sizes[-1].size == len(rows) > 256
        for size, signed_note in sizes:
            head = checkpoint.open_checkpoint(signed_note, builders.LOG)
            tiles = await store.queries.tiles(frozenset(merkle.tiles_for_root(size)))
            leaves = [merkle.leaf_hash(row) for row in rows[:size]]
            assert head.root == merkle.tree_root(size, tiles) == merkle.root(leaves)

    async def test_keeps_private_parts_apart(self, store):
        [recorded] = await store.record(query(7))
        index = recorded.outcome.index
        found = await store.queries.private(index, index + 1)
        salt, private = found[index]
        assert private == b"question 7"
        [row] = await store.queries.entries(index, index + 1)
        assert entries.decode(row).private == entries.commitment(salt, private)
        assert await store.queries.private(0, 1) == {}


class TestNews:
    async def test_names_who_has_something_new_in_the_inbox_or_among_the_receipts(self, store):
        start = store.recorder.state.tree.size
        assert await store.queries.news(start) == News(start)
        await store.send(message(audience=["kg", "tj"]))
        assert await store.queries.news(start) == News(start + 1, frozenset({"kg", "tj"}))
        await store.receive("kg", 1)
        assert await store.queries.news(start + 1) == News(start + 2, frozenset({"kz"}))
        assert await store.queries.news(start) == News(start + 2, frozenset({"kg", "tj", "kz"}))

    async def test_says_when_who_is_who_has_changed(self, store):
        start = store.recorder.state.tree.size
        await store.record(query(1))
        assert await store.queries.news(start) == News(start + 1)
        draft = Draft(entries.MEMBER_SUSPENDED, "account:a", "kg", {"reason": "a test"})
        await store.record(membership.append(draft))
        assert await store.queries.news(start) == News(start + 2, directory=True)
        assert await store.queries.news(start + 2) == News(start + 2)

    async def test_says_what_was_erased(self, store):
        await store.send(message(audience=["kg"]))
        start = store.recorder.state.tree.size
        await store.record(Erase(message_id(), "account:a", "a test of it"))
        news = await store.queries.news(start)
        assert news.erased == {message_id()}
        assert (await store.queries.news(news.size)).erased == frozenset()


class TestASession:
    async def opened(self, store):
        """A session of the account desk."""
        await store.record(access.CreateToken("t" * 43, "desk", ("auditor", "log"), "account:a"))
        opened = access.OpenSession("s" * 43, "account:desk", token_digest="t" * 43)
        await store.record(opened)

    async def test_has_the_account_and_the_scopes_of_its_token(self, store):
        await self.opened(store)
        began = store.time
        found = await store.queries.session("s" * 43)
        assert found == Session("desk", ("auditor", "log"), began, began)
        assert await store.queries.session("x" * 43) is None

    async def test_of_a_participant_has_the_key_that_it_was_opened_with(self, store):
        token = Token("kz:1", 2_000_000_000)
        job = access.OpenSession("s" * 43, "kz", kid="k" * 43, token=token)
        await store.record(job)
        found = await store.queries.session("s" * 43)
        assert found == Session(None, (), store.time, store.time, "k" * 43)
        again = access.OpenSession("r" * 43, "kz", kid="k" * 43, token=token)
        recorded = await store.recorder.record(again)
        assert recorded.outcome.refused.code == "unauthenticated"
        assert await store.queries.session("r" * 43) is None

    async def test_is_as_old_as_what_was_done_last(self, store):
        await self.opened(store)
        began = store.time
        store.now += timedelta(minutes=5)
        size = store.recorder.state.tree.size
        await store.record(access.SeeSession("s" * 43))
        found = await store.queries.session("s" * 43)
        assert (found.created, found.seen) == (began, store.time)
        assert store.recorder.state.tree.size == size

    async def test_ends_when_it_is_ended_or_its_token_is(self, store):
        await self.opened(store)
        await store.record(access.EndSession("s" * 43))
        assert await store.queries.session("s" * 43) is None
        again = access.OpenSession("r" * 43, "account:desk", token_digest="t" * 43)
        await store.record(again)
        await store.record(access.RevokeTokens("desk", "account:a"))
        assert await store.queries.session("r" * 43) is None

    async def test_is_forgotten_after_a_day(self, store):
        await self.opened(store)
        await journal.forget(store.database, NOW + timedelta(hours=23))
        assert await store.queries.session("s" * 43)
        await journal.forget(store.database, NOW + timedelta(hours=25))
        assert await store.queries.session("s" * 43) is None


class TestWhatTheOverviewShows:
    async def test_is_who_sent_how_much_to_whom_since_a_time(self, store):
        await store.send(message(audience=["kg"]))
        store.now += timedelta(minutes=2)
        for number in (2, 3):
            await store.send(message(id=message_id(number), audience=["kg", "tj"]))
        everybody = ["kz", "kg", "tj"]
        assert await store.queries.flows(everybody, builders.time()) == [
            Flow("kz", "kg", 3),
            Flow("kz", "tj", 2),
        ]
        assert await store.queries.flows(everybody, builders.time(1)) == [
            Flow("kz", "kg", 2),
            Flow("kz", "tj", 2),
        ]
        assert await store.queries.flows(["kg"], builders.time()) == []

    async def test_is_how_many_entries_of_some_types_there_were(self, store):
        await store.record(store.submission(message(audience=["nobody"])))
        store.now += timedelta(minutes=2)
        await store.record(store.submission(message(id=message_id(2), audience=["nobody"])))
        types = ["message.refused", "delivery.expired"]
        assert await store.queries.tally(types, builders.time()) == {"message.refused": 2}
        assert await store.queries.tally(types, builders.time(1)) == {"message.refused": 1}


SEARCHES: list[tuple[dict[str, object], list[str]]] = [
    ({"type": "message.accepted"}, ["message.accepted"]),
    ({"actor": "kz"}, ["message.accepted", "message.refused"]),
    ({"subject": message_id(2)}, ["message.refused"]),
    ({"kind": "activity_bulletin.v1"}, ["message.accepted"]),
    ({"marking": "TLP:GREEN"}, ["message.accepted"]),
    ({"marking": "TLP:AMBER"}, []),
    ({"thread": message_id(9)}, ["message.accepted"]),
    ({"member": "tj"}, ["member.invited", "member.joined", "message.accepted"]),
    ({"sender": "kz"}, ["message.accepted"]),
    ({"sender": "kg"}, []),
    ({"recipient": "tj"}, ["message.accepted"]),
    ({"recipient": "kz"}, []),
    ({"message": message_id()}, ["message.accepted", "receipts.recorded"]),
    ({"message": message_id(), "actor": "kg"}, ["receipts.recorded"]),
    ({"theme": "torture_prevention"}, ["message.accepted"]),
    ({"theme": "children"}, []),
    ({"sdg": "16"}, ["message.accepted"]),
    ({"sdg": "16.3"}, ["message.accepted"]),
    ({"sdg": "16.4"}, []),
    ({"text": "saw VISIT"}, ["message.accepted"]),
    ({"text": "vis* len*"}, ["message.accepted"]),
    ({"text": "vis"}, []),
    ({"text": "visit Mars"}, []),
    ({"text": "visit", "recipient": "tj"}, ["message.accepted"]),
    ({"text": "visit", "recipient": "tm"}, []),
    ({"text": "visit", "message": message_id()}, ["message.accepted"]),
    ({"text": "Mars", "message": message_id()}, []),
    ({"since": builders.time(1)}, ["receipts.recorded", "message.refused"]),
    ({"until": builders.time(1), "type": "message.accepted"}, ["message.accepted"]),
    ({"until": builders.time(1), "type": "message.refused"}, []),
    ({"since": "0001-01-01T00:00:00.000Z", "limit": 1}, ["member.invited"]),
    ({"until": "9999-12-31T23:59:59.999Z", "after": 19}, ["message.refused"]),
    ({"after": 18}, ["receipts.recorded", "message.refused"]),
    ({"after": 18, "limit": 1}, ["receipts.recorded"]),
    ({"after": 18, "before": 20}, ["receipts.recorded"]),
    ({"before": 21, "limit": 2}, ["message.refused", "receipts.recorded"]),
    ({"before": 10**15, "actor": "kz"}, ["message.refused", "message.accepted"]),
    ({"before": 10**15, "text": "visit"}, ["message.accepted"]),
    ({"before": 0}, []),
    ({"after": 10**15}, []),
    ({"actor": "kz", "type": "message.refused"}, ["message.refused"]),
]


class TestASearch:
    async def events(self, store, **wanted):
        return [
            entries.decode(event.raw).type
            for event in await store.queries.events(EventFilter(**wanted))
        ]

    @pytest.fixture(params=["not indexed", "half indexed", "indexed"])
    async def filled(self, store, request, monkeypatch):
        await store.send(message(audience=["kg", "tj"], thread=message_id(9)))
        store.now += timedelta(minutes=1)
        await store.receive("kg", 1)
        await store.record(store.submission(message(id=message_id(2), audience=["nobody"])))
        if request.param == "half indexed":
            monkeypatch.setattr(index, "BATCH", store.recorder.state.tree.size - 2)
            await Index(store.database).advance()
        if request.param == "indexed":
            await Index(store.database).advance()
        return store

    async def test_finds_what_matches_everything_given(self, filled):
        found = [await self.events(filled, **wanted) for wanted, _ in SEARCHES]
        expected = [kinds for _, kinds in SEARCHES]
        assert list(zip(SEARCHES, found, strict=True)) == list(zip(SEARCHES, expected, strict=True))

    @pytest.mark.parametrize("marking", ["TLP:AMBER", "TLP:AMBER+STRICT"])
    async def test_for_words_is_no_way_to_read_what_one_may_not(self, filled, marking):
        await filled.send(message(id=message_id(3), marking=marking, audience=["kg"]))
        assert await self.events(filled, text="visit", marking=marking) == []
        await Index(filled.database).advance()
        assert await self.events(filled, text="visit", marking=marking) == []
        assert await self.events(filled, theme="torture_prevention", marking=marking) == [
            "message.accepted"
        ]

    async def test_of_a_message_finds_its_receipts_too(self, filled):
        events = await filled.queries.events_of_message(message_id())
        kinds = [entries.decode(event.raw).type for event in events]
        assert kinds == ["message.accepted", "receipts.recorded"]


class TestPages:
    """Of thirty questions and thirty messages in turn, read a few at a time."""

    @pytest.fixture
    async def filled(self, store, monkeypatch):
        monkeypatch.setattr(search, "BUDGET", 4)
        monkeypatch.setattr(search, "TAIL", 3)
        monkeypatch.setattr(index, "BATCH", 50)
        for number in range(30):
            value = message(id=message_id(number + 1), audience=["kg"] if number % 9 else ["tj"])
            await store.record(store.submission(value), query(number))
        await Index(store.database).advance()
        return store

    @pytest.mark.parametrize("newest_first", [False, True])
    @pytest.mark.parametrize(
        "wanted",
        [
            {},
            {"actor": "kz"},
            {"actor": "kz", "recipient": "kg"},
            {"text": "visit", "recipient": "tj"},
            {"text": "visit"},
            {"since": builders.time(-1)},
        ],
        ids=str,
    )
    async def test_follow_one_another_without_gap_or_overlap(self, filled, wanted, newest_first):
        place = "before" if newest_first else "after"
        asked = EventFilter(**wanted, before=10**15 if newest_first else None, limit=7)
        whole = await filled.queries.events(replace(asked, limit=500))
        page = await filled.queries.search(asked)
        found = [*page.events]
        while page.next is not None:
            page = await filled.queries.search(replace(asked, **{place: page.next}))
            assert len(page.events) <= 7
            found += page.events
        assert found
        assert found == list(whole)
        assert [event.index for event in found] == sorted(
            {event.index for event in found}, reverse=newest_first
        )

    async def test_end_early_where_what_is_sought_rarely_meets(self, filled):
        asked = EventFilter(type="operator.query", recipient="kg", limit=7)
        page = await filled.queries.search(asked)
        assert page.events == []
        assert page.next is not None
        assert await filled.queries.events(asked) == []

    async def test_end_early_where_frequent_words_never_meet(self, filled, monkeypatch):
        monkeypatch.setattr(search, "WORDS_BUDGET", 4)
        for number in range(20):
            title = {"en": {"title": "Left" if number % 2 else "Right"}}
            await filled.send(message(id=message_id(number + 50), texts=title))
        while await Index(filled.database).advance():
            pass
        asked = EventFilter(text="left right", before=10**15, limit=7)
        page = await filled.queries.search(asked)
        assert page.events == []
        assert page.next is not None
        assert await filled.queries.events(asked) == []
        both = message(id=message_id(99), texts={"en": {"title": "Left, right"}})
        await filled.send(both)
        assert len(await filled.queries.events(asked)) == 1


class TestTheBeginningOfAWord:
    """Of a word in three forms; beside the forms stands what does not begin so."""

    @pytest.fixture
    async def filled(self, store):
        for number, title in enumerate(["Huquq", "Huquqi", "Huquqlari huquqi", "Huqu huqurq"]):
            text = {"en": {"title": title}}
            await store.send(message(id=message_id(number + 1), texts=text))
        await Index(store.database).advance()
        return store

    async def found(self, store, **wanted):
        return len(await store.queries.events(EventFilter(before=10**15, **wanted)))

    async def test_finds_every_word_that_begins_so(self, filled):
        assert await self.found(filled, text="huquq*") == 3
        assert await self.found(filled, text="huqu*") == 4
        assert await self.found(filled, text="huquql* huquq*") == 1
        assert await self.found(filled, text="huquqlarimiz*") == 0

    async def test_is_looked_for_in_what_is_found_by_something_else(self, filled):
        for number, found in ((1, 1), (3, 1), (4, 0)):
            wanted = {"text": "huquq*", "message": message_id(number)}
            assert await self.found(filled, **wanted) == found

    async def test_that_too_many_words_have_is_refused(self, filled, monkeypatch):
        monkeypatch.setattr(search, "MAX_ENDINGS", 3)
        assert await self.found(filled, text="huquq*") == 3
        with pytest.raises(Refused, match="bad-request: More than 3 words begin with “huqu”"):
            await self.found(filled, text="huqu*")


class TestCounts:
    """Of bulletins of two days, of which every third is about children."""

    @pytest.fixture
    async def filled(self, store, monkeypatch):
        monkeypatch.setattr(counts, "BUDGET", 5)
        for number in range(12):
            store.now = NOW + timedelta(days=number // 6)
            theme = "torture_prevention" if number % 3 else "children"
            await store.send(message(id=message_id(number + 1), audience=["kg"], themes=[theme]))
        await Index(store.database).advance()
        return store

    async def counted(self, store, of, by="day", **wanted):
        found = await store.queries.counts(EventFilter(**wanted), of, by)
        assert found.indexed == found.size
        return [(row.period, row.value, row.count) for row in found.counts]

    FIRST, SECOND = "2026-07-01", "2026-07-02"
    MIDNIGHT = "2026-07-02T00:00:00.000Z"

    async def test_are_of_each_value_in_each_period(self, filled):
        each = [("torture_prevention", 4), ("children", 2)]
        assert await self.counted(filled, "theme") == [
            (day, *row) for day in (self.FIRST, self.SECOND) for row in each
        ]
        assert await self.counted(filled, "sender", "month") == [("2026-07", "kz", 12)]
        assert await self.counted(filled, "recipient", "year") == [("2026", "kg", 12)]

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({"since": MIDNIGHT}, [(SECOND, "kz", 6)]),
            ({"until": MIDNIGHT}, [(FIRST, "kz", 6)]),
            ({"since": builders.time(0)}, [(FIRST, "kz", 6), (SECOND, "kz", 6)]),
            ({"since": builders.time(1)}, [(SECOND, "kz", 6)]),
            ({"until": builders.time(0)}, []),
            ({"theme": "children"}, [(FIRST, "kz", 2), (SECOND, "kz", 2)]),
            ({"theme": "children", "recipient": "kg"}, [(FIRST, "kz", 2), (SECOND, "kz", 2)]),
            ({"theme": "children", "recipient": "tj"}, []),
            ({"text": "visit", "since": MIDNIGHT}, [(SECOND, "kz", 6)]),
            ({"type": "member.joined"}, []),
        ],
        ids=str,
    )
    async def test_are_of_what_matches_everything_given(self, filled, wanted, found):
        assert await self.counted(filled, "sender", **wanted) == found

    async def test_of_whole_days_are_those_of_their_entries(self, filled):
        for of in ("type", "actor", "member", "kind", "marking", "sdg"):
            looked_up = await self.counted(filled, of, since="2026-01-01T00:00:00.001Z")
            assert looked_up
            assert looked_up == await self.counted(filled, of)

    async def test_of_too_much_are_refused(self, filled, monkeypatch):
        monkeypatch.setattr(counts, "MAX_LOOKED_AT", 10)
        with pytest.raises(Refused, match="ask for less"):
            await self.counted(filled, "theme", sender="kz")

    async def test_say_how_much_of_the_log_they_are_of(self, filled):
        await filled.send(message(id=message_id(99)))
        found = await filled.queries.counts(EventFilter(), "sender", "year")
        assert (found.counts[0].count, found.size - found.indexed) == (12, 1)


class TestAReport:
    """Of July: three messages on its first day, one on its last, and one each before and after."""

    JULY = Period(date(2026, 7, 1), date(2026, 7, 31))
    NOTICE = builders.with_content(
        builders.notice(id=message_id(3)), answer_by=builders.time(60 * 24 * 60)
    )

    @pytest.fixture
    async def filled(self, store, monkeypatch):
        monkeypatch.setattr(report, "MESSAGES", 2)
        monkeypatch.setattr(report, "REFUSALS", 1)
        for number, days in enumerate([-1, 0, 0, 0, 30, 31], start=1):
            store.now = NOW + timedelta(days=days)
            made = self.NOTICE if number == 3 else message(id=message_id(number))
            await store.send(made | {"created": store.time, "audience": ["kg", "tj"]})
        store.now = NOW + timedelta(days=30, minutes=1)
        await store.receive("kg", 2, 3)
        await Index(store.database).advance()
        return store

    async def figures(self, store, at=None):
        covered = await store.queries.covered(at)
        made = Figures(self.JULY, covered)
        after = -1
        while page := await store.queries.sent(self.JULY, covered, after):
            made.take(page)
            after = page[-1].index
        after = -1
        while refused := await store.queries.refused(self.JULY, covered, after):
            made.refuse(refused)
            after = refused[-1].index
        return made

    async def test_has_the_messages_of_its_days(self, filled):
        made = await self.figures(filled)
        assert made.steps == {"2026-07-01": 3, "2026-07-31": 1}
        assert made.copies == {
            ("kg", Fate.RECEIVED): 2,
            ("kg", Fate.OVERDUE): 1,
            ("kg", Fate.WAITING): 1,
            ("tj", Fate.OVERDUE): 3,
            ("tj", Fate.WAITING): 1,
        }

    async def test_has_the_time_of_the_first_receipt_and_not_of_the_last(self, filled):
        before = (await self.figures(filled)).times["kg"].quantile(100)
        filled.now += timedelta(days=9)
        await filled.receive("kg", 2, 3, status="read")
        await Index(filled.database).advance()
        made = await self.figures(filled)
        assert made.times["kg"].quantile(100) == before == 2_590_000_000
        assert made.of_copies(Fate.RECEIVED) == 2

    async def test_of_a_checkpoint_is_the_same_whatever_came_later(self, filled):
        before = await self.figures(filled)
        filled.now += timedelta(days=9)
        answer = response("accept_with_reservation", to=self.NOTICE, id=message_id(9))
        await filled.send(answer | {"created": filled.time})
        await filled.receive("tj", 2, 3, 4)
        await Index(filled.database).advance()
        later, again = await self.figures(filled), await self.figures(filled, before.covered.size)
        assert (again.covered, again.copies, again.actions, again.messages) == (
            before.covered,
            before.copies,
            before.actions,
            before.messages,
        )
        assert before.actions == {"proposed": 1}
        assert (later.actions, later.of_copies(Fate.RECEIVED)) == ({"partly_agreed": 1}, 5)

    async def test_goes_no_further_than_the_index(self, filled):
        covered = await filled.queries.covered(None)
        [accepted] = await filled.send(message(id=message_id(10), created=filled.time))
        size = acceptance.open_acceptance(accepted, builders.LOG).checkpoint.size
        assert await filled.queries.covered(None) == covered
        assert await filled.queries.covered(size) is None
        await Index(filled.database).advance()
        assert (await filled.queries.covered(None)).size == size
        assert await filled.queries.covered(size - 1) == covered
        assert await filled.queries.covered(1) is None

    async def test_has_refusals_by_sender_and_reason(self, filled):
        stale = filled.submission(message(id=message_id(11), created="2026-01-01T00:00:00.000Z"))
        await filled.record(stale, CountedRefusals("kg", 7))
        await Index(filled.database).advance()
        made = await self.figures(filled)
        assert made.refusals == {("kz", "created-out-of-range"): 1, ("kg", "quota"): 7}

    async def test_of_an_erased_message_has_no_themes(self, filled):
        made = await self.figures(filled)
        assert made.themes["torture_prevention"] == 4
        await erase(filled)
        await Index(filled.database).advance()
        made = await self.figures(filled)
        assert (made.messages, made.erased) == (4, 0)  # that was the one before
        await filled.record(Erase(message_id(2), "account:a", "a reason"))
        await Index(filled.database).advance()
        made = await self.figures(filled)
        assert (made.messages, made.erased) == (4, 1)
        assert made.themes["torture_prevention"] == 3

    async def test_of_an_empty_log_covers_nothing(self, database):
        assert await Queries(database).covered(None) is None


class TestTheSearchIndex:
    async def terms(self, store):
        return await store.database.read(
            lambda connection: [
                sorted(map(tuple, connection.execute(select(table))))
                for table in (
                    tables.search_terms,
                    tables.search_counts,
                    tables.search_totals,
                    tables.search_vocabulary,
                )
            ]
        )

    async def fill(self, store):
        while await Index(store.database).advance():
            pass

    async def test_is_the_same_however_it_was_filled(self, store, monkeypatch):
        await store.send(message(), message(id=message_id(2), marking="TLP:AMBER"))
        await store.receive("kg", 1, 2)
        await self.fill(store)
        at_once = await self.terms(store)
        await store.database.write(index.clear)
        assert await self.terms(store) == [[], [], [], []]
        monkeypatch.setattr(index, "BATCH", 1)
        await self.fill(store)
        assert await self.terms(store) == at_once
        found = await store.queries.events(EventFilter(text="visit"))
        assert len(found) == 1

    async def test_has_for_each_term_the_sum_of_its_days(self, store, monkeypatch):
        monkeypatch.setattr(index, "BATCH", 7)
        for number in range(3):
            store.now = NOW + timedelta(days=number)
            await store.send(message(id=message_id(number + 1)))
        await self.fill(store)
        _, counts, totals, _ = await self.terms(store)
        sums: Counter[str] = Counter()
        for term, _, count in counts:
            sums[term] += count
        assert dict(totals) == sums
        assert sums["sender:kz"] == 3

    async def test_leads_a_search_by_the_rarest_of_its_terms(self, store):
        for number in range(3):
            await store.send(message(id=message_id(number + 1), audience=["kg"]))
        store.now = NOW + timedelta(days=1)
        await store.send(message(id=message_id(9), audience=["tj"]))
        await store.send(message(id=message_id(10), audience=["tj"]))
        await self.fill(store)

        async def lead(**wanted):
            asked = EventFilter(**wanted)
            found = await store.database.read(lambda connection: search.lead_of(connection, asked))
            return found.term or [word.words for word in found.words]

        assert await lead(sender="kz", recipient="tj") == "recipient:tj"
        assert await lead(sender="kz", thread=message_id(2)) == f"thread:{message_id(2)}"
        assert await lead(text="visit", recipient="tj") == "recipient:tj"
        assert await lead(text="nothing", recipient="tj") == [("nothing",)]
        first = {"until": builders.time(24 * 60 - 1)}
        assert await lead(type="member.joined", recipient="tj", **first) == "recipient:tj"
        second = {"since": builders.time(24 * 60)}
        assert await lead(type="member.joined", recipient="tj", **second) == "type:member.joined"

    async def test_is_filled_once_where_two_hubs_fill_it(self, store):
        await store.send(message())
        both = Index(store.database), Index(store.database)
        await asyncio.gather(*(each.advance() for each in both))
        assert len(await store.queries.events(EventFilter(text="visit"))) == 1
        assert await both[0].advance() is False

    async def test_forgets_the_content_of_a_message_and_nothing_else(self, store):
        await store.send(message(), message(id=message_id(2)))
        await self.fill(store)
        await store.database.write(lambda connection: index.forget(connection, message_id()))
        for wanted in (
            EventFilter(text="visit"),
            EventFilter(theme="torture_prevention"),
            EventFilter(sdg="16.3"),
        ):
            [found] = await store.queries.events(wanted)
            assert entries.decode(found.raw).subject == message_id(2)
        assert len(await store.queries.events(EventFilter(sender="kz"))) == 2
        _, counts, totals, vocabulary = await self.terms(store)
        assert [count for term, _, count in counts if term.startswith("sdg:")] == [1, 1]
        assert [count for term, count in totals if term.startswith("sdg:")] == [1, 1]
        assert {count for _, count in vocabulary} == {1}

    async def test_knows_no_word_that_only_an_erased_message_had(self, store):
        await store.send(message(texts={"en": {"title": "A visit to Amina"}}))
        await store.send(message(id=message_id(2), texts={"en": {"title": "A visit"}}))
        await self.fill(store)
        for _ in range(2):
            await store.database.write(lambda connection: index.forget(connection, message_id()))
        *_, vocabulary = await self.terms(store)
        assert vocabulary == [("a", 1), ("visit", 1)]

    async def test_does_not_take_in_what_is_erased_while_it_is_being_made(self, store, monkeypatch):
        await store.send(message())
        made = ledger_search.index
        started, go_on = threading.Event(), threading.Event()

        def slow(source):
            started.set()
            assert go_on.wait(30)
            return made(source)

        monkeypatch.setattr(ledger_search, "index", slow)
        advancing = asyncio.create_task(Index(store.database).advance())
        await asyncio.to_thread(started.wait, 30)

        def erase(connection):
            index.forget(connection, message_id())
            connection.execute(text("UPDATE messages SET envelope = :none"), {"none": b""})

        await store.database.write(erase)
        go_on.set()
        await advancing
        monkeypatch.undo()
        await self.fill(store)
        assert await store.queries.events(EventFilter(text="visit")) == []


class TestTheNumberOfATerm:
    def test_of_ids_of_one_time_is_near_and_of_their_names_differs(self):
        terms = [f"{name}:{message_id(n)}" for name in ("message", "thread") for n in range(500)]
        numbers = {index.number(term) for term in terms}
        assert len(numbers) == len(terms)
        assert max(numbers) - min(numbers) < 1 << 40
        later = uuid7(NOW + timedelta(minutes=10), bytes(10))
        assert index.number(f"message:{later}") > max(numbers)

    def test_of_anything_else_has_64_bits(self):
        numbers = [index.number(f"sender:{n}") for n in range(500)]
        assert max(numbers) - min(numbers) > 1 << 63
        assert all(-(1 << 63) <= number < 1 << 63 for number in numbers)


class TestTheSchema:
    async def test_after_all_migrations_is_that_of_the_tables(self, database):
        def is_told(name, kind, parents):
            return not (kind == "table" and name.startswith("search_words"))

        def differences(connection):
            options = {"compare_type": True, "include_name": is_told}
            context = MigrationContext.configure(connection, opts=options)
            return compare_metadata(context, tables.metadata)

        assert await database.read(differences) == []

    async def test_has_totals_of_what_was_counted_before_there_were_any(self, database):
        def upgraded(connection):
            connection.execute(text("DROP TABLE search_totals"))
            connection.execute(text("ALTER TABLE sessions DROP COLUMN kid"))  # which came after it
            connection.execute(text("UPDATE alembic_version SET version_num = '0006'"))
            rows = [{"day": f"2026-07-0{day}", "count": day} for day in (1, 2)]
            connection.execute(insert(tables.search_counts).values(term="sdg:16"), rows)
            upgrade(connection)
            return connection.execute(select(tables.search_totals)).all()

        assert await database.write(upgraded) == [("sdg:16", 3)]


REASON = "The person named in it asked for it."


async def erase(store, erased=None, by="account:a"):
    """Erase a message; what became of it."""
    [recorded] = await store.record(Erase(erased or message_id(), by, REASON))
    if recorded.outcome.refused is not None:
        raise recorded.outcome.refused
    return recorded.outcome


class TestAnErasedMessage:
    async def test_leaves_a_tombstone_that_shows_the_decision_in_the_same_log(self, store):
        [given] = await store.send(message())
        await store.send(message(id=message_id(2)))
        index = (await erase(store)).index
        first, second = await store.queries.inbox("kg", 0, 100, store.time)
        assert (first.position, first.envelope, first.tombstone) == (1, None, "erased")
        assert (second.position, second.tombstone) == (2, None)
        assert (first.acceptance.private, first.acceptance.salt) == (None, None)
        opened = acceptance.open_erased(first.acceptance, builders.LOG)
        assert opened.entry_hash == acceptance.open_acceptance(given, builders.LOG).entry_hash
        assert opened.checkpoint.size > index > opened.index
        decision = entries.decode((await store.queries.entries(index, index + 1))[0])
        assert (decision.type, decision.actor, decision.subject) == (
            "message.erased",
            "account:a",
            message_id(),
        )
        assert decision.public == {}

    async def test_is_nowhere_in_the_tables(self, store):
        notice = builders.notice()
        [given] = await store.send(notice)
        await store.send(response("decline", notice))
        opened = acceptance.open_acceptance(given, builders.LOG)
        raw = signed(notice)
        digest = admission.open_envelope(raw, store.recorder.state.directory).payload_digest
        content = {raw, digest, opened.private, "decline"}
        assert content <= await cells(store.database)
        await erase(store, message_id(100))
        assert not content & await cells(store.database)
        assert await store.queries.private(opened.index, opened.index + 1) == {}

    async def test_keeps_its_other_proofs(self, store):
        await store.send(message(), message(id=message_id(2)))
        told = await store.receive("kg", 1, 2)
        await erase(store)
        assert await store.queries.acceptance(told.outcome.index) == told.acceptance
        again = await store.queries.acceptance(told.outcome.index)
        acceptance.open_acceptance(again, builders.LOG)
        [row] = [d for d in await store.queries.deliveries(message_id()) if d.recipient == "kg"]
        assert (row.position, row.state) == (1, "received")

    async def test_says_who_had_it_and_whom_it_is_kept_from(self, store):
        await store.send(message(audience=["kg", "tj", "tm"]))
        await store.receive("kg", 1)
        await store.receive("tj", 1, status="refused")
        outcome = await erase(store)
        assert outcome.value == {"reason": REASON, "received": ("kg", "tj"), "waiting": ("tm",)}
        decided, kept_from = await store.queries.events(
            EventFilter(subject=message_id(), after=outcome.index - 1)
        )
        assert jsontext.decode(decided.private, ErasedPrivate).received == ("kg", "tj")
        assert entries.decode(kept_from.raw).type == "delivery.erased"
        assert jsontext.parse(kept_from.private) == {"recipients": ["tm"]}
        states = {d.recipient: d.state for d in await store.queries.deliveries(message_id())}
        assert states == {"kg": "received", "tj": "refused", "tm": "erased"}

    async def test_that_everybody_has_needs_no_word_about_copies(self, store):
        await store.send(message(audience=["kg"]))
        await store.receive("kg", 1)
        index = (await erase(store)).index
        assert (await store.queries.head())[0].tree.size == index + 1

    async def test_is_not_erased_twice(self, store):
        await store.send(message())
        index = (await erase(store)).index
        with pytest.raises(Refused, match=f"conflict: Entry {index} erased"):
            await erase(store)

    async def test_has_to_have_been_accepted(self, store):
        with pytest.raises(Refused, match="not-found"):
            await erase(store)

    async def test_sent_again_is_refused_with_the_reason(self, store):
        await store.send(message())
        await erase(store)
        for again in (message(), message(texts={"en": {"title": "Other words"}})):
            [recorded] = await store.record(store.submission(again))
            assert recorded.outcome.refused.code == "erased"
        [recorded] = await store.record(store.submission(message(sender="kg", audience=["tj"])))
        assert recorded.outcome.refused.code == "id-conflict"

    async def test_can_still_be_receipted_by_whoever_had_it_on_the_way(self, store):
        [given] = await store.send(message(audience=["kg"]))
        await erase(store)
        opened = acceptance.open_acceptance(given, builders.LOG)
        raw = builders.signed_receipt(
            (message_id(), b64url(opened.entry_hash), 1, "received", ""), receiver="kg"
        )
        job = ReceiptSubmission(
            Opening(raw, store.recorder.state.directory, OpenedReceipt), "kg", None
        )
        [recorded] = await store.record(job)
        assert recorded.outcome.new
        [row] = await store.queries.deliveries(message_id())
        assert row.state == "received"

    async def test_if_a_notice_takes_no_more_answers(self, store):
        await store.send(builders.notice())
        await erase(store, message_id(100))
        [recorded] = await store.record(store.submission(response()))
        assert recorded.outcome.refused.code == "unknown-action"
        assert "erased" in recorded.outcome.refused.detail

    async def test_is_fed_to_the_broker_as_a_tombstone_for_each(self, store):
        await store.send(message(), message(id=message_id(2)))
        await erase(store)
        lanes = StoredLanes(store.database)
        gone, there = await lanes.owed("kg", 0, 10, ["kg", "tj"], store.time, 0)
        assert (gone.envelope, gone.positions) == (None, {"kg": 1, "tj": 1})
        assert gone.acceptance.private is None
        assert (there.envelope is not None, there.positions) == (True, {"kg": 2, "tj": 2})

    async def test_does_not_wait_any_more_and_does_not_expire(self, store):
        await store.send(message(expires=builders.time(10), audience=["kg"]))
        await erase(store)
        store.now += timedelta(minutes=10)
        assert await store.queries.waiting() == {}
        assert await store.queries.due_to_expire(store.time) == {}
        [item] = await store.queries.inbox("kg", 0, 100, store.time)
        assert item.tombstone == "erased"

    async def test_that_comes_back_with_a_backup_goes_again_before_anybody_asks(self, store):
        await store.send(message(), message(id=message_id(2)))
        ids = [message_id(), message_id(999)]
        applied = await store.database.write(lambda c: erasures.reapply(c, ids))
        assert applied == 1
        assert await store.database.write(lambda c: erasures.reapply(c, ids)) == 0
        lanes = StoredLanes(store.database)
        assert await store.queries.inbox("kg", 0, 100, store.time) == []
        assert await lanes.owed("kg", 0, 10, ["kg"], store.time, 0) == []
        assert await store.queries.undecided(10) == [message_id()]
        await erase(store, by="hub")
        assert await store.queries.undecided(10) == []
        first, second = await store.queries.inbox("kg", 0, 100, store.time)
        assert (first.tombstone, second.tombstone) == ("erased", None)
        assert len(await lanes.owed("kg", 0, 10, ["kg"], store.time, 0)) == 2


class TestTheErasures:
    async def test_are_told_from_an_entry_on(self, store):
        await store.send(message(), message(id=message_id(2)))
        first = (await erase(store)).index
        store.now += timedelta(minutes=1)
        second = (await erase(store, message_id(2))).index
        told = [
            (first, erasures.Erasure(message_id(), builders.time())),
            (second, erasures.Erasure(message_id(2), builders.time(1))),
        ]
        assert await store.database.read(lambda c: erasures.since(c, -1)) == told
        assert await store.database.read(lambda c: erasures.since(c, first)) == told[1:]

    async def test_are_listed_once_and_are_gone_from_the_files(self, store, tmp_path):
        path = tmp_path / "erasures"
        kept = erasures.Erasures(store.database, path)
        await kept.keep()
        assert not path.exists()
        await store.send(message(), message(id=message_id(2)))
        await erase(store)
        await kept.keep()
        await kept.keep()
        await erase(store, message_id(2))
        await erasures.Erasures(store.database, path).keep()  # as after a restart
        listed = [erasures.Erasure(message_id(number), builders.time()) for number in (1, 2)]
        assert erasures.read(path) == listed
        assert await store.database.scrub()
        assert await erasures.Erasures(store.database, path).apply() == 0

    async def test_are_a_list_of_ids_and_times_and_nothing_else(self, tmp_path):
        path = tmp_path / "erasures"
        for wrong in ("nonsense\n", f"{message_id()}\n", f"{message_id()} {builders.time()} kz\n"):
            path.write_text(wrong)
            with pytest.raises(StartError, match=r"Line 1 of .*erasures is no erasure"):
                erasures.read(path)
        path.write_bytes(b"\xff\n")
        with pytest.raises(StartError, match="cannot be read"):
            erasures.read(path)


class TestWhatIsDueToBeErased:
    async def test_is_of_the_kind_and_marking_and_old_enough(self, store):
        await store.send(message(), message(id=message_id(2), marking="TLP:AMBER"))
        store.now += timedelta(days=2)
        later = format_time(store.now)
        await store.send(message(id=message_id(3), marking="TLP:AMBER", created=later))
        cutoffs = retention.cutoffs({"TLP:AMBER": 1}, store.now)
        [due] = await store.queries.due_to_erase(cutoffs, 10)
        assert (due.id, due.marking, due.accepted, due.rule) == (
            message_id(2),
            "TLP:AMBER",
            builders.time(),
            "TLP:AMBER = 1",
        )
        assert await store.queries.due_to_erase(cutoffs, 0) == []
        await erase(store, message_id(2))
        assert await store.queries.due_to_erase(cutoffs, 10) == []

    async def test_passes_over_what_is_held(self, store):
        await store.send(message())
        await store.send(message(id=message_id(2)))
        store.now += timedelta(days=1, milliseconds=1)
        cutoffs = retention.cutoffs({"TLP:GREEN": 1}, store.now)

        async def due():
            return [each.id for each in await store.queries.due_to_erase(cutoffs, 10)]

        for _ in range(2):
            assert await due() == [message_id(), message_id(2)]
            [held] = await store.record(Hold(message_id(), "account:a", REASON))
            assert await due() == [message_id(2)]
            with pytest.raises(Refused, match=f"Entry {held.outcome.index} holds"):
                await erase(store)
            await store.record(Hold(message_id(), "account:a", REASON, release=True))
        await erase(store)
        assert await due() == [message_id(2)]
