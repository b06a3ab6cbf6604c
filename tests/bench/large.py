"""``python -m tests.bench.large --events N``: what queries and commits cost in a log of N entries.

One entry in three is a message of one of 6 members to some others, one a receipt, one a query; N of
them make ten years. The first 100,000 are written and indexed as the hub does it, and then copied
within the database, with times and ids of their own (``tests/bench/copying.py``). On each database
there are three logs, of 10,000, 100,000 and N entries, which are asked in turn: what else the
machine does at a time meets all of them. Contents are few and short, so that bytes an entry are
about the index and not the texts.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import Connection, text

from hub.demo import servers
from hub.intake.batch import Batch, Loaded, State
from hub.intake.recorder import Transaction, write_entries
from hub.ledger import sequence
from hub.ledger.queries import EventFilter
from hub.ledger.sequence import Draft, LogKey
from hub.store.database import Database, open_database
from hub.store.index import Index
from hub.store.journal import Journal, load_state
from hub.store.queries import Queries
from schemas import entry as entries
from schemas import jsontext, signature
from schemas.encoding import b64url, parse_time
from schemas.vocabulary import THEMES
from tests import builders
from tests.bench.copying import THREAD, Calendar, Copies
from tests.conftest import server_folder

FILE = Path("build/bench-large.json")

SMALL = (10_200, 100_200)
"""Entries of the logs that N is compared with; a thread has 300."""

CHUNK = 3_000
"""Entries written in one transaction."""

DATABASES = ("SQLite", "PostgreSQL")

ASKED = 100
"""Times that each shape is asked, with other values."""

COMMITS = 30
"""Commits of 100 entries that are timed."""

YEARS = timedelta(days=3_650)
KEY = LogKey(builders.LOG, builders.LOG_KEY)
MEMBERS = ("kz", "kg", "tj", "tm", "uz", "uz-nhrc")
MARKINGS = ("TLP:CLEAR", "TLP:GREEN", "TLP:GREEN", "TLP:AMBER")
WORDS = ("права", "человека", "посещение", "құқықтары", "укуктары", "huquqlari", "rights", "visit")

Ask = Callable[[random.Random, "Filling"], EventFilter]


class Filling:
    """Writes entries, and remembers no more than where it is."""

    def __init__(self, database: Database, events: int) -> None:
        self.database = database
        self.state = State()
        milliseconds = timedelta(milliseconds=1)
        start = (builders.NOW - YEARS - datetime(1970, 1, 1, tzinfo=UTC)) // milliseconds
        self.calendar = Calendar(start, YEARS // milliseconds, events)
        self._journal = Journal(database)
        self._random = random.Random(1)
        self._contents = [_envelope(self._random, number) for number in range(500)]

    @property
    def size(self) -> int:
        return self.state.tree.size

    def at(self, index: int) -> datetime:
        """The time of an entry."""
        return parse_time(self.calendar.time(index))

    def message_id(self, index: int) -> str:
        """The id of the message that an entry accepted; that of every third is one."""
        return self.calendar.message_id(index)

    async def append(self, count: int) -> None:
        """Write so many entries in one commit."""
        await self._journal.transact(lambda transaction: self._write(transaction, count))

    def _write(self, transaction: Transaction, count: int) -> None:
        loaded = Loaded({}, {}, set(), {}, {}, {})
        salts = self._random.randbytes(32 * count)
        batch = Batch(self.state, loaded, self.at(self.size), salts)
        for _ in range(count):
            (self._message, self._receipt, self._query)[batch.index % 3](batch)
        stored = write_entries(transaction, batch.entries)
        appended = sequence.append(self.state.tree, batch.entries, stored, KEY)
        transaction.write(batch, appended)
        self.state = batch.state(appended.tree)

    def _message(self, batch: Batch) -> None:
        sender, *recipients = self._random.sample(MEMBERS, 4)
        message_id = self.message_id(batch.index)
        marking, envelope = self._random.choice(self._contents)
        index = batch.append(Draft(entries.MESSAGE_ACCEPTED, sender, message_id, private=b"{}"))
        batch.write(
            "message",
            id=message_id,
            idx=index,
            sender=sender,
            kind="activity_bulletin.v1",
            marking=marking,
            thread=self.message_id(index - index % THREAD),
            accepted=batch.time,
            expires=None,
            payload_digest="",
            envelope=envelope,
        )
        for code in recipients:
            batch.write(
                "delivery",
                recipient=code,
                position=batch.deliver(code),
                message_id=message_id,
                state="received",
                expires=None,
            )

    def _receipt(self, batch: Batch) -> None:
        receiver = self._random.choice(MEMBERS)
        item = (self.message_id(batch.index - 1), "h" * 43, 1, "received", "")
        payload = {"receiver": receiver, "time": batch.time, "items": [item]}
        batch.append(Draft(entries.RECEIPTS_RECORDED, receiver, private=_unsigned(payload)))

    def _query(self, batch: Batch) -> None:
        batch.append(Draft(entries.OPERATOR_QUERY, "account:a", private=b'{"path":"/"}'))


def _unsigned(payload: object) -> bytes:
    """A receipt whose signature nobody checks here: signing takes longer than all the rest."""
    header = {"alg": "Ed25519", "kid": "k" * 43, "typ": signature.DELIVERY_TYPE}
    signed = {"protected": b64url(jsontext.encode(header)), "signature": b64url(bytes(64))}
    return jsontext.encode({"payload": b64url(jsontext.encode(payload)), "signatures": [signed]})


def _envelope(chance: random.Random, number: int) -> tuple[str, bytes]:
    marking = chance.choice(MARKINGS)
    body = " ".join([*chance.sample(WORDS, 4), f"word{number}"])
    message = builders.message(
        marking=marking,
        audience=["region"],
        texts={"ru": {"title": "Бюллетень", "body": body}},
        themes=chance.sample([*THEMES], 2),
        sdgs=[chance.randint(1, 17)],
    )
    return marking, builders.signed(message)


def _code(chance: random.Random) -> str:
    return chance.choice(MEMBERS)


def _place(chance: random.Random, filling: Filling) -> int:
    """Somewhere in the log: not only the newest page is asked for."""
    return chance.randint(filling.size // 2, filling.size)


def _day(chance: random.Random, filling: Filling) -> str:
    return filling.at(chance.randint(0, filling.size - 1)).strftime("%Y-%m-%dT00:00:00.000Z")


SHAPES: Mapping[str, Ask] = {
    "newest": lambda c, f: EventFilter(before=_place(c, f)),
    "oldest after": lambda c, f: EventFilter(after=_place(c, f)),
    "member": lambda c, f: EventFilter(member=_code(c), before=_place(c, f)),
    "sender and recipient": lambda c, f: EventFilter(
        sender=_code(c), recipient=_code(c), before=_place(c, f)
    ),
    "kind and marking": lambda c, f: EventFilter(
        kind="activity_bulletin.v1", marking="TLP:AMBER", before=_place(c, f)
    ),
    "type": lambda c, f: EventFilter(type="receipts.recorded", before=_place(c, f)),
    "type and actor": lambda c, f: EventFilter(
        type="receipts.recorded", actor=_code(c), before=_place(c, f)
    ),
    "theme and goal": lambda c, f: EventFilter(
        theme=c.choice([*THEMES]), sdg=str(c.randint(1, 17)), before=_place(c, f)
    ),
    "message": lambda c, f: EventFilter(message=f.message_id((_place(c, f) - 1) // 3 * 3)),
    "thread": lambda c, f: EventFilter(thread=f.message_id((_place(c, f) - 1) // THREAD * THREAD)),
    "time": lambda c, f: EventFilter(since=_day(c, f), member=_code(c)),
    "a frequent word": lambda c, f: EventFilter(text=c.choice(WORDS), before=_place(c, f)),
    "a rare word": lambda c, f: EventFilter(text=f"word{c.randrange(500)}", before=_place(c, f)),
    "two words": lambda c, f: EventFilter(text=" ".join(c.sample(WORDS, 2)), before=_place(c, f)),
    "a beginning": lambda c, f: EventFilter(text="huquq*", before=_place(c, f)),
    "word and recipient": lambda c, f: EventFilter(
        text=c.choice(WORDS), recipient=_code(c), before=_place(c, f)
    ),
    "never together": lambda c, f: EventFilter(
        type="operator.query", recipient=_code(c), before=_place(c, f)
    ),
}


class Measured(msgspec.Struct, frozen=True):
    """What was found at one size: milliseconds, and bytes an entry by table."""

    size: int
    p50: dict[str, float]
    p95: dict[str, float]
    commit_ms: float
    bytes_each: dict[str, float]


async def fill(filling: Filling, size: int, bar: Progress) -> None:
    """Make a log of at least so many entries: write the first of them, and copy those."""
    first = min(size, SMALL[-1])
    written = bar.add_task(f"writing {first:,}", total=first)
    while filling.size < first:
        await filling.append(min(CHUNK, first - filling.size))
        bar.update(written, completed=filling.size)
    index = Index(filling.database)
    while await index.advance():
        pass
    if filling.size < size:
        await copy(filling, -(-size // first), bar)
    await filling.database.write(lambda connection: connection.execute(text("ANALYZE")))


async def copy(filling: Filling, times: int, bar: Progress) -> None:
    """Make a log so many times as large."""
    database, state = filling.database, filling.state
    copies = Copies(filling.calendar, filling.size, state.positions)
    await database.write(copies.begin)
    for number in bar.track(range(1, times), description="copying it"):
        await database.write(partial(copies.add, copy=number))
    await database.write(partial(copies.end, copies=times - 1))
    tree = (await database.read(load_state)).tree
    positions = {code: last * times for code, last in state.positions.items()}
    filling.state = State(tree, state.directory, positions)


async def measure(fillings: Sequence[Filling]) -> list[Measured]:
    """Ask every shape and time commits, of all logs in turn."""
    asked = {name: await _ask(fillings, shape) for name, shape in SHAPES.items()}
    sizes = [filling.size for filling in fillings]
    weights = []
    for filling in fillings:
        await filling.database.scrub()  # what waits in SQLite's log to be written
        weights.append(await filling.database.read(_weights))
    commits = await _timed(fillings, COMMITS, lambda filling: filling.append(100))
    return [
        Measured(
            size,
            {name: statistics.median(taken[at]) for name, taken in asked.items()},
            {name: statistics.quantiles(taken[at], n=20)[-1] for name, taken in asked.items()},
            statistics.median(commits[at]),
            {name: weight / size for name, weight in weights[at].items() if weight / size >= 2},
        )
        for at, size in enumerate(sizes)
    ]


async def _ask(fillings: Sequence[Filling], shape: Ask) -> list[list[float]]:
    queries = {id(filling): Queries(filling.database) for filling in fillings}
    chance = random.Random(2)
    return await _timed(
        fillings, ASKED, lambda filling: queries[id(filling)].search(shape(chance, filling))
    )


async def _timed(
    fillings: Sequence[Filling], times: int, work: Callable[[Filling], Awaitable[object]]
) -> list[list[float]]:
    """The milliseconds that something takes in each log."""
    taken: list[list[float]] = [[] for _ in fillings]
    for _ in range(times):
        for filling, own in zip(fillings, taken, strict=True):
            begun = time.perf_counter()
            await work(filling)
            own.append((time.perf_counter() - begun) * 1_000)
    return taken


def _weights(connection: Connection) -> dict[str, int]:
    """The bytes of every table with its indexes."""
    if connection.dialect.name == "sqlite":
        query = (
            "SELECT coalesce(tbl_name, dbstat.name), sum(pgsize) FROM dbstat"
            " LEFT JOIN sqlite_master ON sqlite_master.name = dbstat.name"
            " GROUP BY 1 ORDER BY 2 DESC"
        )
    else:
        query = (
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY 2 DESC"
        )
    return {name: int(weight) for name, weight in connection.execute(text(query))}


async def measure_one(urls: Mapping[int, str], folder: Path, console: Console) -> list[Measured]:
    """Logs of these sizes, each in a database of its own."""
    events = max(urls)
    async with AsyncExitStack() as stack:
        fillings = []
        with Progress(console=console) as bar:
            for size, url in urls.items():
                database = await open_database(url, folder)
                stack.push_async_callback(database.close)
                fillings.append(Filling(database, events))
                await fill(fillings[-1], size, bar)
        return await measure(fillings)


async def measure_all(
    names: Sequence[str], events: int, folder: Path, console: Console
) -> dict[str, list[Measured]]:
    """The databases of these names, one after the other."""
    found: dict[str, list[Measured]] = {}
    async with servers.postgresql(folder, "unused") as server:
        for name in names:
            console.print(f"{name} ...")
            urls = {}
            for size in (*SMALL, events):
                made = await server.create(f"of_{size}") if name == "PostgreSQL" else None
                urls[size] = f"sqlite:///of-{size}.sqlite" if made is None else made.url
            found[name] = await measure_one(urls, folder, console)
            console.print(*tables({name: found[name]}))
    return found


def tables(found: Mapping[str, Sequence[Measured]]) -> Iterator[Table]:
    """A table a database: p50 and p95 of each shape, the cost of a commit, bytes an entry."""
    for name, at in found.items():
        table = Table(name)
        for each in at:
            table.add_column(f"{each.size:,}\np50 ms", justify="right")
            table.add_column("p95 ms", justify="right")
        for shape in SHAPES:
            cells = [f"{part[shape]:.1f}" for each in at for part in (each.p50, each.p95)]
            table.add_row(shape, *cells)
        commits = [cell for each in at for cell in (f"{each.commit_ms:.1f}", "")]
        table.add_row("commit of 100", *commits)
        for part in at[-1].bytes_each:
            cells = [cell for each in at for cell in (f"{each.bytes_each.get(part, 0):.0f}", "")]
            table.add_row(f"bytes of {part}", *cells)
        yield table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.large")
    parser.add_argument("--events", type=int, default=10_000_000, help="entries of the large log")
    parser.add_argument("--only", choices=DATABASES, help="one of the two databases")
    asked = parser.parse_args()
    names = DATABASES if asked.only is None else [asked.only]
    console = Console()
    with server_folder() as folder:
        found = asyncio.run(measure_all(names, asked.events, folder, console))
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    console.print(f"written to {FILE}")


if __name__ == "__main__":
    main()
