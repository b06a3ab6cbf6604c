"""The demo over RabbitMQ and PostgreSQL, as ``make demo BROKER=rabbitmq`` runs it.

What has to come out is the same as over HTTP and SQLite, and computed as there: from the records
themselves, without the demo's own rules.
"""

import re
import signal
import tomllib
import urllib.request
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hub.demo import servers
from tests.integration.test_demo import (
    LAST_LINE,
    MEMBERS,
    PARTNERS,
    check_webhooks,
    expected_counts,
    expected_webhooks,
    last_words,
    processes_of,
    run,
    start,
    up_to_last_line,
)
from tests.ports import free_port


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def finished(folder):
    """A demo that was told to stop when all was verified: its lines, and the hub's measures."""
    port = free_port()
    with start("--broker", "rabbitmq", "--dir", folder, "--port", port) as demo:
        try:
            lines = [*up_to_last_line(demo)]
            measured = measures(port, folder / "tokens" / "operator")
        finally:
            demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0, demo.stderr.read()
    return lines, measured


def measures(port, token):
    """The hub's counters by name and labels, as its operator reads them."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
    request.add_header("Authorization", f"Bearer {token.read_text().strip()}")
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - the hub's
        families = text_string_to_metric_families(answer.read().decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def last(lines):
    """The figures of a demo's last line."""
    found = LAST_LINE.fullmatch(lines[-1])
    assert found, lines[-1]
    return [int(number) for number in found.groups()]


def addresses(folder):
    """The addresses in the settings, of the hub's account and of everybody's."""
    hub = tomllib.loads((folder / "hub.toml").read_text())
    found = {"store": hub["store"]["url"], "hub": hub["broker"]["url"]}
    for code in MEMBERS | PARTNERS:
        settings = tomllib.loads((folder / "connectors" / f"{code}.toml").read_text())
        found[code] = settings["link"]["amqp"]
    return {account: urlsplit(url) for account, url in found.items()}


def test_every_record_and_every_answer_is_accepted_delivered_and_receipted(finished):
    messages, deliveries = expected_counts()

    accepted, refused, delivered, to_deliver, receipts, to_receipt, *_ = last(finished[0])

    assert (accepted, refused) == (messages, 0)
    assert delivered == to_deliver == receipts == to_receipt == deliveries


def test_every_webhook_holds_for_other_libraries_and_none_is_missing(finished, folder):
    due = expected_webhooks()

    assert check_webhooks(folder) == due
    assert last(finished[0])[7:] == [sum(due.values())] * 2


def test_no_message_and_no_receipt_came_over_http(finished):
    messages, deliveries = expected_counts()
    _, measured = finished

    posted = [
        key for key in measured if key[0].endswith("http_requests_total") and "POST" in key[1]
    ]
    assert {route for _, route, _ in posted}.isdisjoint({"POST /v1/messages", "POST /v1/receipts"})
    assert ("nhri_hub_http_requests_total", "POST /v1/join", "202") in posted
    assert measured["nhri_hub_submissions_total", "accepted", ""] == messages
    assert measured["nhri_hub_receipted_copies_total", "kz"] > 0
    receipted = [n for key, n in measured.items() if key[0] == "nhri_hub_receipted_copies_total"]
    assert sum(receipted) == deliveries


async def test_the_log_that_was_verified_is_in_postgresql_but_for_its_last_words(finished, folder):
    messages, _ = expected_counts()

    async with servers.postgresql(folder / "servers" / "postgresql") as database:
        types = (await database.psql("SELECT type FROM log_entries ORDER BY idx")).splitlines()

    assert types.count("message.accepted") == messages
    assert last_words(types, last(finished[0])[6])


def test_each_has_an_account_of_its_own_and_its_password_is_nobody_elses(finished, folder):
    found = addresses(folder)

    assert {code: found[code].username for code in MEMBERS | PARTNERS | {"hub"}} == {
        code: code for code in MEMBERS | PARTNERS | {"hub"}
    }
    passwords = {url.password for url in found.values()}
    assert len(passwords) == len(found)
    told = [path for path in folder.rglob("*") if path.is_file() and holds(path, passwords)]
    assert {path.name for path in told} >= {"hub.toml", "kz.toml", "undp.toml"}
    assert [path for path in told if path.stat().st_mode & 0o077] == []


def holds(path, passwords):
    content = path.read_bytes()
    return any(password.encode() in content for password in passwords)


def test_no_process_is_left_after_the_end(finished, folder):
    assert processes_of(folder) == []


def test_it_goes_on_in_its_folder_with_new_ports_and_passwords(finished, folder):
    before = addresses(folder)

    status, lines, errors = run("--once", "--dir", folder)

    assert status == 0, "\n".join([*lines[-20:], errors])
    assert "  This folder holds a demo already: it goes on where it stopped." in lines
    assert any(re.fullmatch(r"  RabbitMQ is at 127\.0\.0\.1:\d+; .*", line) for line in lines)
    before_that, now = last(finished[0]), last(lines)
    assert now[:6] + now[7:] == before_that[:6] + before_that[7:]
    assert now[6] > before_that[6]
    after = addresses(folder)
    assert all(after[code].password != before[code].password for code in before.keys() - {"store"})
    assert processes_of(folder) == []


def test_a_demo_that_is_told_to_stop_while_its_servers_start_leaves_no_process(tmp_path):
    with start("--broker", "rabbitmq", "--dir", tmp_path, "--port", free_port()) as demo:
        for line in demo.stdout:
            if "RabbitMQ starts" in line:
                break
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(60) == 130
        assert demo.stderr.read() == ""
    assert processes_of(tmp_path) == []

    status, _, errors = run("--once", "--dir", tmp_path)
    assert status == 1
    assert "was broken off before" in errors
