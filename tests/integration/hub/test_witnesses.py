"""Witnesses at a real hub: the frozen candidate, the quorum, and a hub that has an older log."""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from msgspec.structs import replace

from hub import upkeep
from schemas import checkpoint, cosignature, merkle, note, policy, witness
from schemas.checkpoint import Checkpoint
from tests import builders, client
from tests.client import ORIGIN
from tests.simulator.waiting import DEADLINE

REGION = ("kz", "kg", "tj", "tm")


class Witness:
    """An honest witness: it cosigns by ``schemas.witness`` and never forgets."""

    def __init__(self, hub, code, key=None):
        self.participant = hub.participant(code)
        self.vkey = hub.vkey
        self.name = cosignature.witness_name(ORIGIN, code)
        self.key = key or builders.key(f"{code} witness")
        self.latest: dict[str, Checkpoint] = {}
        self.note = b""

    @property
    def size(self):
        return self.latest[ORIGIN].size if self.latest else 0

    async def asked(self, old=None):
        old = self.size if old is None else old
        return await self.participant.get("/v1/witness/request", old=old)

    async def step(self):
        """Ask, decide, cosign, answer; gives the answer to the cosignature, None without one."""
        answer = await self.asked()
        assert answer.status == 200, answer
        if not answer.body:
            return None
        request = witness.parse(answer.body)
        accepted = witness.check(request, {ORIGIN: self.vkey}, self.latest)
        self.latest = {ORIGIN: accepted.checkpoint}
        line = cosignature.cosign(accepted.text, self.name, self.key, 1_780_000_000)
        self.note = witness.merge(accepted.note, [line])
        return await self.bring(self.note)

    async def followed(self, size):
        """Tell how far it has followed the log."""
        return await self.participant.get("/v1/witness/tail", size=size)

    async def bring(self, raw):
        return await self.participant.post("/v1/witness/response", raw)


def witnesses(hub, codes=REGION):
    return [Witness(hub, code) for code in codes]


async def step(them: Iterable[Witness]):
    """A step of each; whether each brought its checkpoint a quorum."""
    return [(await one.step())["quorum"] for one in them]


async def served(hub):
    raw = (await hub.account().get("/log/checkpoint")).body
    return note.parse_note(raw), checkpoint.open_checkpoint(raw, hub.vkey)


async def sizes(hub):
    """The size that is served, and that of the log."""
    return (await served(hub))[1].size, (await hub.operator.get("/v1/status"))["log_size"]


# --- The candidate and its quorum ---


async def test_without_witnesses_the_last_signed_checkpoint_is_served(hub, kz):
    await kz.send()
    at, size = await sizes(hub)
    assert at == size


async def test_the_candidate_stands_still_until_the_quorum_has_cosigned_it(hub, kz):
    them = witnesses(hub)
    first, *others = them
    await step([first])
    frozen = first.size
    await kz.send()
    await kz.send()
    assert await sizes(hub) == (frozen, frozen + 2)
    assert await step(others) == [False, False, True]
    assert {one.size for one in them} == {frozen}
    signed, head = await served(hub)
    assert head.size == frozen
    text = policy.regional(hub.vkey, {one.participant.code: vkey_of(one) for one in them})
    assert policy.open_witnessed(note.encode(signed), policy.parse((text or "").encode())) == head
    assert await step(them) == [False, False, False, True]
    assert await sizes(hub) == (frozen + 2, frozen + 2)


def vkey_of(one):
    return cosignature.vkey_of(one.name, one.key)


async def test_what_is_served_never_goes_back_from_before_the_first_quorum_on(hub, kz):
    them = witnesses(hub)
    seen = [(await sizes(hub))[0]]
    for one in (*them, *them, *them):
        await kz.send()
        await one.step()
        seen.append((await sizes(hub))[0])
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


async def test_whoever_cosigned_the_candidate_has_nothing_to_do_until_the_next(hub, kz):
    first, *others = witnesses(hub)
    await step([first])
    assert (await first.asked()).body == b""
    await step(others)
    assert (await first.asked()).body == b""
    await kz.send()
    assert (await first.asked()).body.startswith(f"old {first.size}\n".encode())


async def test_an_answer_that_was_lost_is_asked_for_again(hub):
    one = Witness(hub, "kz")
    answer = await one.asked()
    head = checkpoint.open_checkpoint(witness.parse(answer.body).note, hub.vkey)
    one.latest = {ORIGIN: head}  # it cosigned and the answer never arrived
    request = witness.parse((await one.asked()).body)
    assert (request.old, request.proof) == (head.size, ())
    assert (await one.step())["quorum"] is False


