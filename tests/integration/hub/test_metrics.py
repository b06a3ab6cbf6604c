"""The measures of a running hub, who may read them, and the trace in its log lines."""

import asyncio
from collections import ChainMap

import pytest
import structlog
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from hub import upkeep
from tests import client
from tests.client import Account

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


async def measures(account):
    """Every sample as (name, labels), and its value."""
    answer = await account.get("/metrics")
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.body.decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


async def test_the_path_of_a_message_shows_in_the_measures(hub, kz, kg):
    before = await measures(hub.operator)
    envelope = kz.sign(kz.message(audience=["region"]))
    await kz.submit(envelope)
    await kz.submit(envelope)
    await kz.send(audience=["nobody"])
    await kg.post("/v1/receipts", kg.receipt(*await kg.inbox()))
    await kz.get("/v1/nothing")
    after = ChainMap(await measures(hub.operator), before)
    submissions = "nhri_hub_submissions_total"
    assert after[submissions, "accepted", ""] == 1
    assert after[submissions, "duplicate", ""] == 1
    assert after[submissions, "refused", "unknown-recipient"] == 1
    assert after["nhri_hub_receipts_total", "accepted", ""] == 1
    assert after["nhri_hub_copies_total", "kg"] == 1
    assert after["nhri_hub_http_requests_total", "POST /v1/messages", "201"] == 1
    assert after["nhri_hub_http_requests_total", "none", "404"] == 1
    assert after["nhri_hub_open_seconds_count",] == 3
    assert after["nhri_hub_log_entries",] == before["nhri_hub_log_entries",] + 3


async def test_the_upkeep_shows_what_waits_in_the_inboxes(settings, clock, monkeypatch):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0.01)
    async with client.running(settings) as hub, asyncio.timeout(90):
        await hub.participant("kz").send(audience=["kg"])
        clock.forward(seconds=90)
        shown: dict[tuple[str, ...], float] = {}
        while (
            shown.get(("nhri_hub_inbox_oldest_seconds", "kg")) != 90
            or not shown["nhri_hub_upkeep_timestamp_seconds",]
        ):
            shown = await measures(hub.operator)
    assert shown["nhri_hub_inbox_copies", "kg"] == 1
    assert shown["nhri_hub_inbox_copies", "tj"] == 0
    assert shown["nhri_hub_participants", "active"] == 6
    assert shown["nhri_hub_webhook_endpoints", "disabled"] == 0


async def test_checking_the_log_shows(hub):
    checked = await hub.operator.get("/v1/audit/verify")
    shown = await measures(hub.operator)
    assert shown["nhri_hub_verified_entries",] == checked["entries"]
    assert shown["nhri_hub_verified_problems",] == 0


async def test_a_token_for_the_measures_opens_nothing_else(hub):
    reader = hub.account(await hub.operator.token("prometheus", "metrics"))
    assert await measures(reader)
    assert (await reader.get("/v1/status")).code == "forbidden"
    assert (await reader.get("/v1/audit/events")).code == "forbidden"


async def test_a_program_on_the_hub_s_machine_needs_no_token_for_the_measures_alone(hub):
    assert await measures(hub.account())
    assert (await hub.account().get("/v1/status")).code == "unauthenticated"


async def test_a_wrong_token_is_not_made_good_by_where_it_comes_from(hub):
    assert (await hub.account("wrong").get("/metrics")).code == "unauthenticated"


async def test_participants_do_not_read_the_measures(hub, kz):
    assert (await kz.get("/metrics")).code == "forbidden"


async def test_behind_a_proxy_being_local_says_nothing(settings, clock):
    proxied = replace(settings, http=replace(settings.http, url="https://hub.example"))
    async with client.running(proxied) as hub:
        address = f"http://127.0.0.1:{settings.http.port}"
        stranger = Account(client.Connection(hub.connection.http, address))
        assert (await stranger.get("/metrics")).code == "unauthenticated"
        assert await measures(hub.operator)


def lines(logs, event):
    return [line for line in logs if line["event"] == event]


async def test_a_line_names_the_message_and_the_trace_that_its_sender_gave(hub, kz):
    message = kz.message()
    with capture_logs([merge_contextvars]) as logs:
        await kz.post("/v1/messages", kz.sign(message), headers=PARENT)
    [line] = lines(logs, "submission")
    assert (line["what"], line["outcome"], line["member"]) == ("message", "accepted", "kz")
    assert (line["message_id"], line["trace_id"]) == (message["id"], TRACE)


@pytest.mark.parametrize("traceparent", ["", "nonsense", f"00-{'0' * 32}-{'0' * 16}-00"])
async def test_without_a_trace_a_message_s_own_id_is_one(hub, kz, traceparent):
    message = kz.message()
    with capture_logs([merge_contextvars]) as logs:
        await kz.post("/v1/messages", kz.sign(message), headers={"traceparent": traceparent})
    [line] = lines(logs, "submission")
    assert line["trace_id"] == str(message["id"]).replace("-", "")


async def test_a_refusal_names_its_reason_and_the_next_request_has_no_trace_of_it(hub, kz):
    with capture_logs([merge_contextvars]) as logs:
        await kz.post("/v1/messages", b"no envelope", headers=PARENT)
        await hub.account("wrong").get("/v1/status")
    [line] = lines(logs, "submission")
    assert (line["outcome"], line["reason"], line["trace_id"]) == ("refused", "malformed", TRACE)
    assert "message_id" not in line
    [unknown] = lines(logs, "stranger.refused")
    assert "trace_id" not in unknown
    assert structlog.contextvars.get_contextvars() == {}
