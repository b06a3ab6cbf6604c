"""The demo, as ``make demo`` runs it: real programs, real records, counts checked from outside.

What has to come out is computed here from the records themselves, without the demo's own rules.
"""

import base64
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "deploy/demo/records.ndjson"
PROGRAM = Path(sys.executable).parent / "nhri-hub"

MEMBERS = {"kz", "kg", "tj", "tm", "uz", "uz-nhrc"}
PARTNERS = {"ohchr", "undp", "ganhri", "apf", "ennhri"}

CONFIDENTIAL = ("kz", {"kg", "tj", "uz"}, 0)
"""What the demo sends besides the records: its marking keeps it from the partners it names."""

LAST_LINE = re.compile(
    r"demo: accepted=(\d+) refused=(\d+) deliveries=(\d+)/(\d+) receipts=(\d+)/(\d+) log=(\d+)"
    r" verified webhooks=(\d+)/(\d+)"
)
PATIENCE = 170
"""Seconds; the demo with its installation may take 180."""


def start(*options):
    return subprocess.Popen(
        [PROGRAM, "demo", *map(str, options)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def run(*options):
    """Run a demo to its end: exit status, lines of output, what it said of errors."""
    with start(*options) as demo:
        try:
            output, errors = demo.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            demo.send_signal(signal.SIGTERM)
            raise
    return demo.returncode, output.splitlines(), errors


def up_to_last_line(demo):
    """What a demo that stays up says until all is verified."""
    while line := demo.stdout.readline():
        yield line.rstrip("\n")
        if LAST_LINE.fullmatch(line.rstrip("\n")):
            return
    raise AssertionError(demo.stderr.read())


def processes_of(folder):
    """The command lines of all processes that name a folder there or in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, environment = ((process / of).read_bytes() for of in ("cmdline", "environ"))
        except OSError:
            continue  # it has just ended, or is somebody else's
        if f"{folder}/".encode() in words + environment:
            found.append(words.replace(b"\0", b" ").decode())
    return found


def routed():
    """Of each record: its sender, who receives it, and how many members answer it."""
    for line in RECORDS.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        named = [code for code in record["participants"] if code in MEMBERS | PARTNERS]
        regional = record["institution"] == "regional"
        sender = named[0] if regional else record["institution"]
        recipients = set(named) - {sender}
        everybody = MEMBERS - {sender}
        if not recipients:
            recipients = everybody
        answers = 0
        if regional or record["kind"] == "joint_action_notice":
            # Those together are all members; a notice must have somebody to answer it.
            if regional or not recipients & MEMBERS:
                recipients |= everybody
            answers = len(recipients & MEMBERS)
        yield sender, recipients, answers
    yield CONFIDENTIAL


def expected_counts():
    """Messages and deliveries that follow from the records."""
    messages = deliveries = 0
    for _, recipients, answers in routed():
        messages += 1 + answers
        # An answer goes to whoever had the notice, and to its sender instead of who answers.
        deliveries += (1 + answers) * len(recipients)
    return messages, deliveries


def expected_webhooks():
    """Webhooks that follow from the records: UNDP takes all that reaches it, OHCHR no answers."""
    due = {"undp": 0, "ohchr": 0}
    for sender, recipients, answers in routed():
        due["undp"] += ("undp" in recipients) + answers * ("undp" in recipients | {sender})
        due["ohchr"] += "ohchr" in recipients
    return due


def received(folder, owner):
    """What the demo kept of a receiver: its keys, and headers and body of each webhook."""
    trusted = json.loads((folder / "webhooks" / f"{owner}.json").read_bytes())
    kept = [json.loads(path.read_bytes()) for path in (folder / "webhooks" / owner).iterdir()]
    return trusted["subscription"], [(each["headers"], each["body"].encode()) for each in kept]


def verify_v1(secret, headers, body):
    """As the library does it, at the time that the headers tell."""
    library = standardwebhooks.Webhook(secret)
    then = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    library._Webhook__verify_timestamp = lambda _: then  # type: ignore[attr-defined]
    return library.verify(body, headers)


def verify_v1a(key, headers, body):
    """With cryptography alone."""
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_")))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    [signed] = [each for each in headers["webhook-signature"].split() if each.startswith("v1a,")]
    public.verify(base64.b64decode(signed.removeprefix("v1a,")), content)


def unb64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def signed_message(folder, event):
    """What the institution signed, under the key that is in its own connector's folder."""
    sender = event["data"]["message"]["sender"]
    pem = (folder / "connectors" / sender / "keys" / "sign.pem").read_bytes()
    key = load_pem_private_key(pem, None)
    assert isinstance(key, Ed25519PrivateKey)
    envelope = json.loads(unb64url(event["data"]["envelope"]))
    [only] = envelope["signatures"]
    content = f"{only['protected']}.{envelope['payload']}".encode()
    key.public_key().verify(unb64url(only["signature"]), content)
    return json.loads(unb64url(envelope["payload"]))


def check_webhooks(folder):
    """Verify every webhook of a demo by other means than the demo's; how many each owner has."""
    found = {}
    for owner in ("undp", "ohchr"):
        subscription, webhooks = received(folder, owner)
        for headers, body in webhooks:
            event = verify_v1(subscription["secret"], headers, body)
            verify_v1a(subscription["key"], headers, body)
            message = signed_message(folder, event)
            assert event["data"]["message"] == message
            assert headers["webhook-id"] == event["id"] == message["id"]
            assert message["marking"] in {"TLP:GREEN", "TLP:CLEAR"}
        found[owner] = len({headers["webhook-id"] for headers, _ in webhooks})
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def finished(folder):
    """A whole demo that ended by itself."""
    return run("--once", "--dir", folder, "--port", free_port())


@pytest.fixture(scope="module")
def counts(finished):
    status, lines, errors = finished
    assert status == 0, "\n".join([*lines[-20:], errors])
    found = LAST_LINE.fullmatch(lines[-1])
    assert found, lines[-1]
    return [int(number) for number in found.groups()]


def test_every_record_and_every_answer_is_accepted_delivered_and_receipted(counts):
    messages, deliveries = expected_counts()

    accepted, refused, delivered, to_deliver, receipts, to_receipt, *_ = counts

    assert (accepted, refused) == (messages, 0)
    assert delivered == to_deliver == receipts == to_receipt == deliveries


def test_every_webhook_holds_for_other_libraries_and_none_is_missing(counts, folder):
    due = expected_webhooks()

    assert check_webhooks(folder) == due
    assert counts[7] == counts[8] == sum(due.values()) > 0


def test_the_texts_of_a_webhook_begin_with_the_language_that_was_asked_for(counts, folder):
    _, webhooks = received(folder, "ohchr")

    first = {next(iter(json.loads(body)["data"]["message"]["texts"])) for _, body in webhooks}
    assert first == {"ru"}


def test_only_its_owner_can_read_what_a_receiver_keeps(counts, folder):
    kept = [path for path in (folder / "webhooks").rglob("*") if path.is_file()]

    assert [path for path in kept if path.stat().st_mode & 0o077] == []


def test_the_log_that_was_verified_is_all_of_it_but_the_hubs_last_words(counts, folder):
    with sqlite3.connect(f"file:{folder}/hub.sqlite?mode=ro", uri=True) as hub:
        rows = hub.execute("SELECT type FROM log_entries ORDER BY idx").fetchall()

    assert last_words([kind for (kind,) in rows], counts[6])


def last_words(types, verified):
    """Whether what follows the verified entries are reports of webhooks and the hub's stop."""
    *reports, stop = types[verified:]
    return stop == "hub.stopped" and set(reports) <= {"webhook.delivered"}


def test_every_message_is_shown_in_one_line_with_its_receipts(counts, finished):
    _, lines, _ = finished
    shown = [
        line for line in lines if re.match(r" +[a-z-]+ → .* ✓+ +(bulletin|notice|accepts)", line)
    ]

    assert len(shown) == counts[0]
    assert sum(line.count("✓") for line in shown) == counts[4]


def test_every_joint_action_is_shown_as_agreed(counts, finished):
    notices = len(expected_notices())
    _, lines, _ = finished

    assert sum(line.startswith("        agreed  ") for line in lines) == notices


def expected_notices():
    records = map(json.loads, RECORDS.read_text(encoding="utf-8").splitlines())
    return [
        record
        for record in records
        if record["institution"] == "regional" or record["kind"] == "joint_action_notice"
    ]


def test_the_folder_keeps_what_commands_need(counts, folder):
    for name in ("hub.toml", *(f"connectors/{code}.toml" for code in MEMBERS | PARTNERS)):
        assert (folder / name).is_file()
    for account in ("operator", "auditor"):
        token = folder / "tokens" / account
        assert token.read_text().strip()
        assert token.stat().st_mode & 0o077 == 0


def test_no_process_is_left_after_the_end(counts, folder):
    assert processes_of(folder) == []


def test_a_finished_demo_goes_on_in_its_folder_until_it_is_told_to_stop(counts, folder):
    with start("--dir", folder) as demo:
        try:
            lines = [*up_to_last_line(demo)]
            suggested = [demo.stdout.readline() for _ in range(4)]
            tried = [
                subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, check=False)  # noqa: S602 - copied from the screen, as a person would
                for command in suggested
            ]
        finally:
            demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0

    again = [int(number) for number in LAST_LINE.findall(lines[-1])[0]]
    assert again[:6] + again[7:] == counts[:6] + counts[7:]
    assert again[6] > counts[6]
    assert check_webhooks(folder) == expected_webhooks()
    assert "  This folder holds a demo already: it goes on where it stopped." in lines
    assert [(done.returncode, done.stderr) for done in tried] == [(0, b"")] * 4
    assert b"the marking TLP:AMBER may not go to its role" in tried[3].stdout
    assert processes_of(folder) == []


def test_a_demo_that_is_told_to_stop_while_joining_leaves_no_process(tmp_path):
    with start("--dir", tmp_path, "--port", free_port()) as demo:
        for line in demo.stdout:
            if line.startswith("Everybody joins"):
                break
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(60) == 130
        assert demo.stderr.read() == ""
    assert processes_of(tmp_path) == []

    status, _, errors = run("--once", "--dir", tmp_path)
    assert status == 1
    assert "was broken off before" in errors


def test_a_demo_from_before_there_were_webhooks_does_not_go_on(tmp_path):
    (tmp_path / "hub.toml").write_text(f"[http]\nport = {free_port()}\n")
    (tmp_path / "connectors").mkdir()
    for code in MEMBERS | PARTNERS:
        (tmp_path / "connectors" / f"{code}.toml").touch()

    status, lines, errors = run("--once", "--dir", tmp_path)

    assert (status, lines) == (1, [])
    assert "began before there were webhooks; remove the folder" in errors


def test_a_port_in_use_is_one_clear_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, lines, errors = run("--once", "--dir", tmp_path, "--port", port)

    assert (status, lines) == (1, [])
    assert errors == (
        f"Error: Port {port} on 127.0.0.1 cannot be used (Address already in use); choose another: "
        f"PORT={port + 1} make demo, or --port.\n"
    )


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("Dear all")

    status, _, errors = run("--once", "--dir", tmp_path, "--port", free_port())

    assert status == 1
    assert "is not empty and holds no demo" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_file_that_holds_no_records_is_named_with_its_line(tmp_path):
    records = tmp_path / "records.ndjson"
    records.write_text(RECORDS.read_text(encoding="utf-8").splitlines()[0] + "\nnot a record\n")

    status, _, errors = run("--once", "--records", records, "--port", free_port())

    assert status == 1
    assert f"{records}: Line 2 is not a record" in errors


def test_a_broker_that_there_is_none_of_is_one_clear_sentence():
    status, lines, errors = run("--once", "--broker", "kafka")

    assert (status, lines) == (2, [])
    assert errors.endswith("Error: Invalid value for '--broker': 'kafka' is not 'rabbitmq'.\n")


def test_a_demo_without_a_broker_does_not_get_one_later(tmp_path):
    before = f"[http]\nport = {free_port()}\n"
    (tmp_path / "hub.toml").write_text(before)

    status, lines, errors = run("--once", "--broker", "rabbitmq", "--dir", tmp_path)

    assert (status, lines) == (1, [])
    assert f"The demo in {tmp_path} runs without a broker; leave BROKER out" in errors
    assert (tmp_path / "hub.toml").read_text() == before