async def test_a_cosignature_that_comes_after_the_quorum_is_added(hub, kz):
    late, *others = witnesses(hub, (*REGION, "undp"))[::-1]
    assert (await late.asked()).status == 200
    held = await late.asked()
    await step(others)
    accepted = witness.check(witness.parse(held.body), {ORIGIN: hub.vkey}, {})
    line = cosignature.cosign(accepted.text, late.name, late.key, 1_780_000_000)
    assert (await late.bring(witness.merge(accepted.note, [line])))["quorum"] is True
    signed, _ = await served(hub)
    assert late.name in {line.name for line in signed.signatures}


async def test_partners_and_observers_witness_too_and_are_no_country_of_the_quorum(hub):
    assert await step(witnesses(hub, ("kz", "kg", "tj", "undp", "guest"))) == [False] * 5
    assert await step(witnesses(hub, ("tm",))) == [True]


async def test_while_too_few_countries_have_a_witness_everything_signed_is_served(hub, kz):
    await hub.operator.post("/v1/members/tm/suspend", reason="a test")
    them = witnesses(hub, ("kz", "kg", "tj"))
    assert await step(them) == [False] * 3
    await kz.send()
    at, size = await sizes(hub)
    assert at == size
    assert await step(them) == [False] * 3
    assert {one.size for one in them} == {size}


async def test_a_quorum_once_reached_is_not_done_without_when_a_witness_is_lost(hub, kz):
    them = witnesses(hub)
    await step(them)
    await hub.operator.post("/v1/members/tm/hold", reason="the laptop was stolen")
    await kz.send()
    assert (await sizes(hub))[0] == them[0].size
    assert (await hub.operator.get("/v1/status"))["quorum_wanted"] is False


async def test_candidate_and_quorum_outlive_a_restart(settings, clock):
    async with client.running(settings) as hub:
        first, *others = them = witnesses(hub)
        await step([first])
    async with client.running(settings) as hub:
        for one in them:
            one.participant = hub.participant(one.participant.code)
        assert (await first.asked()).body == b""
        assert await step(others) == [False, False, True]
    async with client.running(settings) as hub:
        assert (await served(hub))[1].size == first.size


async def test_an_acceptance_holds_under_its_own_checkpoint_that_no_quorum_has_yet(hub, kz):
    await step(witnesses(hub))
    opened = hub.open((await kz.send()).acceptance())
    assert opened.checkpoint.size > (await served(hub))[1].size


# --- Policies of one's own ---


async def test_a_policy_file_says_who_and_how_many(settings, clock):
    second = MLDSA44PrivateKey.from_seed_bytes(b"\x05" * 32)
    kz, kg = (
        cosignature.vkey_of(cosignature.witness_name(ORIGIN, code), key)
        for code, key in (("kz", builders.key("kz witness")), ("kg", second))
    )
    text = f"witness a {kz}\nwitness b {kg}\ngroup both all a b\nquorum both\n"
    (settings.log_key_path.parent / "policy.txt").write_text(text)
    settings = replace(settings, log=replace(settings.log, policy="policy.txt"))
    async with client.running(settings) as hub:
        assert await step(witnesses(hub, ("kz", "tj"))) == [False, False]
        assert await step([Witness(hub, "kg", second)]) == [True]
        signed, _ = await served(hub)
        assert cosignature.cosigners(signed, [kz, kg]).keys() == {kz, kg}


# --- What is not taken ---


async def test_a_cosignature_by_another_key_is_refused(hub):
    answer = await Witness(hub, "kz", builders.key("thief")).step()
    assert (answer.status, answer.code) == (400, "bad-signature")


async def test_a_cosignature_in_another_s_name_is_refused(hub):
    one = Witness(hub, "kz")
    one.name, one.key = cosignature.witness_name(ORIGIN, "kg"), builders.key("kg witness")
    answer = await one.step()
    assert answer.code == "bad-signature"
    assert (await hub.operator.get("/v1/status"))["witnesses"] == []


@pytest.mark.parametrize("raw", [b"", b"no note", b"\xff" * 100, b"hub.example/log\n1\nx\n\n- x\n"])
async def test_what_is_no_checkpoint_is_refused(hub, raw):
    assert (await Witness(hub, "kz").bring(raw)).code == "bad-request"


async def test_a_checkpoint_of_another_log_is_refused(hub):
    other = note.ed25519_vkey("other/log", builders.public(builders.key("other")))
    raw = checkpoint.sign_checkpoint(
        Checkpoint("other/log", 0, merkle.EMPTY_ROOT), other, builders.key("other")
    )
    assert (await Witness(hub, "kz").bring(raw)).code == "bad-request"


@pytest.mark.parametrize("old", ["", "-1", "x", "1.5", str(2**60)])
async def test_a_size_that_cannot_be_is_refused(hub, old):
    answer = await hub.participant("kz").get("/v1/witness/request", old=old)
    assert answer.code == "bad-request"


