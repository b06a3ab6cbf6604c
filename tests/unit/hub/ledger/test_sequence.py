"""Sequencing: drafts become entries, tiles, a root, one signed checkpoint and acceptances."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.ledger import sequence
from hub.ledger.sequence import Draft, LogKey, Tree
from schemas import acceptance, checkpoint, merkle
from schemas import entry as entries
from tests import builders

KEY = LogKey(builders.LOG, builders.LOG_KEY)


def written(start, count, private=b"private"):
    """So many entries from an index on."""
    draft = Draft(entries.OPERATOR_QUERY, "account:a", private=private)
    return [
        sequence.write(draft, index, builders.time(), builders.salt(str(index)))
        for index in range(start, start + count)
    ]


def append(tree, batch):
    """Append entries that the store gives back as they were written."""
    return sequence.append(tree, batch, [each.raw for each in batch], KEY)


def grown(*counts):
    """A tree to which batches of these sizes were appended, and all entries and tiles."""
    tree, raws = Tree(), []
    tiles: dict[merkle.Tile, bytes] = {}
    for count in counts:
        batch = written(tree.size, count)
        appended = append(tree, batch)
        tree = appended.tree
        tiles |= appended.tiles
        raws += [each.raw for each in batch]
    return tree, tiles, raws


class TestADraft:
    def test_gets_its_place_its_time_and_a_commitment_to_its_private_part(self):
        draft = Draft("operator.query", "account:a", "x", {"a": 1}, b"who?")
        made = sequence.write(draft, 7, builders.time(), builders.salt())
        assert made.index == 7
        assert entries.decode(made.raw) == made.entry
        assert (made.entry.time, made.entry.public) == (builders.time(), {"a": 1})
        assert made.entry.private == entries.commitment(builders.salt(), b"who?")
        assert b"who?" not in made.raw

    def test_without_a_private_part_commits_to_nothing(self):
        made = sequence.write(Draft("hub.started", "hub"), 0, builders.time(), builders.salt())
        assert (made.entry.private, made.private, made.salt) == (None, None, None)

    def test_with_an_empty_private_part_commits_to_that(self):
        draft = Draft("operator.query", "account:a", private=b"")
        made = sequence.write(draft, 0, builders.time(), builders.salt())
        assert made.entry.private == entries.commitment(builders.salt(), b"")

    def test_larger_than_an_entry_may_be_is_an_error(self):
        with pytest.raises(ValueError, match="65535"):
            sequence.write(Draft("a.b", "a", "x" * 65_535), 0, builders.time(), builders.salt())


class TestACommit:
    @settings(max_examples=25)
    @given(st.lists(st.integers(1, 300), min_size=1, max_size=4))
    def test_has_the_root_of_all_entries_so_far(self, counts):
        tree, tiles, raws = grown(*counts)
        assert tree.size == len(raws)
        root = merkle.root([merkle.leaf_hash(raw) for raw in raws])
        assert merkle.tree_root(tree.size, tree.edge) == root
        assert merkle.tree_root(tree.size, tiles) == root

    def test_keeps_of_the_tree_only_its_right_edge(self):
        tree, tiles, _ = grown(300, 300)
        assert set(tree.edge) == set(merkle.edge_tiles(600))
        assert set(tree.edge) < set(tiles)

    def test_writes_only_the_tiles_that_changed(self):
        tree, _, _ = grown(300)
        appended = append(tree, written(300, 1))
        assert set(appended.tiles) == {(0, 1)}

    def test_signs_one_checkpoint_that_extends_the_last_one(self):
        tree, tiles, raws = grown(5, 6)
        leaves = [merkle.leaf_hash(raw) for raw in raws]
        proof = merkle.consistency_proof(5, 11, tiles)
        merkle.verify_consistency(5, 11, merkle.root(leaves[:5]), merkle.root(leaves), proof)
        appended = append(tree, written(11, 1))
        signed = checkpoint.open_checkpoint(appended.checkpoint, builders.LOG)
        assert (signed.origin, signed.size) == (builders.ORIGIN, 12)

    def test_hashes_what_the_store_gives_back(self):
        batch = written(0, 2)
        appended = sequence.append(Tree(), batch, [batch[0].raw, b"other bytes"], KEY)
        leaves = [merkle.leaf_hash(batch[0].raw), merkle.leaf_hash(b"other bytes")]
        assert appended.tiles[0, 0] == b"".join(leaves)

    def test_gives_an_acceptance_under_its_own_checkpoint_for_each_private_part(self):
        tree, _, _ = grown(300)
        batch = written(300, 3)
        appended = append(tree, batch)
        assert list(appended.acceptances) == [300, 301, 302]
        for each in batch:
            opened = acceptance.open_acceptance(appended.acceptances[each.index], builders.LOG)
            assert (opened.index, opened.private) == (each.index, each.private)
            assert opened.checkpoint.size == 303

    def test_gives_no_acceptance_where_there_is_no_private_part(self):
        appended = append(Tree(), written(0, 2, private=None))
        assert appended.acceptances == {}

    def test_leaves_the_tree_before_it_as_it_was(self):
        tree, _, _ = grown(3)
        before = dict(tree.edge)
        append(tree, written(3, 5))
        assert (tree.size, tree.edge) == (3, before)
