"""Verifying: whoever edits one table of the stored log is found out."""

import asyncio

import pytest
from msgspec.structs import replace

from hub.intake.offload import Offload
from hub.ledger import sequence, verify
from hub.ledger.queries import Event, LogRow
from hub.ledger.sequence import Draft, LogKey, Tree
from hub.ledger.verify import Check
from schemas import entry as entries
from schemas import merkle, note
from tests import builders

KEY = LogKey(builders.LOG, builders.LOG_KEY)


def row(sequenced):
    """The row of an entry."""
    entry = sequenced.entry
    return LogRow(
        sequenced.index, entry.type, entry.time, entry.actor, entry.subject, sequenced.raw
    )


class Stored:
    """The part of the port ``Queries`` that is asked here, upon rows that a test can edit."""

    def __init__(self, size, batch=100):
        self.columns: dict[int, LogRow] = {}
        self.rows_of_tiles: dict[merkle.Tile, bytes] = {}
        self.secrets: dict[int, tuple[bytes | None, bytes | None]] = {}
        self.note: bytes | None = None
        self.later: set[str] = set()
        tree = Tree()
        while tree.size < size:
            count = min(batch, size - tree.size)
            made = [self.entry(index) for index in range(tree.size, tree.size + count)]
            appended = sequence.append(tree, made, [each.raw for each in made], KEY)
            tree = appended.tree
            self.take(appended)

    def take(self, appended):
        self.note = appended.checkpoint
        self.rows_of_tiles |= appended.tiles
        self.columns |= {each.index: row(each) for each in appended.entries}
        self.secrets |= {each.index: (each.salt, each.private) for each in appended.entries}

    def entry(self, index, kind=entries.HUB_STARTED, subject=None):
        draft = Draft(kind, "hub", subject or str(index), private=b"private")
        return sequence.write(draft, index, builders.time(), builders.salt())

    async def checkpoint(self):
        return self.note

    async def rows(self, start, end):
        return [self.columns[i] for i in range(start, end) if i in self.columns]

    async def tiles(self, wanted):
        return {tile: self.rows_of_tiles[tile] for tile in wanted if tile in self.rows_of_tiles}

    async def private(self, start, end):
        return {i: secret for i, secret in self.secrets.items() if start <= i < end}

    async def events(self, wanted):
        if wanted.subject in self.later:
            return [Event(len(self.columns), b"", None)]
        return [
            Event(row.index, row.raw, self.secrets.get(row.index, (None, None))[1])
            for row in self.columns.values()
            if (row.type, row.subject) == (wanted.type, wanted.subject)
        ][: wanted.limit]


def check_of(stored, offload):
    return Check(stored, offload, builders.LOG)


def checked(stored, vkey=builders.LOG, listed=frozenset(), given_up=frozenset()):
    async def check():
        offload = Offload()
        try:
            return await verify.verify(Check(stored, offload, vkey, listed, given_up))
        finally:
            offload.close()

    return asyncio.run(check())


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600])
def test_a_log_that_is_what_was_signed(size):
    verdict = checked(Stored(size))
    assert verdict.ok
    assert (verdict.size, verdict.entries, verdict.problems) == (size, size, ())


def test_an_empty_log():
    assert checked(Stored(0)).ok


def test_a_log_that_has_grown_since_its_checkpoint_was_read():
    stored, later = Stored(300), Stored(310)
    stored.columns, stored.rows_of_tiles = later.columns, later.rows_of_tiles
    assert checked(stored).ok


@pytest.mark.parametrize("index", [0, 255, 256, 599])
def test_an_edited_entry_is_named(index):
    stored = Stored(600)
    stored.columns[index] = row(stored.entry(index, "hub.edited"))
    verdict = checked(stored)
    assert (verdict.first_bad, verdict.kind) == (index, "entry")
    assert f"Entry {index} is not the one that was recorded." in verdict.problems
    assert "The root of the stored entries is not the one that was signed." in verdict.problems


def test_an_entry_that_is_no_entry_is_named():
    stored = Stored(3)
    stored.columns[1] = replace(stored.columns[1], raw=b"junk")
    assert any("Entry 1 cannot be read" in problem for problem in checked(stored).problems)


def test_an_entry_that_is_stored_as_text_is_named():
    stored = Stored(3)
    stored.columns[1] = replace(stored.columns[1], raw=stored.columns[1].raw.decode())
    verdict = checked(stored)
    assert (verdict.first_bad, verdict.kind) == (1, "entry")
    assert verdict.problems == ("Entry 1 is not stored as bytes.",)


def test_a_tile_private_part_or_checkpoint_that_is_no_bytes_is_a_mismatch_and_no_absence():
    for spoil in (
        lambda stored: stored.rows_of_tiles.update({(0, 0): "text"}),
        lambda stored: stored.secrets.update({1: ("salt", "private")}),
        lambda stored: setattr(stored, "note", "text"),
    ):
        stored = Stored(3)
        spoil(stored)
        verdict = checked(stored)
        assert not verdict.ok
        assert "no bytes" in verdict.problems[0]


