"""``nhri-connector`` as a person types it: what it prints, where it puts things, how it ends.

Two institutions and a hub in memory; the stores are filled by the daemons themselves.
"""

import asyncio
import json
import re
import secrets
import shutil
import sqlite3
import subprocess
import sys
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import UTC, datetime, timedelta

import click
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from connectors import config as configs
from connectors import joined, keys
from connectors.alarms import Finding
from connectors.cli import doctor, output, reading, succession
from connectors.cli.main import main
from connectors.cli.subscription import subscription
from connectors.link import HubRefused, Unreachable
from connectors.link.http import HttpLink
from connectors.outbox import Outbox
from connectors.store import Store
from hub import authority
from schemas import cosignature, message, note, policy, signature, statement
from schemas import entry as entries
from schemas.encoding import b64url, format_time, unb64url, uuid7
from schemas.evidence import archive
from schemas.joint_action import ActionState
from schemas.message import Text
from tests import builders
from tests.simulator.institution import exchange
from tests.simulator.waiting import until

COMMANDS = (
    *("join", "run", "send", "inbox", "show", "respond", "evidence", "verify", "doctor"),
    *("alarms", "witness", "policy", "console", "subscription", "rotate", "backup", "restore"),
)
WORDS = (
    *(command for command in COMMANDS if command != "subscription"),
    *(f"subscription {command}" for command in subscription.commands),
)

BULLETIN = """\
---
kind: activity_bulletin
to: region
marking: GREEN
activity: visit
language: {tag}
---
# {title}

What we saw.
"""

NOTICE = """\
kind: joint_action_notice
to: region
marking: GREEN
action: statement
invited: kg
answer_by: {answer_by}
language: ru
title: Общее заявление
"""


async def typed(config, *words, status=0):
    """Type a command, beside whatever else runs; it must end with this exit status."""
    line = [*map(str, words), *(("--config", str(config)) if config else ())]
    result = await asyncio.to_thread(CliRunner().invoke, main, line)
    assert result.exit_code == status, f"{line}\n{result.output}\n{result.exception!r}"
    return result


async def told(config, *words, status=0):
    """The same, for programs."""
    return json.loads((await typed(config, *words, "--json", status=status)).stdout)


@pytest.fixture
async def two():
    """A hub, and kz and kg, whose daemons do not run."""
    async with exchange("kz", "kg") as (hub, institutions):
        yield hub, institutions["kz"], institutions["kg"]


@asynccontextmanager
async def running(*institutions):
    """The daemons at work; at the end all are up to date."""
    if not institutions:
        yield
        return
    async with institutions[0].running(), running(*institutions[1:]):
        yield


def said(title="Посещение", tag="ru", marking="GREEN", to="region", more=""):
    """A bulletin as a person writes it."""
    text = BULLETIN.format(title=title, tag=tag).replace("GREEN", marking)
    return text.replace("to: region", f"to: {to}").replace("kind:", f"{more}kind:")


