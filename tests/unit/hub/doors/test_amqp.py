"""What the AMQP door answers: together as far as it fits, and each answer to its own message."""

import pytest

from hub.delivery import topology
from hub.delivery.broker import Unconfirmed
from hub.doors.amqp import AmqpDoor, Incoming
from schemas import amqp, jsontext
from schemas.acceptance import Acceptance


class Publisher:
    """Keeps what it was given, and does not take what ``refused`` names."""

    def __init__(self):
        self.sent: list[tuple[str, str, bytes]] = []
        self.refused: set[str] = set()

    async def answer(self, code, kind, body):
        encoded = jsontext.encode(body)
        if any(name.encode() in encoded for name in self.refused):
            raise Unconfirmed("a test")
        self.sent.append((code, kind, encoded))


@pytest.fixture
def publisher():
    return Publisher()


@pytest.fixture
def door(publisher):
    return AmqpDoor(None, publisher)  # type: ignore[arg-type]  # no hub is asked


def submitted(user, tag):
    return Incoming(b"", user, user, amqp.MESSAGE, f"id-{tag}", None, False, tag)


def accepted(tag, size):
    """An acceptance of so many bytes."""
    return amqp.Accepted(f"id-{tag}", Acceptance("e" * size, None, None, "proof\n"))


def ids(sent):
    return [
        (code, [one.id for one in jsontext.decode(body, amqp.Acceptances).acceptances])
        for code, _, body in sent
    ]


async def test_the_answers_to_one_sender_go_together(door, publisher):
    burst = [submitted(user, tag) for tag, user in enumerate(("kz", "kg", "kz"))]
    problems = await door._send(burst, [accepted(tag, 700) for tag in range(3)])
    assert problems == [None] * 3
    assert ids(publisher.sent) == [("kz", ["id-0", "id-2"]), ("kg", ["id-1"])]


@pytest.mark.parametrize("size", [11_000, 300_000])
async def test_they_are_parted_where_the_broker_would_not_take_them(door, publisher, size):
    burst = [submitted("kz", tag) for tag in range(128)]
    problems = await door._send(burst, [accepted(tag, size) for tag in range(128)])
    assert problems == [None] * 128
    assert max(len(body) for _, _, body in publisher.sent) < topology.MAX_MESSAGE / 2
    answered = [each for _, some in ids(publisher.sent) for each in some]
    assert answered == [f"id-{tag}" for tag in range(128)]


async def test_what_the_broker_did_not_take_is_known_by_its_message(door, publisher):
    publisher.refused.add('id-3"')
    burst = [submitted("kz", tag) for tag in range(5)]
    problems = await door._send(burst, [accepted(tag, 300_000) for tag in range(5)])
    assert [place for place, problem in enumerate(problems) if problem is not None] == [3]
