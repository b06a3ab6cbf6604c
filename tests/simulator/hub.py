"""A hub in memory that speaks docs/protocol.md over real HTTP, and lies when it is told to.

It is a simulator on the real port, not a mock: the log has real entries, tiles, proofs and
signatures, made with ``schemas``, so that a connector cannot tell it from a hub. It admits only
what tests need and shares nothing with ``hub``.
"""

import json
import secrets
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import TypeAlias

import msgspec
from aiohttp import web

from schemas import (
    checkpoint,
    jsontext,
    merkle,
    message,
    note,
    receipt,
    routing,
    signature,
    statement,
    witness,
)
from schemas import entry as entries
from schemas.acceptance import Acceptance
from schemas.encoding import b64url, unb64url
from schemas.entry import AcceptedPrivate, Entry, Recipient, RefusedPrivate
from schemas.message import Message
from schemas.note import SignatureLine
from schemas.refusal import REFUSALS, Refused
from schemas.routing import Routing
from tests import builders
from tests.ports import free_port
from tests.simulator.history import Bell, History

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Item: TypeAlias = dict[str, object]


class Lies:
    """What the hub does otherwise than it must; by default nothing."""

    def __init__(self) -> None:
        self.withhold: set[tuple[str, str]] = set()
        """(recipient, message id): a position is given, the delivery is not."""
        self.renumber: dict[str, int] = {}
        """recipient: by how much positions are shifted in what is delivered."""
        self.leave_out: set[str] = set()
        """recipients that are left out of what is recorded."""
        self.let_in: set[str] = set()
        """codes that are recorded as recipients whatever the audience says."""
        self.forget_positions: set[str] = set()
        """recipients whose next message gets the position of the last one again."""
        self.tamper: Callable[[bytes], bytes] | None = None
        """what is done to an envelope on its way to a recipient."""
        self.disguise: Callable[[Item], Item] = lambda item: item
        """what is done to a delivery on its way to a recipient."""
        self.break_acceptance: Callable[[Acceptance], Acceptance] | None = None
        """what is done to an acceptance on its way to the sender."""
        self.change_receipt: Callable[[bytes], bytes] | None = None
        """what is done to a receipt before it is recorded."""
        self.hide_entries = False
        """the log's newest entries are not served."""
        self.checkpoint: bytes | None = None
        """given as the newest, whatever is."""
        self.insist = False
        """witnesses that cosigned more than there is are asked for less all the same."""
        self.cosignatures: list[SignatureLine] = []
        """lines that are added to what witnesses are asked to cosign."""
        self.spoil_request: Callable[[bytes], bytes] = lambda asked: asked
        """what is done to a request on its way to a witness."""
        self.promise = 0
        """positions that ``last`` counts and that do not exist."""


class Weather:
    """What goes wrong on the way, without anybody lying."""

    def __init__(self) -> None:
        self.refuse: list[tuple[str, str]] = []
        """(path, refusal code) for the next such requests, one each."""
        self.lose_answers = 0
        """so many answers to writes are lost after they were recorded."""
        self.lost = 0
        self.portal = False
        """a captive portal answers everything with a page."""


