"""The demo's processes: what they say is heard, what goes wrong is told, none is left behind."""

import asyncio
import os

import pytest

import hub.demo.processes
from hub.demo.processes import ProcessError, Processes, together

SAYS_AND_WAITS = "import time; print('ready', flush=True); time.sleep(600)"

# The grandchild ignores the request to end and outlives its parent.
LEAVES_A_GRANDCHILD = """
import os, signal, time
if os.fork():
    time.sleep(600)
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def heard():
    return asyncio.Queue()


@pytest.fixture
def processes(tmp_path, heard):
    return Processes(tmp_path, lambda name, line: heard.put_nowait((name, line)))


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_what_a_daemon_says_is_heard_and_kept(processes, heard, tmp_path):
    async with processes:
        await processes.start("kz", "python", "-c", SAYS_AND_WAITS)
        assert await heard.get() == ("kz", b"ready\n")

    assert (tmp_path / "kz.log").read_bytes() == b"ready\n"


async def test_whatever_a_process_started_ends_with_it(processes, heard, monkeypatch):
    monkeypatch.setattr(hub.demo.processes, "PATIENCE", 0.1)
    async with processes:
        await processes.start("kz", "python", "-c", LEAVES_A_GRANDCHILD)
        _, line = await heard.get()
        assert is_running(int(line))

    # The kernel takes the killed grandchild away a moment later.
    for _ in range(1000):
        if not is_running(int(line)):
            break
        await asyncio.sleep(0.01)
    assert not is_running(int(line))


async def test_a_daemon_that_ends_by_itself_ends_the_work_with_its_last_words(processes):
    async with processes:
        await processes.start("hub", "python", "-c", "print('the disk is full')")
        with pytest.raises(ProcessError, match="It said last: the disk is full"):
            await processes.guard(asyncio.Event().wait())


async def test_work_that_is_done_gives_its_result(processes):
    async with processes:
        assert await processes.guard(processes.run("python", "-c", "print('yes')")) == "yes\n"


async def test_a_command_that_fails_is_told_with_what_it_said(processes):
    with pytest.raises(ProcessError, match="ended with 3: no such message"):
        await processes.run(
            "python", "-c", "import sys; print('no such message', file=sys.stderr); sys.exit(3)"
        )


async def test_no_is_an_answer_where_it_may_be(processes):
    says_no = ("python", "-c", "print('{}'); raise SystemExit(1)")

    assert await processes.run(*says_no, may_say_no=True) == "{}\n"
    with pytest.raises(ProcessError):
        await processes.run(*says_no)
    with pytest.raises(ProcessError):
        await processes.run("python", "-c", "raise SystemExit(1)", may_say_no=True)


async def test_settings_of_another_hub_do_not_reach_the_demos(processes, monkeypatch):
    monkeypatch.setenv("NHRI_HTTP_PORT", "1")

    assert await processes.run(
        "python", "-c", "import os; print('NHRI_HTTP_PORT' in os.environ)"
    ) == ("False\n")


async def test_when_one_of_several_fails_the_others_stop():
    stopped = asyncio.Event()

    async def goes_on():
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async def fails():
        await asyncio.sleep(0)
        raise ProcessError("no")

    with pytest.raises(ProcessError):
        await together(goes_on(), fails())
    assert stopped.is_set()


async def test_a_program_that_is_not_installed_is_named(processes):
    with pytest.raises(ProcessError, match="nhri-nothing is not installed"):
        await processes.run("nhri-nothing")
