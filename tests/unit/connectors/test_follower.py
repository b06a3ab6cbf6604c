"""Following the log: every checkpoint of one history is agreed with, none of another is."""

import asyncio
import io
import random
from datetime import UTC, datetime
from typing import cast

import pytest

from connectors import follower as following
from connectors.events import Events
from connectors.follower import Follower, Growth, grow
from connectors.link import HubRefused, Later, Link, Unreachable
from connectors.monitor import Own
from connectors.store import Store
from schemas import entry as entries
from schemas import merkle, note
from schemas.checkpoint import open_checkpoint
from schemas.encoding import b64url
from schemas.merkle import TILE_WIDTH
from tests import builders
from tests.simulator.history import History


class LogLink:
    """A link to a history, as far as a follower asks; the log can be withheld or spoilt."""

    def __init__(self, history):
        self.history = history
        self.bundles = 0
        self.fail_after = None
        self.spoil = None

    async def checkpoint(self):
        return self.history.checkpoint()

    async def entries(self, n, width):
        await asyncio.sleep(0)
        if self.fail_after is not None and self.bundles >= self.fail_after:
            raise Unreachable("The line broke.")
        self.bundles += 1
        bundle = self.history.bundle(n, width)
        if bundle is None:
            raise HubRefused("not-found", "There is no such tile.")
        return self.spoil(bundle) if self.spoil else bundle


class World:
    """A history, and a follower of it with a store; ``follower`` is made anew at each restart."""

    def __init__(self, folder, *log):
        self.folder = folder
        self.history = History(builders.LOG, builders.LOG_KEY, lambda: datetime.now(UTC))
        for entry in log or builders.directory_log(kz="member", kg="member"):
            self.history.append(entry)
        self.link = LogLink(self.history)
        self.start()

    def start(self):
        self.store = Store.open_for(self.folder / "store.sqlite", "kz", str(builders.LOG))
        statement = b64url(builders.join("kz"))
        kid = builders.kid(builders.key("kz"))
        own = Own("kz", kid, frozenset({statement}), frozenset(), lambda message_id: False)
        events = Events("kz", io.StringIO())
        clock = lambda: datetime.now(UTC)  # noqa: E731 - no longer than its name
        self.follower = Follower(
            self.store, cast("Link", self.link), builders.LOG, own, events, clock
        )

    def restart(self):
        self.store.close()
        self.start()

    def grow(self, count):
        for _ in range(count):
            self.history.record(entries.OPERATOR_QUERY, "auditor")

    async def agrees(self, raw):
        return await self.follower.agrees(open_checkpoint(raw, builders.LOG), raw)

    def alarms(self):
        return [alarm.kind for alarm in self.store.alarms()]


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.store.close()


# --- The pure core ---


@pytest.mark.parametrize("steps", [[1], [1, 1, 1], [255, 1, 1], [256, 256], [300, 7, 300]])
def test_growing_by_bundles_gives_the_tree_of_all_entries(steps):
    log = [entries.encode(builders.entry(entries.OPERATOR_QUERY, str(n))) for n in range(700)]
    growth = Growth(0, {}, {}, [])
    tiles: dict[merkle.Tile, bytes] = {}
    for end in [sum(steps[: n + 1]) for n in range(len(steps))]:
        while growth.size < end:
            start = growth.size // TILE_WIDTH * TILE_WIDTH
            grow(growth, log[start : min(start + TILE_WIDTH, end)], "kz")
        leaves = [merkle.leaf_hash(raw) for raw in log[:end]]
        assert merkle.tree_root(end, growth.edge) == merkle.root(leaves)
        assert set(growth.edge) == merkle.edge_tiles(end)
        tiles |= growth.tiles
    assert merkle.tree_root(1, tiles) == merkle.leaf_hash(log[0])


