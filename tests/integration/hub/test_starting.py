"""Starting and stopping: what is in the way is named, and a restart changes nothing."""

import asyncio
import socket
import stat
import sys

import pytest
from msgspec.structs import replace

from hub.settings import StartError
from tests import client
from tests.ports import free_port


async def refusal(settings):
    with pytest.raises(StartError) as caught:
        async with client.running(settings):
            pass
    return str(caught.value)


async def test_a_port_in_use_is_named(settings, clock):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        told = await refusal(replace(settings, http=replace(settings.http, port=port)))
    assert told == (
        f"The HTTP door cannot listen on 127.0.0.1:{port} (Address already in use); "
        "stop the other program or set http.port."
    )


async def test_an_address_that_is_not_ours_is_named(settings, clock):
    told = await refusal(replace(settings, http=replace(settings.http, host="192.0.2.1")))
    assert told.startswith("The HTTP door cannot listen on 192.0.2.1:")


async def test_a_hub_that_could_not_start_leaves_everything_to_the_next(settings, clock):
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.http.port))
        other.listen()
        await refusal(settings)
    async with client.running(settings) as hub:
        assert (await hub.participant("kz").send()).status == 201


async def test_a_hub_of_which_a_part_ends_stops_to_be_started_again(settings):
    broken = "from hub import upkeep\nasync def run(*_): raise OSError('no more')\nupkeep.run = run"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"{broken}\nfrom hub.cli.main import main\nmain()"),
        *("serve", "--config", f"{settings.folder}/hub.toml"),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b'"task.ended"' in said
    assert b"no more" in said


async def test_a_second_hub_on_the_same_folder_is_refused(hub, settings):
    other = replace(settings, http=replace(settings.http, port=free_port()))
    assert "Another hub is using the database" in await refusal(other)
    assert (await hub.operator.get("/livez")).status == 200


async def test_a_full_disk_is_named(settings, clock, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("hub.store.journal._write_log", full)
    told = await refusal(settings)
    assert told == "The log cannot be written: No space left on device."


async def test_the_socket_is_for_its_owner_alone_and_goes_with_the_hub(settings, clock):
    async with client.running(settings):
        mode = settings.socket.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert not settings.socket.exists()


async def test_a_socket_left_behind_by_a_crash_is_not_in_the_way(settings, clock):
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(settings.socket))
    async with client.running(settings) as hub:
        assert (await hub.operator.get("/livez")).status == 200


async def test_a_folder_for_the_socket_that_others_made_is_refused(settings, clock, tmp_path):
    long = tmp_path / ("n" * 100)
    long.mkdir()
    (tmp_path / "hub").rename(long / "hub")
    moved = replace(settings, folder=str(long / "hub"))
    folder = moved.socket.parent
    assert folder != long / "hub"
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o755)
    try:
        assert f"The folder {folder} must be ours alone" in await refusal(moved)
    finally:
        folder.chmod(0o700)


async def test_starts_and_stops_are_in_the_log(settings, clock):
    for _ in range(2):
        async with client.running(settings):
            pass
    async with client.running(settings) as hub:
        answer = await hub.operator.get("/v1/audit/events", limit=500)
        kinds = [event["entry"]["type"] for event in answer["events"]]
        assert [kind for kind in kinds if kind.startswith("hub.")] == [
            "hub.started",
            "hub.stopped",
        ] * 3 + ["hub.started"]


async def test_a_restart_changes_nothing(settings, clock):
    async with client.running(settings) as hub:
        kz, kg = hub.participant("kz"), hub.participant("kg")
        envelope = kz.sign(kz.message())
        first = await kz.submit(envelope)
        inbox = await kg.inbox()
    async with client.running(settings) as hub:
        kz, kg = hub.participant("kz"), hub.participant("kg")
        assert await kg.inbox() == inbox
        again = await kz.submit(envelope)
        assert (again.status, again.body) == (200, first.body)
        assert (await kz.send()).status == 201
        assert [position for position, _ in await kg.inbox()] == [1, 2]