async def test_a_token_is_good_for_one_cosignature(hub):
    one = Witness(hub, "kz")
    await one.step()
    path = "/v1/witness/response"
    token = one.participant.token("POST", path)
    first = await one.participant.request("POST", path, body=one.note, token=token)
    again = await one.participant.request("POST", path, body=one.note, token=token)
    assert (first.status, again.code) == (200, "unauthenticated")


async def test_nobody_registers_another_s_witness_key(hub):
    stolen = builders.keys("kz").witness
    new = hub.participant("uz")
    bundle = await hub.operator.invite("uz")
    body = client.join_request(
        new, str(bundle["invitation"]), replace(builders.keys("uz"), witness=stolen)
    )
    assert (await new.connection.request("POST", "/v1/join", body=body)).status == 202
    waiting = await hub.operator.get("/v1/members/uz/join")
    approved = await hub.operator.post("/v1/members/uz/approve", fingerprint=waiting["fingerprint"])
    assert approved.code == "conflict"
    assert "witness key is another" in approved["detail"]


# --- A hub that has an older log, or another one ---


async def older_copy(settings, folder, *, before, after):
    """A hub whose database is brought back from before what its witnesses cosigned last."""
    async with client.running(settings) as hub:
        await before(hub)
    shutil.copytree(settings.folder, folder)
    async with client.running(settings) as hub:
        gone = await after(hub)
    shutil.rmtree(settings.folder)
    folder.rename(settings.folder)
    return gone


async def nothing(hub):
    pass


async def later(hub):
    kz = hub.participant("kz")
    for _ in range(3):
        await kz.send()
    them = witnesses(hub)
    await step(them)
    return them


def back(them, hub):
    for one in them:
        one.participant = hub.participant(one.participant.code)


async def test_an_older_database_stops_signing_when_a_witness_shows_the_newer_log(
    settings, clock, tmp_path
):
    them = await older_copy(settings, tmp_path / "backup", before=nothing, after=later)
    with structlog.testing.capture_logs() as events:
        async with client.running(settings) as hub:
            back(them, hub)
            kg, *_ = them
            answer = await kg.asked()
            assert (answer.status, answer.code) == (409, "conflict")
            assert "show that checkpoint" in answer["detail"]
            assert (await kg.bring(kg.note)).code == "conflict"
            answer = await hub.participant("tj").send()
            assert (answer.status, answer.code) == (503, "storage")
            status = await hub.operator.get("/v1/status")
            assert "is an older copy" in status["signing_stopped"]
            assert (await hub.participant("tj").get("/v1/members")).status == 200
            text = (await hub.operator.get("/metrics")).body.decode()
            assert "nhri_hub_signing_stopped 1.0" in text
        async with client.running(settings) as hub:  # a restart changes nothing
            assert (await hub.participant("tj").send()).code == "storage"
    names = [event["event"] for event in events]
    assert names.index("witness.ahead") < names.index("signing.stopped")


async def test_a_database_that_grew_another_log_is_stopped_as_well(settings, clock, tmp_path):
    them = await older_copy(settings, tmp_path / "backup", before=nothing, after=later)
    async with client.running(settings) as hub:
        back(them, hub)
        for _ in range(9):
            await hub.participant("kg").send()
        kz, *_ = them
        with pytest.raises(witness.Rejected) as caught:
            await kz.step()
        assert caught.value.status == 422
        assert (await kz.bring(kz.note)).code == "conflict"
        assert (await hub.participant("kg").send()).code == "storage"


async def test_no_witness_stops_the_hub_by_its_word_alone(hub, kz):
    ahead = await kz.get("/v1/witness/request", old=10_000)
    assert ahead.code == "conflict"
    thief = builders.key("thief")
    head = Checkpoint(ORIGIN, 10_000, merkle.leaf_hash(b"invented"))
    vkey = note.ed25519_vkey(ORIGIN, builders.public(thief))
    text = checkpoint.format(head)
    line = cosignature.cosign(text, cosignature.witness_name(ORIGIN, "kz"), thief, 1)
    raw = witness.merge(checkpoint.sign_checkpoint(head, vkey, thief), [line])
    assert (await Witness(hub, "kz").bring(raw)).code == "conflict"
    assert (await kz.send()).status == 201


async def test_signing_goes_on_when_the_missing_entries_are_back(settings, clock, tmp_path):
    async with client.running(settings) as hub:
        kz, *_ = await later(hub)
        raw = note.parse_note(kz.note)
    ours = tuple(line for line in raw.signatures if line.name == ORIGIN)
    shown = note.encode(note.Note(raw.text, ours))
    with sqlite3.connect(Path(settings.folder) / "hub.sqlite") as database:
        database.execute("INSERT INTO contradictions VALUES ('kz', ?, '')", (shown,))
    database.close()
    async with client.running(settings) as hub:
        assert (await hub.operator.get("/v1/status"))["signing_stopped"] is None
        assert (await hub.participant("kz").send()).status == 201


