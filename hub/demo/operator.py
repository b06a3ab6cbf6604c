"""The operator at the hub's own socket: whom to let in.

Within the orchestrator's process: forty commands would take longer to start than all the messages
take to travel.
"""

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

from hub.demo.processes import ProcessError
from hub.settings import load
from schemas import jsontext


class Profile(msgspec.Struct, frozen=True):
    """What an invitation takes from an institution's profile."""

    code: str
    role: str
    names: dict[str, str]
    country: str | None = None


class Waiting(msgspec.Struct, frozen=True):
    """A request to join, as the hub shows it to the operator."""

    fingerprint: str


class Status(msgspec.Struct, frozen=True):
    """The size of the log, and of the last checkpoint that has a quorum of witnesses."""

    log_size: int
    quorum_size: int | None


class Token(msgspec.Struct, frozen=True):
    """A new token, shown once."""

    token: str


def profile(path: Path) -> Profile:
    """The profile in a TOML file that comes with the connectors."""
    return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Profile)


class Operator:
    """Whoever may open the socket is the hub's operator."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def invite(self, invited: Profile, bundle: Path) -> None:
        """Invite an institution; its bundle goes into a file."""
        answer = await self._ask("POST", "/v1/members", invited)
        _write_private(bundle, answer)

    async def fingerprint(self, code: str) -> str:
        """The fingerprint that the hub shows for a request to join."""
        answer = await self._ask("GET", f"/v1/members/{code}/join")
        return jsontext.decode(answer, Waiting).fingerprint

    async def approve(self, code: str, digits: str) -> None:
        """Let an institution in, under the fingerprint that was compared."""
        await self._ask("POST", f"/v1/members/{code}/approve", {"fingerprint": digits})

    async def make_token(self, account: str, scopes: list[str], file: Path) -> None:
        """Make a token for somebody who asks the hub from elsewhere."""
        answer = await self._ask("POST", "/v1/tokens", {"account": account, "scopes": scopes})
        token = jsontext.decode(answer, Token).token
        _write_private(file, f"{token}\n".encode())

    async def status(self) -> Status:
        """How far the hub and the witnesses are."""
        return jsontext.convert(jsontext.parse(await self._ask("GET", "/v1/status")), Status)

    async def _ask(self, method: str, path: str, body: object = None) -> bytes:
        data = None if body is None else jsontext.encode(body)
        async with self._session.request(method, path, data=data) as response:
            answer = await response.read()
        if response.status >= 300:
            raise ProcessError(f"The hub did not do {method} {path}: {answer.decode()}")
        return answer


@asynccontextmanager
async def at(settings: Path) -> AsyncIterator[Operator]:
    """The operator of the hub with these settings, which runs on this machine."""
    connector = aiohttp.UnixConnector(str(load(settings).socket))
    async with aiohttp.ClientSession("http://localhost", connector=connector) as session:
        yield Operator(session)


def _write_private(path: Path, data: bytes) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(data)
