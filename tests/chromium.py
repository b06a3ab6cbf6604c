"""A headless Chromium on a free port, spoken to by the DevTools protocol; it reaches no network."""

import asyncio
import base64
import contextlib
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
"""As in deploy/setup.sh."""

_ALONE = (
    *("--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--no-sandbox", "--disable-dev-shm-usage"),  # in containers there is often neither
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-port=0"),
)


class Failed(Exception):
    """The browser did not do as it was told, or a script threw."""


class Page:
    """One tab. ``requests`` are the addresses that it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)

    async def tell(self, method: str, **parameters: object) -> dict[str, object]:
        """One command and its result; events that come in between are noted."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=30)
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("id") == number:
                if "error" in answer:
                    raise Failed(answer["error"])
                result = answer["result"]
                assert isinstance(result, dict)
                return result

    async def evaluate(self, expression: str):
        """The value of an expression; a promise is awaited."""
        answer = await self.tell(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise Failed(answer["exceptionDetails"])
        result = answer["result"]
        assert isinstance(result, dict)
        return result.get("value")

    async def open(self, url: str) -> None:
        """Go to an address."""
        self.requests.clear()
        await self.tell("Page.navigate", url=url)

    async def until(self, condition: str) -> None:
        """Wait for a condition in JavaScript; while a document loads it may throw."""
        for _ in range(600):
            with contextlib.suppress(Failed):
                if await self.evaluate(f"Boolean({condition})"):
                    return
            await asyncio.sleep(0.05)
        raise AssertionError(f"{condition}: not within 30 seconds")

    async def resize(self, width: int, height: int) -> None:
        """The size of the window."""
        await self.tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def screenshot(self) -> bytes:
        """What the window shows, as PNG."""
        answer = await self.tell("Page.captureScreenshot", format="png")
        return base64.b64decode(str(answer["data"]))


@asynccontextmanager
async def opened() -> AsyncIterator[Page]:
    """A browser with one empty tab."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, "Chromium is missing: deploy/setup.sh chromium installs it"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *(program, *_ALONE, f"--user-data-dir={profile}", "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            port = await _port(Path(profile), process)
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
                    tabs = await response.json()
                url = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
                async with session.ws_connect(url, max_msg_size=0) as socket:
                    page = Page(socket)
                    for domain in ("Page", "Network", "Runtime"):
                        await page.tell(f"{domain}.enable")
                    yield page
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _port(profile: Path, process: asyncio.subprocess.Process) -> int:
    """The port that the browser chose; it writes it down once it listens."""
    file = profile / "DevToolsActivePort"
    for _ in range(600):
        assert process.returncode is None, "the browser ended at once"
        text = file.read_text() if file.exists() else ""
        if "\n" in text:
            return int(text.split("\n")[0])
        await asyncio.sleep(0.05)
    raise AssertionError("the browser did not listen within 30 seconds")
