"""A hub that was restored from an older backup takes the missing tail back, and believes nobody."""

import asyncio
import json
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub import upkeep
from hub.ledger import patrol
from hub.ledger.verify import Check, verify
from hub.settings import StartError
from hub.store import queries as store
from schemas import checkpoint, merkle, note
from schemas import entry as entries
from schemas.acceptance import open_acceptance
from schemas.checkpoint import Checkpoint
from schemas.encoding import b64url, unb64url
from tests import builders, client
from tests.broker import eventually
from tests.integration.hub.test_patrol import edit
from tests.integration.hub.test_witnesses import REGION, back, sizes, step, witnesses
from tests.setback import put_back, rows


class Held:
    """What the connectors hold of a log, all together."""

    def __init__(self, raws, note, tiles, parts):
        self.raws = raws
        self.note = note
        self.tiles = tiles
        self.parts = parts

    @property
    def size(self):
        return len(self.raws)

    def piece(self, start, end, **lies):
        proof = [] if end == self.size else merkle.consistency_proof(end, self.size, self.tiles)
        return {
            "start": start,
            "entries": [b64url(raw) for raw in self.raws[start:end]],
            "checkpoint": self.note.decode(),
            "proof": [b64url(each) for each in proof],
        } | lies


async def held(hub, acceptances=()):
    """The log, and the parts of these (acceptance, envelope or None)."""
    queries = hub.service.queries
    raws = await queries.entries(0, 10_000)
    tiles = await queries.tiles(merkle.tiles_for_root(len(raws)) | merkle.edge_tiles(len(raws)))
    parts = []
    for acceptance, envelope in acceptances:
        part = {
            "index": open_acceptance(acceptance, hub.vkey).index,
            "private": acceptance.private,
            "salt": acceptance.salt,
        }
        parts.append(part | ({"envelope": b64url(envelope)} if envelope else {}))
    return Held(raws, await queries.checkpoint(), tiles, parts)


async def asked(hub, code, size):
    return (await hub.participant(code).get("/v1/witness/tail", size=size)).json


async def bring(hub, path, document, code="kg"):
    return await hub.participant(code).post(f"/v1/witness/{path}", json.dumps(document).encode())


@asynccontextmanager
async def older(settings, folder, after):
    """A hub whose database is an older copy, ``restored`` beside it, and what ``after`` gave."""
    shutil.copytree(settings.folder, folder)
    async with client.running(settings) as hub:
        lost = await after(hub)
    shutil.rmtree(settings.folder)
    folder.rename(settings.folder)
    settings.restored.touch()
    async with client.running(settings) as hub:
        yield hub, lost


async def later(hub):
    """Messages and receipts for some of them; all that connectors hold of it."""
    kz, kg = hub.participant("kz"), hub.participant("kg")
    sent = [kz.sign(kz.message()) for _ in range(4)]
    acceptances = [(await kz.submit(envelope)).acceptance() for envelope in sent]
    inbox = await kg.inbox()
    received = (await kg.post("/v1/receipts", kg.receipt(*inbox[:2]))).acceptance()
    return await held(hub, [*zip(acceptances, sent, strict=True), (received, None)])


async def whole(hub, lost):
    """Bring all of it."""
    start = (await asked(hub, "kg", lost.size))["size"]
    assert (await bring(hub, "tail", lost.piece(start, lost.size)))["size"] == lost.size
    return await bring(hub, "parts", {"parts": lost.parts})


async def test_the_log_is_whole_again_with_all_that_follows_from_it(settings, clock, tmp_path):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        assert (await whole(hub, lost))["taken"] == len(lost.parts)
        for code in REGION:
            await asked(hub, code, lost.size)
        assert not settings.restored.exists()
        assert (await hub.service.queries.entries(0, lost.size)) == lost.raws
        kg, tj = hub.participant("kg"), hub.participant("tj")
        assert [position for position, _ in await kg.inbox()] == [1, 2, 3, 4]
        receipts = (await hub.participant("kz").get("/v1/receipts", after=-1))["receipts"]
        assert len(receipts) == 1
        for _, delivery in await tj.inbox():
            assert hub.open(delivery.acceptance).entry.type == entries.MESSAGE_ACCEPTED
        # What is new goes on where it stopped, and what is old is known for it.
        again = await hub.participant("kz").submit(unb64url(lost.parts[0]["envelope"]))
        assert again.status == 200
        assert (await hub.participant("kz").send()).status == 201
        assert [position for position, _ in await kg.inbox()] == [1, 2, 3, 4, 5]
        service = hub.service
        assert (await verify(Check(service.queries, service.offload, hub.vkey))).ok


