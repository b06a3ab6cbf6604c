"""The demo: a hub and eleven connectors on this machine, each a process of its own.

The orchestrator only does what people do, with the commands that they would type: as operator and
technicians it lets the participants in, as their staff it sends the records and answers the joint
actions, as auditor it has everything verified.
"""

import asyncio
import contextlib
import json
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from hub.demo import corpus
from hub.demo.corpus import MEMBERS, PARTICIPANTS, Record
from hub.demo.folder import Folder
from hub.demo.processes import Processes, executable, together
from hub.demo.show import Show
from hub.demo.traffic import Mail, Traffic
from schemas.statement import spoken

PROFILES: Final = Path(__file__).parents[2] / "connectors" / "profiles"

HUB: Final = "hub"

_NOTICE: Final = "notice"
_KINDS: Final = {corpus.BULLETIN: "bulletin", corpus.NOTICE: _NOTICE}


class Joined(msgspec.Struct, frozen=True):
    """What ``nhri-connector join`` tells."""

    fingerprint: str


class Queued(msgspec.Struct, frozen=True):
    """What ``send`` and ``respond`` tell of a message: its id, and its file or the notice's id."""

    id: str
    source: str


class Verified(msgspec.Struct, frozen=True):
    """What ``nhri-connector verify --all`` tells."""

    ok: bool


class Head(msgspec.Struct, frozen=True):
    """The size of a log that was verified."""

    size: int


class Audited(msgspec.Struct, frozen=True):
    """What ``nhri-hub audit verify`` tells; ``verified`` is None where the log does not hold."""

    ok: bool
    verified: Head | None
    problems: list[str] = []


