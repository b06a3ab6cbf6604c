"""What belongs to the evidence of a message, and what is left out."""

import pytest

from schemas import entry as entries
from schemas import note
from schemas.evidence import bundle
from schemas.evidence.bundle import Row
from schemas.merkle import ProofError
from schemas.note import NoteError
from tests import builders
from tests import evidence as samples


def subjects(made):
    return {samples.opened(one.entry).subject for one in made.entries}


def test_the_history_of_the_keys_is_that_of_everyone_who_signed_any_of_it():
    made = samples.evidence(receipts=["kg"], cosigned_by=["tj"])
    assert subjects(made) == {samples.ID, None, "kz", "kg", "tj"}
    made = samples.evidence(receipts=["kg"], cosigned_by=[])
    assert subjects(made) == {samples.ID, None, "kz", "kg"}


def test_the_history_has_every_change_also_those_that_came_later():
    made = samples.evidence(receipts=[], cosigned_by=[])
    types = [samples.opened(one.entry).type for one in made.entries]
    assert types == [
        entries.MEMBER_INVITED,
        entries.MEMBER_JOINED,
        entries.KEY_ROTATED,
        entries.MESSAGE_ACCEPTED,
        entries.KEY_REVOKED,
    ]


def test_lines_of_witnesses_that_nobody_knows_are_left_out():
    log = samples.Log(*builders.directory_log(kz="member", kg="member"))
    signed = log.signed("stranger", "kg", "tj")
    head = bundle.head(signed, builders.LOG, [samples.witness("kg")])
    assert [line.name for line in head.note.signatures] == [
        builders.ORIGIN,
        f"{builders.ORIGIN}/kg",
    ]
    assert head.witnesses == (samples.witness("kg"),)


def test_a_checkpoint_with_a_false_line_of_a_known_witness_is_refused():
    log = samples.Log(*builders.directory_log(kg="member"))
    signed = note.parse_note(log.signed("kg"))
    own, cosigned = signed.signatures
    false = note.SignatureLine(cosigned.name, cosigned.key_id, bytes(72))
    with pytest.raises(NoteError):
        bundle.head(
            note.encode(note.Note(signed.text, (own, false))),
            builders.LOG,
            [samples.witness("kg")],
        )


def test_the_most_cosigned_checkpoint_that_covers_the_message_is_chosen():
    log = samples.Log(*builders.directory_log(kz="member", kg="member"))
    known = [samples.witness("kg"), samples.witness("tj")]
    cosigned = bundle.head(log.signed("kg", "tj"), builders.LOG, known)
    log.append(builders.entry(entries.HUB_STOPPED))
    newer = bundle.head(log.signed("kg"), builders.LOG, known)
    log.append(builders.entry(entries.HUB_STARTED))
    newest = bundle.head(log.signed(), builders.LOG, known)
    assert bundle.chosen([newest, cosigned, newer], 3) == cosigned
    assert bundle.chosen([newest, cosigned, newer], 4) == newer
    assert bundle.chosen([newest, cosigned, newer], 5) == newest
    assert bundle.chosen([newest, cosigned, newer], 6) is None


def test_an_entry_beyond_the_checkpoint_cannot_be_proven():
    log = samples.Log(*builders.directory_log(kg="member"))
    head = bundle.head(log.signed(), builders.LOG, ())
    with pytest.raises(ProofError):
        bundle.tiles([Row(2, b"")], head)