def write(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def bulletin(folder, name="visit.md", **words):
    return write(folder, name, said(**words))


async def send(institution, *files):
    return [one["id"] for one in await told(institution.path, "send", *files)]


async def exchanged(folder, kz, kg, text, name="notice.yaml"):
    """Something that kz sends and kg has; gives its id."""
    async with running(kz, kg):
        (message_id,) = await send(kz, write(folder, name, text))
        await kz.settled(message_id)
    return message_id


def notice(answer_by="2099-12-31"):
    return NOTICE.format(answer_by=answer_by)


# --- All commands ---


@pytest.mark.parametrize("command", WORDS)
async def test_every_command_explains_itself_with_an_example(command):
    result = await typed(None, *command.split(), "--help")
    assert "Examples:" in result.output
    assert f"nhri-connector {command}" in result.output
    assert "--json" in result.output


async def test_help_names_every_command_and_exit_code():
    result = await typed(None, "--help")
    for command in COMMANDS:
        assert f"\n  {command} " in result.output
    assert "0 done, 1 the thing asked about is not so, 2 usage" in result.output


async def test_what_has_commands_of_its_own_names_them():
    result = await typed(None, "subscription", "--help")
    for command in subscription.commands:
        assert f"\n  {command} " in result.output


@pytest.mark.parametrize(
    "command", ["inbox", "verify --all", "doctor", "rotate", "send X", "subscription list"]
)
async def test_without_settings_a_command_says_how_to_get_them(command, tmp_path):
    file = bulletin(tmp_path)
    words = [str(file) if word == "X" else word for word in command.split()]
    result = await typed(tmp_path / "none.toml", *words, status=2)
    assert "nhri-connector join" in result.output


async def test_wrong_settings_are_named_with_their_field(tmp_path):
    config = write(tmp_path, "kz.toml", 'code = "kz"\n[hub]\nurl = "x"\nlog = "y"\n')
    result = await typed(config, "inbox", status=2)
    assert "hub.url" in result.output


async def test_settings_and_json_may_stand_before_the_command_or_in_the_environment(two):
    _, kz, _ = two
    async with running(kz):
        await until(lambda: kz.started)
    before = CliRunner().invoke(main, ["--config", str(kz.path), "--json", "inbox"])
    named = CliRunner(env={"NHRI_CONFIG": str(kz.path)}).invoke(main, ["inbox", "--json"])
    assert json.loads(before.stdout) == json.loads(named.stdout) == {"last": 0, "messages": []}


async def test_before_the_daemon_ran_there_is_no_store_and_that_is_said(two):
    _, kz, _ = two
    for words in (["inbox"], ["verify", "--all"], ["respond", "accept", "--all-open"]):
        result = await typed(kz.path, *words, status=1)
        assert "nhri-connector run" in result.output


def test_the_program_starts_without_loading_what_it_does_not_need():
    # Help and completion are typed often, and the smallest machine has one slow core.
    source = (
        "import sys; import connectors.cli.main;"
        "print(*{'aiohttp', 'cryptography', 'rich', 'msgspec', 'yaml'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""


# --- What reaches the terminal ---


def test_nothing_in_a_text_can_steer_the_terminal():
    nasty = "a\x1b[2Jb\x9bc\u202ed\u2066e\x07f\ng\x7fh\ud800i"
    assert output.clean(nasty) == "a[2Jbcdef ghi"


def test_in_json_unsafe_characters_are_escapes(capsys):
    output.print_json({"text": "a\x1b\x9b\u202e\ud800"})
    printed = capsys.readouterr().out
    assert printed == '{\n  "text": "a\\u001b\\u009b\\u202e\\ud800"\n}\n'
    assert json.loads(printed) == {"text": "a\x1b\x9b\u202e\ud800"}


@pytest.mark.parametrize(
    ("languages", "expected"),
    [
        (["kk", "ru"], "kk"),
        (["ru"], "ru-KZ"),
        (["uz-Latn"], "uz-Cyrl"),
        (["tg"], "ru-KZ"),
        ([], "ru-KZ"),
    ],
)
def test_a_text_is_shown_in_the_nearest_language(languages, expected):
    texts = {tag: Text(tag) for tag in ("uz-Cyrl", "kk", "ru-KZ")}
    found = reading.words(texts, languages)
    assert found is not None
    assert found[0] == expected


def test_any_language_is_better_than_none():
    assert reading.words({"fr": Text("visite")}, ["kk"]) == ("fr", Text("visite"))
    assert reading.words({}, ["kk"]) is None


# --- send ---


async def test_what_is_sent_is_signed_and_waits_in_the_outbox_in_the_order_of_the_files(
    two, tmp_path
):
    _, kz, _ = two
    files = [bulletin(tmp_path, f"{n}.md", title=f"Visit {n}") for n in (3, 1, 2)]
    sent = await told(kz.path, "send", *files)
    assert [one["source"] for one in sent] == [str(file) for file in files]
    assert kz.outbox.pending() == [one["id"] for one in sent]
    jws = signature.parse(kz.outbox.read(sent[0]["id"]), signature.MESSAGE_TYPE)
    signature.verify(jws, {kz.keyring.kid: builders.public(kz.keyring.sign)}.__getitem__)
    assert message.parse(jws.payload).texts["ru"].title == "Visit 3"


async def test_people_get_the_id_beside_the_file(two, tmp_path):
    _, kz, _ = two
    result = await typed(kz.path, "send", bulletin(tmp_path))
    assert result.stdout == f"{kz.outbox.pending()[0]}  {tmp_path / 'visit.md'}\n"


async def test_with_a_mistake_in_one_file_nothing_is_sent_and_every_mistake_has_its_line(
    two, tmp_path
):
    _, kz, _ = two
    good = bulletin(tmp_path)
    bad = write(tmp_path, "bad.md", said(marking="PINK"))
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"kind: activity_bulletin\ntitle: caf\xe9\n")
    word = write(tmp_path, "visit.docx", "")
    result = await typed(kz.path, "send", good, bad, latin, word, status=2)
    assert f"{bad}:4: marking: The markings are TLP:CLEAR" in result.output
    assert f"{latin}:2: It is not in UTF-8" in result.output
    assert f"{word}:1: The name must end in one of .yaml" in result.output
    assert "Nothing was sent." in result.output
    assert kz.outbox.pending() == []


async def test_programs_get_the_mistakes_too(two, tmp_path):
    _, kz, _ = two
    bad = write(tmp_path, "bad.md", said(marking="PINK"))
    mistakes = (await told(kz.path, "send", bad, status=2))["mistakes"]
    assert [(m["file"], m["line"], m["field"]) for m in mistakes] == [(str(bad), 4, "marking")]


async def test_two_files_with_one_id_are_a_mistake(two, tmp_path):
    _, kz, _ = two
    fixed = f"id: {uuid7(datetime.now(UTC), bytes(10))}\n"
    files = [bulletin(tmp_path, f"{n}.md", title=f"No {n}", more=fixed) for n in (1, 2)]
    result = await typed(kz.path, "send", *files, status=2)
    assert f"{files[0]} has the same id" in result.output


async def test_an_id_that_waits_already_is_not_overwritten(two, tmp_path):
    _, kz, _ = two
    fixed = f"id: {uuid7(datetime.now(UTC), bytes(10))}\n"
    await send(kz, bulletin(tmp_path, more=fixed))
    before = kz.outbox.read(kz.outbox.pending()[0])
    other = bulletin(tmp_path, "other.md", title="Other words", more=fixed)
    result = await typed(kz.path, "send", bulletin(tmp_path), other, status=1)
    assert "with another content" in result.output
    assert "in the outbox are:" in result.output
    assert before in [kz.outbox.read(waiting) for waiting in kz.outbox.pending()]


async def test_waiting_shows_the_hubs_acceptance(two, tmp_path):
    _, kz, kg = two
    async with running(kz, kg):
        result = await typed(kz.path, "send", "--wait", bulletin(tmp_path))
        assert "accepted 20" in result.stdout
        (answer,) = await told(kz.path, "send", "--wait", bulletin(tmp_path))
    assert answer["state"] == "accepted"
    assert answer["index"] == kz.sent(answer["id"]).index


async def test_waiting_shows_a_refusal_and_ends_with_4(two, tmp_path):
    hub, kz, _ = two
    hub.weather.refuse = [("/v1/messages", "schema")]
    async with running(kz):
        (answer,) = await told(kz.path, "send", "--wait", bulletin(tmp_path), status=4)
        assert (answer["state"], answer["code"]) == ("refused", "schema")
        hub.weather.refuse = [("/v1/messages", "schema")]
        result = await typed(kz.path, "send", "--wait", bulletin(tmp_path), status=4)
        assert "REFUSED (schema): By order of the test." in result.output


async def test_what_was_refused_can_be_corrected_and_its_own_answer_is_waited_for(two, tmp_path):
    hub, kz, _ = two
    fixed = f"id: {uuid7(datetime.now(UTC), bytes(10))}\n"
    hub.weather.refuse = [("/v1/messages", "schema")]
    async with running(kz):
        await told(kz.path, "send", "--wait", bulletin(tmp_path, more=fixed), status=4)
        better = bulletin(tmp_path, title="A visit, corrected", more=fixed)
        (answer,) = await told(kz.path, "send", "--wait", better)
        assert answer["state"] == "accepted"
        other = bulletin(tmp_path, title="Another visit", more=fixed)
        result = await typed(kz.path, "send", "--wait", other, status=1)
    assert f"Another message was sent as {answer['id']} before" in result.output
    assert kz.outbox.pending() == []


async def test_waiting_in_vain_ends_with_3_and_loses_nothing(two, tmp_path):
    _, kz, _ = two
    file = bulletin(tmp_path)
    result = await typed(kz.path, "send", "--wait", "--timeout", "0", file, status=3)
    assert "waits in the outbox" in result.stdout
    assert len(kz.outbox.pending()) == 1


async def test_what_the_marking_forbids_for_ever_is_refused_at_once(tmp_path):
    async with exchange("kz", "undp") as (_, institutions):
        kz = institutions["kz"]
        async with running(kz):
            await until(lambda: kz.started and kz.ask(lambda store: store.size()))
        file = bulletin(tmp_path, to="undp", marking="AMBER")
        result = await typed(kz.path, "send", file, status=4)
        assert "TLP:AMBER may not go to undp" in result.output
        assert kz.outbox.pending() == []


async def test_whoever_is_not_known_here_yet_may_be_known_to_the_hub(two, tmp_path):
    _, kz, _ = two
    async with running(kz):
        await until(lambda: kz.started and kz.ask(lambda store: store.size()))
    await send(kz, bulletin(tmp_path, to="tj"))
    assert len(kz.outbox.pending()) == 1


async def test_a_reply_goes_on_in_the_thread_of_what_it_replies_to(two, tmp_path):
    _, kz, kg = two
    first = await exchanged(tmp_path, kz, kg, notice())
    async with running(kz, kg):
        (second,) = await send(kg, bulletin(tmp_path, more=f"in_reply_to: {first}\n"))
        await kg.settled(second)
        await kz.sees(second)
    (third,) = await send(kz, bulletin(tmp_path, more=f"in_reply_to: {second}\n"))
    read = reading.opened(kz.outbox.read(third))
    assert read is not None
    assert (read.in_reply_to, read.thread) == (second, first)


# --- inbox and show ---


async def test_the_inbox_lists_what_came_in_in_the_readers_language(two, tmp_path):
    _, kz, kg = two
    async with running(kz, kg):
        for title, tag in (("Visit", "en"), ("Посещение", "ru"), ("[bold]Third[/]", "fr")):
            await kz.settled((await send(kz, bulletin(tmp_path, title=title, tag=tag)))[0])
    listed = (await told(kg.path, "inbox"))["messages"]
    assert [row["position"] for row in listed] == [1, 2, 3]
    assert [row["title"] for row in listed] == ["Visit", "Посещение", "[bold]Third[/]"]
    assert {(row["sender"], row["kind"], row["marking"], row["state"]) for row in listed} == {
        ("kz", "activity_bulletin.v1", "TLP:GREEN", "valid")
    }
    lines = (await typed(kg.path, "inbox")).stdout.splitlines()
    assert lines[0].split() == ["position", "time", "from", "kind", "title", "marking"]
    assert "[bold]Third[/]" in lines[3]
    assert "\x1b" not in "".join(lines)


async def test_the_inbox_pages_and_begins_with_the_newest(two, tmp_path):
    _, kz, kg = two
    async with running(kz, kg):
        files = [bulletin(tmp_path, f"{n}.md", title=f"No {n}") for n in range(4)]
        await kg.sees(*await send(kz, *files))

    async def positions(*words):
        page = await told(kg.path, "inbox", *words)
        assert page["last"] == 4
        return [row["position"] for row in page["messages"]]

    assert await positions("--limit", "2") == [3, 4]
    assert await positions("--after", "0", "--limit", "2") == [1, 2]
    assert await positions("--after", "3") == [4]
    assert "Nothing after position 4." in (await typed(kg.path, "inbox", "--after", "4")).stdout


async def test_a_message_that_is_not_valid_is_listed_and_not_shown(two):
    hub, kz, kg = two
    forged = builders.signed(
        builders.message(
            id=uuid7(datetime.now(UTC), bytes(10)),
            sender="kz",
            created=format_time(datetime.now(UTC)),
            texts={"en": {"title": "Believe me"}},
        ),
        builders.key("thief"),
    )
    async with running(kg):
        message_id = hub.slip_in(forged)
        await kg.alarmed("message-invalid")
    listed = await typed(kg.path, "inbox")
    shown = await typed(kg.path, "show", "1")
    assert "(not valid; see doctor)" in listed.stdout
    assert "received      invalid at position 1: unknown-key" in shown.stdout
    assert message_id in shown.stdout
    assert "Believe me" not in listed.stdout + shown.stdout
    assert (await told(kg.path, "verify", "--all", status=1))["ok"] is False
    assert kz.path != kg.path


async def test_what_the_hub_erased_is_marked_and_our_own_copy_is_kept(two, tmp_path):
    hub, kz, kg = two
    async with running(kz, kg):
        (kept,) = await send(kz, bulletin(tmp_path))
        await kz.settled(kept)
        hub.erase(kept)
        await until(lambda: ("received-erased", kept) in kg.alarms(), "told")
    async with running(kz):
        (never,) = await send(kz, bulletin(tmp_path, "other.md"))
        await until(lambda: never in hub.history.accepted, "accepted")
        hub.erase(never)
    async with running(kg):
        await until(lambda: kg.ask(lambda store: store.last_position()) == 2, "a tombstone")
    copy, tombstone = (await told(kg.path, "inbox"))["messages"]
    assert (copy["state"], copy["erased"], copy["title"]) == ("valid", True, "Посещение")
    assert (tombstone["state"], tombstone["erased"], tombstone["title"]) == ("erased", True, None)
    listed = (await typed(kg.path, "inbox")).stdout
    assert "Посещение (erased by the hub)" in listed
    assert "(erased)" in listed
    shown = (await typed(kg.path, "show", "1")).stdout
    assert "What we saw." in shown
    assert re.search(r"erased +by the hub, .*, log entry \d+; this is our own copy", shown)
    assert "received      erased at position 2" in (await typed(kg.path, "show", "2")).stdout
    verified = await told(kg.path, "verify", "--all")
    assert (verified["ok"], verified["problems"]) == (True, [])
    await typed(kg.path, "evidence", kept, "-o", tmp_path / "kept.zip")
    await typed(kg.path, "evidence", "2", "-o", tmp_path / "erased.zip")
    for name in ("kept", "erased"):
        evidence = archive.read((tmp_path / f"{name}.zip").read_bytes())
        types = [entries.decode(unb64url(one.entry)).type for one in evidence.entries]
        assert entries.MESSAGE_ERASED in types
        assert (evidence.envelope is None) == (name == "erased")


async def test_show_tells_all_about_a_message_to_sender_and_receiver(two, tmp_path):
    _, kz, kg = two
    async with running(kz, kg):
        (message_id,) = await send(kz, bulletin(tmp_path))
        await kz.settled(message_id)
    sent = await told(kz.path, "show", message_id)
    received = await told(kg.path, "show", message_id)
    assert (sent["way"], sent["state"], sent["position"]) == ("sent", "accepted", None)
    assert (received["way"], received["state"], received["position"]) == ("received", "valid", 1)
    for view in (sent, received):
        assert view["message"]["texts"]["ru"]["title"] == "Посещение"
        assert view["signatures"] == [{"member": "kz", "kid": kz.keyring.kid, "holds": True}]
        assert view["routing"]["recipients"] == {"kg": {"position": 1, "reason": "group:region"}}
        assert view["routing"]["left_out"] == {"kz": "sender"}
        assert view["index"] == kz.sent(message_id).index
    assert [(r["recipient"], r["state"]) for r in sent["receipts"]] == [("kg", "received")]
    text = (await typed(kz.path, "show", message_id)).stdout
    assert text.startswith("Посещение\n\nWhat we saw.\n")
    assert "recipient     kg at position 1 (group:region)" in text
    assert "receipt       kg: received" in text
    assert (await typed(kg.path, "show", "1")).stdout == (
        await typed(kg.path, "show", message_id)
    ).stdout


async def test_show_knows_what_still_waits_in_the_outbox(two, tmp_path):
    _, kz, _ = two
    (message_id,) = await send(kz, bulletin(tmp_path))
    view = await told(kz.path, "show", message_id)
    assert (view["way"], view["message"]["id"]) == ("outbox", message_id)


@pytest.mark.parametrize("wanted", ["7", "019f270c-11ca-7000-8000-000000000000", "../kz"])
async def test_what_is_not_there_is_said_to_be_not_there(two, wanted):
    _, kz, _ = two
    async with running(kz):
        await until(lambda: kz.started)
    for command in ("show", "verify"):
        result = await typed(kz.path, command, wanted, status=1)
        assert f"There is no message {wanted}" in result.output


# --- respond ---


async def test_accepting_signs_the_notice_and_all_signatures_make_one_document(two, tmp_path):
    _, kz, kg = two
    notice_id = await exchanged(tmp_path, kz, kg, notice())
    (answer,) = await told(kg.path, "respond", "accept", notice_id)
    assert answer["source"] == notice_id
    read = reading.opened(kg.outbox.read(answer["id"]))
    assert read is not None
    assert (read.audience, read.marking) == (("region", "kz"), "TLP:GREEN")
    assert (read.in_reply_to, read.thread, read.supersedes) == (notice_id, notice_id, None)
    async with running(kz, kg):
        await kz.sees(answer["id"])
        await kg.settled(answer["id"])
    document = tmp_path / "agreement.jose"
    for institution in (kz, kg):
        verified = await told(institution.path, "verify", notice_id, "--output", document)
        assert (verified["ok"], verified["state"]) == (True, ActionState.AGREED)
        assert verified["signed_by"] == ["kg", "kz"]
        jws = signature.parse(document.read_bytes(), signature.MESSAGE_TYPE)
        publics = {i.keyring.kid: builders.public(i.keyring.sign) for i in (kz, kg)}
        signature.verify(jws, publics.__getitem__)
        assert {s.kid for s in jws.signatures} == publics.keys()
    action = (await told(kz.path, "show", notice_id))["action"]
    assert action["state"] == "agreed"
    assert [(a["member"], a["answer"]) for a in action["answers"]] == [("kg", "accept")]
    titles = [row["title"] for row in (await told(kz.path, "inbox"))["messages"]]
    assert titles == ["accept: Общее заявление"]


async def test_a_later_answer_names_the_earlier_one_even_where_that_still_waits(two, tmp_path):
    _, kz, kg = two
    notice_id = await exchanged(tmp_path, kz, kg, notice())
    first, second = [
        (await told(kg.path, "respond", answer, notice_id))[0]["id"]
        for answer in ("accept", "decline")
    ]
    read = reading.opened(kg.outbox.read(second))
    assert read is not None
    assert read.supersedes == first
    async with running(kz, kg):
        await kg.settled(second)
        (third,) = await told(kg.path, "respond", "withdraw", notice_id)
        read = reading.opened(kg.outbox.read(third["id"])) or kg.sent(third["id"])
        await kg.settled(third["id"])
        await kz.sees(third["id"])
    withdrawn = reading.opened(kg.sent(third["id"]).envelope)
    assert withdrawn is not None
    assert withdrawn.supersedes == second
    assert (await told(kz.path, "show", notice_id))["action"]["state"] == "proposed"


async def test_words_go_with_an_answer_as_a_sentence_or_a_file(two, tmp_path):
    _, kz, kg = two
    notice_id = await exchanged(tmp_path, kz, kg, notice())
    said = ("respond", "decline", notice_id, "-m", "Вне мандата.", "--language", "ru")
    (answer,) = await told(kg.path, *said)
    read = reading.opened(kg.outbox.read(answer["id"]))
    assert read is not None
    assert read.texts == {"ru": Text("Вне мандата.")}
    file = write(tmp_path, "words.md", "# Эскертүү\n\nКыскача.\n--- ru\n# Оговорка\n")
    written = ("respond", "accept-with-reservation", notice_id, "--text", file)
    (answer,) = await told(kg.path, *written, "--language", "ky")
    async with running(kz, kg):
        await kz.sees(answer["id"])
    (one,) = (await told(kz.path, "show", notice_id))["action"]["answers"]
    assert (one["answer"], one["words"]) == ("accept_with_reservation", "Оговорка")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["accept"], "Give the ids of notices, or --all-open."),
        (["accept", "ID", "--all-open"], "Give the ids of notices, or --all-open."),
        (["accept", "ID", "-m", "x"], "Say which language it is"),
        (["accept", "ID", "-m", "x", "--language", "uz"], "not a language tag"),
        (["accept", "ID", "-m", "x", "--text", "FILE"], "with -m or with --text"),
        (["accept", "ID", "--text", "FILE"], "words.md:1: language: Say which language"),
        (["accept-with-reservation", "ID"], "Say the reservation"),
        (["maybe", "ID"], "'maybe' is not one of"),
    ],
)
async def test_an_answer_that_cannot_be_understood_is_no_answer(two, tmp_path, words, complaint):
    _, kz, _ = two
    file = write(tmp_path, "words.md", "# Words")
    names = {"ID": builders.message_id(), "FILE": file}
    result = await typed(kz.path, "respond", *(names.get(w, w) for w in words), status=2)
    assert complaint in result.output


