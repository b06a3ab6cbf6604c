"""A receiver of the demo takes what both keys of the hub and the sender's own have signed."""

from datetime import UTC, datetime

import msgspec
import pytest

from hub import settings
from hub.demo import webhooks
from hub.demo.partner import SigningKey, Subscribed
from hub.demo.webhooks import Receiver, Receivers, Trusted
from schemas import cloudevent, jsontext, webhook
from schemas.encoding import b64url
from schemas.refusal import Refused
from schemas.webhook import Secret
from tests import builders

NOW = datetime(2026, 7, 1, 9, tzinfo=UTC)
SECRET = Secret(b"s" * 32)
KEY = webhook.SigningKey(b"k" * 32)


def institution(code):
    private = builders.key(code)
    return SigningKey(builders.kid(private), code, b64url(builders.public(private)))


TRUSTED = Trusted(
    Subscribed("an-id", "http://127.0.0.1:1/", SECRET.text, KEY.public.text),
    [institution("kz"), institution("kg")],
)


def event(**overrides):
    envelope = builders.signed(builders.message(**overrides))
    return cloudevent.of_message(builders.ORIGIN, builders.delivery(envelope))


def take(sent, *keys, event_id=None, media_type="application/cloudevents+json"):
    """Have it verified; what it was taken for."""
    body = jsontext.encode(sent)
    signed = webhook.sign(keys or (SECRET, KEY), event_id or builders.message_id(), NOW, body)
    return webhooks.verify(TRUSTED, {**signed, "content-type": media_type}, body, NOW)


def changed(**data):
    sent = event()
    return msgspec.structs.replace(sent, data=sent.data | data)


def test_a_webhook_with_all_three_signatures_is_taken():
    assert take(event()).id == builders.message_id()


def test_a_challenge_is_taken_though_no_institution_signed_it():
    sent = cloudevent.of_challenge(
        builders.ORIGIN, builders.message_id(), "an-id", builders.time(), b"r" * 16
    )
    assert take(sent).data == sent.data


@pytest.mark.parametrize(
    ("sent", "keys", "code"),
    [
        (event(), (KEY,), "bad-signature"),
        (event(), (SECRET,), "bad-signature"),
        (event(), (SECRET, webhook.SigningKey(b"o" * 32)), "bad-signature"),
        (event(sender="tj"), (), "unknown-key"),
        (changed(message=builders.message(sender="kg")), (), "unknown-key"),
        (changed(message=builders.message(themes=[])), (), "bad-signature"),
        (event(marking="TLP:AMBER"), (), "forbidden"),
    ],
    ids=[
        "without v1",
        "without v1a",
        "another hub's key",
        "a sender that nobody knows",
        "another's message",
        "other words than were signed",
        "marked for others",
    ],
)
def test_what_is_not_right_is_refused(sent, keys, code):
    with pytest.raises(Refused) as refused:
        take(sent, *keys)
    assert refused.value.code == code


def test_an_event_that_comes_under_the_id_of_another_is_refused():
    with pytest.raises(Refused, match="came as another"):
        take(event(), event_id="another")


def test_an_event_that_does_not_say_that_it_is_one_is_refused():
    with pytest.raises(Refused, match="came as application/json, not as application/cloudevents"):
        take(event(), media_type="application/json")


def test_what_falls_short_is_said_in_sentences(tmp_path):
    receiver = Receiver("undp", tmp_path / "undp", 1)
    receiver.taken |= {"a", "x"}
    receivers = Receivers([receiver])
    due = {"undp": {"a", "b"}}

    assert list(receivers.missing(due)) == [
        "undp was not sent b by webhook.",
        "undp was sent x by webhook, which it did not ask for.",
    ]
    assert receivers.summary(due) == "webhooks=1/2"


def test_the_hub_may_post_to_the_receivers_and_nowhere_else_that_is_private(tmp_path):
    path = settings.initialise(tmp_path, "hub.example", 8099)

    webhooks.allow(path)

    allowed = settings.load(path, {}).webhooks
    assert (allowed.hosts, allowed.networks) == (("127.0.0.1",), ("127.0.0.1/32",))
    assert len(set(allowed.ports)) == 2
