"""The demo: a hub and eleven connectors on this machine, each a process of its own.

The orchestrator only does what people do, with the commands that they would type: as operator and
technicians it lets the participants in, as their staff it sends the records and answers the joint
actions, as auditor it has everything verified.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from hub.demo import broker, corpus, operator, webhooks, wishes
from hub.demo.broker import Addresses
from hub.demo.corpus import CONFIDENTIAL, MEMBERS, PARTICIPANTS, Record
from hub.demo.folder import Folder
from hub.demo.operator import Operator
from hub.demo.partner import Partner
from hub.demo.processes import ProcessError, Processes, executable, together
from hub.demo.show import Show
from hub.demo.traffic import Mail, Traffic
from hub.demo.webhooks import Receivers, Trusted
from hub.demo.wishes import WISHES, Wish
from hub.settings import load
from schemas import joint_action
from schemas.joint_action import Answer
from schemas.kinds.joint_action_notice import JointActionNotice
from schemas.statement import spoken

PROFILES: Final = Path(__file__).parents[2] / "connectors" / "profiles"

HUB: Final = "hub"
"""The name of the hub's process."""

_TOKENS: Final = {
    "operator": ["operator", "auditor", "log"],
    "auditor": ["auditor", "log"],
}

_WITNESS_SECONDS: Final = 60
"""How long the witnesses may take in the end; each looks every five."""

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
    """What ``nhri-connector verify --all`` tells: how many of what hold, and what does not."""

    checked: dict[str, int]
    problems: list[str]


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
        self._records = (*records, CONFIDENTIAL)
        self._profiles = {c: operator.profile(PROFILES / f"{c}.toml") for c in PARTICIPANTS}
        self._names = {code: profile.names["en"] for code, profile in self._profiles.items()}
        self._expected = sum(1 + len(_answering(record)) for record in self._records)
        self._show = Show(self._expected)
        self._traffic = Traffic(self._show.mail, self._show.counters)
        self._notices: dict[str, Record] = {}
        self._due: dict[str, set[str]] = {wish.owner: set() for wish in WISHES}
        self._receivers = Receivers([])
        self._hub_ready = asyncio.Event()
        self._addresses: Addresses | None = None
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
        self._show.title(f"The hub is at {self._url}, all files in {self._folder.path}")
        async with contextlib.AsyncExitStack() as servers, self._processes:
            if go_on:
                self._show.say("  This folder holds a demo already: it goes on where it stopped.")
            else:
                name = ("--name", "localhost", "--port", self._port)
                await self._processes.run("nhri-hub", "init", self._folder.path, *name)
                webhooks.allow(self._folder.hub)
            # They listen for longer than there is a hub that posts.
            listening = webhooks.listening(self._folder.hub, self._folder.webhooks)
            self._receivers = await servers.enter_async_context(listening)
            if self._folder.servers.exists():
                self._show.title("RabbitMQ and PostgreSQL start, for this demo alone")
                running = broker.running(self._folder.servers, self._show.say)
                self._addresses = await servers.enter_async_context(running)
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
        if go_on:
            self._remember()
            await self._start_hub()
            await together(*(self._start_connector(code) for code in PARTICIPANTS))
        else:
            await self._start_hub()
            async with operator.at(self._folder.hub) as at_hub:
                await self._let_in(at_hub)
        await self._subscribe()

    async def _let_in(self, at_hub: Operator) -> None:
        """Give out tokens, and have everybody join."""
        for account, scopes in _TOKENS.items():
            await at_hub.make_token(account, scopes, self._folder.token(account))
        self._show.title("Everybody joins; technician and operator compare the fingerprint")
        await together(*(self._join(at_hub, code) for code in PARTICIPANTS))

    def _remember(self) -> None:
        """Take in what the daemons told of the messages when they ran before."""
        for code in PARTICIPANTS:
            log = self._folder.log(code)
            for line in log.read_bytes().splitlines() if log.exists() else ():
                self._traffic.hear(code, line)
        self._traffic.remember()

    async def _join(self, at_hub: Operator, code: str) -> None:
        """Invite, join, compare, approve; then the participant's daemon runs."""
        bundle = self._folder.bundle(code)
        await at_hub.invite(self._profiles[code], bundle)
        answer = await self._connector(code, "join", bundle, "--json")
        digits = msgspec.json.decode(answer, type=Joined).fingerprint
        if digits != await at_hub.fingerprint(code):
            raise ProcessError(f"{code} and the hub have different fingerprints; nobody is let in.")
        await at_hub.approve(code, digits)
        self._show.joined(code, self._names[code], spoken(digits))
        await self._start_connector(code)

    async def _subscribe(self) -> None:
        """Have the partners subscribe to webhooks that have not, and prove their receivers.

        Before anything is sent: what was accepted earlier is not owed.
        """
        origin = load(self._folder.hub, {}).origin
        async with aiohttp.ClientSession() as session:
            for wish in WISHES:
                receiver = self._receivers[wish.owner]
                key = self._folder.signing_key(wish.owner)
                partner = Partner(session, self._url, origin, wish.owner, key)
                known = receiver.trusted
                made = known.subscription if known else await partner.subscribe(wish, receiver.url)
                receiver.trust(Trusted(made, await partner.keys()))
                await partner.prove(made)
                self._show.say(f"  {wish.owner} subscribes to webhooks, at {receiver.url}")

    async def _start_hub(self) -> None:
        if self._addresses is not None:
            self._addresses.tell_hub(self._folder.hub)
        await self._processes.start(HUB, "nhri-hub", "serve", "--config", self._folder.hub)
        await self._hub_ready.wait()

    async def _start_connector(self, code: str) -> None:
        config = self._folder.connector(code)
        if self._addresses is not None:
            self._addresses.tell_connector(code, config)
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
        self._show_actions()
        self._show.say("  The webhooks that are due arrive ...")
        await self._receivers.until(self._due)

    async def _send(self, code: str) -> None:
        """Send the records of one institution that were not sent before, all in one go."""
        files = {str(file): record for file, record in self._files(code)}
        sent = self._folder.sent(code)
        if files and not sent.exists():
            sent.write_text(await self._connector(code, "send", *files, "--json"), "utf-8")
        for message in _queued(sent):
            record = files[message.source]
            kind = _KINDS[corpus.kind(record)]
            self._traffic.expect(Mail(message.id, code, record.title["en"], kind))
            self._expect_webhooks(message, [w for w in WISHES if wishes.is_due(w, record)])
            if kind == _NOTICE:
                self._notices[message.id] = record

    def _files(self, code: str) -> Iterator[tuple[Path, Record]]:
        """The message files of one sender, written where they are not there."""
        now = datetime.now(UTC)
        for record in self._records:
            if corpus.sender(record) == code:
                file = self._folder.message(code, record.id)
                if not file.exists():
                    said = corpus.message_file(record, self._names, now)
                    file.write_text(json.dumps(said, ensure_ascii=False, indent=2), "utf-8")
                yield file, record

    async def _answer(self, code: str) -> None:
        """Accept every joint action that a member was invited to and has not answered."""
        answered = self._folder.answered(code)
        respond = await self._connector(code, "respond", "accept", "--all-open", "--json")
        answers = [*_queued(answered), *msgspec.json.decode(respond, type=list[Queued])]
        answered.write_bytes(msgspec.json.encode(answers))
        for message in answers:
            record = self._notices.get(message.source)
            title = record.title["en"] if record else message.source
            self._traffic.expect(Mail(message.id, code, title, "accepts", message.source))
            if record:
                due = [wish for wish in WISHES if wishes.is_answer_due(wish, record)]
                self._expect_webhooks(message, due)

    def _expect_webhooks(self, message: Queued, due: Sequence[Wish]) -> None:
        for wish in due:
            self._due[wish.owner].add(message.id)

    def _show_actions(self) -> None:
        """The joint actions: the states that follow from the answers, the same everywhere."""
        if self._notices:
            self._show.title("The joint actions, and who signed each notice")
        for notice_id, record in self._notices.items():
            content = corpus.message_file(record, self._names, datetime.now(UTC))["content"]
            answers = [
                Answer(mail.index, "", mail.sender, "accept")
                for mail in self._traffic.mails.values()
                if mail.notice == notice_id and mail.index is not None
            ]
            proposer = self._traffic.mails[notice_id].sender
            notice = msgspec.convert(content, JointActionNotice)
            action = joint_action.evaluate(proposer, notice, answers)
            signers = [proposer, *(answer.member for answer in action.answers.values())]
            self._show.action(action.state, signers, record.title["en"])

    # --- Verifying ---

    async def _verify(self) -> bool:
        """Have everybody verify everything, and tell the result; True when nothing is missing."""
        self._show.title("Everybody verifies every message and receipt; an auditor the whole log")
        checks = await together(*map(self._verified_by, PARTICIPANTS))
        unwitnessed = await self._witnessed()
        answer = await self._processes.run(
            "nhri-hub",
            *("audit", "verify", "--json", "--config", self._folder.hub),
            *("--hub", self._url, "--token-file", self._folder.token("auditor")),
            may_say_no=True,
        )
        audited = msgspec.json.decode(answer, type=Audited)
        missing = [*self._traffic.missing(self._expected), *self._unverified(checks), *unwitnessed]
        missing += self._receivers.missing(self._due)
        if not audited.ok:
            missing.append("The log does not hold: " + " ".join(audited.problems))
        for sentence in missing:
            self._show.say(sentence, "red")
        size = audited.verified.size if audited.verified else 0
        summary = self._traffic.summary(size, verified=not missing)
        self._show.last(f"{summary} {self._receivers.summary(self._due)}")
        return not missing

    async def _witnessed(self) -> list[str]:
        """Wait until a quorum of the members has cosigned all of the log; a sentence if it has not.

        What is verified is what they have cosigned.
        """
        async with operator.at(self._folder.hub) as at_hub:
            status = await at_hub.status()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WITNESS_SECONDS):
                    while (status.quorum_size or 0) < status.log_size:
                        await asyncio.sleep(0.2)
                        status = await at_hub.status()
        if (status.quorum_size or 0) < status.log_size:
            return [f"Only {status.quorum_size or 0} of {status.log_size} entries are witnessed."]
        return []

    async def _verified_by(self, code: str) -> Verified:
        answer = await self._connector(code, "verify", "--all", "--json", may_say_no=True)
        return msgspec.json.decode(answer, type=Verified)

    def _unverified(self, checks: Sequence[Verified]) -> Iterator[str]:
        """What the participants could not verify of all that there is, a sentence each."""
        for code, check in zip(PARTICIPANTS, checks, strict=True):
            yield from (f"{code} found: {problem}" for problem in check.problems)
        there = {
            "sent, accepted": self._traffic.accepted,
            "received, valid": self._traffic.deliveries,
            "receipt items": self._traffic.receipts,
        }
        for what, count in there.items():
            verified = sum(check.checked.get(what, 0) for check in checks)
            if verified < count:
                yield f"Only {verified} of {count} were verified: {what}."

    def _suggest(self) -> None:
        """Four commands to go on with; everything runs until Ctrl-C."""
        mails = [mail for mail in self._traffic.mails.values() if mail.sender]
        most = max(mails, key=lambda mail: (mail.kind == _NOTICE, len(mail.recipients)))
        connector, hub = executable("nhri-connector"), executable("nhri-hub")
        inbox = ("--config", self._folder.connector("kz"))
        self._show.command(connector, "inbox", *inbox, note="what Kazakhstan received")
        show = ("show", most.id, "--config", self._folder.connector(most.sender))
        self._show.command(connector, *show, note="a joint action and who signed it")
        way = ("audit", "show", most.id, "--config", self._folder.hub)
        self._show.command(hub, *way, note="its way")
        secret = next(mail for mail in mails if mail.title == CONFIDENTIAL.title["en"])
        why = ("audit", "why", secret.id, "--member", "undp", "--config", self._folder.hub)
        self._show.command(hub, *why, note="why UNDP has not that one; Ctrl-C ends the demo")

    async def _connector(self, code: str, *arguments: str | Path, may_say_no: bool = False) -> str:
        config = ("--config", self._folder.connector(code))
        return await self._processes.run(
            "nhri-connector", *arguments, *config, may_say_no=may_say_no
        )


def _queued(file: Path) -> list[Queued]:
    return msgspec.json.decode(file.read_bytes(), type=list[Queued]) if file.exists() else []


def _answering(record: Record) -> tuple[str, ...]:
    return corpus.invited(record) if corpus.kind(record) == corpus.NOTICE else ()


async def _for_ever() -> None:
    await asyncio.Event().wait()
