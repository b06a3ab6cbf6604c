"""Which webhooks a record has to bring follows from the record and the wish alone."""

import json
from pathlib import Path

from hub.demo import corpus, wishes
from hub.demo.wishes import Filter, Wish

TEXT = (Path(__file__).parents[4] / "deploy/demo/records.ndjson").read_text(encoding="utf-8")

ALL = Wish("undp")
BULLETINS = Wish("undp", Filter(kinds=("activity_bulletin.v1",)))
KAZAKH = Wish("undp", Filter(languages=("kk",)))


def record(**fields):
    """The first record as a bulletin of kz that names UNDP, or with other values."""
    told = {"institution": "kz", "kind": "activity_bulletin", "participants": ["undp"]}
    return corpus.parse(json.dumps(json.loads(TEXT.splitlines()[0]) | told | fields))[0]


def notice(**fields):
    return record(kind="joint_action_notice", participants=["undp", "kg"], **fields)


def test_a_message_is_due_to_whom_it_names_and_to_nobody_else():
    assert wishes.is_due(ALL, record())
    assert not wishes.is_due(Wish("ohchr"), record())
    assert not wishes.is_due(ALL, record(participants=[]))  # it goes to the members


def test_one_s_own_message_is_not_due():
    assert not wishes.is_due(ALL, record(institution="undp"))


def test_answers_are_due_to_whom_the_notice_names_and_to_who_sent_it():
    assert wishes.is_answer_due(ALL, notice())
    assert wishes.is_answer_due(ALL, notice(institution="undp"))
    assert not wishes.is_answer_due(Wish("ohchr"), notice())


def test_a_wish_for_kinds_leaves_out_the_others():
    assert wishes.is_due(BULLETINS, record())
    assert not wishes.is_due(BULLETINS, notice())
    assert not wishes.is_answer_due(BULLETINS, notice())


def test_a_wish_for_languages_asks_for_a_text_in_one_and_takes_answers_without_any():
    titles = {"en": "A visit", "kk": "Сапар"}
    assert wishes.is_due(KAZAKH, record(title=titles, summary=titles))
    english = {"en": "A visit"}
    assert not wishes.is_due(KAZAKH, record(title=english, summary=english))
    assert wishes.is_answer_due(KAZAKH, notice())
