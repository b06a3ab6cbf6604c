"""The hub's own log (standard error) is a convenience: the exchange goes on without it."""

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from tests import client
from tests.client import Account, Connection, Participant

SERVE = (sys.executable, "-c", "from hub.cli.main import main; main()", "serve", "--config")


@pytest.fixture
def full():
    """A file on a disk on which nothing more can be written."""
    with Path("/dev/full").open("wb") as file:
        yield file


async def test_messages_are_accepted_though_the_disk_of_the_log_is_full(tmp_path, full):
    settings = client.new_settings(tmp_path)
    process = await asyncio.create_subprocess_exec(*SERVE, tmp_path / "hub.toml", stderr=full)
    async with client.connected(settings) as (http, local):
        operator = Account(local)
        await answers(local, process)
        kz = Participant(Connection(http, settings.url), "kz", lambda: datetime.now(UTC))
        kg = Participant(Connection(http, settings.url), "kg", lambda: datetime.now(UTC))
        for participant in (kz, kg):
            await operator.join(participant)
        assert (await kz.send(audience=["kg"])).status == 201
        assert (await kz.submit(b"junk")).code == "malformed"
        assert (await operator.get("/v1/status"))["store_failing"] is None
    process.terminate()
    assert await process.wait() == 0


async def answers(local, process):
    """Until the hub's doors are open."""
    while process.returncode is None:
        try:
            if (await local.request("GET", "/readyz")).status == 200:
                return
        except aiohttp.ClientError:
            await asyncio.sleep(0.01)
    raise AssertionError("the hub did not start")