async def test_an_answer_that_the_rules_do_not_allow_is_refused_at_once(two, tmp_path):
    _, kz, kg = two
    notice_id = await exchanged(tmp_path, kz, kg, notice())
    for institution, answer, complaint in (
        (kg, "start", "Only kz can start this action."),
        (kg, "withdraw", "There is no answer to withdraw."),
        (kz, "accept", "Invited were kg."),
        (kz, "start", "It is proposed: start does not fit."),
    ):
        result = await typed(institution.path, "respond", answer, notice_id, status=4)
        assert complaint in result.output
        assert institution.outbox.pending() == []
    unknown = builders.message_id()
    result = await typed(kg.path, "respond", "accept", notice_id, unknown, status=4)
    assert unknown in result.output
    assert kg.outbox.pending() == []


async def test_the_proposer_takes_an_action_further(two, tmp_path):
    _, kz, kg = two
    notice_id = await exchanged(tmp_path, kz, kg, notice())
    async with running(kz, kg):
        (answer,) = await told(kg.path, "respond", "accept", notice_id)
        await kz.sees(answer["id"])
        for step, state in (("start", "under_way"), ("conclude", "concluded")):
            (taken,) = await told(kz.path, "respond", step, notice_id, "--wait")
            assert taken["state"] == "accepted"
            await kg.sees(taken["id"])
            assert (await told(kg.path, "show", notice_id))["action"]["state"] == state