class SimulatedHub:
    """The hub. It can be stopped, and started again at the same addresses."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.log_key = builders.key("simulated log")
        self.log = note.ed25519_vkey("simulator/log", builders.public(self.log_key))
        self.lies = Lies()
        self.weather = Weather()
        self.history = History(self.log, self.log_key, clock)
        self.histories: dict[str, History] = {}
        self.accounts: dict[str, tuple[str, bytes]] = {}
        self.joins: dict[str, bytes] = {}
        self.candidate: int | None = None
        """The size that is frozen until there is a quorum; without one, the newest is asked for."""
        self.cosigned: dict[tuple[str, int], bytes] = {}
        """What each witness has cosigned of its own history, by size."""
        self.heard: list[tuple[str, bytes]] = []
        """All that witnesses brought."""
        self.subscriptions: dict[str, list[Item]] = {}
        """The webhook subscriptions of each."""
        self.requests: list[tuple[str, str, str]] = []
        self.ports: dict[str, int] = {}
        self._bell = Bell()
        self._tokens: set[str] = set()
        self._runner: web.AppRunner | None = None

    # --- Running ---

    def url(self, code: str) -> str:
        """Somebody's own address of the hub, by which it knows even who asks without a token."""
        return f"http://127.0.0.1:{self.ports[code]}"

    async def start(self) -> None:
        application = web.Application(middlewares=[self._weather], client_max_size=2**20)
        application.add_routes(
            [
                web.post("/v1/join", self._join),
                web.post("/v1/messages", self._known(self._submit)),
                web.get("/v1/inbox", self._known(self._inbox)),
                web.post("/v1/receipts", self._known(self._record_receipt)),
                web.get("/v1/receipts", self._known(self._give_receipts)),
                web.get("/v1/witness/request", self._known(self._ask_witness)),
                web.post("/v1/witness/response", self._known(self._hear_witness)),
                web.get("/v1/witness/tail", self._known(self._lacks_nothing)),
                web.get("/v1/subscriptions", self._known(self._give_subscriptions)),
                web.get("/log/checkpoint", self._checkpoint),
                web.get("/log/{path:tile/.*}", self._known(self._tile)),
            ]
        )
        self._runner = web.AppRunner(application, shutdown_timeout=0)
        await self._runner.setup()
        for code in self.ports:
            await self.open_door(code)

    async def open_door(self, code: str) -> None:
        """Give somebody an address of the hub, the same again after it was away."""
        assert self._runner is not None
        port = self.ports.setdefault(code, free_port())
        await web.TCPSite(self._runner, "127.0.0.1", port).start()

    async def stop(self) -> None:
        """Be away: nobody answers at the port."""
        if self._runner is not None:
            self._bell.ring()  # whoever waits for something to happen need not wait any longer
            await self._runner.cleanup()
            self._runner = None

    # --- What its operators do ---

    def invite(self, code: str, role: str = "member") -> str:
        """Invite somebody; gives the invitation that goes into the bundle."""
        invitation = b64url(secrets.token_bytes(16))
        digest = entries.digest(invitation.encode())
        names = {"en": code.upper()}
        public = {"role": role, "names": names, "country": None, "invitation": digest}
        self.history.record(entries.MEMBER_INVITED, "operator", code, public)
        return invitation

    def approve(self, code: str) -> int:
        """Let in whoever asked to join."""
        raw = self.joins[code]
        _, stated = statement.parse(raw)
        assert isinstance(stated, statement.Join)
        public = signature.public_from_jwk(stated.keys.sign)
        self.accounts[signature.thumbprint(public)] = (code, public)
        return self._logged(entries.MEMBER_JOINED, code, {"statement": b64url(raw)})

    def erase(self, message_id: str, *, decided: bool = True) -> None:
        """Erase a message, by a decision in the log or without one."""
        index = self.history.accepted[message_id]
        del self.history.envelopes[index]
        del self.history.privates[index]
        if decided:
            self._logged(entries.MESSAGE_ERASED, message_id, {})
        self._bell.ring()

    def log_entry(self, entry: Entry, code: str | None = None) -> int:
        """Write any entry into the history, or into the one that somebody is shown."""
        index = (self.histories[code] if code else self.history).append(entry)
        self._bell.ring()
        return index

    def fork(self, code: str) -> None:
        """From here on show somebody another history: it begins with an entry of its own."""
        other = self.histories[code] = self.history.another()
        other.record(entries.HUB_STARTED, entries.HUB, "another hub")

    def fill(self, count: int) -> None:
        """Let the log grow by entries that concern nobody."""
        for _ in range(count):
            self.history.record(entries.OPERATOR_QUERY, "auditor")

    def replay(self, message_id: str, code: str) -> None:
        """Record a message again in the history that somebody is shown, so that it gets there."""
        history = self.histories[code]
        envelope = self.history.envelopes[self.history.accepted[message_id]]
        self._record(history, _read(envelope), envelope)
        self._bell.ring()

    def replay_receipts(self, code: str) -> None:
        """Record the receipts from somebody's own history in the one for all others."""
        for raw in self.histories[code].recorded_receipts:
            if raw not in self.history.recorded_receipts:
                self._keep_receipt(self.history, raw)
        self._bell.ring()

    def slip_in(self, envelope: bytes) -> str:
        """Record a message that nobody submitted, or that must not be accepted."""
        read = _read(envelope)
        self._record(self.history, read, envelope)
        self._bell.ring()
        return read.id

    def _logged(self, kind: str, subject: str, public: dict[str, object]) -> int:
        index = self.history.record(kind, "operator", subject, public)
        self._bell.ring()
        return index

    # --- Who is asking ---

    def _known(self, handler: Callable[[web.Request, str], Awaitable[web.Response]]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                code = self._authenticate(request)
                self.requests.append((code, request.method, request.path))
                return await handler(request, code)
            except Refused as refused:
                return _problem(refused)

        return handle

    def _authenticate(self, request: web.Request) -> str:
        try:
            compact = request.headers.get("Authorization", "").removeprefix("Bearer ")
            protected, payload, value = compact.split(".")
            header = signature.parse_header(unb64url(protected), signature.AUTH_TYPE)
            claims = json.loads(unb64url(payload))
        except (ValueError, Refused):
            raise Refused("unauthenticated", "There is no token of ours.") from None
        if header.kid not in self.accounts:
            raise Refused("unknown-key", "Nobody registered this key.")
        code, public = self.accounts[header.kid]
        now = datetime.now(UTC).timestamp()
        checks = (
            signature.holds(public, unb64url(value), f"{protected}.{payload}".encode()),
            claims["iss"] == code,
            claims["aud"] == self.log.name,
            claims["iat"] <= now <= claims["exp"] <= claims["iat"] + 60,
            (claims["htm"], claims["htu"]) == (request.method, self.url(code) + request.path),
            len(claims["jti"]) == 22,
            claims["jti"] not in self._tokens,
        )
        if not all(checks):
            raise Refused("unauthenticated", f"The token does not hold: {checks}.")
        self._tokens.add(claims["jti"])
        return code

    @web.middleware
    async def _weather(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self.weather.portal:
            return web.Response(text="<h1>Welcome</h1>", content_type="text/html")
        for number, (path, code) in enumerate(self.weather.refuse):
            if path == request.path:
                del self.weather.refuse[number]
                return _problem(Refused(code, "By order of the test."))
        response = await handler(request)
        if request.method == "POST" and response.status < 300 and self.weather.lose_answers:
            self.weather.lose_answers -= 1
            self.weather.lost += 1
            assert request.transport is not None
            request.transport.abort()
        return response

    def _history_of(self, code: str) -> History:
        return self.histories.get(code, self.history)

    # --- Joining and sending ---

    async def _join(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            _, stated = statement.parse(raw)
            assert isinstance(stated, statement.Join)
            wanted = self.history.directory.invitations.get(stated.code)
            if entries.digest(stated.invitation.encode()) != wanted:
                raise Refused("unknown-invitation", "Ask for a new bundle.")
        except Refused as refused:
            return _problem(refused)
        self.joins[stated.code] = raw
        kid = signature.thumbprint(signature.public_from_jwk(stated.keys.sign))
        digits = statement.fingerprint(kid, str(self.log), stated.invitation)
        answer = {"code": stated.code, "state": "pending", "fingerprint": digits}
        return web.json_response(answer, status=202)

    async def _submit(self, request: web.Request, code: str) -> web.Response:
        envelope = await request.read()
        history = self._history_of(code)
        read = _read(envelope)
        if read.id in history.accepted:
            index = history.accepted[read.id]
            if history.envelopes[index] != envelope:
                return self._refuse(history, code, read.id, envelope)
            return self._accepted(history, index, 200)
        if read.sender != code:
            return self._refuse(history, code, read.id, envelope)
        index = self._record(history, read, envelope)
        self._bell.ring()
        return self._accepted(history, index, 201)

    def _accepted(self, history: History, index: int, status: int) -> web.Response:
        acceptance = history.acceptance(index)
        if self.lies.break_acceptance is not None:
            acceptance = self.lies.break_acceptance(acceptance)
        return _json(acceptance, status)

    def _record(self, history: History, read: Message, envelope: bytes) -> int:
        routed = routing.route(read.audience, read.marking, read.sender, history.directory)
        recipients = {
            code: Recipient(self._position(history, code), reason)
            for code, reason in self._recipients(routed).items()
        }
        private = AcceptedPrivate(
            entries.digest(envelope),
            read.kind,
            read.marking,
            read.thread,
            recipients,
            dict(routed.left_out),
        )
        index = history.record(
            entries.MESSAGE_ACCEPTED, read.sender, read.id, private=jsontext.encode(private)
        )
        history.accepted[read.id] = index
        history.envelopes[index] = envelope
        for code in recipients:
            history.inboxes.setdefault(code, []).append(index)
        return index

    def _recipients(self, routed: Routing) -> dict[str, str]:
        kept = {c: r for c, r in routed.recipients.items() if c not in self.lies.leave_out}
        return kept | dict.fromkeys(self.lies.let_in, routing.NAMED)

    def _position(self, history: History, code: str) -> int:
        again = code in self.lies.forget_positions
        return len(history.inboxes.get(code, ())) + (0 if again else 1)

    def _refuse(self, history: History, code: str, message_id: str, raw: bytes) -> web.Response:
        refused = Refused("id-conflict", "The id is taken.")
        private = RefusedPrivate(refused.detail, None, entries.digest(raw))
        index = history.record(
            entries.MESSAGE_REFUSED,
            code,
            message_id,
            {"code": refused.code},
            jsontext.encode(private),
        )
        return _problem(refused, history.acceptance(index))

    # --- Inboxes ---

    async def _inbox(self, request: web.Request, code: str) -> web.Response:
        items = self._items(code, request)
        if not items and request.query.get("wait", "0") != "0":
            await self._bell.wait(float(request.query["wait"]))
            items = self._items(code, request)
        last = len(self._history_of(code).inboxes.get(code, ())) + self.lies.promise
        return _json({"deliveries": items, "last": last})

    def _items(self, code: str, request: web.Request) -> list[Item]:
        history = self._history_of(code)
        after, limit = int(request.query["after"]), int(request.query["limit"])
        shift = self.lies.renumber.get(code, 0)
        found = []
        for position, index in enumerate(history.inboxes.get(code, ()), 1):
            subject = entries.decode(history.raws[index]).subject or ""
            if position + shift > after and (code, subject) not in self.lies.withhold:
                found.append(self._item(history, position + shift, index))
        return found[:limit]

    def _item(self, history: History, position: int, index: int) -> Item:
        acceptance = history.acceptance(index)
        envelope = history.envelopes.get(index)
        if envelope is None:
            why = "erased" if acceptance.private is None else "expired"
            return {"position": position, "tombstone": why, "acceptance": acceptance}
        if self.lies.tamper is not None:
            envelope = self.lies.tamper(envelope)
        delivery = {**msgspec.structs.asdict(acceptance), "envelope": b64url(envelope)}
        return self.lies.disguise({"position": position, "delivery": delivery})

    # --- Receipts ---

    async def _record_receipt(self, request: web.Request, code: str) -> web.Response:
        raw = await request.read()
        if self.lies.change_receipt is not None:
            raw = self.lies.change_receipt(raw)
        history = self._history_of(code)
        known = history.recorded_receipts.get(raw)
        index = self._keep_receipt(history, raw) if known is None else known
        self._bell.ring()
        return _json(history.acceptance(index), 201 if known is None else 200)

    def _keep_receipt(self, history: History, raw: bytes) -> int:
        _, read = receipt.parse(raw)
        index = history.record(entries.RECEIPTS_RECORDED, read.receiver, private=raw)
        history.recorded_receipts[raw] = index
        sender = self._sender_of(item[0] for item in read.items)
        history.receipts.setdefault(sender, []).append(index)
        return index

    def _sender_of(self, message_ids: Iterable[str]) -> str:
        for message_id in message_ids:
            for history in (self.history, *self.histories.values()):
                if message_id in history.accepted:
                    index = history.accepted[message_id]
                    return entries.decode(history.raws[index]).actor
        raise Refused("bad-receipt", "It names no message of ours.")

    async def _give_receipts(self, request: web.Request, code: str) -> web.Response:
        def found() -> list[Item]:
            history, after = self._history_of(code), int(request.query["after"])
            indices = [index for index in history.receipts.get(code, ()) if index > after]
            return [
                {"position": index, "acceptance": history.acceptance(index)}
                for index in indices[: int(request.query["limit"])]
            ]

        items = found()
        if not items and request.query.get("wait", "0") != "0":
            await self._bell.wait(float(request.query["wait"]))
            items = found()
        last = max(self._history_of(code).receipts.get(code, [-1]), default=-1)
        return _json({"receipts": items, "last": last})

    # --- Witnesses ---

    async def _ask_witness(self, request: web.Request, code: str) -> web.Response:
        history, old = self._history_of(code), int(request.query["old"])
        size = self.candidate or history.size
        if old > history.size and not self.lies.insist:
            raise Refused("conflict", f"There are {history.size} entries here.")
        if old == size and self.cosigned.get((code, size)):
            return web.Response()
        proof = merkle.consistency_proof(old, size, history.tiles) if 0 < old <= size else []
        raw = witness.merge(history.checkpoint(size), self.lies.cosignatures)
        asked = witness.encode(witness.Request(old, tuple(proof), raw))
        return web.Response(body=self.lies.spoil_request(asked))

    async def _lacks_nothing(self, request: web.Request, code: str) -> web.Response:
        size = self._history_of(code).size
        return _json({"wanted": False, "size": size, "missing": []})

    async def _give_subscriptions(self, request: web.Request, code: str) -> web.Response:
        return _json({"subscriptions": self.subscriptions.get(code, [])})

    async def _hear_witness(self, request: web.Request, code: str) -> web.Response:
        raw = await request.read()
        head = checkpoint.open_checkpoint(raw, self.log)
        history = self._history_of(code)
        self.heard.append((code, raw))
        if head.size > history.size or history.root(head.size) != head.root:
            raise Refused("conflict", "It is of another history.")
        self.cosigned[code, head.size] = raw
        return _json({"quorum": False})

    # --- The log ---

    async def _checkpoint(self, request: web.Request) -> web.StreamResponse:
        _, port = request.transport.get_extra_info("sockname") if request.transport else ("", 0)
        code = next(code for code, opened in self.ports.items() if opened == port)
        return web.Response(body=self.lies.checkpoint or self._history_of(code).checkpoint())

    async def _tile(self, request: web.Request, code: str) -> web.Response:
        level, n, width = merkle.parse_tile_path(request.match_info["path"])
        assert level == "entries"
        bundle = None if self.lies.hide_entries else self._history_of(code).bundle(n, width)
        if bundle is None:
            raise Refused("not-found", "There is no such tile.")
        return web.Response(body=bundle)


def _read(envelope: bytes) -> Message:
    return message.parse(signature.parse(envelope, signature.MESSAGE_TYPE).payload)


def _json(value: object, status: int = 200) -> web.Response:
    body = jsontext.encode(value)
    return web.Response(body=body, status=status, content_type="application/json")


def _problem(refused: Refused, refusal: Acceptance | None = None) -> web.Response:
    row = REFUSALS[refused.code]
    problem = {
        "type": "about:blank",
        "title": row.title,
        "status": row.status,
        "detail": refused.detail,
        "code": refused.code,
        "retryable": row.retryable,
    }
    if refusal is not None:
        problem["refusal"] = msgspec.to_builtins(refusal)
    headers = {"Retry-After": "1"} if row.status in (429, 503) else None
    return web.Response(
        body=jsontext.encode(problem),
        status=row.status,
        headers=headers,
        content_type="application/problem+json",
    )
