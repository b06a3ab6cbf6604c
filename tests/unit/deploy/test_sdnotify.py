"""What hub and connector tell systemd; the units of deploy/systemd rely on it."""

import asyncio
import inspect
import os
import socket

import pytest

import connectors.sdnotify
import hub.sdnotify

SIDES = [hub.sdnotify, connectors.sdnotify]


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.setblocking(False)

    async def hear(self) -> str:
        async with asyncio.timeout(90):
            raw = await asyncio.get_running_loop().sock_recv(self._socket, 100)
        return raw.decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path, monkeypatch):
    name = f"@nhri-test-{os.getpid()}-{tmp_path.name}"
    address = name if request.param == "abstract" else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    listening = Systemd(address)
    yield listening
    listening.close()


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.__name__)
async def test_systemd_hears_that_a_service_is_ready_and_that_it_stops(side, systemd):
    async with side.told():
        assert await systemd.hear() == "READY=1"
    assert await systemd.hear() == "STOPPING=1"


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.__name__)
async def test_with_a_watchdog_there_is_a_sign_of_life_again_and_again(side, systemd, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    async with side.told():
        heard = [await systemd.hear() for _ in range(4)]
    assert heard == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.__name__)
async def test_the_watchdog_of_another_process_is_left_alone(side, systemd, monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    async with side.told():
        assert await systemd.hear() == "READY=1"
        await asyncio.sleep(0)  # the task that would give the sign has run
    assert await systemd.hear() == "STOPPING=1"


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.__name__)
async def test_a_socket_that_is_gone_stops_nobody(side, systemd):
    systemd.close()
    async with side.told():
        pass


@pytest.mark.parametrize("side", SIDES, ids=lambda side: side.__name__)
async def test_without_systemd_nothing_is_told(side, monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setattr(side.socket, "socket", None)
    async with side.told():
        await asyncio.sleep(0)


def test_both_sides_tell_the_same():
    # They share nothing but schemas, which does no I/O: the few lines stand twice.
    assert inspect.getsource(hub.sdnotify) == inspect.getsource(connectors.sdnotify)
