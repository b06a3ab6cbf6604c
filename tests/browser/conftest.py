"""One hub and one browser for the tests of a file; whoever changes the hub's standing says so."""

import shutil
import tempfile
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright

from hub import app
from tests import chromium, client
from tests.browser.console import Console, exchange
from tests.client import Clock

ARGUMENTS = (
    *("--no-sandbox", "--disable-dev-shm-usage"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    """Debian's Chromium; it reaches nothing but this machine, by its number."""
    program = next(filter(None, map(shutil.which, chromium.PROGRAMS)), None)
    assert program, "Chromium is missing: deploy/setup.sh chromium installs it"
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=program, args=[*ARGUMENTS])
        yield opened
        await opened.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def console(browser):
    """A hub with a history, seen in the browser."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(app, "_clock", clock)
        async with client.running(client.new_settings(Path(folder) / "hub")) as hub:
            await exchange(hub)
            await hub.indexed()
            yield Console(hub, browser, clock)