async def test_a_restored_hub_signs_nothing_until_a_quorum_has_asked(settings, clock):
    async with client.running(settings) as hub:
        them = await later(hub)
        size = await hub.size()
    settings.restored.touch()
    async with client.running(settings) as hub:
        back(them, hub)
        assert (await hub.participant("kz").send()).code == "storage"
        assert "was restored" in (await hub.operator.get("/v1/status"))["signing_stopped"]
        for one in them[:3]:
            assert (await one.followed(size))["wanted"] is True
        await them[3].asked()  # what it cosigned says nothing of what it has followed
        assert (await them[3].followed(size + 100))["wanted"] is True
        assert (await hub.participant("kz").send()).code == "storage"
        assert settings.restored.exists()
        assert (await them[3].followed(size))["wanted"] is False
        assert not settings.restored.exists()
        assert (await hub.participant("kz").send()).status == 201
        assert (await hub.operator.get("/v1/status"))["log_size"] > size


async def test_a_restored_hub_with_an_older_log_never_signs(settings, clock, tmp_path):
    them = await older_copy(settings, tmp_path / "backup", before=nothing, after=later)
    settings.restored.touch()
    async with client.running(settings) as hub:
        back(them, hub)
        for one in them:
            assert (await one.asked()).code == "conflict"
        await them[0].bring(them[0].note)
        assert (await hub.participant("kz").send()).code == "storage"
        assert "is an older copy" in (await hub.operator.get("/v1/status"))["signing_stopped"]


# --- Who is behind ---


async def test_a_witness_that_is_behind_for_a_day_is_recorded_once_and_so_is_its_return(
    settings, clock, monkeypatch
):
    monkeypatch.setattr("hub.upkeep.ROUND_SECONDS", 0.01)
    async with client.running(settings) as hub:
        *others, late = witnesses(hub, (*REGION, "undp"))
        await late.step()
        await step(others)
        await hub.participant("kz").send()
        clock.forward(hours=25)
        await step(others)
        await recorded(hub, "witness.overdue", ["undp"])
        await late.step()
        await recorded(hub, "witness.returned", ["undp"])
        await recorded(hub, "witness.overdue", ["undp"])


async def recorded(hub, kind, subjects):
    """Wait until the log has exactly these entries of a type."""
    found = None
    async with asyncio.timeout(DEADLINE):
        while found != subjects:
            events = (await hub.operator.get("/v1/audit/events", type=kind))["events"]
            found = [event["entry"]["subject"] for event in events]


async def test_metrics_tell_how_far_each_witness_is_behind(settings, clock, monkeypatch):
    monkeypatch.setattr("hub.upkeep.ROUND_SECONDS", 0.01)
    async with client.running(settings) as hub:
        await step(witnesses(hub))
        await hub.participant("kz").send()
        wanted = (
            'nhri_hub_witness_lag_entries{member="kz"} 1.0',
            "nhri_hub_quorum_lag_entries 1.0",
        )
        text = ""
        async with asyncio.timeout(DEADLINE):
            while not all(line in text for line in wanted):
                text = (await hub.operator.get("/metrics")).body.decode()


# --- Two hubs on one database ---


async def test_two_hubs_on_postgresql_have_one_candidate_and_take_each_other_s_entries_for_theirs(
    postgresql_server, clock, tmp_path, monkeypatch
):
    monkeypatch.setattr(upkeep, "FOLLOW_SECONDS", 3_600)  # each knows what it was asked for
    database = await postgresql_server.create("witnesses")
    new = client.new_settings(tmp_path / "one")
    copy = client.copied(Path(new.folder), tmp_path / "two")
    store = replace(new.store, url=database.url)
    first, second = replace(new, store=store), replace(copy, store=store)
    async with client.running(first) as hub, client.running(second) as other:
        for code in REGION:
            await hub.operator.join(hub.participant(code))
        await other.operator.token("somebody", "log")  # it has everybody now
        here, there, *more = witnesses(hub)
        await there.step()
        there.participant = other.participant(there.participant.code)
        for _ in range(3):
            await hub.participant("kz").send()
        await step([here, *more])
        await here.step()
        here.participant = other.participant("kz")
        assert here.size > other.service.recorder.state.tree.size
        assert (await here.asked()).body == b""
        assert (await other.participant("kz").send()).status == 201
        assert await step([there, *more]) == [False, False, True]
        assert (await served(hub))[1] == (await served(other))[1]
    await database.drop()
