"""How soon a connection to the broker is tried again."""

import asyncio

import pytest

from hub.delivery import broker
from hub.delivery.broker import FIRST_PAUSE, LONGEST_PAUSE


class TestThePauseBetweenTwoAttempts:
    @pytest.fixture
    def pauses(self, monkeypatch):
        """The pauses after attempts whose connections lasted so many seconds."""

        async def kept(*lasted):
            attempts = iter(lasted)
            made: list[float] = []

            async def attempt(*_):
                return "a reason", next(attempts)

            async def use(connection):
                raise AssertionError(connection)

            async def sleep(seconds):
                made.append(seconds)
                if len(made) == len(lasted):
                    raise asyncio.CancelledError

            monkeypatch.setattr(broker, "_attempt", attempt)
            monkeypatch.setattr(asyncio, "sleep", sleep)
            with pytest.raises(asyncio.CancelledError):
                await broker.keep(lambda: "amqp://broker", "hub.test", use)
            return made

        return kept

    async def test_doubles_while_none_comes_about(self, pauses):
        made = await pauses(*[0.0] * 6)
        assert made == [FIRST_PAUSE, 1.0, 2.0, 4.0, LONGEST_PAUSE, LONGEST_PAUSE]

    async def test_stays_short_on_a_line_that_is_cut_every_few_seconds(self, pauses):
        assert await pauses(6.0, 6.0, 6.0) == [FIRST_PAUSE] * 3

    async def test_doubles_while_connections_end_as_soon_as_they_are_made(self, pauses):
        assert await pauses(0.01, 0.01, 0.01) == [FIRST_PAUSE, 1.0, 2.0]

    async def test_begins_again_when_one_has_outlasted_it(self, pauses):
        assert await pauses(0.0, 0.0, 3.0, 0.0) == [FIRST_PAUSE, 1.0, FIRST_PAUSE, 1.0]