async def test_what_is_not_back_yet_is_no_damage(settings, clock, tmp_path, monkeypatch):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        start = (await asked(hub, "kg", lost.size))["size"]
        await bring(hub, "tail", lost.piece(start, lost.size))
        monkeypatch.setattr(patrol, "FOLLOW_SECONDS", 0)
        await hub.service.patrol.round()
        verdict = await hub.operator.get("/v1/audit/verify")
        assert (verdict["ok"], verdict["kind"]) == (False, "private")
        assert not settings.damaged.exists()
        await bring(hub, "parts", {"parts": lost.parts})
        for code in REGION:
            await asked(hub, code, lost.size)
        assert (await hub.participant("kz").send()).status == 201
        assert (await hub.operator.get("/v1/audit/verify"))["ok"] is True


async def erased_later(hub):
    """Two messages with a receipt for both, of which the second was erased before the loss."""
    kz, kg = hub.participant("kz"), hub.participant("kg")
    made = [kz.message() for _ in range(2)]
    sent = [kz.sign(each) for each in made]
    acceptances = [(await kz.submit(envelope)).acceptance() for envelope in sent]
    received = (await kg.post("/v1/receipts", kg.receipt(*await kg.inbox()))).acceptance()
    await erase(hub, made[1]["id"])
    return await held(hub, [*zip(acceptances, sent, strict=True), (received, None)])


async def test_what_was_erased_since_keeps_its_positions_and_nothing_else(
    settings, clock, tmp_path
):
    async with older(settings, tmp_path / "copy", erased_later) as (hub, lost):
        assert (await whole(hub, lost))["taken"] == len(lost.parts)
        for code in REGION:
            await asked(hub, code, lost.size)
        assert not settings.restored.exists()
        for code in ("kg", "tj"):
            items = (await hub.participant(code).get("/v1/inbox"))["deliveries"]
            found = [(item["position"], item.get("tombstone")) for item in items]
            assert found == [(1, None), (2, "erased")]
        queries, index = hub.service.queries, lost.parts[1]["index"]
        erased = entries.decode(lost.raws[index]).subject
        states = {copy.recipient: copy.state for copy in await queries.deliveries(erased)}
        assert states == {"kg": "received", "tj": "erased", "tm": "erased"}
        assert (await queries.message(erased)).envelope is None
        assert await queries.private(index, index + 1) == {}
        verdict = (await hub.operator.get("/v1/audit/verify")).json
        assert (verdict["ok"], verdict["erased"]) == (True, 1)
        assert (await hub.participant("kz").send()).status == 201


async def erased_unseen(hub):
    """A message that was erased, and that is all that connectors have not followed."""
    kz = hub.participant("kz")
    made = kz.message(audience=["kg"])
    sent = kz.sign(made)
    acceptance = (await kz.submit(sent)).acceptance()
    lost = await held(hub, [(acceptance, sent)])
    await erase(hub, made["id"])
    shutil.copy(hub.settings.erasures, Path(hub.settings.folder).parent / "erasures")
    return lost


async def erase(hub, message_id):
    path = f"/v1/messages/{message_id}/erase"
    assert (await hub.operator.post(path, reason="a test of it")).status == 200


async def test_what_only_the_list_says_was_erased_comes_back_without_its_content(
    settings, clock, tmp_path, monkeypatch
):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0)
    async with older(settings, tmp_path / "copy", erased_unseen) as (hub, lost):
        pass
    shutil.move(tmp_path / "erasures", settings.erasures)  # it outlives a restored backup
    async with client.running(settings) as hub:
        assert (await whole(hub, lost))["taken"] == 1
        kg = hub.participant("kg")
        assert (await kg.get("/v1/inbox"))["deliveries"] == []
        for code in REGION:
            await asked(hub, code, lost.size)
        # Nothing is given until the decision is recorded again.
        [tombstone] = (await kg.get("/v1/inbox", wait=20))["deliveries"]
        assert tombstone["tombstone"] == "erased"
        assert (await hub.operator.get("/v1/audit/verify"))["ok"]


