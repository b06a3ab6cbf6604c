"""The jobs of holding a message: what they record, when they refuse, and what no longer goes."""

import pytest

from hub.intake.admission import Known
from hub.intake.erasure import Erase
from hub.intake.hold import Hold
from schemas import jsontext
from schemas.refusal import Refused
from tests.builders import message_id
from tests.unit.hub.intake.working import batch, recorded

REASON = "Case 7/26 of a court."
KNOWN = Known(3, "kz", "x" * 43)
GONE = Known(3, "kz", None)


def hold(*, release=False):
    return Hold(message_id(), "account:anna", REASON, release=release)


def erase():
    return Erase(message_id(), "account:anna", REASON)


def made(known=KNOWN, **holds):
    return batch(messages={message_id(): known}, copies={message_id(): {}}, **holds)


def test_holding_is_one_entry_with_its_reason_in_private():
    working = made()
    outcome = hold().decide(working)
    assert recorded(working) == [("message.held", "account:anna", message_id(), {})]
    assert jsontext.parse(working.entries[0].private) == {"reason": REASON}
    assert outcome.index == working.entries[0].index
    assert working.rows == {}


def test_what_is_held_is_not_erased_before_it_is_released():
    working = made()
    index = hold().decide(working).index
    with pytest.raises(Refused, match=f"conflict: Entry {index} holds this message"):
        erase().decide(working)
    hold(release=True).decide(working)
    erase().decide(working)
    kinds = [kind for kind, *_ in recorded(working)]
    assert kinds == ["message.held", "message.released", "message.erased"]


def test_what_is_held_is_not_held_again():
    with pytest.raises(Refused, match="conflict: Entry 9 holds this message already"):
        hold().decide(made(holds={message_id(): 9}))


def test_what_is_not_held_is_not_released():
    with pytest.raises(Refused, match="conflict: Nothing holds"):
        hold(release=True).decide(made())


def test_there_is_nothing_to_hold_of_what_was_erased_or_never_came():
    with pytest.raises(Refused, match="conflict: This message was erased"):
        hold().decide(made(GONE))
    with pytest.raises(Refused, match="not-found"):
        hold().decide(batch())


def test_what_only_a_restore_has_erased_can_be_decided_though_it_was_held():
    working = made(GONE, holds={message_id(): 9})
    assert erase().decide(working).index is not None