async def test_all_open_answers_what_is_open_once(two, tmp_path):
    _, kz, kg = two
    async with running(kz, kg):
        files = [write(tmp_path, f"{n}.yaml", notice()) for n in range(3)]
        notices = await send(kz, *files)
        await kz.settled((await send(kz, bulletin(tmp_path)))[0])
        (cancelled,) = await told(kz.path, "respond", "cancel", notices[0])
        await kg.sees(cancelled["id"])
    answers = await told(kg.path, "respond", "accept", "--all-open")
    assert [answer["source"] for answer in answers] == notices[1:]
    assert await told(kg.path, "respond", "accept", "--all-open") == []
    async with running(kz, kg):
        for answer in answers:
            await kg.settled(answer["id"])
    result = await typed(kg.path, "respond", "accept", "--all-open")
    assert result.stdout == "There is no open invitation.\n"


# --- verify ---


@asynccontextmanager
async def filled(folder):
    """Both stores with a bulletin, a refused message, a joint action, answers and receipts."""
    async with exchange("kz", "kg") as (hub, institutions):
        kz, kg = institutions["kz"], institutions["kg"]
        notice_id = await exchanged(folder, kz, kg, notice())
        async with running(kz, kg):
            (answer,) = await told(kg.path, "respond", "accept", notice_id)
            (bulletin_id,) = await send(kz, bulletin(folder))
            await kg.settled(answer["id"])
            await kz.settled(bulletin_id)
            hub.weather.refuse = [("/v1/messages", "schema")]
            await typed(kz.path, "send", "--wait", bulletin(folder), status=4)
        yield kz, kg, notice_id


@pytest.fixture
async def full(tmp_path):
    async with filled(tmp_path) as institutions:
        yield institutions


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The settings and stores alone, as a backup has them: made once, for many to look at."""
    folder = tmp_path_factory.mktemp("kept")

    async def fill():
        async with filled(tmp_path_factory.mktemp("files")) as (kz, _, notice_id):
            shutil.copytree(kz.path.parent, folder, dirs_exist_ok=True)
        return notice_id

    return folder, asyncio.run(fill())


@pytest.fixture
def backup(kept, tmp_path):
    """A copy of one's own: the settings of kz and of kg, and the id of the notice."""
    folder, notice_id = kept
    shutil.copytree(folder, tmp_path / "backup")
    return tmp_path / "backup" / "kz.toml", tmp_path / "backup" / "kg.toml", notice_id


async def test_verify_checks_everything_and_says_what(backup):
    kz, kg, _ = backup
    checked = (await told(kz, "verify", "--all"))["checked"]
    assert checked["sent, accepted"] == 2
    assert checked["sent, refused, nothing to verify"] == 1
    assert checked["received, valid"] == 1
    assert checked["receipt items"] == 2
    assert checked["joint actions"] == 1
    assert checked["signatures of joint actions"] == 2
    assert checked["log entries"] >= 9  # four of the directory, three messages, their receipts
    text = (await typed(kg, "verify", "--all")).stdout
    assert text.endswith("All of it holds.\n")


TAMPERING = {
    "an entry's hash": "UPDATE tiles SET hashes = zeroblob(length(hashes)) WHERE level = 0",
    "a missing hash": "DELETE FROM tiles WHERE level = 0",
    "the checkpoint": "UPDATE followed SET note = CAST(replace(note, 'simulator', 'x') AS BLOB)",
    "the followed root": "UPDATE followed SET root = zeroblob(32)",
    "a directory entry": (
        "UPDATE log_entries SET raw = CAST(replace(CAST(raw AS TEXT), '\"KG\"', '\"GK\"') AS BLOB)"
    ),
    "no log": "DELETE FROM followed",
    "what we sent": "UPDATE sent SET envelope = (SELECT raw FROM inbox LIMIT 1)",
    "another's acceptance": (
        "UPDATE sent SET acceptance ="
        " (SELECT acceptance FROM sent AS other WHERE other.id > sent.id LIMIT 1)"
        " WHERE id = (SELECT min(id) FROM sent)"
    ),
    "the time shown": "UPDATE sent SET accepted = '2020-01-01T00:00:00.000Z' WHERE log_index > 0",
    "the index shown": "UPDATE sent SET log_index = 1 WHERE log_index > 0",
    "the position expected": "UPDATE expected SET position = position + 1",
    "a receipt lost": "DELETE FROM receipts",
    "a receipt invented": (
        "INSERT INTO receipts SELECT 1, 'kg', acceptance FROM sent WHERE log_index > 0 LIMIT 1"
    ),
    "whose receipt it is": "UPDATE receipts SET receiver = 'tj'",
    "the delivery": (
        "UPDATE inbox SET raw = CAST(replace(raw, 'envelope\":\"ey', 'envelope\":\"ex') AS BLOB)"
    ),
    "the sender shown": "UPDATE inbox SET sender = 'tj'",
    "the position shown": "UPDATE inbox SET position = 5",
    "a valid message called invalid": "UPDATE inbox SET state = 'invalid', reason = 'x'",
}  # fmt: skip


