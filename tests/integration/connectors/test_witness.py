"""Witnesses: what they cosign, what they never do, and how a hub with two histories is caught.

The daemons are real; the hub is the simulator, which can lie, and at the end the hub itself.
"""

import asyncio
import shutil
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from connectors import keys
from connectors.store import Store
from connectors.witness import bind
from schemas import checkpoint, cosignature, note, policy
from schemas.note import NoteError
from tests import builders, client
from tests.integration.connectors.test_with_hub import exchange as with_hub
from tests.simulator.institution import Institution, exchange
from tests.simulator.waiting import DEADLINE, until


@asynccontextmanager
async def region(*codes):
    """Institutions at work that have cosigned all there is; and their hub."""
    async with exchange(*codes) as (hub, them), AsyncExitStack() as stack:
        for one in them.values():
            await stack.enter_async_context(one.running())
        for one in them.values():
            await cosigns(one, hub.history)
        yield hub, *them.values()


def vkey(institution, log):
    name = cosignature.witness_name(log.name, institution.code)
    return cosignature.vkey_of(name, institution.keyring.witness)


def cosigned(institution):
    """What an institution remembers of what it cosigned last."""
    return institution.started and institution.ask(lambda store: store.cosigned())


async def cosigns(institution, history):
    """Wait until the newest checkpoint of a history is cosigned, and the hub has that."""
    await until(
        lambda: (
            [event["size"] for event in institution.log.of("log.cosigned")][-1:] == [history.size]
        ),
        f"{institution.code} cosigns {history.size}",
    )


def calm(*institutions):
    return all(one.alarm_kinds() == set() for one in institutions)


def forks(institution):
    """The files of evidence: the ending of each, and the checkpoint signed in it."""
    folder = institution.config.store.parent / "forks"
    return {path.suffix: path.read_bytes() for path in folder.glob("*")}


# --- What is cosigned ---


async def test_a_witness_remembers_what_it_cosigned_and_the_hub_has_it_under_its_registered_key():
    async with region("kz", "kg") as (hub, kz, kg):
        hub.fill(300)
        await cosigns(kz, hub.history)
        remembered = cosigned(kz)
        assert remembered.root == hub.history.root(remembered.size)
        raw = hub.cosigned["kz", remembered.size]
        assert raw == remembered.note
        assert checkpoint.open_checkpoint(raw, hub.log).size == hub.history.size
        assert vkey(kz, hub.log) in cosignature.cosigners(
            note.parse_note(raw), [vkey(kz, hub.log), vkey(kg, hub.log)]
        )
        assert calm(kz, kg)


async def test_a_candidate_that_stands_still_is_cosigned_once():
    async with region("kz") as (hub, kz):
        hub.candidate = hub.history.size
        hub.fill(5)
        await until(lambda: kz.log.of("log.followed")[-1]["size"] == hub.history.size, "followed")
        assert cosigned(kz).size == hub.candidate
        assert len(kz.log.of("log.cosigned")) == len({s for _, s in hub.cosigned})
        hub.candidate = None
        await cosigns(kz, hub.history)


async def test_a_cosignature_that_did_not_arrive_is_made_again_for_the_same_checkpoint():
    async with region("kz") as (hub, kz):
        hub.weather.refuse = [("/v1/witness/response", "busy")] * 3
        hub.fill(1)
        await cosigns(kz, hub.history)
        assert not hub.weather.refuse
        assert calm(kz)


async def test_a_second_key_cosigns_with_ml_dsa_44():
    async with exchange("kz") as (hub, them):
        kz = them["kz"]
        second = keys.make_second_witness(kz.config.keys)
        name = cosignature.witness_name(hub.log.name, "kz")
        both = [vkey(kz, hub.log), cosignature.vkey_of(name, second)]
        async with kz.running():
            await cosigns(kz, hub.history)
        signed = note.parse_note(cosigned(kz).note)
        assert cosignature.cosigners(signed, both).keys() == set(both)


