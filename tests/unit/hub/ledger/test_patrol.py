"""The patrol: what it tells, when it stops signing, and when that ends."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from hub.intake.offload import Offload
from hub.ledger import patrol
from hub.ledger.patrol import Patrol
from tests.unit.hub.ledger.test_verify import Stored, check_of, row


class Rounds:
    """A patrol upon rows that a test can edit, and what it said."""

    def __init__(self, stored, *, damaged=False):
        self.stored = stored
        self.distrusted: list[str | None] = []
        self.told: list[tuple[int, bool]] = []
        self.setbacks = 0
        self.grows: Iterator[Stored] | None = None
        self.unfinished: Iterator[bool] = iter(())
        self.offload = Offload()
        self.patrol = Patrol(
            lambda: check_of(stored, self.offload),
            self.distrusted.append,
            self.tell,
            lambda: next(self.unfinished, False),
            self.went_back,
            damaged=damaged,
        )

    def went_back(self):
        self.setbacks += 1

    def tell(self, verdict, whole):
        """Note it; then the log grows, and in the end somebody stops the patrol."""
        self.told.append((verdict.entries, whole))
        if self.grows is not None:
            later = next(self.grows, None)
            if later is None:
                raise asyncio.CancelledError
            self.stored.__dict__ |= later.__dict__


@pytest.fixture
def rounds(monkeypatch):
    monkeypatch.setattr(patrol, "ROUND_SECONDS", 0)
    monkeypatch.setattr(patrol, "FOLLOW_SECONDS", 0)
    monkeypatch.setattr(patrol, "AWAY_SECONDS", 0)
    monkeypatch.setattr(patrol, "REST", 0)
    return Rounds


async def test_a_round_tells_once_that_the_whole_was_hashed(rounds):
    made = rounds(Stored(3_000))
    await made.patrol.round()
    assert made.told == [(3_000, True)]
    assert made.distrusted == []


async def test_until_the_next_round_it_follows_what_is_new(rounds, monkeypatch):
    monkeypatch.setattr(patrol, "ROUND_SECONDS", 3_600)
    made = rounds(Stored(300))
    made.grows = iter([Stored(310), Stored(320)])
    with pytest.raises(asyncio.CancelledError):
        await made.patrol.round()
    assert made.told == [(300, True), (310, False), (320, False)]


async def test_a_mismatch_stops_signing_once_and_says_where(rounds):
    made = rounds(Stored(600))
    whole = dict(made.stored.columns)
    made.stored.columns[7] = row(made.stored.entry(7, "hub.edited"))
    with capture_logs() as events:
        await made.patrol.round()
        await made.patrol.round()
    [reason] = made.distrusted
    assert "first at entry 7 (entry): Entry 7 is not the one that was recorded" in reason
    assert "deploy/runbooks/log-damaged.md" in reason
    assert [(e["event"], e["first_bad"]) for e in events] == [("log.damaged", 7)]
    made.stored.columns = whole
    await made.patrol.round()
    assert made.distrusted == [reason, None]


async def test_a_log_that_was_damaged_before_a_restart_is_trusted_after_a_whole_round(rounds):
    made = rounds(Stored(300), damaged=True)
    await made.patrol.round()
    assert made.distrusted == [None]


@pytest.mark.parametrize(
    "unfinished", [[True], [False, True], [False, False, True]], ids=["before", "soon", "later"]
)
async def test_of_a_log_that_others_make_whole_nothing_is_judged(rounds, unfinished):
    made = rounds(Stored(5_000))
    del made.stored.columns[4_999]
    made.unfinished = iter(unfinished)
    await made.patrol.round()
    assert made.distrusted == []
    await made.patrol.round()
    assert len(made.distrusted) == 1


@pytest.mark.parametrize("unfinished", [[True, False], [False, True]], ids=["before", "after"])
async def test_who_asks_is_told_what_is_missing_and_signing_goes_on(rounds, unfinished):
    made = rounds(Stored(300))
    del made.stored.columns[299]
    made.unfinished = iter(unfinished)
    assert (await made.patrol.pass_at_once()).problems == ("Entry 299 is missing.",)
    assert made.distrusted == []
    await made.patrol.pass_at_once()
    assert len(made.distrusted) == 1


async def test_a_log_that_has_shrunk_is_not_judged_and_whoever_has_to_know_is_told(
    rounds, monkeypatch
):
    monkeypatch.setattr(patrol, "ROUND_SECONDS", 3_600)
    made = rounds(Stored(300))
    made.grows = iter([Stored(290)])
    with capture_logs() as events:
        await made.patrol.round()
    assert (made.told, made.distrusted, made.setbacks) == ([(300, True)], [], 1)
    assert [event["event"] for event in events] == ["log.shrunken"]


async def test_a_database_that_is_away_is_no_mismatch(rounds, monkeypatch):
    made = rounds(Stored(300))
    tries = iter([OSError("away"), OSError("away")])
    there = made.stored.tiles

    async def sometimes(wanted):
        for error in tries:
            raise error
        return await there(wanted)

    monkeypatch.setattr(made.stored, "tiles", sometimes)
    with capture_logs() as events:
        await made.patrol.round()
    assert [event["event"] for event in events] == ["patrol.failed"] * 2
    assert (made.told, made.distrusted) == ([(300, True)], [])


async def test_it_rests_for_many_times_as_long_as_it_works(rounds, monkeypatch):
    monkeypatch.setattr(patrol, "REST", 30)
    ticks = iter(range(1_000))
    rests: list[float] = []

    async def rest(seconds):
        rests.append(seconds)

    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    monkeypatch.setattr(asyncio, "sleep", rest)
    made = rounds(Stored(5_000))
    await made.patrol.round()
    assert len(rests) > 4
    assert min(rests) >= 30