@pytest.mark.parametrize("tampering", TAMPERING)
async def test_verify_notices_when_anything_in_the_store_was_changed(backup, tampering):
    kz, _, _ = backup
    store = configs.load(kz, {}).store
    with closing(sqlite3.connect(store, isolation_level=None)) as connection:
        assert connection.execute(TAMPERING[tampering]).rowcount > 0
    answer = await told(kz, "verify", "--all", status=1)
    assert answer["ok"] is False
    assert answer["problems"]
    assert "NOT SO: " in (await typed(kz, "verify", "--all", status=1)).stdout


async def test_one_message_is_verified_with_its_receipts(backup):
    kz, kg, notice_id = backup
    checked = (await told(kz, "verify", notice_id))["checked"]
    assert (checked["sent, accepted"], checked["receipts"]) == (1, 1)
    checked = (await told(kg, "verify", "1"))["checked"]
    assert checked["received, valid"] == 1


async def test_only_a_joint_action_can_be_written_as_one_document(backup, tmp_path):
    _, kg, _ = backup
    target = tmp_path / "out.jose"
    result = await typed(kg, "verify", "2", "--output", target, status=1)
    assert "no joint action" in result.output
    assert not target.exists()
    result = await typed(kg, "verify", "1", "--output", tmp_path / "no" / "x", status=1)
    assert "cannot be written" in result.output


@pytest.mark.parametrize("words", [[], ["1", "--all"], ["--all", "--output", "x"]])
async def test_verify_wants_one_thing(backup, words):
    _, kg, _ = backup
    await typed(kg, "verify", *words, status=2)


# --- doctor ---


def findings(answer):
    return {one["what"]: one for one in answer["findings"]}


async def test_doctor_is_content_when_all_is_well(full):
    kz, kg, _ = full
    async with running(kz, kg):
        await until(lambda: succession.daemon_runs(kz.config))
        answer = await told(kz.path, "doctor")
        text = (await typed(kz.path, "doctor")).stdout
    assert answer["ok"] is True
    found = findings(answer)
    assert found["standing"]["sentence"] == "member, active"
    assert found["sent"]["sentence"] == "2 accepted, 1 refused; 0 receipts still to come"
    assert kz.keyring.kid in text
    assert "PROBLEM" not in text


async def test_doctor_names_every_problem_and_what_to_do(full, tmp_path):
    kz, _, _ = full
    (kz.config.keys / "sign.pem").chmod(0o644)
    old = uuid7(datetime.now(UTC) - timedelta(hours=3), secrets.token_bytes(10))
    kz.outbox.put(b"x", old)
    with (
        Store.open_for(kz.config.store, "kz", kz.config.hub.log) as store,
        store.transaction(),
    ):
        store.raise_alarms([Finding("log-forked", "1", "It forked.")], "2026-07-01T00:00:00.000Z")
    answer = await told(kz.path, "doctor", status=1)
    found = findings(answer)
    assert "chmod 600" in found["keys"]["sentence"]
    assert "nhri-connector run" in found["daemon"]["advice"]
    assert "1 wait, the oldest for 180 minutes" in found["outbox"]["sentence"]
    assert found["critical"]["sentence"].startswith("The hub showed another history than before.")
    assert found["critical"]["advice"]
    bad = {what for what, one in found.items() if one["verdict"] == "PROBLEM"}
    assert bad == {"keys", "daemon", "outbox", "critical"}
    result = await typed(kz.path, "doctor", status=1)
    assert "4 of" in result.output


async def test_doctor_says_when_the_hub_is_away_another_one_or_on_another_clock(full, monkeypatch):
    kz, _, _ = full

    async def away(link):
        raise Unreachable("http://hub cannot be reached: no route.")

    async def another(link):
        return b"not a note"

    ours = kz.ask(lambda store: store.followed()).note

    async def late(link):
        link.offset = timedelta(minutes=-10)
        return ours

    for checkpoint, what, words in (
        (away, "hub", "no route"),
        (another, "hub", "is not the hub we joined"),
        (late, "clock", "-600 seconds"),
    ):
        monkeypatch.setattr(HttpLink, "checkpoint", checkpoint)
        found = findings(await told(kz.path, "doctor", status=1))
        assert found[what]["verdict"] == "PROBLEM"
        assert words in found[what]["sentence"]


@pytest.mark.parametrize(
    ("days", "verdict", "words"),
    [(100, "ok", "99 days left"), (20, "note", "19 days left"), (5, "PROBLEM", "4 days left")],
)
async def test_doctor_says_how_long_the_broker_s_certificate_holds(two, days, verdict, words):
    _, kz, _ = two
    certified(kz, days)
    found = findings(await told(kz.path, "doctor", status=1))["certificate"]
    assert (found["verdict"], words in found["sentence"]) == (verdict, True)
    assert bool(found["advice"]) is (verdict != "ok")


async def test_doctor_says_when_there_is_no_certificate_for_our_key(two):
    _, kz, _ = two
    path = certified(kz, 100)
    shutil.rmtree(kz.config.keys)
    keys.make(kz.config.keys)
    for spoil, words in (
        (lambda: None, "has none for our TLS key"),
        (lambda: path.write_text("nothing"), "is not a certificate in PEM"),
        (path.unlink, "has none for our TLS key"),
    ):
        spoil()
        found = findings(await told(kz.path, "doctor", status=1))["certificate"]
        assert found["verdict"] == "PROBLEM"
        assert words in found["sentence"]


def certified(institution, days):
    """Give somebody a certificate for the broker that ends in so many days; its file."""
    link = '[link]\namqp = "amqps://kz@hub.example/nhri"\ncertificate = "kz.pem"\n\n[receipts]'
    text = institution.path.read_text().replace("[receipts]", link)
    institution.path.write_text(text)
    key = ec.generate_private_key(ec.SECP256R1())
    made = datetime.now(UTC) + timedelta(days=days) - authority.CERTIFICATE_LIFE
    issuer = authority.create("test", made, 1, key)
    request = keys.tls_request(institution.keyring.tls, "kz")
    path = institution.path.with_name("kz.pem")
    path.write_text(authority.pem(authority.issue_client(issuer, "kz", request, made, 2)))
    return path


async def test_doctor_before_the_operator_has_approved(tmp_path):
    async with exchange("kz") as (hub, _):
        await hub.open_door("kg")
        config = tmp_path / "kg.toml"
        await typed(config, "join", bundle(hub, "kg", tmp_path))
        found = findings(await told(config, "doctor", status=1))
        assert found["joining"]["verdict"] == "ok"
        assert "no store" in found["store"]["sentence"]


async def test_doctor_shows_people_the_newest_notices_only(full):
    kz, _, _ = full
    with (
        Store.open_for(kz.config.store, "kz", kz.config.hub.log) as store,
        store.transaction(),
    ):
        news = [Finding("directory-changed", str(n), f"Change {n}.") for n in range(9)]
        store.raise_alarms(news, "2026-07-01T00:00:00.000Z")
    text = (await typed(kz.path, "doctor", status=1)).stdout
    assert text.count("Change ") == doctor.NEWS
    assert "4 more of notice are shown with --json." in text
    assert "Change 8." in text


