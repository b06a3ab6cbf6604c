"""Evidence from an institution's own store, as its staff make and check it: without the hub."""

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from click.testing import CliRunner

from connectors import config as configs
from connectors import keys
from connectors.cli.main import main
from connectors.evidence import gather
from connectors.store import Reader, StoreError
from schemas import checkpoint, cosignature, note, witness
from schemas import entry as entries
from schemas.encoding import unb64url
from schemas.evidence import archive
from tests import builders
from tests.simulator.institution import exchange
from tests.simulator.waiting import until


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The stores after kz sent a bulletin that kg and tj received, and one that was refused."""
    folder = tmp_path_factory.mktemp("kept")

    async def fill():
        async with exchange("kz", "kg", "tj") as (hub, institutions):
            kz, kg, tj = institutions.values()
            async with kz.running(), kg.running(), tj.running():
                sent = kz.send()
                await kz.settled(sent)
                await kg.sees(sent)
                hub.weather.refuse = [("/v1/messages", "schema")]
                refused = kz.send()
                await until(lambda: kz.started and kz.ask(lambda s: s.sent(refused)), "taken")
                await until(lambda: kz.sent(refused).state == "refused", "refused")
            shutil.copytree(kz.path.parent, folder, dirs_exist_ok=True)
            return sent, refused

    return folder, *asyncio.run(fill())


@pytest.fixture
def kz(kept, tmp_path):
    """The settings of kz, in a copy of all that was kept."""
    shutil.copytree(kept[0], tmp_path / "copy")
    return tmp_path / "copy" / "kz.toml"


@pytest.fixture
def kg(kz):
    return kz.with_name("kg.toml")


@pytest.fixture
def sent(kept):
    return kept[1]


def typed(*words, status=0):
    result = CliRunner().invoke(main, [*map(str, words)])
    assert result.exit_code == status, f"{result.output}\n{result.exception!r}"
    return result


def policy(config, log=None):
    file = config.with_name("policy.txt")
    file.write_text(f"log {log or configs.load(config, {}).hub.log}\nquorum none\n")
    return file


def gathered(config, question, served=None):
    settings = configs.load(config, {})
    with Reader.open(settings.store) as reader:
        row = question(reader)
        assert row is not None
        return gather(reader, settings.log_key, row, served)


def kinds(file):
    made = archive.read(file.read_bytes())
    return [entries.decode(unb64url(one.entry)).type for one in made.entries]


def test_the_sender_proves_who_received_its_message(kz, sent):
    file = kz.with_name("x.zip")
    result = typed("evidence", sent, "-o", file, "--config", kz)
    assert f"nhri-connector verify {file} --policy FILE" in result.output
    assert file.stat().st_mode & 0o777 == 0o600
    told = typed("verify", file, "--policy", policy(kz))
    assert "holds   kg signed at" in told.output
    assert "holds   tj signed at" in told.output
    assert told.output.endswith("All of it holds, under keys that the policy trusts.\n")


def test_the_receiver_proves_what_it_received_and_that_it_said_so(kg):
    file = kg.with_name("x.zip")
    typed("evidence", "1", "-o", file, "--config", kg)
    told = json.loads(typed("verify", file, "--policy", policy(kg), "--json").output)
    receipts = [f["sentence"] for f in told["findings"] if f["check"] == "receipt"]
    assert len(receipts) == 1
    assert receipts[0].startswith("kg signed at")
    assert told["ok"]
    assert any("tj received it" in limit for limit in told["not_checked"])


def test_the_history_has_the_keys_of_those_concerned_and_of_nobody_else(kg):
    file = kg.with_name("x.zip")
    typed("evidence", "1", "-o", file, "--config", kg)
    assert sorted(kinds(file)) == sorted(
        [
            *[entries.MEMBER_INVITED, entries.MEMBER_JOINED] * 2,
            entries.MESSAGE_ACCEPTED,
            entries.RECEIPTS_RECORDED,
        ]
    )


def test_both_sides_make_the_same_file_but_for_what_each_may_see(kz, kg, sent):
    of_sender = gathered(kz, lambda store: store.sent(sent))
    of_receiver = gathered(kg, lambda store: store.at(1))
    assert of_receiver.envelope == of_sender.envelope
    assert {one.index for one in of_receiver.entries} < {one.index for one in of_sender.entries}


def test_the_cosignatures_under_what_the_hub_serves_are_taken_along(kz, kg, sent):
    settings = configs.load(kg, {})
    name = cosignature.witness_name(settings.log_key.name, "kg")
    with Reader.open(settings.store) as reader:
        followed = reader.followed()
    assert followed is not None
    line = cosignature.cosign(
        note.parse_note(followed.note).text, name, keys.load(settings.keys).witness, 1_780_000_000
    )
    made = gathered(kz, lambda store: store.sent(sent), witness.merge(followed.note, [line]))
    assert [one.partition("+")[0] for one in made.witnesses] == [name]


def test_a_served_checkpoint_of_another_history_is_passed_over(kz, sent):
    log_key = builders.key("simulated log")
    log = configs.load(kz, {}).log_key
    fork = checkpoint.sign_checkpoint(checkpoint.Checkpoint(log.name, 5, bytes(32)), log, log_key)
    made = gathered(kz, lambda store: store.sent(sent), fork)
    assert made == gathered(kz, lambda store: store.sent(sent))
    assert made == gathered(kz, lambda store: store.sent(sent), b"no note")


def test_the_hub_is_asked_for_its_checkpoint_and_not_missed(kz, sent):
    result = typed("evidence", sent, "-o", kz.with_name("x.zip"), "--config", kz)
    assert "The hub does not answer" in result.output


def test_verifying_needs_no_connector(kz, sent, monkeypatch):
    file = kz.with_name("x.zip")
    typed("evidence", sent, "-o", file, "--config", kz)
    trusted = policy(kz)
    monkeypatch.delenv("NHRI_CONFIG", raising=False)
    monkeypatch.chdir(kz.parent)
    typed("verify", "x.zip", "--policy", trusted)


def test_without_a_policy_the_keys_are_unanchored(kz, sent):
    file = kz.with_name("x.zip")
    typed("evidence", sent, "-o", file, "--config", kz)
    assert "a log key that nobody vouches for" in typed("verify", file, status=1).output
    other = policy(kz, log=builders.LOG)
    assert "is not in the policy" in typed("verify", file, "--policy", other, status=1).output


def test_a_policy_goes_with_a_file(kz, sent):
    typed("verify", sent, "--policy", policy(kz), "--config", kz, status=2)


def test_what_was_refused_without_a_record_proves_nothing(kz, kept):
    result = typed("evidence", kept[2], "-o", kz.with_name("x.zip"), "--config", kz, status=1)
    assert "nothing to prove yet" in result.output


def test_what_is_not_there_cannot_be_proven(kz):
    result = typed("evidence", "99", "-o", kz.with_name("x.zip"), "--config", kz, status=1)
    assert "There is no message 99" in result.output


def test_nothing_is_overwritten(kz, sent):
    file = kz.with_name("x.zip")
    file.write_text("mine")
    typed("evidence", sent, "-o", file, "--config", kz, status=1)
    assert file.read_text() == "mine"


def test_a_store_that_was_changed_gives_no_evidence(kz, sent):
    store = configs.load(kz, {}).store
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("UPDATE tiles SET hashes = zeroblob(length(hashes)) WHERE level = 0")
    file = kz.with_name("x.zip")
    result = typed("evidence", sent, "-o", file, "--config", kz, status=1)
    assert "Nothing was written" in result.output
    assert not file.exists()


def test_before_the_log_was_followed_there_is_nothing_to_prove(kz, sent):
    store = configs.load(kz, {}).store
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        connection.execute("DELETE FROM followed")
    with pytest.raises(StoreError):
        gathered(kz, lambda store: store.sent(sent))