async def test_what_was_cosigned_is_remembered_over_a_restart():
    async with exchange("kz") as (hub, them):
        kz = them["kz"]
        async with kz.running():
            await cosigns(kz, hub.history)
        before = cosigned(kz)
        hub.fill(3)
        async with kz.running():
            await cosigns(kz, hub.history)
        assert cosigned(kz).size == before.size + 3
        assert calm(kz)


# --- What is not cosigned ---


async def test_another_history_is_not_cosigned_and_both_sides_of_it_are_kept():
    async with region("kz", "kg") as (hub, kz, kg):
        other = hub.history.another()
        hub.fill(2)
        for one in (kz, kg):
            await cosigns(one, hub.history)
        last = cosigned(kg)
        other.record("hub.started", "hub", "another hub")
        other.record("hub.started", "hub", "another hub")
        other.record("hub.started", "hub", "another hub")
        hub.histories["kg"] = other
        await kg.alarmed("log-forked")
        await until(lambda: ("kg", last.note) in hub.heard[-20:], "kg shows what it cosigned")
        assert cosigned(kg) == last
        found = {
            checkpoint.open_checkpoint(raw, hub.log)
            for path in (kg.config.store.parent / "forks").iterdir()
            for raw in [path.read_bytes()]
        }
        assert {(head.size, head.root) for head in found} == {
            (last.size, last.root),
            (other.size, other.root(other.size)),
        }
        assert calm(kz)


async def test_two_trees_of_one_size_are_not_both_cosigned():
    async with region("kz") as (hub, kz):
        other = hub.history.another()
        hub.fill(1)
        await cosigns(kz, hub.history)
        last = cosigned(kz)
        other.record("hub.started", "hub", "another hub")
        hub.histories["kz"] = other
        await kz.alarmed("log-forked")
        assert cosigned(kz) == last
        assert {".ours", ".theirs"} == forks(kz).keys()


@pytest.mark.parametrize("insists", [False, True])
async def test_a_witness_never_goes_back_with_a_hub_that_has_an_older_log(insists):
    async with region("kz") as (hub, kz):
        older = hub.history.another()
        hub.fill(4)
        await cosigns(kz, hub.history)
        last = cosigned(kz)
        hub.lies.insist = insists
        hub.histories["kz"] = older
        await until(lambda: ("log-shrank", f"cosigned {last.size}") in kz.alarms(), "log-shrank")
        await until(lambda: ("kz", last.note) in hub.heard[-20:], "kz shows what it cosigned")
        assert cosigned(kz) == last


async def test_a_proof_that_does_not_hold_is_trouble_and_no_evidence():
    async with region("kz") as (hub, kz):
        last = cosigned(kz)
        hub.lies.spoil_request = lambda asked: asked.replace(b"\n", b"\n" + b"A" * 43 + b"=\n", 1)
        hub.fill(3)
        await until(lambda: trouble(kz, "does not hold"), "trouble")
        assert cosigned(kz) == last
        assert calm(kz)
        hub.lies.spoil_request = lambda asked: asked
        await cosigns(kz, hub.history)


def trouble(institution, words):
    events = institution.log.of("trouble")
    return [e for e in events if e["work"] == "witness" and words in str(e["detail"])]


@pytest.mark.parametrize("asked", [b"", b"old 1\n\n", b"nothing of the kind", b"\xff" * 50])
async def test_what_is_no_request_is_trouble_at_most(asked):
    async with region("kz") as (hub, kz):
        last = cosigned(kz)
        hub.lies.spoil_request = lambda _: asked
        hub.fill(1)
        if asked:
            await until(lambda: trouble(kz, ""), "trouble")
        await until(lambda: kz.log.of("log.followed")[-1]["size"] == hub.history.size, "followed")
        assert cosigned(kz) == last
        assert calm(kz)


async def test_a_log_whose_entries_are_not_shown_is_not_cosigned():
    async with region("kz") as (hub, kz):
        last = cosigned(kz)
        hub.lies.hide_entries = True
        hub.fill(1)
        await kz.alarmed("log-withheld")
        assert cosigned(kz) == last
        hub.lies.hide_entries = False
        await cosigns(kz, hub.history)