async def test_doctor_tells_receipts_recipients_and_entries_about_us_one_by_one(two, tmp_path):
    _, kz, _ = two
    async with running(kz):
        (late,) = await send(kz, bulletin(tmp_path, title="Камера"))
        await until(lambda: kz.started and kz.receipts(late), "accepted")
    since = kz.sent(late).accepted
    alarmed(
        kz,
        Finding("recipient-missing", f"{late} tj", "tj should receive it."),
        Finding("own-keys", "7", "Entry 7 is key.rotated about us; we did not ask for it."),
    )
    kz.path.write_text(kz.path.read_text().replace("overdue_hours = 72", "overdue_hours = 1"))
    with later(hours=3):
        answer = await told(kz.path, "doctor", status=1)
        text = (await typed(kz.path, "doctor", status=1)).stdout
    found = findings(answer)
    assert found["receipts"]["sentence"].startswith(f"kg has not confirmed “Камера” ({late})")
    assert found["receipts"]["about"] == {"message": late, "member": "kg", "since": since}
    assert found["recipients"]["sentence"].startswith(f"tj should receive “Камера” ({late})")
    assert "Entry 7 is key.rotated about us" in found["about us"]["sentence"]
    for name in ("receipts", "recipients", "about us"):
        assert found[name]["verdict"] == "PROBLEM"
        assert found[name]["advice"] in text


async def test_doctor_says_who_is_told_of_alarms(full):
    kz, _, _ = full
    found = findings(await told(kz.path, "doctor", status=1))["mail"]
    assert (found["verdict"], found["sentence"]) == ("note", "nobody is told of alarms by e-mail")
    text = "[mail]\nhost = 'm.example'\nfrom = 'c@kz.example'\nto = ['a@kz.example']\n"
    kz.path.write_text(kz.path.read_text() + text)
    found = findings(await told(kz.path, "doctor", status=1))["mail"]
    assert found["verdict"] == "ok"
    assert found["sentence"] == "alarms are mailed to a@kz.example"


async def test_doctor_says_that_the_watched_is_well(full):
    kz, _, _ = full
    found = findings(await told(kz.path, "doctor", status=1))
    assert found["receipts"] == findings_of("ok", "receipts", "none is overdue")
    assert found["recipients"] == findings_of("ok", "recipients", "the hub left out nobody")
    assert found["about us"]["verdict"] == "ok"


def findings_of(verdict, what, sentence):
    return {
        "verdict": verdict,
        "what": what,
        "sentence": sentence,
        "advice": "",
        "alarm": None,
        "about": None,
    }