class Demo:
    """One run in one folder."""

    def __init__(self, folder: Folder, port: int, records: Sequence[Record]) -> None:
        """``folder`` is prepared; ``port`` is the hub's on this machine."""
        self._folder = folder
        self._port = str(port)
        self._url = f"http://127.0.0.1:{port}"
        self._records = records
        self._names = {code: _english_name(code) for code in PARTICIPANTS}
        self._expected = sum(1 + len(_answering(record)) for record in records)
        self._show = Show(self._expected)
        self._traffic = Traffic(self._show.mail, self._show.counters)
        self._hub_ready = asyncio.Event()
        self._processes = Processes(folder.logs, self._hear)

    def _hear(self, name: str, line: bytes) -> None:
        if name != HUB:
            self._traffic.hear(name, line)
        elif b'"hub.ready"' in line:
            self._hub_ready.set()

    async def run(self, *, go_on: bool, once: bool) -> int:
        """The whole demo; gives the exit status.

        Args:
            go_on: the folder holds an earlier demo; what was done is not done again.
            once: end after the verification instead of staying up.

        Raises:
            ProcessError: a program of the demo failed.
        """
        async with self._processes:
            await self._processes.guard(self._begin(go_on=go_on))
            await self._processes.guard(self._exchange())
            verified = await self._processes.guard(self._verify())
            if verified and not once:
                self._suggest()
                with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C is the way to end it
                    await self._processes.guard(_for_ever())
        return 0 if verified else 1

    # --- Beginning ---

    async def _begin(self, *, go_on: bool) -> None:
        self._show.title(f"The hub is at {self._url}, all files in {self._folder.path}")
        if go_on:
            self._show.say("This folder holds a demo already: it goes on where it stopped.")
            self._remember()
            await self._start_hub()
            await together(*(self._start_connector(code) for code in PARTICIPANTS))
        else:
            await self._found_hub()
            self._show.title("Everybody joins; technician and operator compare the fingerprint")
            await together(*(self._join(code) for code in PARTICIPANTS))

    def _remember(self) -> None:
        """Take in what the daemons told of the messages when they ran before."""
        for code in PARTICIPANTS:
            log = self._folder.log(code)
            for line in log.read_bytes().splitlines() if log.exists() else ():
                self._traffic.hear(code, line)
        self._traffic.remember()

    async def _found_hub(self) -> None:
        await self._processes.run(
            "nhri-hub", "init", self._folder.path, "--name", "localhost", "--port", self._port
        )
        await self._start_hub()
        await together(
            self._token("operator", "operator", "auditor", "log"),
            self._token("auditor", "auditor", "log"),
        )

    async def _token(self, account: str, *scopes: str) -> None:
        opens = [word for scope in scopes for word in ("--scope", scope)]
        await self._hub("token", "create", account, *opens, "-o", self._folder.token(account))

    async def _join(self, code: str) -> None:
        """Invite, join, compare and approve; then the participant's daemon runs."""
        bundle = self._folder.bundle(code)
        await self._hub("member", "invite", code, "--profile", _profile(code), "-o", bundle)
        answer = await self._connector(code, "join", bundle, "--json")
        digits = msgspec.json.decode(answer, type=Joined).fingerprint
        # The technician reads the digits out; the hub lets nobody in under any others.
        await self._hub("member", "approve", code, "--fingerprint", digits)
        self._show.joined(code, self._names[code], spoken(digits))
        await self._start_connector(code)

    async def _start_hub(self) -> None:
        await self._processes.start(HUB, "nhri-hub", "serve", "--config", self._folder.hub)
        await self._hub_ready.wait()

    async def _start_connector(self, code: str) -> None:
        config = self._folder.connector(code)
        await self._processes.start(code, "nhri-connector", "run", "--config", config)

    # --- Exchanging ---

    async def _exchange(self) -> None:
        self._show.title(
            f"{len(self._records)} records travel; each ✓ is a signed receipt come back"
        )
        with self._show.counting():
            await together(*(self._send(code) for code in PARTICIPANTS))
            await self._traffic.until(lambda traffic: traffic.settled >= len(self._records))
            await together(*(self._answer(code) for code in MEMBERS))
            await self._traffic.until(lambda traffic: traffic.settled >= self._expected)

    async def _send(self, code: str) -> None:
        """Send the records of one institution that were not sent before, all in one go."""
        files = {str(file): record for file, record in self._files(code)}
        sent = self._folder.sent(code)
        if files and not sent.exists():
            sent.write_text(await self._connector(code, "send", *files, "--json"), "utf-8")
        queued = msgspec.json.decode(sent.read_bytes(), type=list[Queued]) if files else []
        for message in queued:
            record = files[message.source]
            kind = _KINDS[corpus.kind(record)]
            self._traffic.expect(Mail(message.id, code, record.title["en"], kind))

    def _files(self, code: str) -> Iterator[tuple[Path, Record]]:
        """The message files of one sender, written where they are not there."""
        now = datetime.now(UTC)
        for record in self._records:
            if corpus.sender(record) == code:
                file = self._folder.message(code, record.id)
                if not file.exists():
                    said = corpus.message_file(record, self._names, now)
                    file.parent.mkdir(exist_ok=True)
                    file.write_text(json.dumps(said, ensure_ascii=False, indent=2), "utf-8")
                yield file, record

    async def _answer(self, code: str) -> None:
        """Accept every joint action that a member was invited to and has not answered."""
        answer = await self._connector(code, "respond", "accept", "--all-open", "--json")
        for message in msgspec.json.decode(answer, type=list[Queued]):
            title = self._traffic.mails[message.source].title
            self._traffic.expect(Mail(message.id, code, title, "accepts"))

    # --- Verifying ---

    async def _verify(self) -> bool:
        """Have everybody verify everything, and tell the result; True when nothing is missing."""
        self._show.title("Everybody verifies every message and receipt; an auditor the whole log")
        checks = await together(*map(self._verified_by, PARTICIPANTS))
        answer = await self._processes.run(
            "nhri-hub",
            *("audit", "verify", "--json", "--config", self._folder.hub),
            *("--hub", self._url, "--token-file", self._folder.token("auditor")),
            may_say_no=True,
        )
        audited = msgspec.json.decode(answer, type=Audited)
        missing = [*self._missing(), *filter(None, checks)]
        if not audited.ok:
            missing.append("The log does not hold: " + " ".join(audited.problems))
        for sentence in missing:
            self._show.say(sentence, "red")
        traffic, size = self._traffic, audited.verified.size if audited.verified else 0
        self._show.last(
            f"demo: accepted={traffic.accepted} refused={traffic.refused}"
            f" deliveries={traffic.deliveries}/{traffic.wanted}"
            f" receipts={traffic.receipts}/{traffic.wanted} log={size}"
            + ("" if missing else " verified")
        )
        return not missing

    async def _verified_by(self, code: str) -> str | None:
        """What a participant's own verification finds wrong, if anything."""
        answer = await self._connector(code, "verify", "--all", "--json", may_say_no=True)
        verified = msgspec.json.decode(answer, type=Verified)
        return None if verified.ok else f"{code} could not verify all that it holds: {answer}"

    def _missing(self) -> Iterator[str]:
        """What fell short, a sentence each."""
        traffic = self._traffic
        if traffic.accepted < self._expected:
            yield f"Only {traffic.accepted} of {self._expected} messages were accepted."
        for mail in traffic.mails.values():
            if mail.refusal is not None:
                yield f"The hub refused {mail.id} ({mail.title}): {mail.refusal}"
            elif mail.accepted and not mail.settled:
                without = ", ".join(sorted(mail.recipients - mail.receipts))
                yield f"No receipt from {without} came back to {mail.sender} for {mail.id}."
        yield from (f"Alarm at {alarm}" for alarm in traffic.alarms)

    def _suggest(self) -> None:
        """Three commands to go on with; everything runs until Ctrl-C."""
        mails = [mail for mail in self._traffic.mails.values() if mail.sender]
        most = max(mails, key=lambda mail: (mail.kind == _NOTICE, len(mail.recipients)))
        connector, hub = executable("nhri-connector"), executable("nhri-hub")
        inbox = ("--config", self._folder.connector("kz"))
        self._show.command(connector, "inbox", *inbox, note="what Kazakhstan received")
        show = ("show", most.id, "--config", self._folder.connector(most.sender))
        self._show.command(connector, *show, note="a joint action and who signed it")
        way = ("audit", "show", most.id, "--config", self._folder.hub)
        self._show.command(hub, *way, note="its way; Ctrl-C ends the demo")

    # --- Commands ---

    async def _hub(self, *arguments: str | Path) -> str:
        return await self._processes.run("nhri-hub", *arguments, "--config", self._folder.hub)

    async def _connector(self, code: str, *arguments: str | Path, may_say_no: bool = False) -> str:
        config = ("--config", self._folder.connector(code))
        return await self._processes.run(
            "nhri-connector", *arguments, *config, may_say_no=may_say_no
        )


def _answering(record: Record) -> tuple[str, ...]:
    return corpus.invited(record) if corpus.kind(record) == corpus.NOTICE else ()


def _profile(code: str) -> Path:
    return PROFILES / f"{code}.toml"


def _english_name(code: str) -> str:
    profile = tomllib.loads(_profile(code).read_text("utf-8"))
    return msgspec.convert(profile["names"]["en"], str)


async def _for_ever() -> None:
    await asyncio.Event().wait()
