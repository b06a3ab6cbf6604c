"""The job of erasing: what it records, what it writes, and when it refuses."""

import pytest

from hub.intake.admission import Known
from hub.intake.batch import MAX_ENTRIES
from hub.intake.erasure import Erase
from schemas import jsontext
from schemas.refusal import Refused
from tests.builders import message_id
from tests.unit.hub.intake.working import batch, recorded

REASON = "The person named in it asked for it."
KNOWN = {message_id(): Known(3, "kz", "x" * 43)}
COPIES = {"kg": "received", "tj": "waiting", "tm": "expired", "uz": "read"}


def erase():
    return Erase(message_id(), "account:anna", REASON)


def made(known=KNOWN, **copies):
    return batch(messages=dict(known), copies={message_id(): copies or COPIES})


def test_it_records_the_decision_and_from_whom_the_message_is_kept():
    working = made()
    outcome = erase().decide(working)
    assert recorded(working) == [
        ("message.erased", "account:anna", message_id(), {}),
        ("delivery.erased", "hub", message_id(), {}),
    ]
    assert len(working.entries) == MAX_ENTRIES
    decided, kept_from = (jsontext.parse(entry.private) for entry in working.entries)
    assert decided == {"reason": REASON, "received": ["kg", "uz"], "waiting": ["tj"]}
    assert kept_from == {"recipients": ["tj"]}
    assert outcome.index == working.entries[0].index
    assert working.touched == {"tj"}


def test_it_erases_the_message_and_ends_the_waiting():
    working = made()
    index = erase().decide(working).index
    assert working.rows == {
        "erase": [{"erased_id": message_id(), "decision": index}],
        "copies_erased": [{"its_id": message_id()}],
    }


def test_where_nobody_waits_there_is_no_word_about_copies():
    working = made(kg="received")
    erase().decide(working)
    assert [kind for kind, *_ in recorded(working)] == ["message.erased"]


def test_later_jobs_of_the_batch_know_of_it():
    working = made()
    index = erase().decide(working).index
    assert working.facts.messages[message_id()] == Known(3, "kz", None, index)
    with pytest.raises(Refused, match=f"conflict: Entry {index} erased"):
        erase().decide(working)


def test_what_only_a_restore_has_erased_can_still_be_decided():
    working = made({message_id(): Known(3, "kz", None)})
    assert erase().decide(working).index is not None


@pytest.mark.parametrize("facts", [{}, {"messages": KNOWN}])
def test_what_was_never_accepted_or_is_just_being_recorded_is_not_found(facts):
    working = batch(**facts)
    with pytest.raises(Refused, match="not-found"):
        erase().decide(working)
    assert (working.entries, working.rows) == ([], {})
