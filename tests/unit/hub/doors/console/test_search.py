"""What the search form asks for: fields that say something, whole days, messages at first."""

import pytest

from hub.doors.audit import Filters
from hub.doors.console import search
from hub.doors.console.search import FIRST, MORE, filters, question
from schemas.refusal import Refused


def test_every_filter_has_its_field_but_what_another_one_says_better():
    assert set(Filters.__struct_fields__) - {*FIRST, *MORE} == {"subject"}
    assert {*FIRST, *MORE} <= set(Filters.__struct_fields__)


def test_at_first_messages_are_meant():
    assert question({}) == {"type": "message.accepted"}
    assert question({"type": "", "lang": "kk"}) == {"type": ""}


def test_what_says_nothing_is_left_out():
    given = question({"sender": " kz ", "kind": "", "text": "  ", "type": "key.rotated"})
    assert given == {"sender": "kz", "type": "key.rotated"}


def test_a_day_is_all_of_it():
    wanted = filters(question({"since": "2026-02-28", "until": "2026-02-28", "type": ""}))
    assert wanted == Filters(since="2026-02-28T00:00:00.000Z", until="2026-03-01T00:00:00.000Z")


@pytest.mark.parametrize("day", ["2026-02-30", "28.02.2026", "x", "2026-02-28T00:00:00.000Z"])
def test_what_is_no_day_is_refused_with_what_to_do(day):
    with pytest.raises(Refused) as caught:
        filters(question({"since": day}))
    assert (caught.value.code, "YYYY-MM-DD" in caught.value.detail) == ("bad-request", True)


def test_a_choice_that_is_no_longer_offered_stays_chosen():
    field = search._field("kind", {"kind": "old.v1"}, [search.Option("new.v1")])
    assert [option.value for option in field.options or ()] == ["new.v1", "old.v1"]
