"""What is asked all the time reads the copies without a receipt, not all that there ever were."""

import re
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event, text

from hub.store.database import open_database
from hub.store.lanes import StoredLanes
from hub.store.queries import Queries
from tests import builders
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