# --- A key that has seen more than its store ---


async def test_a_connector_from_a_backup_witnesses_nothing_until_it_has_a_new_key():
    async with exchange("kz") as (hub, them):
        kz = them["kz"]
        async with kz.running():
            await cosigns(kz, hub.history)
        state, backup = kz.config.state, kz.config.state.with_name("backup")
        shutil.copytree(state, backup)
        hub.fill(2)
        async with kz.running():
            await cosigns(kz, hub.history)
        shutil.rmtree(state)
        backup.rename(state)
        heard = len(hub.heard)
        async with kz.running():
            await kz.alarmed("witness-restored")
            hub.fill(1)
            await until(lambda: kz.ask(lambda store: store.size()) == hub.history.size, "followed")
        assert len(hub.heard) == heard
        assert {kind for kind, _ in kz.alarms()} == {"witness-restored"}
        old = keys.set_aside(kz.config.keys)
        kz.keyring = keys.make(kz.config.keys)
        shutil.copy(old / "sign.pem", kz.config.keys)  # the simulator knows no other
        async with kz.running():
            await until(lambda: calm(kz), "the alarm ends")
            await until(lambda: len(hub.heard) > heard, "the new key cosigns")


async def test_our_own_cosignature_under_what_we_do_not_remember_is_not_followed_by_another():
    async with region("kz") as (hub, kz):
        hub.candidate = hub.history.size
        hub.fill(1)
        text = note.parse_note(hub.history.checkpoint()).text
        name = cosignature.witness_name(hub.log.name, "kz")
        hub.lies.cosignatures = [cosignature.cosign(text, name, kz.keyring.witness, 1)]
        last = cosigned(kz)
        hub.candidate = None
        await kz.alarmed("witness-restored")
        assert cosigned(kz) == last


class TestBinding:
    @pytest.fixture
    async def kz(self):
        async with exchange("kz") as (_, them):
            yield them["kz"]

    def bound(self, institution):
        config = institution.config
        store = Store.open_for(config.store, config.code, config.hub.log)
        try:
            return bind(config.keys, store)
        finally:
            store.close()

    async def test_of_keys_and_store_lasts(self, kz):
        assert [self.bound(kz) for _ in range(3)] == [True, True, True]

    async def test_ends_with_a_copy(self, kz):
        self.bound(kz)
        copy = kz.config.state.with_name("copy")
        shutil.copytree(kz.config.state, copy)
        shutil.rmtree(kz.config.state)
        copy.rename(kz.config.state)
        assert not self.bound(kz)

    async def test_ends_with_a_copy_over_the_files_that_were_there(self, kz):
        copy = kz.config.state.with_name("copy")
        self.bound(kz)
        shutil.copytree(kz.config.state, copy)
        shutil.copytree(copy, kz.config.state, dirs_exist_ok=True)
        assert not self.bound(kz)

    async def test_ends_when_the_store_is_lost(self, kz):
        self.bound(kz)
        kz.config.store.unlink()
        assert not self.bound(kz)

    async def test_begins_anew_with_new_keys(self, kz):
        self.bound(kz)
        kz.config.store.unlink()
        keys.set_aside(kz.config.keys)
        keys.make(kz.config.keys)
        assert self.bound(kz)


# --- Two histories ---