async def test_what_was_erased_goes_again_where_the_database_went_back_under_a_hub_that_ran(
    hub, kz, kg, monkeypatch
):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0)
    made = kz.message(audience=["kg"])
    await kz.submit(kz.sign(made))
    database = hub.service.queries._database
    kept = await rows(database)
    await erase(hub, made["id"])
    await put_back(database, kept)
    assert (await kz.send()).code == "storage"

    async def gone():
        return (await hub.service.queries.message(made["id"])).envelope is None

    await eventually(gone, "the content is gone again")
    assert (await kg.get("/v1/inbox"))["deliveries"] == []


async def test_a_token_that_was_revoked_since_stays_revoked(settings, clock, tmp_path):
    async with client.running(settings) as hub:
        lost_one = await hub.operator.token("dana", "operator")
        kept_one = await hub.operator.token("aizhan", "operator")

    async def revoked(hub):
        assert (await hub.operator.post("/v1/tokens/dana/revoke")).status == 200
        return await held(hub)

    async with older(settings, tmp_path / "copy", revoked) as (hub, lost):
        assert (await hub.account(lost_one).get("/v1/status")).status == 200
        await whole_again(hub, lost)
        assert (await hub.account(lost_one).get("/v1/status")).code == "unauthenticated"
        assert (await hub.account(kept_one).get("/v1/status")).status == 200


async def test_it_comes_back_in_pieces_from_whoever_has_them(settings, clock, tmp_path):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        start = (await asked(hub, "kg", 0))["size"]
        for number, code in zip(range(start, lost.size), REGION * 9, strict=False):
            taken = await bring(hub, "tail", lost.piece(number, number + 1), code)
            assert taken["size"] == number + 1
        # A receipt before its messages has to wait, and then it fits.
        *messages, receipt = lost.parts
        assert (await bring(hub, "parts", {"parts": [receipt]}))["taken"] == 0
        for message in messages:
            assert (await bring(hub, "parts", {"parts": [message]}))["taken"] == 1
        assert (await asked(hub, "kg", lost.size))["missing"] == [receipt["index"]]
        assert (await bring(hub, "parts", {"parts": [receipt]}))["taken"] == 1
        assert (await asked(hub, "kg", lost.size))["missing"] == []
        service = hub.service
        assert (await verify(Check(service.queries, service.offload, hub.vkey))).ok


async def received_later(hub):
    """Three messages, and a receipt by each of two institutions for all of them."""
    kz = hub.participant("kz")
    sent = [kz.sign(kz.message()) for _ in range(3)]
    acceptances = [(await kz.submit(envelope)).acceptance() for envelope in sent]
    receipts = []
    for code in ("kg", "tj"):
        receiver = hub.participant(code)
        raw = receiver.receipt(*await receiver.inbox())
        receipts.append((await receiver.post("/v1/receipts", raw)).acceptance())
    return await held(hub, [*zip(acceptances, sent, strict=True), *((r, None) for r in receipts)])


async def inbox_of(hub, after=0):
    """The positions that tm is given after one, and how far its inbox is said to go."""
    page = (await hub.participant("tm").get("/v1/inbox", after=after)).json
    return [item["position"] for item in page["deliveries"]], page["last"]


async def receipts_of(hub, after=-1):
    """The entries of the receipts that kz is given after one, and where it is to go on."""
    page = (await hub.participant("kz").get("/v1/receipts", after=after)).json
    return [item["position"] for item in page["receipts"]], page["last"]