def test_only_entries_of_the_directory_and_about_ourselves_are_kept():
    log = [
        builders.invited("kg"),
        builders.entry(entries.MESSAGE_ACCEPTED, builders.message_id(), actor="kz"),
        builders.entry(entries.MESSAGE_ACCEPTED, builders.message_id(), actor="kg"),
        builders.entry(entries.OPERATOR_QUERY, actor="auditor"),
        builders.group("network"),
    ]
    growth = Growth(0, {}, {}, [])
    grow(growth, [*map(entries.encode, log), b"nonsense"], "kz")
    assert [index for index, _, _ in growth.kept] == [0, 1, 4]
    assert growth.unreadable == 5
    assert growth.size == 6


# --- Honest logs ---


async def test_the_directory_comes_from_the_log_alone(world):
    await world.follower.follow()
    assert set(world.follower.directory.participants) == {"kz", "kg"}
    assert world.store.size() == world.history.size
    assert world.alarms() == []


async def test_every_checkpoint_of_the_one_history_is_agreed_with_in_any_order(world):
    world.grow(600)
    sizes = [1, 4, 255, 256, 257, 511, 512, 513, 604]
    random.Random(5).shuffle(sizes)
    for size in sizes:
        assert await world.agrees(world.history.checkpoint(size))
    assert world.store.size() == 604
    assert world.alarms() == []


async def test_a_log_that_grows_while_it_is_followed_is_followed_again(world):
    for _ in range(5):
        world.grow(100)
        await world.follower.follow()
        assert world.store.followed().size == world.history.size
        assert world.store.followed().root == merkle.tree_root(
            world.history.size, world.history.tiles
        )


async def test_many_who_ask_at_once_make_it_read_everything_once(world):
    world.grow(300)
    checkpoint = world.history.checkpoint()
    answers = await asyncio.gather(*(world.agrees(checkpoint) for _ in range(10)))
    assert all(answers)
    assert world.link.bundles == 2


async def test_the_directory_at_an_entry_is_the_one_before_it(world):
    index = world.history.append(builders.suspended("kg"))
    world.grow(1)
    await world.follower.follow()
    assert world.follower.directory.participants["kg"].state == "suspended"
    assert world.follower.directory_before(index).participants["kg"].state == "active"
    assert world.follower.directory_before(index + 1).participants["kg"].state == "suspended"


async def test_after_a_restart_it_goes_on_where_it_was(world):
    await world.follower.follow()
    world.restart()
    assert set(world.follower.directory.participants) == {"kz", "kg"}
    world.grow(10)
    await world.follower.follow()
    assert world.store.size() == 14
    assert world.link.bundles == 2


# --- Crashes and broken lines ---


@pytest.mark.parametrize("bundles", [0, 1, 2, 3])
async def test_a_line_that_breaks_after_any_bundle_loses_and_believes_nothing(
    world, bundles, monkeypatch
):
    monkeypatch.setattr(following, "STAGE_TILES", 1)
    await world.follower.follow()
    world.grow(300)
    world.history.append(builders.suspended("kg"))
    world.grow(600)
    world.link.fail_after = world.link.bundles + bundles
    with pytest.raises(Unreachable):
        await world.follower.follow()
    world.restart()
    assert world.store.size() == 4
    assert world.follower.directory.participants["kg"].state == "active"
    world.link.fail_after = None
    await world.follower.follow()
    assert world.store.size() == 905
    assert world.store.directory().participants["kg"].state == "suspended"
    assert world.store.root_at(400) == merkle.tree_root(400, world.history.tiles)
    assert world.alarms() == ["directory-changed"]


async def test_whoever_came_before_we_were_let_in_is_no_news(tmp_path):
    world = World(tmp_path, builders.invited("kz"))
    await world.follower.follow()
    for entry in (*builders.directory_log(kg="member", tj="member"), builders.joined("kz")):
        world.history.append(entry)
        await world.follower.follow()
    assert world.alarms() == []
    world.history.append(builders.invited("tm"))
    await world.follower.follow()
    [alarm] = world.store.alarms()
    assert "tm was invited as member" in alarm.sentence
    world.store.close()