async def test_two_histories_get_no_quorum_while_one_country_colludes_and_are_caught():
    async with region("kz", "kg", "tj", "uz") as (hub, kz, kg, tj, uz):
        colluding = builders.key("tm witness")
        everybody = {one.code: vkey(one, hub.log) for one in (kz, kg, tj, uz)}
        name = cosignature.witness_name(hub.log.name, "tm")
        everybody["tm"] = cosignature.vkey_of(name, colluding)
        wanted = policy.parse((policy.regional(hub.log, everybody) or "").encode())
        other = hub.history.another()
        hub.histories |= dict.fromkeys(("tj", "uz"), other)
        other.record("hub.started", "hub", "another hub")
        hub.fill(1)
        for one, history in ((kz, hub.history), (kg, hub.history), (tj, other), (uz, other)):
            await cosigns(one, history)
        size = hub.history.size
        assert other.size == size
        for history, codes in ((hub.history, ("kz", "kg")), (other, ("tj", "uz"))):
            raw = witnessed(hub, history, codes, name, colluding)
            with pytest.raises(NoteError, match="Too few"):
                policy.open_witnessed(raw, wanted)
        # One look at the other side is enough.
        hub.lies.checkpoint = witnessed(hub, hub.history, ("kz", "kg"), name, colluding)
        for one in (tj, uz):
            await one.alarmed("log-forked")
            sides = {checkpoint.open_checkpoint(raw, hub.log) for raw in forks(one).values()}
            assert {head.size for head in sides} == {size}
            assert len({head.root for head in sides}) == 2
        assert calm(kz, kg)


def witnessed(hub, history, codes, name, colluding):
    """The newest checkpoint of a history with the cosignatures that the hub can have for it."""
    raw = history.checkpoint()
    text = note.parse_note(raw).text
    lines = [
        line
        for code in codes
        for line in note.parse_note(hub.cosigned[code, history.size]).signatures
        if line.name != hub.log.name
    ]
    lines.append(cosignature.cosign(text, name, colluding, 1))
    signed = note.parse_note(raw)
    return note.encode(note.Note(text, (*signed.signatures, *lines)))


# --- With the hub itself ---


async def test_connectors_are_the_hub_s_quorum_and_messages_go_on_meanwhile(tmp_path):
    members = dict.fromkeys(("kz", "kg", "tj", "tm", "uz"), "member")
    async with with_hub(tmp_path, **members) as (hub, kz, *others):
        sent = [kz.send() for _ in range(3)]
        for one in others:
            await one.sees(*sent)
        for message_id in sent:
            await kz.settled(message_id)
        size = (await hub.operator.get("/v1/status"))["log_size"]
        kz.send()
        text = policy.regional(hub.vkey, {i.code: vkey(i, hub.vkey) for i in (kz, *others)})
        wanted, head = policy.parse((text or "").encode()), None
        async with asyncio.timeout(DEADLINE):
            while head is None or head.size < size:
                raw = (await hub.account().get("/log/checkpoint")).body
                with suppress(NoteError):  # not yet the first quorum
                    head = policy.open_witnessed(raw, wanted)
        assert calm(kz, *others)


async def test_a_hub_with_an_older_database_is_stopped_by_its_own_witnesses(tmp_path):
    settings = client.new_settings(tmp_path / "hub")
    folder, backup = Path(settings.folder), tmp_path / "backup"
    async with AsyncExitStack() as stack:
        async with client.running(settings) as hub:
            kz, kg = [await joined(hub, code, tmp_path) for code in ("kz", "kg")]
            for one in (kz, kg):
                await stack.enter_async_context(one.running())
            await until(lambda: cosigned(kz) and cosigned(kg), "cosigned")
        shutil.copytree(folder, backup)
        async with client.running(settings) as hub:
            await kz.settled(kz.send())
            size = (await hub.operator.get("/v1/status"))["log_size"]
            await until(lambda: cosigned(kz).size >= size and cosigned(kg).size >= size, "cosigned")
        shutil.rmtree(folder)
        backup.rename(folder)
        async with client.running(settings) as hub:
            await kz.alarmed("log-shrank")
            async with asyncio.timeout(DEADLINE):
                while not (status := await hub.operator.get("/v1/status"))["signing_stopped"]:
                    pass
            assert "is an older copy" in status["signing_stopped"]
            later = kg.send()
            await kg.taken(later)
            await until(lambda: kg.sent(later).code == "storage", "nothing is signed")


async def joined(hub, code, folder):
    one = Institution(code, folder, hub.connection.url, hub.vkey)
    bundle = await hub.operator.invite(code)
    fingerprint = await one.join(str(bundle["invitation"]))
    await hub.operator.post(f"/v1/members/{code}/approve", fingerprint=fingerprint)
    return one