async def test_who_reads_meanwhile_is_given_nothing_behind_what_is_not_back_yet(
    settings, clock, tmp_path
):
    """It goes on from the last that it read: what came back before that it would never see."""
    async with older(settings, tmp_path / "copy", received_later) as (hub, lost):
        start = (await asked(hub, "kg", lost.size))["size"]
        await bring(hub, "tail", lost.piece(start, lost.size))
        first, second, third, one, two = lost.parts
        await bring(hub, "parts", {"parts": [second, third]})
        # What it is not given it is not promised either.
        assert await inbox_of(hub) == ([], 0)
        await bring(hub, "parts", {"parts": [first, two]})
        assert await inbox_of(hub) == ([1, 2, 3], 3)
        assert await inbox_of(hub, after=2) == ([3], 3)
        assert await inbox_of(hub, after=3) == ([], 3)
        assert await receipts_of(hub) == ([], -1)
        await bring(hub, "parts", {"parts": [one]})
        indices = [one["index"], two["index"]]
        assert await receipts_of(hub) == (indices, indices[-1])


async def test_who_reads_is_given_what_is_there_once_an_operator_gave_up_the_rest(
    settings, clock, tmp_path
):
    async with older(settings, tmp_path / "copy", received_later) as (hub, lost):
        start = (await asked(hub, "kg", lost.size))["size"]
        await bring(hub, "tail", lost.piece(start, lost.size))
        first, _, third, *_ = lost.parts
        await bring(hub, "parts", {"parts": [first, third]})
        assert await inbox_of(hub) == ([1], 1)
    settings.restored.rename(settings.lost)
    async with client.running(settings) as hub:
        assert await inbox_of(hub) == ([1, 3], 3)
    # Restored once more: what was given up then is waited for no more.
    settings.restored.touch()
    async with client.running(settings) as hub:
        assert await inbox_of(hub) == ([1, 3], 3)


async def test_what_a_piece_proves_to_be_signed_is_waited_for_whatever_witnesses_say(
    settings, clock, tmp_path
):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        start = (await asked(hub, "kg", 0))["size"]
        await bring(hub, "tail", lost.piece(start, start + 1), "undp")
        for code in REGION:
            await asked(hub, code, start + 1)
    settings.restored.unlink(missing_ok=True)
    async with client.running(settings) as hub:  # over a restart as well
        assert (await hub.participant("kz").send()).code == "storage"
        stopped = (await hub.operator.get("/v1/status"))["signing_stopped"]
        assert f"undp holds a checkpoint of {lost.size} entries" in stopped
        await whole(hub, lost)
        for code in REGION:
            await asked(hub, code, lost.size)
        assert (await hub.participant("kz").send()).status == 201


async def test_several_may_bring_the_same_at_the_same_time(settings, clock, tmp_path):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        start = (await asked(hub, "kg", 0))["size"]
        piece = lost.piece(start, lost.size)
        tails = await asyncio.gather(*(bring(hub, "tail", piece, code) for code in REGION))
        assert sorted(answer.status for answer in tails) == [200, 409, 409, 409]
        parts = {"parts": lost.parts}
        filled = await asyncio.gather(*(bring(hub, "parts", parts, code) for code in REGION))
        assert {answer.status for answer in filled} <= {200, 409}
        assert sum(a["taken"] for a in filled if a.status == 200) == len(lost.parts)


async def test_what_came_back_has_its_position_though_whoever_brought_it_went_away(
    settings, clock, tmp_path, monkeypatch
):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        start = (await asked(hub, "kg", 0))["size"]
        await bring(hub, "tail", lost.piece(start, lost.size))
        *others, last, receipt = lost.parts
        await bring(hub, "parts", {"parts": [*others, receipt]})
        journal, stored = hub.service.restorer._journal, asyncio.Event()
        transact = journal.transact

        async def never_answered(work):
            await transact(work)
            stored.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(journal, "transact", never_answered)
        bringing = asyncio.create_task(bring(hub, "parts", {"parts": [last]}))
        await stored.wait()
        bringing.cancel()
        for code in REGION:
            await asked(hub, code, lost.size)
        assert (await hub.participant("kz").send()).status == 201
        assert [at for at, _ in await hub.participant("kg").inbox()] == [1, 2, 3, 4, 5]


