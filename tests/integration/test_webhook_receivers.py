"""docs/webhooks.md: the receivers that stand there are run as they stand there."""

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from hub.delivery import schedule
from hub.delivery.addresses import PORTS, Allowed
from hub.delivery.guard import Guard, Limits
from hub.delivery.response import MAX_ANSWER
from hub.delivery.webhooks import ROUND_SECONDS
from hub.demo.program import accepts
from schemas import cloudevent, jsontext, webhook
from schemas.encoding import b64url
from schemas.webhook import Secret, SigningKey
from tests import builders
from tests.ports import free_port

DOCUMENT = Path(__file__).parents[2] / "docs" / "webhooks.md"
TEXT = DOCUMENT.read_text("utf-8")
RECEIVER, NODE, CHECK = re.findall(r"^```(?:python|js)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)

SECRET = Secret(b"s" * 32)
KEY = SigningKey(b"k" * 32)
ENVIRONMENT = {"WEBHOOK_SECRET": SECRET.text, "WEBHOOK_KEY": KEY.public.text}

EVENT = cloudevent.of_message(builders.ORIGIN, builders.delivery(), ["en"])
BODY = jsontext.encode(EVENT)


async def until_it_listens(port, process):
    async with asyncio.timeout(90):
        while not await accepts(port):
            assert process.returncode is None, "the receiver ended"
            await asyncio.sleep(0.05)


@pytest.fixture(params=["python", "node"])
async def receiver(request, tmp_path):
    """The URL of a running receiver, and who signs for it."""
    program = {"python": sys.executable, "node": shutil.which("node")}[request.param]
    assert program is not None, "Node.js is not here: sh deploy/setup.sh node"
    path = tmp_path / ("receiver.py" if request.param == "python" else "receiver.js")
    path.write_text(RECEIVER if request.param == "python" else NODE, "utf-8")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        program, path, env={**os.environ, **ENVIRONMENT, "PORT": str(port)}
    )
    try:
        await until_it_listens(port, process)
        yield f"http://127.0.0.1:{port}/", SECRET if request.param == "python" else KEY
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def post(url, headers, body=BODY):
    """As the hub does."""
    allowed = Allowed(
        networks=(ip_network("127.0.0.1/32"),),
        hosts=frozenset({"127.0.0.1"}),
        ports=frozenset({int(url.rstrip("/").rpartition(":")[2])}),
    )
    async with Guard(allowed) as guard:
        return await guard.post(url, {"Content-Type": cloudevent.MEDIA_TYPE, **headers}, body)


def signed(*keys, now=None, body=BODY):
    return webhook.sign(keys, EVENT.id, now or datetime.now(UTC), body)


@pytest.mark.parametrize(("text", "comment"), [(RECEIVER, "#"), (NODE, "//")])
def test_a_receiver_is_short_enough_to_be_copied(text, comment):
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    assert len([line for line in lines if not line.startswith(comment)]) <= 13
    assert max(map(len, text.splitlines())) <= 100


async def test_a_receiver_takes_what_its_key_signed(receiver):
    url, key = receiver
    for headers in (
        signed(key),
        signed(Secret(b"n" * 32), SigningKey(b"n" * 32), key),
        signed(key, now=datetime.now(UTC) - timedelta(minutes=4)),
    ):
        answer = await post(url, headers)
        assert (answer.status, answer.error) == (200, None)


async def test_a_receiver_answers_the_challenge(receiver):
    url, key = receiver
    challenge = cloudevent.of_challenge(
        builders.ORIGIN, "an-id", "a-subscription", builders.time(), secrets.token_bytes(16)
    )
    body = jsontext.encode(challenge)
    answer = await post(url, signed(key, body=body), body)
    assert answer.status == 200
    assert cloudevent.is_answer(challenge, answer.excerpt)


async def test_a_receiver_takes_nothing_else(receiver):
    url, key = receiver
    other = Secret(b"o" * 32) if isinstance(key, Secret) else SigningKey(b"o" * 32)
    good = signed(key)
    nothing: dict[str, str] = {}
    for headers in (
        nothing,
        signed(other),
        signed(key, now=datetime.now(UTC) - timedelta(minutes=6)),
        signed(key, now=datetime.now(UTC) + timedelta(minutes=6)),
        signed(key, body=BODY + b" "),
        good | {"webhook-id": "another"},
        good | {"webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)},
        good | {"webhook-signature": "v1,x v1a,x"},
        good | {"webhook-signature": "x"},
        good | {"webhook-timestamp": "soon"},
        {name: value for name, value in good.items() if name != "webhook-timestamp"},
        {name: value for name, value in good.items() if name != "webhook-signature"},
    ):
        assert (await post(url, headers)).status == 401
    assert (await post(url, good)).status == 200


def test_the_document_tells_the_numbers_of_the_code():
    seconds, *minutes_and_hours = (
        int(number)
        for number in re.findall(
            r"\d+", TEXT.partition("the next attempt comes after ")[2].partition(" hours")[0]
        )
    )
    minutes, hours = minutes_and_hours[:2], minutes_and_hours[2:]
    assert (
        timedelta(seconds=seconds),
        *(timedelta(minutes=number) for number in minutes),
        *(timedelta(hours=number) for number in hours),
    ) == schedule.RETRIES
    limits = Limits()
    assert f"{limits.head:g} seconds for its head and {limits.body:g} for its body" in TEXT
    assert f"{MAX_ANSWER // 1024} KiB are read" in TEXT
    assert f"holds at the others within {ROUND_SECONDS:g}\nseconds" in TEXT
    assert f"the port {' or '.join(map(str, sorted(PORTS)))}" in TEXT


class TestTheCheckOfTheInstitutionsSignature:
    def check(self, event, *seeds):
        names: dict[str, Any] = {}
        exec(CHECK, names)  # noqa: S102 - the document's own code
        keys = {builders.kid(builders.key(s)): builders.public(builders.key(s)) for s in seeds}
        return names["signed_message"](event, keys)

    def test_gives_what_was_signed(self):
        event = json.loads(BODY)
        assert self.check(event, "kg", "kz") == event["data"]["message"] == builders.message()

    def test_takes_nothing_under_the_key_of_another(self):
        with pytest.raises(ValueError, match="no key of the sender"):
            self.check(json.loads(BODY), "kg")

    def test_takes_nothing_that_was_changed(self):
        event = json.loads(BODY)
        made = json.loads(builders.signed(builders.message()))
        other = json.loads(builders.signed(builders.message(id=builders.message_id(2))))
        forged = jsontext.encode(made | {"payload": other["payload"]})
        event["data"]["envelope"] = b64url(forged)
        with pytest.raises(InvalidSignature):
            self.check(event, "kz")