@pytest.mark.parametrize("gone", [0, 599])
def test_a_deleted_entry_is_missed(gone):
    stored = Stored(600)
    del stored.columns[gone]
    verdict = checked(stored)
    assert (verdict.first_bad, verdict.kind) == (gone, "missing")
    assert verdict.problems == (f"Entry {gone} is missing.",)


def test_an_edited_entry_with_its_tiles_made_to_fit_still_does_not_lead_to_the_signed_root():
    stored, forged = Stored(600), Stored(600)
    forged.columns[7] = row(forged.entry(7, "hub.edited"))
    stored.columns = forged.columns
    hashes = [merkle.leaf_hash(each.raw) for each in forged.columns.values()]
    stored.rows_of_tiles = merkle.append(0, {}, hashes)
    problems = checked(stored).problems
    assert problems == ("The root of the stored entries is not the one that was signed.",)


@pytest.mark.parametrize("tile", [(0, 0), (0, 2), (1, 0)])
def test_an_edited_tile_is_noticed_though_the_entries_are_right(tile):
    stored = Stored(600)
    hashes = stored.rows_of_tiles[tile]
    stored.rows_of_tiles[tile] = hashes[:-1] + bytes([hashes[-1] ^ 1])
    verdict = checked(stored)
    assert verdict.kind == "tile"
    assert len(verdict.problems) == 1


@pytest.mark.parametrize("tile", [(0, 1), (1, 0)])
def test_a_missing_tile_is_noticed(tile):
    stored = Stored(600)
    del stored.rows_of_tiles[tile]
    assert not checked(stored).ok


def test_a_checkpoint_that_is_gone_is_missed():
    stored = Stored(3)
    stored.note = None
    assert checked(stored).problems == ("The log has entries, but no checkpoint.",)


@pytest.mark.parametrize("edited", ["salt", "private part"])
def test_an_edited_private_part_is_named(edited):
    stored = Stored(300)
    salt, private = stored.secrets[280]
    stored.secrets[280] = (bytes(32), private) if edited == "salt" else (salt, b"forged")
    problems = checked(stored).problems
    assert problems == ("The private part of entry 280 is not the one recorded.",)


@pytest.mark.parametrize("column", ["type", "time", "actor", "subject"])
def test_an_edited_column_that_misleads_a_search_is_named(column):
    stored = Stored(300)
    stored.columns[280] = replace(stored.columns[280], **{column: "another"})
    verdict = checked(stored)
    assert (verdict.first_bad, verdict.kind, len(verdict.problems)) == (280, "column", 1)


def test_of_many_mismatches_the_first_is_named_and_a_hundred_are_told():
    stored = Stored(600)
    for index in range(200, 600):
        stored.columns[index] = row(stored.entry(index, "hub.edited"))
    verdict = checked(stored)
    assert (verdict.first_bad, verdict.kind, len(verdict.problems)) == (200, "entry", 100)


def test_swapped_entries_are_both_named():
    stored = Stored(300)
    first, second = stored.columns[3], stored.columns[290]
    stored.columns[3] = replace(second, index=3)
    stored.columns[290] = replace(first, index=290)
    verdict = checked(stored)
    assert verdict.first_bad == 3
    assert {f"Entry {i} is not the one that was recorded." for i in (3, 290)} < {*verdict.problems}


class TestACheckThatGoesOn:
    async def test_as_the_log_grows_hashes_only_what_is_new(self, offload):
        stored, later = Stored(300), Stored(310)
        check = check_of(stored, offload)
        while await check.step():
            pass
        assert (check.verdict().ok, check.verdict().entries) == (True, 300)
        stored.__dict__ |= later.__dict__
        stored.columns.pop(0)  # only a new pass looks at it again
        assert not await check.step()
        assert (check.verdict().ok, check.verdict().entries) == (True, 310)

    async def test_notices_a_log_that_has_shrunk(self, offload):
        stored, earlier = Stored(300), Stored(290)
        check = check_of(stored, offload)
        while await check.step():
            pass
        stored.__dict__ |= earlier.__dict__
        assert not await check.step()
        assert check.verdict().kind == "checkpoint"
        assert "has shrunk: 300 entries were checked" in check.verdict().problems[0]
        assert check.shrunken

    @pytest.mark.parametrize("left", [0, 1_500, 2_900])
    async def test_notices_a_log_that_shrinks_before_all_of_it_was_read(self, offload, left):
        stored, earlier = Stored(3_000), Stored(left)
        check = check_of(stored, offload)
        assert await check.step()
        stored.__dict__ |= earlier.__dict__
        while await check.step():
            pass
        assert check.shrunken

    async def test_takes_entries_that_are_gone_under_their_checkpoint_for_an_edit(self, offload):
        stored, earlier = Stored(300), Stored(290)
        stored.columns = earlier.columns
        check = check_of(stored, offload)
        assert not await check.step()
        assert (check.verdict().first_bad, check.shrunken) == (290, False)

    async def test_stands_where_it_was_while_the_database_is_away(self, offload, monkeypatch):
        stored = Stored(3_000)
        check = check_of(stored, offload)
        assert await check.step()
        before = check.verdict()

        async def away(*_):
            raise OSError("away")

        with monkeypatch.context() as patch:
            patch.setattr(stored, "tiles", away)
            with pytest.raises(OSError, match="away"):
                await check.step()
        assert check.verdict() == before
        while await check.step():
            pass
        assert (check.verdict().ok, check.verdict().entries) == (True, 3_000)


