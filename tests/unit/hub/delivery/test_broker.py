"""How soon a connection to the broker is tried again, and what one that goes silent leaves."""

import asyncio
import contextlib

import pytest
from pamqp import commands, frame
from pamqp.common import FieldTable

from hub.delivery import broker
from hub.delivery.broker import FIRST_PAUSE, LONGEST_PAUSE, Ended


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


class TestABrokerThatGoesSilent:
    """It greets, and says nothing any more from the first channel on."""

    @pytest.fixture
    async def url(self, monkeypatch):
        monkeypatch.setattr(broker, "HEARTBEAT", 1)
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        async with server:
            yield f"amqp://kz:x@127.0.0.1:{server.sockets[0].getsockname()[1]}/nhri"

    async def serve(self, reader, writer):
        capable: FieldTable = {"capabilities": {"publisher_confirms": True}}
        for said in (
            commands.Connection.Start(0, 9, capable, "PLAIN", "en_US"),
            commands.Connection.Tune(2047, 131_072, 1),
            commands.Connection.OpenOk(),
        ):
            await reader.read(4_096)
            writer.write(frame.marshal(said, 0))
        with contextlib.suppress(ConnectionError):
            while await reader.read(4_096):
                pass
        writer.close()

    async def test_cannot_be_asked_whether_it_takes_something(self, url):
        with pytest.raises((Ended, TimeoutError)):
            await broker.takes(url, "kz")