async def test_what_nobody_has_does_not_stand_before_what_somebody_has(
    settings, clock, tmp_path, monkeypatch
):
    monkeypatch.setattr(store, "_MISSING", 2)  # instead of 1,000
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        start = (await asked(hub, "kg", 0))["size"]
        await bring(hub, "tail", lost.piece(start, lost.size))
        one, two, three, four, five = (part["index"] for part in lost.parts)
        offered = [(await asked(hub, "kg", lost.size))["missing"] for _ in range(4)]
        assert offered == [[one, two], [three, four], [five], [one, two]]
        assert (await asked(hub, "tj", lost.size))["missing"] == [one, two]
        # Whatever is missing is taken, wherever it stands.
        assert (await bring(hub, "parts", {"parts": lost.parts[1:4]}))["taken"] == 3
        assert (await asked(hub, "tm", lost.size))["missing"] == [one, five]


async def test_what_was_given_up_is_not_waited_for_after_a_later_restore(settings, clock, tmp_path):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        start = (await asked(hub, "kg", 0))["size"]
        await bring(hub, "tail", lost.piece(start, lost.size))
    settings.restored.rename(settings.lost)
    async with client.running(settings) as hub:
        assert (await hub.participant("kz").send()).status == 201
        size = await hub.size()
    settings.restored.touch()
    async with client.running(settings) as hub:
        assert (await asked(hub, "kg", size))["missing"] == []
        assert (await bring(hub, "parts", {"parts": lost.parts}))["taken"] == 0
        for code in REGION:
            await asked(hub, code, size)
        assert (await hub.participant("kz").send()).status == 201


async def test_so_it_is_with_what_was_erased_before_it_was_given_up(settings, clock, tmp_path):
    async with older(settings, tmp_path / "copy", erased_later) as (hub, lost):
        start = (await asked(hub, "kg", 0))["size"]
        await bring(hub, "tail", lost.piece(start, lost.size))
    settings.restored.rename(settings.lost)
    for _ in range(2):
        async with client.running(settings) as hub:
            assert (await hub.participant("kz").send()).status == 201
            verdict = (await hub.operator.get("/v1/audit/verify")).json
            assert (verdict["ok"], verdict["erased"]) == (True, 1)
        assert not settings.restored.exists()


async def test_the_file_may_be_gone_before_the_witnesses_have_been_heard(settings, clock):
    settings.restored.touch()
    async with client.running(settings) as hub:
        settings.restored.unlink()
        size = await hub.size()
        for code in REGION:
            assert (await hub.participant(code).get("/v1/witness/tail", size=size)).status == 200
        assert (await hub.participant("kz").send()).status == 201


async def test_another_hub_that_starts_upon_half_of_the_content_waits_for_the_rest(
    settings, clock, tmp_path
):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        start = (await asked(hub, "kg", 0))["size"]
        await bring(hub, "tail", lost.piece(start, lost.size))
        await bring(hub, "parts", {"parts": lost.parts[:2]})
    settings.restored.unlink()  # it has a folder of its own, and no such file in it
    async with client.running(settings) as hub:
        assert (await hub.participant("kz").send()).code == "storage"
        assert settings.restored.exists()
        assert (await bring(hub, "parts", {"parts": lost.parts[2:]}))["taken"] == 3
        for code in REGION:
            await asked(hub, code, lost.size)
        assert not settings.restored.exists()
        assert (await hub.participant("kz").send()).status == 201
        assert [at for at, _ in await hub.participant("kg").inbox()] == [1, 2, 3, 4, 5]


async def test_a_part_that_cannot_come_back_keeps_no_other_one_out(settings, clock, tmp_path):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        start = (await asked(hub, "kg", 0))["size"]
        await bring(hub, "tail", lost.piece(start, lost.size))
        first, second, third, *others = lost.parts
        await bring(hub, "parts", {"parts": [first]})
        message_id = entries.decode(lost.raws[first["index"]]).subject
        # What stands at the third one's position is not to be explained.
        row = "INSERT INTO deliveries (recipient, position, message_id, state) VALUES (?, ?, ?, ?)"
        edit(settings, row, "kg", 3, message_id, "waiting")
        answer = await bring(hub, "parts", {"parts": [second, third, *others]})
        assert answer["taken"] == len([second, *others])
        assert (await asked(hub, "kg", lost.size))["missing"] == [third["index"]]


