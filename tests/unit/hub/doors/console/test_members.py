"""What the members' pages say of a participant, of its keys and of its certificate."""

from datetime import timedelta

import pytest

from hub.doors.console import invitations, members, quarantine
from hub.intake.certificates import CERTIFICATE_ISSUED
from schemas import entry as entries
from schemas.encoding import format_time
from schemas.entry import Entry
from schemas.refusal import Refused
from tests import builders


def test_a_participant_is_in_the_group_of_its_role_and_in_those_it_was_put_into():
    directory = builders.directory(kz="member", undp="partner", guest="observer")
    assert members.groups(directory, "kz") == ["region"]
    assert members.groups(directory, "undp") == ["partners"]
    assert members.groups(directory, "guest") == []


@pytest.mark.parametrize(("hours", "days"), [(48, 2), (47, 1), (0, 0), (-1, -1)])
def test_a_certificate_has_whole_days_left(hours, days):
    ends = format_time(builders.NOW + timedelta(hours=hours))
    assert members.days_left(ends, builders.NOW) == days
    assert members.days_left(None, builders.NOW) is None


def test_keys_are_listed_with_the_times_of_their_entries_the_newest_first():
    directory = builders.directory(kz="member", kg="member")
    joined = directory.keys[builders.kid(builders.key("kz"))].since
    size = joined + 10
    rotated = directory.apply(size, builders.rotated("kz", "kz second"))
    times = {joined: builders.time(1), size: builders.time(2)}
    new, old = members.keys(rotated, "kz", times)
    assert new.kid == builders.kid(builders.key("kz second"))
    assert (new.since, new.until, new.ended) == (builders.time(2), None, False)
    assert (old.since, old.until, old.ended) == (builders.time(1), builders.time(2), True)


def entry(kind, **public):
    return Entry(1, kind, builders.time(), "account:desk", "kz", public, None)


def test_the_history_is_of_standing_and_keys_with_what_is_public_about_them():
    told = [
        (7, entry(entries.KEY_REVOKED, kid="x", reason="lost", statement=None)),
        (5, entry(entries.WITNESS_OVERDUE)),
        (3, entry(CERTIFICATE_ISSUED, serial="1f", not_after=builders.time())),
        (1, entry(entries.MEMBER_SUSPENDED)),
    ]
    shown = [(step.index, step.detail) for step in members.history(told)]
    assert shown == [(7, "lost"), (3, "1f"), (1, None)]


# --- The invitation's form ---


def test_a_name_is_of_a_language_of_the_console_and_an_empty_one_is_none():
    fields = {"name-kk": " Уәкіл ", "name-en": "", "name-xx": "Nobody", "code": "kz"}
    assert invitations._names(fields) == {"kk": "Уәкіл"}


@pytest.mark.parametrize(
    ("form", "names", "said"),
    [
        (invitations.Form(code="KZ"), {"en": "A"}, "A code has 2 to 16"),
        (invitations.Form(code="k"), {"en": "A"}, "A code has 2 to 16"),
        (invitations.Form(code="kz", country="KAZ"), {"en": "A"}, "two letters"),
        (invitations.Form(code="kz"), {}, "in at least one language"),
        (invitations.Form(code="kz", role="king"), {"en": "A"}, "king"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(form, names, said):
    with pytest.raises(Refused, match=said):
        invitations._wanted(form, names)


def test_what_stands_around_a_code_and_small_letters_of_a_country_do_not_matter():
    wanted = invitations._wanted(invitations.Form(code=" kz ", country="kz "), {"en": "A"})
    assert (wanted.code, wanted.country, wanted.names) == ("kz", "KZ", {"en": "A"})


# --- A body in quarantine ---


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (builders.signed(b'{"a":1}', builders.key("kz")), '{"a":1}'),
        (b"poison", "poison"),
        (b"\xff\x00", "\ufffd\x00"),
    ],
)
def test_of_an_envelope_the_payload_is_shown_and_of_anything_else_what_is_there(raw, said):
    assert quarantine.readable(raw) == said
