"""A hub for each test: a copy of one in which everybody has joined, started on a free port."""

import asyncio

import pytest

from hub import app
from tests import client
from tests.client import Clock

EVERYBODY = {
    "kz": "member",
    "kg": "member",
    "tj": "member",
    "tm": "member",
    "undp": "partner",
    "guest": "observer",
}


@pytest.fixture
def clock(monkeypatch):
    """The clock of every hub in this test."""
    made = Clock()
    monkeypatch.setattr(app, "_clock", made)
    return made


@pytest.fixture(scope="session")
def everybody_joined(tmp_path_factory):
    """The folder of a stopped hub whose directory is ``EVERYBODY``."""
    folder = tmp_path_factory.mktemp("everybody")

    async def prepare():
        async with client.running(client.new_settings(folder)) as hub:
            for code, role in EVERYBODY.items():
                await hub.operator.join(hub.participant(code), role)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "_clock", Clock())
        asyncio.run(prepare())
    return folder


@pytest.fixture
def settings(everybody_joined, tmp_path):
    """The settings of this test's own copy of the hub."""
    return client.copied(everybody_joined, tmp_path / "hub")


@pytest.fixture
async def hub(settings, clock):
    """The running hub."""
    async with client.running(settings) as running:
        yield running


@pytest.fixture
def kz(hub):
    return hub.participant("kz")


@pytest.fixture
def kg(hub):
    return hub.participant("kg")