async def test_nothing_is_signed_while_a_message_s_content_is_missing(settings, clock, tmp_path):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        start = (await asked(hub, "kg", 0))["size"]
        await bring(hub, "tail", lost.piece(start, lost.size))
        for code in REGION:
            missing = (await asked(hub, code, lost.size))["missing"]
            assert missing == [part["index"] for part in lost.parts]
        assert (await hub.participant("tj").send()).code == "storage"
    # Nobody has it any more: the operator decides to go on without.
    settings.restored.rename(settings.lost)
    for _ in range(2):
        async with client.running(settings) as hub:
            verdict = await hub.operator.get("/v1/audit/verify")
            assert (verdict["ok"], verdict["lost"]) == (True, len(lost.parts))
            assert (await hub.participant("tj").send()).status == 201
    # What goes missing after that is damage.
    async with client.running(settings) as hub:
        sent = hub.open((await hub.participant("tj").send()).acceptance())
        edit(settings, "DELETE FROM log_private WHERE idx = ?", sent.index)
        verdict = await hub.operator.get("/v1/audit/verify")
        assert (verdict["ok"], verdict["first_bad"]) == (False, sent.index)
    settings.lost.write_text("one\n")
    with pytest.raises(StartError, match="the line 'one', which is no entry's number"):
        async with client.running(settings):
            pass


async def test_an_older_copy_that_nobody_said_was_restored_waits_once_it_is_extended(
    settings, clock, tmp_path
):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        pass
    settings.restored.unlink()
    async with client.running(settings) as hub:
        assert (await bring(hub, "tail", lost.piece(0, 1))).code == "conflict"  # lacks nothing
        await hub.participant("kg").post("/v1/witness/response", lost.note)
        start = (await asked(hub, "kg", 0))["size"]
        # It signed hub.started by itself: another history, which no tail can mend.
        refused = await bring(hub, "tail", lost.piece(start, lost.size))
        assert (refused.status, refused.code) == (400, "bad-request")
        assert "is an older copy" in (await hub.operator.get("/v1/status"))["signing_stopped"]


async def test_what_the_hub_knows_to_be_signed_is_not_signed_twice_though_a_part_of_it_is_back(
    hub, kz
):
    database = hub.service.queries._database
    kept = await rows(database)
    sent = [kz.sign(kz.message()) for _ in range(3)]
    acceptances = [(await kz.submit(envelope)).acceptance() for envelope in sent[:2]]
    followed = await held(hub, [*zip(acceptances, sent[:2], strict=True)])
    acceptances.append((await kz.submit(sent[2])).acceptance())
    everything = await held(hub, [*zip(acceptances, sent, strict=True)])
    await put_back(database, kept)
    assert (await kz.send()).code == "storage"
    # The connectors have not followed as far as the hub knows it to have signed.
    assert (await whole(hub, followed))["taken"] == 2
    for code in REGION:
        await asked(hub, code, followed.size)
    assert (await kz.send()).code == "storage"
    assert await hub.size() == followed.size
    # The third sender has its acceptance, and with it all is back.
    assert (await kz.post("/v1/witness/response", everything.note)).code == "conflict"
    assert (await whole(hub, everything))["taken"] == 1
    for code in REGION:
        await asked(hub, code, everything.size)
    assert hub.open((await kz.send()).acceptance()).index == everything.size


@pytest.mark.parametrize("entries_after", [0, 2])
async def test_a_candidate_that_waited_in_the_older_copy_holds_up_no_later_one(
    settings, clock, tmp_path, entries_after
):
    async with client.running(settings) as hub:
        them = witnesses(hub)
        await step(them[:1])
        await hub.participant("kz").send()

    async def cosigned_by_all(hub):
        back(them, hub)
        await step(them[1:])
        for _ in range(entries_after):
            await hub.operator.token("somebody", "log")
        assert (await step(them))[-1]
        return await held(hub)

    async with older(settings, tmp_path / "copy", cosigned_by_all) as (hub, lost):
        back(them, hub)
        await whole_again(hub, lost)
        await hub.participant("kz").send()
        assert (await step(them))[-1]
        at, size = await sizes(hub)
        assert at == size


