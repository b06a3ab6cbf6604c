"""Messages that webhooks are made of: at hand while there is room, and gone when erased."""

import pytest

from hub.delivery import events, keyring
from hub.delivery.deliveries import Sent
from hub.delivery.events import Events
from tests.builders import LOG_KEY, ORIGIN, acceptance, message, message_id, signed

KEYS = keyring.of_log_key(ORIGIN, LOG_KEY)


class Stored:
    """Messages in a database, and what was read of them."""

    def __init__(self):
        self.read: list[int] = []
        self.meanwhile = lambda: None

    async def sent(self, indices):
        self.read += indices
        self.meanwhile()
        return {index: self._message(index) for index in indices}

    def _message(self, index):
        envelope = signed(message(id=message_id(index), marking="TLP:CLEAR"))
        return Sent(index, message_id(index), "TLP:CLEAR", None, acceptance(envelope), envelope)


@pytest.fixture
def stored():
    return Stored()


@pytest.fixture
def made(stored):
    return Events(KEYS, stored.sent)


async def test_what_was_loaded_is_not_read_again(made, stored):
    await made.load({3, 1, 2})
    assert [(await made.get(index)).sent.index for index in (1, 2, 3)] == [1, 2, 3]
    assert stored.read == [1, 2, 3]


async def test_all_who_want_the_same_languages_get_the_same_event(made):
    found = await made.get(1)
    event = made.event(found, ("en",))
    assert made.event(await made.get(1), ("en",)) is event
    assert made.event(found, ("ru",)) is not event


async def test_no_more_is_kept_than_there_is_room_for(made, stored, monkeypatch):
    one = await made.get(0)
    made.event(one, ())
    monkeypatch.setattr(events, "MAX_BODIES", 3 * one.size)
    for index in range(1, 20):
        made.event(await made.get(index), ())
        assert sum(each.size for each in made._kept.values()) == made._size <= 3 * one.size
    await made.get(19)
    await made.get(0)
    assert stored.read == [*range(20), 0]


async def test_more_than_there_is_room_for_is_not_read_ahead(made, stored, monkeypatch):
    monkeypatch.setattr(events, "READ_AT_ONCE", 2)
    monkeypatch.setattr(events, "MAX_BODIES", (await made.get(0)).size * 5)
    await made.load(set(range(1, 100)))
    assert stored.read == [0, 1, 2, 3, 4]


async def test_one_that_is_larger_than_all_room_is_still_there_for_its_post(made, monkeypatch):
    monkeypatch.setattr(events, "MAX_BODIES", 1)
    for index in (1, 2):
        found = await made.get(index)
        assert not found.erased
        assert made.event(found, ()).body


async def test_what_is_erased_is_gone_also_for_whoever_has_it_in_hand(made):
    found = await made.get(1)
    made.event(found, ())
    made.erase([message_id(1)])
    assert found.erased
    assert (await made.get(1)).erased
    assert made._size == 0


async def test_what_is_erased_while_it_is_read_is_gone(made, stored):
    stored.meanwhile = lambda: made.erase([message_id(1)])
    await made.load({1, 2})
    assert [(await made.get(index)).erased for index in (1, 2)] == [True, False]
    assert not made._erased
