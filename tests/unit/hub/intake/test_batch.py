"""A batch is a working copy: jobs see what earlier jobs decided, and nobody else does."""

import pytest

from hub.intake.admission import Notice
from hub.intake.batch import State, Token
from hub.ledger.sequence import Draft, Tree
from schemas import entry as entries
from schemas.joint_action import Answer
from schemas.refusal import Refused
from tests import builders
from tests.unit.hub.intake.working import LOG, batch


def test_entries_get_the_next_indices_and_the_time_of_the_batch():
    made = batch()
    assert made.append(Draft(entries.HUB_STARTED, entries.HUB, "x")) == len(LOG)
    assert made.append(Draft(entries.HUB_STOPPED, entries.HUB, "x")) == len(LOG) + 1
    assert made.index == len(LOG) + 2
    assert {written.entry.time for written in made.entries} == {builders.time()}


def test_each_private_part_is_committed_to_with_a_salt_of_its_own():
    made = batch()
    for _ in range(2):
        made.append(Draft(entries.OPERATOR_QUERY, "account:a", private=b"who?"))
    first, second = made.entries
    assert len({first.salt, second.salt}) == 2
    for written in made.entries:
        assert written.entry.private == entries.commitment(written.salt, b"who?")


def test_an_entry_without_a_private_part_has_no_salt():
    made = batch()
    made.append(Draft(entries.HUB_STARTED, entries.HUB, "x"))
    assert made.entries[0].salt is None
    assert made.entries[0].entry.private is None


def test_a_change_of_the_directory_is_seen_by_the_next_job():
    made = batch()
    made.append(Draft(entries.MEMBER_SUSPENDED, "account:a", "kz"))
    assert made.directory.participants["kz"].state == "suspended"


@pytest.mark.parametrize(
    "draft",
    [
        Draft(entries.MEMBER_RESUMED, "account:a", "kz"),
        Draft(entries.MEMBER_SUSPENDED, "account:a", "nobody"),
        Draft(entries.GROUP_CHANGED, "account:a", "network", {"members": ["nobody"]}),
        Draft(entries.MEMBER_JOINED, "account:a", "kz", {"statement": "***"}),
    ],
)
def test_a_change_that_the_directory_does_not_allow_is_a_conflict_and_adds_nothing(draft):
    made = batch()
    with pytest.raises(Refused) as caught:
        made.append(draft)
    assert caught.value.code == "conflict"
    assert made.entries == []
    assert made.directory == builders.directory()


def test_an_entry_too_large_for_the_log_is_refused_and_adds_nothing():
    made = batch()
    with pytest.raises(Refused) as caught:
        made.append(Draft(entries.HUB_STARTED, entries.HUB, "x", {"version": "1" * 65_535}))
    assert caught.value.code == "conflict"
    assert made.entries == []


def test_positions_go_on_without_a_gap_and_their_owner_is_rung_for():
    made = batch(positions={"kg": 41})
    assert [made.deliver("kg"), made.deliver("kg"), made.deliver("tj")] == [42, 43, 1]
    assert made.touched == {"kg", "tj"}


def test_a_token_is_used_once():
    made = batch()
    made.use(Token("kz:1", 100))
    with pytest.raises(Refused) as caught:
        made.use(Token("kz:1", 100))
    assert caught.value.code == "unauthenticated"
    assert made.rows == {"use_token": [{"jti": "kz:1", "expires": 100}]}


def test_a_token_used_in_an_earlier_batch_is_not_used_again():
    with pytest.raises(Refused):
        batch(tokens={"kz:1"}).use(Token("kz:1", 100))


def test_an_account_has_no_token_to_use_up():
    made = batch()
    made.use(None)
    assert made.rows == {}


def test_the_state_it_started_from_stays_as_it_was():
    positions = {"kg": 1}
    before = State(Tree(len(LOG)), builders.directory(), positions)
    made = batch(positions=positions)
    made.append(Draft(entries.MEMBER_SUSPENDED, "account:a", "kz"))
    made.deliver("kg")
    assert positions == {"kg": 1}
    after = made.state(Tree(len(LOG) + 1))
    assert after.positions == {"kg": 2}
    assert after.directory.participants["kz"].state == "suspended"
    assert before.directory.participants["kz"].state == "active"


def test_an_answer_is_seen_by_the_next_answer():
    notice = Notice("kz", b"", (), builders.joint_action_notice(), frozenset(), [])
    made = batch(notices={"n": notice})
    made.add_answer("n", Answer(30, builders.time(), "kg", "accept"))
    assert [answer.member for answer in made.facts.notices["n"].answers] == ["kg"]
    assert notice.answers == []