async def test_a_refusal_that_time_heals_is_no_alarm(world):
    async def refuse(n, width):
        raise HubRefused("busy", "Later, please.", retryable=True)

    world.link.entries = refuse
    with pytest.raises(HubRefused):
        await world.follower.follow()
    assert world.alarms() == []


# --- Lies ---


async def test_another_history_of_the_same_size_is_a_fork(world):
    world.grow(5)
    other = world.history.another()
    world.grow(1)
    other.record(entries.OPERATOR_QUERY, "somebody else")
    await world.follower.follow()
    assert not await world.agrees(other.checkpoint())
    assert world.alarms() == ["log-forked"]
    (alarm,) = world.store.alarms()
    assert b64url(world.history.checkpoint()).encode() in alarm.evidence
    assert b64url(other.checkpoint()).encode() in alarm.evidence


async def test_what_a_fork_says_is_not_believed_and_the_true_history_is_followed_after_it(
    world, monkeypatch
):
    monkeypatch.setattr(following, "STAGE_TILES", 1)
    world.grow(300)
    await world.follower.follow()
    true = world.history.another()
    liar = world.history.another()
    true.record(entries.OPERATOR_QUERY, "auditor")
    for _ in range(300):
        liar.record(entries.OPERATOR_QUERY, "auditor")
    liar.append(builders.suspended("kg"))
    world.link.history = liar
    # The entries are the liar's, the checkpoint is not: somewhere two histories were mixed.
    mixed = true.another()
    for _ in range(300):
        mixed.record(entries.OPERATOR_QUERY, "auditor")
    assert mixed.size == liar.size
    assert not await world.agrees(mixed.checkpoint())
    assert world.follower.directory.participants["kg"].state == "active"
    assert world.store.size() == 304
    world.link.history = true
    await world.follower.follow()
    assert world.store.size() == 305
    assert world.store.root_at(305) == merkle.tree_root(305, true.tiles)
    assert world.store.directory().participants["kg"].state == "active"
    assert world.alarms() == ["log-forked"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda bundle: b"",
        lambda bundle: bundle[:-1],
        lambda bundle: bundle + merkle.encode_bundle([b"one more"]),
        lambda bundle: bundle + merkle.encode_bundle([b"x"] * 300),
    ],
    ids=["empty", "cut off", "one more", "too many"],
)
async def test_a_bundle_that_is_not_what_was_signed_is_a_log_withheld(world, spoil):
    world.link.spoil = spoil
    with pytest.raises(Later):
        await world.follower.follow()
    assert world.alarms() == ["log-withheld"]
    world.link.spoil = None
    await world.follower.follow()
    assert world.alarms() == []


async def test_a_checkpoint_of_another_key_says_nothing(world):
    key = builders.key("another log")
    other = World.__new__(World)
    other.history = History(
        note.ed25519_vkey(builders.ORIGIN, builders.public(key)), key, lambda: datetime.now(UTC)
    )
    world.link.history = other.history
    with pytest.raises(Later):
        await world.follower.follow()
    assert world.alarms() == ["log-key"]
    world.link.history = world.history
    await world.follower.follow()
    assert world.alarms() == []


async def test_the_hubs_newest_may_lag_behind_but_not_go_back(world):
    world.grow(6)
    assert await world.agrees(world.history.checkpoint())
    world.link.history = Lagging(world.history, 7)
    await world.follower.follow()
    assert world.alarms() == []
    world.link.history = Lagging(world.history, 5)
    await world.follower.follow()
    assert world.alarms() == ["log-shrank"]
    assert world.store.size() == 10


class Lagging:
    """A history whose newest checkpoint is an old one."""

    def __init__(self, history, size):
        self.checkpoint = lambda: history.checkpoint(size)
        self.bundle = history.bundle
