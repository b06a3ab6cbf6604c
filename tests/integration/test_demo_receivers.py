"""The receivers of the demo, as the hub meets them: over HTTP on 127.0.0.1."""

import asyncio
import json
import socket
from datetime import UTC, datetime

import aiohttp
import pytest

from hub import settings
from hub.demo import webhooks
from hub.demo.partner import SigningKey, Subscribed
from hub.demo.processes import ProcessError
from hub.demo.webhooks import Trusted
from schemas import cloudevent, jsontext, webhook
from schemas.encoding import b64url
from schemas.webhook import Secret
from tests import builders

SECRET = Secret(b"s" * 32)
KEY = webhook.SigningKey(b"k" * 32)
EVENT = cloudevent.of_message(builders.ORIGIN, builders.delivery())
CHALLENGE = cloudevent.of_challenge(
    builders.ORIGIN, "an-id", "a-subscription", builders.time(), b"r" * 16
)


@pytest.fixture
def hub_toml(tmp_path):
    path = settings.initialise(tmp_path, "hub.example", 8099)
    webhooks.allow(path)
    (tmp_path / "webhooks").mkdir()
    return path


@pytest.fixture
def listening(hub_toml):
    return lambda: webhooks.listening(hub_toml, hub_toml.parent / "webhooks")


@pytest.fixture
def trusted():
    private = builders.key("kz")
    kz = SigningKey(builders.kid(private), "kz", b64url(builders.public(private)))
    subscription = Subscribed("a-subscription", "", SECRET.text, KEY.public.text)
    return Trusted(subscription, [kz])


async def post(receiver, event, *keys):
    """As the hub does; status and text of the answer."""
    body = jsontext.encode(event)
    headers = webhook.sign(keys or (SECRET, KEY), event.id, datetime.now(UTC), body)
    headers = {**headers, "Content-Type": "application/cloudevents+json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(receiver.url, data=body, headers=headers) as answer,
    ):
        return answer.status, await answer.text()


async def test_a_challenge_is_answered_once_the_secret_is_known(listening, trusted):
    async with listening() as receivers:
        undp = receivers["undp"]
        assert await post(undp, CHALLENGE) == (401, "")

        undp.trust(trusted)

        assert await post(undp, CHALLENGE) == (200, CHALLENGE.data["challenge"])
    assert undp.problems == []


async def test_a_webhook_is_kept_each_time_as_it_came_and_counts_once(listening, trusted, tmp_path):
    async with listening() as receivers:
        undp = receivers["undp"]
        undp.trust(trusted)
        waiting = asyncio.create_task(receivers.until({"undp": {EVENT.id}}))
        for _ in range(2):
            assert await post(undp, EVENT) == (200, "")
        await asyncio.wait_for(waiting, 10)

    kept = sorted((tmp_path / "webhooks" / "undp").iterdir())
    assert [path.name for path in kept] == [f"{EVENT.id}.1.json", f"{EVENT.id}.2.json"]
    for told in (json.loads(path.read_bytes()) for path in kept):
        assert told["body"].encode() == jsontext.encode(EVENT)
        assert told["headers"]["webhook-id"] == EVENT.id
    assert undp.taken == {EVENT.id}


async def test_what_is_refused_is_not_kept_and_is_told_at_the_end(listening, trusted, tmp_path):
    async with listening() as receivers:
        undp = receivers["undp"]
        undp.trust(trusted)
        assert await post(undp, EVENT, SECRET) == (401, "")

        [problem] = receivers.missing({"undp": set()})
    assert problem.startswith("The receiver of undp refused one: No signature holds")
    assert [*(tmp_path / "webhooks" / "undp").iterdir()] == []


async def test_a_later_run_listens_at_the_same_place_and_has_what_was_taken(listening, trusted):
    async with listening() as receivers:
        first = receivers["undp"]
        first.trust(trusted)
        await post(first, EVENT)

    async with listening() as receivers:
        again = receivers["undp"]

    assert (again.url, again.trusted, again.taken) == (first.url, trusted, {EVENT.id})


async def test_a_port_that_somebody_else_has_is_one_clear_sentence(hub_toml, listening):
    port = settings.load(hub_toml, {}).webhooks.ports[1]
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ProcessError, match=f"ohchr cannot have port {port} "),
    ):
        async with listening():
            pass
