"""The witness as a tlog-witness server: each status of the specification, over real HTTP."""

import asyncio
from contextlib import asynccontextmanager
from hashlib import sha256

import aiohttp
import pytest
from msgspec.structs import replace

from connectors.config import ConfigError, WitnessConfig
from schemas import checkpoint, cosignature, merkle, note, witness
from schemas.witness import Request
from tests import builders
from tests.ports import free_port
from tests.simulator.institution import exchange
from tests.simulator.waiting import until


class Server:
    """The witness of kz, at the size that its hub has frozen; and the log beyond that."""

    def __init__(self, hub, kz, http, port):
        self.hub, self.kz = hub, kz
        self.history = hub.history
        self._http, self._url = http, f"http://127.0.0.1:{port}"

    @property
    def size(self):
        return self.kz.ask(lambda store: store.cosigned()).size

    def request(self, old, size, history=None):
        history = history or self.history
        proof = merkle.consistency_proof(old, size, history.tiles) if 0 < old <= size else []
        return witness.encode(Request(old, tuple(proof), history.checkpoint(size)))

    async def add(self, raw):
        async with self._http.post(f"{self._url}/add-checkpoint", data=raw) as answer:
            return answer.status, answer.content_type, await answer.read()

    async def get(self, path):
        async with self._http.get(f"{self._url}/{path}") as answer:
            return answer.status, await answer.read()


@asynccontextmanager
async def listening(port):
    async with exchange("kz") as (hub, them), aiohttp.ClientSession() as http:
        kz = them["kz"]
        kz.config = replace(kz.config, witness=WitnessConfig(f"127.0.0.1:{port}"))
        hub.candidate = hub.history.size
        async with kz.running():
            await until(lambda: kz.log.of("log.cosigned"), "cosigned")
            hub.fill(5)
            yield Server(hub, kz, http, port)


@pytest.fixture
async def server():
    async with listening(free_port()) as made:
        yield made


async def test_what_extends_the_last_checkpoint_is_cosigned_and_remembered(server):
    old, size = server.size, server.history.size
    status, kind, body = await server.add(server.request(old, size))
    assert (status, kind) == (200, "text/plain")
    line = note.parse_line(body.decode().removesuffix("\n"))
    name = cosignature.witness_name(server.hub.log.name, "kz")
    vkey = cosignature.vkey_of(name, server.kz.keyring.witness)
    text = note.parse_note(server.history.checkpoint()).text
    assert cosignature.time_of(line, vkey, text) > 0
    assert server.size == size


async def test_the_last_checkpoint_is_given_to_monitors_with_both_signatures(server):
    digest = sha256(server.hub.log.name.encode()).hexdigest()
    status, raw = await server.get(f"{digest}/checkpoint")
    assert status == 200
    assert checkpoint.open_checkpoint(raw, server.hub.log).size == server.size
    assert len(note.parse_note(raw).signatures) == 2
    assert (await server.get(f"{'0' * 64}/checkpoint"))[0] == 404


@pytest.mark.parametrize("old", [0, 1])
async def test_409_a_request_from_another_size_is_told_where_the_witness_is(server, old):
    answer = await server.add(server.request(old, server.history.size))
    assert answer == (409, "text/x.tlog.size", f"{server.size}\n".encode())


async def test_409_of_two_requests_at_once_one_is_cosigned(server):
    old, size = server.size, server.history.size
    answers = await asyncio.gather(
        server.add(server.request(old, size)), server.add(server.request(old, size - 1))
    )
    assert sorted(status for status, _, _ in answers) == [200, 409]


async def test_400_what_is_malformed(server):
    last = server.size
    assert (await server.add(b"nothing of the kind"))[0] == 400
    assert (await server.add(server.request(last, last - 1)))[0] == 400


async def test_403_what_the_log_did_not_sign(server):
    raw = server.request(server.size, server.history.size)
    thief = note.ed25519_vkey(server.hub.log.name, builders.public(builders.key("thief")))
    head = checkpoint.open_checkpoint(witness.parse(raw).note, server.hub.log)
    forged = checkpoint.sign_checkpoint(head, thief, builders.key("thief"))
    asked = replace(witness.parse(raw), note=forged)
    assert (await server.add(witness.encode(asked)))[0] == 403


async def test_404_a_log_that_is_not_witnessed(server):
    key = builders.key("other")
    other = note.ed25519_vkey("other/log", builders.public(key))
    head = checkpoint.Checkpoint("other/log", 0, merkle.EMPTY_ROOT)
    raw = witness.encode(Request(0, (), checkpoint.sign_checkpoint(head, other, key)))
    assert (await server.add(raw))[0] == 404


async def test_422_a_proof_that_does_not_hold_raises_no_alarm(server):
    last, size = server.size, server.history.size
    asked = witness.parse(server.request(last, size))
    broken = replace(asked, proof=(*asked.proof[:-1], bytes(32)))
    assert (await server.add(witness.encode(broken)))[0] == 422
    assert server.size == last
    assert server.kz.alarm_kinds() == set()


async def test_422_another_history_raises_the_alarm(server):
    last = server.size
    fork = server.history.another()
    fork.raws[0] = b"another"
    fork.tiles = merkle.append(0, {}, [merkle.leaf_hash(raw) for raw in fork.raws])
    assert (await server.add(server.request(last, fork.size, fork)))[0] == 422
    assert server.size == last
    await server.kz.alarmed("log-forked")


async def test_413_what_is_too_large(server):
    assert (await server.add(b"x" * (witness.MAX_SIZE + 1)))[0] == 413


async def test_503_when_the_entries_cannot_be_seen(server):
    asked = server.request(server.size, server.history.size)
    server.hub.lies.hide_entries = True
    assert (await server.add(asked))[0] == 503


async def test_an_address_that_is_taken_is_said_to_be():
    async with exchange("kz") as (hub, them):
        kz = them["kz"]
        kz.config = replace(kz.config, witness=WitnessConfig(f"127.0.0.1:{hub.ports['kz']}"))
        with pytest.raises(ConfigError, match=r"witness\.listen"):
            async with kz.running() as task:
                await task