@pytest.fixture
def offload():
    made = Offload()
    yield made
    made.close()


class TestAPrivatePartThatIsGone:
    def stored(self, *kinds):
        """A log of these entries, all about one message, and a size before the last of them."""
        made = Stored(0)
        rows = [made.entry(index, kind, "it") for index, kind in enumerate(kinds)]
        made.take(sequence.append(Tree(), rows, [each.raw for each in rows], KEY))
        return made

    def test_is_counted_where_a_later_entry_says_that_the_message_was_erased(self):
        stored = self.stored(entries.MESSAGE_ACCEPTED, entries.HUB_STARTED, entries.MESSAGE_ERASED)
        del stored.secrets[0]
        verdict = checked(stored)
        assert (verdict.ok, verdict.erased) == (True, 1)

    def test_is_missed_where_no_entry_says_so(self):
        stored = self.stored(entries.MESSAGE_ACCEPTED)
        del stored.secrets[0]
        verdict = checked(stored)
        assert (verdict.ok, verdict.erased) == (False, 0)
        assert verdict.problems == (
            "The private part of entry 0 is missing, and no entry says that message it was erased.",
        )

    def test_is_no_problem_where_it_was_erased_while_we_looked(self):
        stored = self.stored(entries.MESSAGE_ACCEPTED)
        del stored.secrets[0]
        stored.later = {"it"}
        verdict = checked(stored)
        assert (verdict.ok, verdict.erased) == (True, 1)

    def test_is_no_problem_where_the_list_of_erasures_took_it_out_of_a_backup(self):
        stored = self.stored(entries.MESSAGE_ACCEPTED)
        del stored.secrets[0]
        verdict = checked(stored, listed=frozenset({"it"}))
        assert (verdict.ok, verdict.erased) == (True, 1)

    def test_is_missed_where_it_was_a_receipt(self):
        stored = self.stored(entries.RECEIPTS_RECORDED, entries.MESSAGE_ERASED)
        del stored.secrets[0]
        problems = checked(stored).problems
        assert problems[0] == ("The private part of entry 0 is missing: a receipt is never erased.")

    def test_is_only_counted_where_nobody_but_the_hub_ever_had_it(self):
        stored = self.stored(entries.OPERATOR_QUERY)
        del stored.secrets[0]
        verdict = checked(stored)
        assert (verdict.ok, verdict.erased, verdict.lost) == (True, 0, 1)

    @pytest.mark.parametrize("kind", [entries.MESSAGE_ACCEPTED, entries.RECEIPTS_RECORDED])
    def test_is_only_counted_where_it_was_given_up(self, kind):
        stored = self.stored(kind)
        del stored.secrets[0]
        verdict = checked(stored, given_up=frozenset({0}))
        assert (verdict.ok, verdict.erased, verdict.lost) == (True, 0, 1)
        assert not checked(stored, given_up=frozenset({1})).ok

    def test_has_to_be_gone_once_the_message_is_erased(self):
        stored = self.stored(entries.MESSAGE_ACCEPTED, entries.MESSAGE_ERASED)
        assert checked(stored).problems == (
            "Entry 1 erased it, but its private part is still there.",
        )

    async def test_is_no_problem_where_we_had_read_it_before_it_was_erased(self, offload):
        stored, later = (
            self.stored(entries.MESSAGE_ACCEPTED),
            self.stored(entries.MESSAGE_ACCEPTED, entries.MESSAGE_ERASED),
        )
        check = check_of(stored, offload)
        assert not await check.step()
        del later.secrets[0]
        stored.__dict__ |= later.__dict__
        assert not await check.step()
        assert (check.verdict().problems, check.verdict().erased) == ((), 1)


def test_a_checkpoint_by_another_key_does_not_hold():
    other = note.ed25519_vkey(builders.ORIGIN, builders.public(builders.key("other log")))
    [problem] = checked(Stored(3), other).problems
    assert "The checkpoint does not hold" in problem