async def test_so_it_is_where_the_database_went_back_under_a_hub_that_ran(hub, kz):
    database = hub.service.queries._database
    them = witnesses(hub)
    await step(them[:1])
    kept = await rows(database)
    await step(them[1:])
    await hub.operator.token("somebody", "log")
    assert (await step(them))[-1]
    lost = await held(hub)
    await put_back(database, kept)
    assert (await kz.send()).code == "storage"
    await whole_again(hub, lost)
    await kz.send()
    assert (await step(them))[-1]


async def whole_again(hub, lost):
    """Bring the entries that are missing, if any; then all say that none of them is ahead."""
    start = (await asked(hub, "kg", lost.size))["size"]
    if start < lost.size:
        await bring(hub, "tail", lost.piece(start, lost.size))
    for code in REGION:
        await asked(hub, code, lost.size)
    assert (await hub.operator.get("/v1/status"))["signing_stopped"] is None


# --- Nobody is believed ---


async def test_a_piece_that_our_key_did_not_sign_is_refused(settings, clock, tmp_path):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        start = (await asked(hub, "kg", 0))["size"]
        other = [*lost.raws[:-1], lost.raws[-1] + b" "]
        root = merkle.root([merkle.leaf_hash(raw) for raw in other])
        thief = builders.key("thief")
        forged = checkpoint.sign_checkpoint(
            Checkpoint(client.ORIGIN, lost.size, root),
            checkpoint_key(thief),
            thief,
        )
        raws = [b64url(raw) for raw in other[start:]]
        for piece in (
            lost.piece(start, lost.size, entries=raws),
            lost.piece(start, lost.size, entries=raws, checkpoint=forged.decode()),
            lost.piece(start, lost.size - 1, proof=[]),
            lost.piece(start, lost.size - 1, entries=raws[:-1][::-1]),
            lost.piece(start, lost.size, entries=["!"]),
        ):
            assert (await bring(hub, "tail", piece)).code == "bad-request"
        assert (await bring(hub, "tail", lost.piece(start + 1, lost.size))).code == "conflict"
        assert (await asked(hub, "kg", 0))["size"] == start


def checkpoint_key(private):
    return note.ed25519_vkey(client.ORIGIN, builders.public(private))


async def test_content_that_the_entry_does_not_commit_to_is_refused(settings, clock, tmp_path):
    async with older(settings, tmp_path / "copy", later) as (hub, lost):
        start = (await asked(hub, "kg", 0))["size"]
        await bring(hub, "tail", lost.piece(start, lost.size))
        one, two, *_ = lost.parts
        for lie in (
            {"private": two["private"]},
            {"salt": two["salt"]},
            {"salt": b64url(b"short")},
            {"envelope": two["envelope"]},
            {"envelope": None},
            {"private": b64url(b"{}")},
        ):
            assert (await bring(hub, "parts", {"parts": [one | lie]})).code == "bad-request", lie
        far = await bring(hub, "parts", {"parts": [one | {"index": 9_999}]})
        assert far["taken"] == 0
        assert len((await asked(hub, "kg", lost.size))["missing"]) == len(lost.parts)


@pytest.mark.parametrize("path", ["tail", "parts"])
@pytest.mark.parametrize(
    ("raw", "code"), [(b"{", "malformed"), (b"{}", "schema"), (b" " * 800_000, "too-large")]
)
async def test_other_bodies_are_refused(hub, path, raw, code):
    assert (await hub.participant("kg").post(f"/v1/witness/{path}", raw)).code == code


async def test_a_hub_that_lacks_nothing_takes_nothing(hub, kz):
    await kz.send()
    assert (await asked(hub, "kz", 10_000))["wanted"] is False
    lost = await held(hub)
    assert (await bring(hub, "tail", lost.piece(lost.size - 1, lost.size))).code == "conflict"
    part = {"index": 1, "private": "", "salt": ""}
    assert (await bring(hub, "parts", {"parts": [part]})).code == "conflict"