@contextmanager
def later(**by):
    """Let the commands be typed some time from now."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(doctor, "now", lambda: datetime.now(UTC) + timedelta(**by))
        yield


# --- alarms ---


RAISED = "2026-07-01T00:00:00.000Z"
FORKED = Finding("log-forked", "1", "It forked.")
CHANGED = [Finding("directory-changed", str(n), f"Change {n}.") for n in range(3)]


def alarmed(institution, *found, now=RAISED):
    """Raise alarms in a store that no daemon has open."""
    config = institution.config
    with Store.open_for(config.store, config.code, config.hub.log) as store, store.transaction():
        store.raise_alarms(found, now)


def over(institution, kind, subject):
    config = institution.config
    with Store.open_for(config.store, config.code, config.hub.log) as store, store.transaction():
        store.end_alarm(kind, subject, "2026-07-02T00:00:00.000Z")


async def test_alarms_are_listed_with_what_to_do_the_newest_first(two):
    _, kz, _ = two
    alarmed(kz, FORKED, *CHANGED)
    listed = await told(kz.path, "alarms")
    assert [one["number"] for one in listed] == [4, 3, 2, 1]
    forked = listed[-1]
    assert (forked["kind"], forked["severity"], forked["time"]) == (
        "log-forked",
        "critical",
        RAISED,
    )
    assert forked["runbook"] == "deploy/runbooks/connector-alarm.md"
    text = (await typed(kz.path, "alarms")).stdout
    assert "   1  critical 2026-07-01 05:00  The hub showed another history than before. " in text
    assert forked["advice"] in text


async def test_where_nothing_is_wrong_there_are_no_alarms(two):
    _, kz, _ = two
    alarmed(kz)
    assert (await typed(kz.path, "alarms")).stdout == "There are no alarms.\n"


async def test_an_acknowledged_alarm_no_longer_asks_for_anybody_until_it_comes_back(two):
    _, kz, _ = two
    alarmed(kz, FORKED)
    assert findings(await told(kz.path, "doctor", status=1))["critical"]["verdict"] == "PROBLEM"
    said = await typed(kz.path, "alarms", "ack", 1, "--note", "Called kg.\x1b[2J")
    assert said.stdout == "Alarm 1 is acknowledged: The hub showed another history than before.\n"
    found = findings(await told(kz.path, "doctor", status=1))["critical"]
    assert (found["verdict"], found["alarm"]) == ("note", 1)
    assert found["advice"] == "acknowledged: Called kg.\\x1b[2J"
    (listed,) = await told(kz.path, "alarms")
    assert listed["note"] == "Called kg.\\x1b[2J"
    assert "acknowledged" in (await typed(kz.path, "alarms")).stdout
    over(kz, "log-forked", "1")
    assert await told(kz.path, "alarms") == []
    assert [one["ended"] for one in await told(kz.path, "alarms", "--all")] != [None]
    alarmed(kz, FORKED, now="2026-07-03T00:00:00.000Z")
    (listed,) = await told(kz.path, "alarms")
    assert listed["acknowledged"] is None
    assert findings(await told(kz.path, "doctor", status=1))["critical"]["verdict"] == "PROBLEM"


async def test_news_that_somebody_has_seen_is_news_no_more(two):
    _, kz, _ = two
    alarmed(kz, *CHANGED)
    answer = await told(kz.path, "alarms", "ack", "--kind", "directory-changed", "--note", "seen")
    assert sorted(answer["acknowledged"]) == [1, 2, 3]
    assert "notice" not in findings(await told(kz.path, "doctor", status=1))


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["ack", "1", "7", "--note", "x"], 1, "There is no alarm 7"),
        (["ack", "--kind", "own-keys", "--note", "x"], 1, "no alarm of the kind own-keys"),
        (["ack", "--note", "x"], 2, "Name the alarms by NUMBER"),
        (["ack", "1", "--kind", "log-forked", "--note", "x"], 2, "Name the alarms by NUMBER"),
        (["ack", "1"], 2, "Say with --note"),
        (["ack", "1", "--note", "  "], 2, "in 1 to 500 characters"),
        (["ack", "1", "--note", "x" * 501], 2, "in 1 to 500 characters"),
        (["--note", "x"], 2, "are for `alarms ack`"),
        (["ack", "--kind", "nonsense", "--note", "x"], 2, "nonsense"),
    ],
)
async def test_what_cannot_be_acknowledged_is_said_and_nothing_is_noted(two, words, status, said):
    _, kz, _ = two
    alarmed(kz, FORKED)
    result = await typed(kz.path, "alarms", *words, status=status)
    assert said in result.output
    assert (await told(kz.path, "alarms"))[0]["acknowledged"] is None


async def test_a_note_that_cannot_be_kept_is_said(two):
    _, kz, _ = two
    alarmed(kz, FORKED)
    kz.config.acknowledged.write_text("in the way")
    result = await typed(kz.path, "alarms", "ack", 1, "--note", "x", status=1)
    assert "The note cannot be kept" in result.output


# --- join ---


def bundle(simulated, name, folder, **overrides):
    fields = {
        "v": 1,
        "hub": simulated.url(name),
        "log": str(simulated.log),
        "code": name,
        "role": "member",
        "names": {"en": name},
        "invitation": overrides.pop("invitation", None) or simulated.invite(name),
        "expires": "2099-01-01T00:00:00.000Z",
    } | overrides
    return write(folder, "bundle.json", json.dumps(fields))


@pytest.fixture
async def inviting():
    """A hub that kz asks to join."""
    async with exchange() as (hub, _):
        await hub.open_door("kz")
        yield hub


async def test_joining_makes_keys_and_settings_and_shows_the_fingerprint(inviting, tmp_path):
    config = tmp_path / "conf" / "kz.toml"
    result = await typed(config, "join", bundle(inviting, "kz", tmp_path))
    settings = json.loads((tmp_path / "bundle.json").read_text())
    keyring = keys.load(tmp_path / "conf" / "kz" / "keys")
    digits = statement.fingerprint(keyring.kid, settings["log"], settings["invitation"])
    assert "   ".join(statement.spoken(digits).split()) in result.stdout
    assert "aloud" in result.stdout
    _, stated = statement.parse(inviting.joins["kz"])
    assert isinstance(stated, statement.Join)
    assert stated.keys.sign == keyring.public("kz").sign
    assert settings["invitation"] not in config.read_text()


async def test_asking_again_repeats_the_same_request_with_the_same_keys(inviting, tmp_path):
    config, file = tmp_path / "kz.toml", bundle(inviting, "kz", tmp_path)
    first = await told(config, "join", file)
    request = inviting.joins["kz"]
    assert await told(config, "join", file) == first
    assert inviting.joins["kz"] == request
    assert len(joined.read(tmp_path / "kz" / "joined.json", "kz").joins) == 1


@pytest.mark.parametrize("step", ["write", "make", "add", "join"])
async def test_a_crash_at_any_step_of_joining_doubles_nothing(
    inviting, tmp_path, monkeypatch, step
):
    config, file = tmp_path / "kz.toml", bundle(inviting, "kz", tmp_path)
    modules = {"write": "connectors.files", "make": "connectors.keys", "add": "connectors.joined"}
    owner = HttpLink if step == "join" else sys.modules[modules[step]]
    real = getattr(owner, step)

    async def crash_after_sending(link, signed):
        await real(link, signed)
        raise KeyboardInterrupt

    def crash_after(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as crashing:
        crashing.setattr(owner, step, crash_after_sending if step == "join" else crash_after)
        await typed(config, "join", file, status=1)
    before = [keys.load(tmp_path / "kz" / "keys").kid] if step in ("add", "join") else []
    answer = await told(config, "join", file)
    assert answer["kid"] in (before or [answer["kid"]])
    assert keys.load(tmp_path / "kz" / "keys").kid == answer["kid"]
    assert [path.name for path in (tmp_path / "kz").glob("keys*")] == ["keys"]
    assert len(joined.read(tmp_path / "kz" / "joined.json", "kz").joins) == 1


async def test_whoever_joined_so_can_send(inviting, tmp_path):
    await typed(tmp_path / "kz.toml", "join", bundle(inviting, "kz", tmp_path))
    inviting.approve("kz")
    (sent,) = await told(tmp_path / "kz.toml", "send", bulletin(tmp_path))
    assert Outbox(tmp_path / "kz" / "outbox").pending() == [sent["id"]]


async def test_a_hub_behind_another_log_shows_another_fingerprint(inviting, tmp_path):
    other = note.ed25519_vkey("simulator/log", builders.public(builders.key("another log")))
    file = bundle(inviting, "kz", tmp_path, log=str(other))
    result = await typed(tmp_path / "kz.toml", "join", file, status=1)
    assert "Do not let it be approved" in result.output


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "is no bundle"),
        ("{}", "is no bundle: Object missing required field `v`"),
        ('{"v":1,"v":1}', "stands twice"),
    ],
)
async def test_a_file_that_is_no_bundle_is_usage(tmp_path, content, complaint):
    file = write(tmp_path, "bundle.json", content)
    result = await typed(tmp_path / "kz.toml", "join", file, status=2)
    assert complaint in result.output
    assert not (tmp_path / "kz").exists()


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"log": "x"}, "is no bundle"),
        ({"v": 2}, "of version 2; update this program"),
        ({"hub": "ftp://x"}, "is no bundle"),
        ({"code": "../x"}, "is no bundle"),
    ],
)
async def test_a_bundle_that_cannot_be_used_is_usage(inviting, tmp_path, overrides, complaint):
    file = bundle(inviting, "kz", tmp_path, **overrides)
    result = await typed(tmp_path / "kz.toml", "join", file, status=2)
    assert complaint in result.output


async def test_a_bundle_that_the_hub_does_not_know_is_refused(inviting, tmp_path):
    wrong = b64url(secrets.token_bytes(16))
    file = bundle(inviting, "kz", tmp_path, invitation=wrong)
    result = await typed(tmp_path / "kz.toml", "join", file, status=4)
    assert "Ask for a new bundle. A bundle is good for one join." in result.output
    over = bundle(inviting, "kz", tmp_path, invitation=wrong, expires="2020-01-01T00:00:00.000Z")
    result = await typed(tmp_path / "kz.toml", "join", over, status=4)
    assert "This bundle ended at 2020-01-01" in result.output


async def test_a_hub_that_is_away_is_not_reached_and_the_keys_stay(inviting, tmp_path):
    file = bundle(inviting, "kz", tmp_path)
    await inviting.stop()
    result = await typed(tmp_path / "kz.toml", "join", file, status=3)
    assert "goes on with the same keys" in result.output
    made = keys.load(tmp_path / "kz" / "keys").kid
    await inviting.start()
    assert (await told(tmp_path / "kz.toml", "join", file))["kid"] == made


async def test_settings_of_another_institution_are_left_alone(two, tmp_path):
    hub, kz, _ = two
    await hub.open_door("tj")
    file = bundle(hub, "tj", tmp_path)
    before = kz.path.read_bytes()
    result = await typed(kz.path, "join", file, status=1)
    assert "that of kz" in result.output
    assert kz.path.read_bytes() == before


async def test_a_second_invitation_brings_new_keys_only_once_the_hub_has_them(inviting, tmp_path):
    config = tmp_path / "kz.toml"
    first = (await told(config, "join", bundle(inviting, "kz", tmp_path)))["kid"]
    wrong = bundle(inviting, "kz", tmp_path, invitation=b64url(secrets.token_bytes(16)))
    await typed(config, "join", wrong, status=4)
    assert keys.load(tmp_path / "kz" / "keys").kid == first
    second = (await told(config, "join", bundle(inviting, "kz", tmp_path)))["kid"]
    assert second != first
    assert keys.load(tmp_path / "kz" / "keys").kid == second
    assert keys.load(tmp_path / "kz" / f"keys-{first}").kid == first


@pytest.mark.parametrize("in_use", [True, False])
async def test_keys_left_over_from_an_unfinished_change_are_of_no_new_invitation(
    inviting, tmp_path, in_use
):
    config, state = tmp_path / "kz.toml", tmp_path / "kz"
    first = (await told(config, "join", bundle(inviting, "kz", tmp_path)))["kid"]
    left_over = keys.make(state / "keys-next").kid
    if not in_use:
        keys.set_aside(state / "keys")
    file = bundle(inviting, "kz", tmp_path)
    second = (await told(config, "join", file))["kid"]
    assert second not in (first, left_over)
    assert keys.load(state / "keys").kid == second
    assert keys.load(state / f"keys-next-{left_over}").kid == left_over
    assert (await told(config, "join", file))["kid"] == second
    assert {path.name for path in state.glob("keys*")} == {
        "keys",
        f"keys-{first}",
        f"keys-next-{left_over}",
    }


# --- rotate ---


class Rotations:
    """What the hub does with key statements: it records one once."""

    def __init__(self, hub):
        self.hub = hub
        self.lose_answer = False
        self.statements = []

    async def take(self, raw):
        self.statements.append(raw)
        jws, stated = statement.parse(raw)
        assert isinstance(stated, statement.Rotate)
        known = self.hub.history.directory.participants[stated.code].kid
        if known not in {s.kid for s in jws.signatures} or len(self.statements) > 1:
            raise HubRefused("unauthenticated", "The key is not known any more.")
        self.hub.log_entry(_rotated(self.hub, stated.code, raw))
        public = signature.public_from_jwk(stated.keys.sign)
        self.hub.accounts = {signature.thumbprint(public): (stated.code, public)} | {
            kid: account for kid, account in self.hub.accounts.items() if account[0] != stated.code
        }
        if self.lose_answer:
            raise Unreachable("The line is down.")


def _rotated(hub, code, raw):
    now = format_time(datetime.now(UTC))
    return entries.Entry(1, entries.KEY_ROTATED, now, code, code, {"statement": b64url(raw)}, None)


@pytest.fixture
def rotations(two, monkeypatch):
    hub, _, _ = two
    taking = Rotations(hub)
    monkeypatch.setattr(HttpLink, "state_keys", taking.take)
    return taking


async def test_rotating_changes_the_keys_and_nobody_is_alarmed(two, rotations, tmp_path):
    _, kz, kg = two
    await exchanged(tmp_path, kz, kg, notice())
    old = kz.keyring.kid
    new = (await told(kz.path, "rotate"))["kid"]
    assert new != old
    assert keys.load(kz.config.keys).kid == new
    assert keys.load(kz.config.keys.with_name(f"keys-{old}")).kid == old
    async with running(kz, kg):
        (sent,) = await send(kz, bulletin(tmp_path))
        await kz.settled(sent)
    assert kz.alarm_kinds() == set()
    (signer,) = (await told(kg.path, "show", sent))["signatures"]
    assert (signer["member"], signer["kid"], signer["holds"]) == ("kz", new, True)
    assert (await told(kg.path, "verify", "--all"))["ok"] is True


async def test_a_lost_answer_is_found_out_when_rotating_again(two, rotations):
    _, kz, _ = two
    old = kz.keyring.kid
    rotations.lose_answer = True
    result = await typed(kz.path, "rotate", status=3)
    assert "run the same command again" in result.output
    assert keys.load(kz.config.keys).kid == old
    rotations.lose_answer = False
    await typed(kz.path, "rotate")
    assert rotations.statements[0] == rotations.statements[1]
    _, stated = statement.parse(rotations.statements[0])
    assert isinstance(stated, statement.Rotate)
    assert stated.keys.sign == keys.load(kz.config.keys).public("kz").sign
    assert len(joined.read(kz.config.joined, "kz").rotations) == 1


async def test_what_was_signed_after_an_unfinished_change_of_keys_is_waited_for(
    two, rotations, monkeypatch, tmp_path
):
    _, kz, _ = two

    async def unreachable(link, raw):
        raise Unreachable("The line is down.")

    with monkeypatch.context() as away:
        away.setattr(HttpLink, "state_keys", unreachable)
        await typed(kz.path, "rotate", status=3)
    await send(kz, bulletin(tmp_path))
    result = await typed(kz.path, "rotate", status=1)
    assert "1 messages and 0 receipts" in result.output
    assert rotations.statements == []


async def test_where_the_hub_has_the_new_keys_already_nothing_is_waited_for(
    two, rotations, tmp_path
):
    _, kz, _ = two
    rotations.lose_answer = True
    await typed(kz.path, "rotate", status=3)
    rotations.lose_answer = False
    await send(kz, bulletin(tmp_path))
    new = (await told(kz.path, "rotate"))["kid"]
    assert new != kz.keyring.kid


async def test_a_crash_while_the_keys_are_exchanged_is_made_good(two, rotations):
    _, kz, _ = two
    await told(kz.path, "rotate")
    new = keys.load(kz.config.keys).kid
    kz.config.keys.rename(kz.config.keys.with_name("keys-next"))
    assert (await told(kz.path, "rotate"))["kid"] == new
    assert len(rotations.statements) == 1


async def test_the_keys_stay_when_the_hub_refuses(two, rotations, monkeypatch):
    _, kz, _ = two

    async def refuse(link, raw):
        raise HubRefused("held", "The keys await confirmation.")

    monkeypatch.setattr(HttpLink, "state_keys", refuse)
    result = await typed(kz.path, "rotate", status=4)
    assert "The old keys stay in use." in result.output
    assert keys.load(kz.config.keys).kid == kz.keyring.kid
    found = findings(await told(kz.path, "doctor", status=1))
    assert "was not finished" in found["keys"]["sentence"]


async def test_nothing_is_rotated_while_the_daemon_runs_or_something_waits(
    two, rotations, tmp_path
):
    _, kz, _ = two
    async with running(kz):
        await until(lambda: kz.started)
        result = await typed(kz.path, "rotate", status=1)
        assert "stop it first" in result.output
    await send(kz, bulletin(tmp_path))
    result = await typed(kz.path, "rotate", status=1)
    assert "1 messages and 0 receipts" in result.output
    assert rotations.statements == []


# --- subscription: what the hub itself answers is in tests/integration/hub/ ---


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (Unreachable("The hub did not answer in time."), 3, "The hub did not answer in time."),
        (b'{"subscriptions": 1}', 3, "is it of another version?"),
        (b"<h1>Welcome</h1>", 3, "is it of another version?"),
        (HubRefused("forbidden", "No."), 4, "The hub refused: No.\n"),
        (HubRefused("schema", "No.", path="$.url"), 4, "No. It is about $.url.\n"),
        (HubRefused("busy", "No.", retryable=True), 4, "No. Try again later.\n"),
        (
            HubRefused("busy", "No.", retryable=True, retry_after=5.0),
            4,
            "No. Try again in 5 seconds.\n",
        ),
        (HubRefused("busy", "Come again.", retryable=True), 4, "Come again.\n"),
    ],
)
async def test_what_the_hub_makes_of_a_request_about_webhooks_is_told(
    two, monkeypatch, answer, status, says
):
    async def ask_webhooks(link, path, body):
        if isinstance(answer, Exception):
            raise answer
        return answer

    _, kz, _ = two
    monkeypatch.setattr(HttpLink, "ask_webhooks", ask_webhooks)
    result = await typed(kz.path, "subscription", "list", status=status)
    assert says in result.stderr
    assert result.stdout == ""


# --- run ---


async def test_run_hands_over_to_the_daemon(two, monkeypatch):
    _, kz, _ = two
    monkeypatch.setattr("connectors.daemon.main", lambda path: 1 if path == kz.path else 0)
    await typed(kz.path, "run", status=1)


def test_main_is_a_click_group():
    assert isinstance(main, click.Group)
    assert set(main.commands) == set(COMMANDS)


# --- Witnessing ---


async def test_witness_shows_the_registered_key_and_a_second_one_once_it_is_made(two):
    hub, kz, _ = two
    name = cosignature.witness_name(hub.log.name, "kz")
    first = str(cosignature.vkey_of(name, kz.keyring.witness))
    assert await told(kz.path, "witness") == {"cosigned": 0, "vkeys": [first]}
    made = await told(kz.path, "witness", "--add-ml-dsa-44")
    assert made["vkeys"][0] == first
    assert note.Vkey.parse(made["vkeys"][1]).kind == cosignature.ML_DSA_44
    assert await told(kz.path, "witness", "--add-ml-dsa-44") == made
    assert made["vkeys"][1] in (await typed(kz.path, "witness")).stdout


async def test_witness_and_doctor_tell_how_far_the_log_is_cosigned(two):
    hub, kz, _ = two
    async with running(kz):
        await until(lambda: kz.log.of("log.cosigned"), "cosigned")
    size = hub.history.size
    assert (await told(kz.path, "witness"))["cosigned"] == size
    assert f"{size} entries cosigned" in (await typed(kz.path, "doctor", status=1)).stdout


async def test_policy_prints_the_region_s_quorum_from_the_followed_log():
    async with exchange("kz", "kg", "tj", "tm") as (hub, institutions):
        kz = institutions["kz"]
        async with running(kz):
            await until(lambda: kz.log.of("log.followed"), "followed")
        found = policy.parse((await typed(kz.path, "policy")).stdout_bytes)
        assert (await told(kz.path, "policy"))["policy"].encode() == (
            await typed(kz.path, "policy")
        ).stdout_bytes
    assert found.logs == (hub.log,)
    for code, one in institutions.items():
        name = cosignature.witness_name(hub.log.name, code)
        assert found.witnesses[code] == cosignature.vkey_of(name, one.keyring.witness)


async def test_policy_says_so_while_there_are_too_few_witnesses(two):
    _, kz, _ = two
    async with running(kz):
        await until(lambda: kz.log.of("log.followed"), "followed")
    result = await typed(kz.path, "policy", status=1)
    assert "no quorum yet" in result.stderr
