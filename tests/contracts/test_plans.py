"""What is asked all the time reads the copies without a receipt, not all that there ever were."""

import re
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event, text

from hub.ledger.queries import EventFilter
from hub.store.database import open_database
from hub.store.index import Index
from hub.store.lanes import StoredLanes
from hub.store.queries import Queries
from tests import builders
from tests.bench.large import Filling
from tests.builders import message_id

RECEIPTED = 6_000
"""Copies whose receipts are in; beside them each of three recipients waits for five."""

ENTRY = """
    INSERT INTO log_entries (idx, type, time, actor, entry)
    VALUES (0, 'a test', :time, 'kz', :bytes)
"""
MESSAGE = """
    INSERT INTO messages (id, idx, sender, kind, marking, accepted, payload_digest, envelope)
    VALUES (:id, 0, 'kz', 'a kind', 'a marking', :time, '', :bytes)
"""
DELIVERY = """
    INSERT INTO deliveries (recipient, position, message_id, state, expires)
    VALUES (:recipient, :position, :id, :state, :time)
"""

PARTIAL = re.compile("ix_deliveries_(waiting|expires)")
"""The indexes of the copies without a receipt."""

QUESTIONS = {
    "waiting": lambda queries, _: queries.waiting(),
    "oldest_waiting": lambda queries, _: queries.oldest_waiting(),
    "due_to_expire": lambda queries, _: queries.due_to_expire(builders.time(1)),
    "first_waiting": lambda _, lanes: lanes.first_waiting("kg"),
    "outstanding": lambda _, lanes: lanes.outstanding("kg", 1_990, 2_003),
}


def fill(connection):
    values = {"id": message_id(), "time": builders.time(), "bytes": b""}
    connection.execute(text(ENTRY), values)
    connection.execute(text(MESSAGE), values)
    each = RECEIPTED // 3
    rows = [
        values | {"recipient": code, "position": position, "state": state}
        for code in ("kg", "tj", "tm")
        for position in range(1, each + 6)
        for state in ["waiting" if position > each else "received"]
    ]
    connection.execute(text(DELIVERY), rows)
    connection.execute(text("ANALYZE"))


@pytest.fixture
async def sqlite(tmp_path):
    opened = await open_database("sqlite:///hub.sqlite", tmp_path)
    await opened.write(fill)
    yield opened
    await opened.close()


@pytest.fixture
async def postgres(postgresql, tmp_path):
    opened = await open_database(postgresql.url, tmp_path)
    await opened.write(fill)
    yield opened
    await opened.close()


@contextmanager
def asked():
    """The statements that are sent, with their values."""
    sent = []

    def note(connection, cursor, statement, parameters, context, many):
        sent.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def plan(database, question, explain):
    """How a question is answered, and the answer."""
    with asked() as sent:
        answer = await question(Queries(database), StoredLanes(database))
    statement, parameters = sent[-1]
    rows = await database.read(
        lambda connection: connection.exec_driver_sql(f"{explain} {statement}", parameters).all()
    )
    return answer, "\n".join(str(row[-1]) for row in rows)


@pytest.mark.parametrize("name", QUESTIONS)
async def test_sqlite_reads_no_more_than_what_waits(sqlite, name):
    answer, told = await plan(sqlite, QUESTIONS[name], "EXPLAIN QUERY PLAN")
    assert answer
    assert PARTIAL.search(told)
    scans = [line for line in told.splitlines() if line.startswith("SCAN deliveries")]
    assert all(PARTIAL.search(scan) for scan in scans)


@pytest.mark.parametrize("name", QUESTIONS)
async def test_postgresql_reads_no_more_than_what_waits(postgres, name):
    answer, told = await plan(postgres, QUESTIONS[name], "EXPLAIN")
    assert answer
    assert PARTIAL.search(told)
    assert "Seq Scan on deliveries" not in told


SEARCHES = [
    EventFilter(before=500),
    EventFilter(member="kg", before=500),
    EventFilter(sender="kz", recipient="kg", before=500),
    EventFilter(type="operator.query", actor="account:a", since="2016-01-01T00:00:00.000Z"),
    EventFilter(thread=message_id(), marking="TLP:GREEN"),
    EventFilter(text="visit", before=500),
    EventFilter(text="visit rights", before=500),
    EventFilter(text="hu*", before=500),
    EventFilter(text="visit", recipient="kg", before=500),
    EventFilter(text="visit", message=message_id()),
    EventFilter(sender="kz", recipient="kg", until="2026-01-01T00:00:00.000Z"),
]

LARGE = (
    "log_entries|log_private|messages|deliveries|search_terms|search_counts|search_totals|"
    "search_vocabulary|search_words|words_row"
)


async def filled(database):
    """A log of a thousand entries in the index."""
    filling = Filling(database, 1_000)
    await filling.append(1_000)
    while await Index(database).advance():
        pass
    await database.write(lambda connection: connection.execute(text("ANALYZE")))


async def plans(database, wanted, explain):
    """The plans of all that a search asks of the database."""
    with asked() as sent:
        await Queries(database).search(wanted)

    def told(connection):
        if connection.dialect.name == "postgresql":
            # Of a thousand rows the whole is read as fast: where there is no other way, it shows.
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        return [
            str(row[-1])
            for statement, parameters in [*sent]
            if statement.startswith(("SELECT", "WITH"))
            for row in connection.exec_driver_sql(f"{explain} {statement}", parameters)
        ]

    return await database.read(told)


@pytest.mark.parametrize("wanted", SEARCHES, ids=repr)
async def test_sqlite_searches_by_an_index(sqlite_log, wanted):
    lines = await plans(sqlite_log, wanted, "EXPLAIN QUERY PLAN")
    assert any("search_terms" in line or "log_entries" in line for line in lines)
    scans = [line for line in lines if re.match(f"SCAN ({LARGE})", line)]
    assert all(re.search("VIRTUAL TABLE INDEX .*:(.*M|=)", scan) for scan in scans)
    assert not any("USE TEMP B-TREE FOR ORDER BY" in line for line in lines)


@pytest.mark.parametrize("wanted", SEARCHES, ids=repr)
async def test_postgresql_searches_by_an_index(postgres_log, wanted):
    lines = await plans(postgres_log, wanted, "EXPLAIN")
    assert any("search_terms" in line or "log_entries" in line for line in lines)
    assert not [line for line in lines if re.search(f"Seq Scan on ({LARGE})", line)]


@pytest.fixture
async def sqlite_log(tmp_path):
    opened = await open_database("sqlite:///hub.sqlite", tmp_path)
    await filled(opened)
    yield opened
    await opened.close()


@pytest.fixture
async def postgres_log(postgresql, tmp_path):
    opened = await open_database(postgresql.url, tmp_path)
    await filled(opened)
    yield opened
    await opened.close()
