"""The body of a webhook: what CloudEvents asks for, and what a receiver needs for checking."""

import json

import pytest
from jsonschema import Draft202012Validator

from schemas import acceptance, cloudevent, jsontext, message, signature
from schemas.acceptance import Acceptance
from schemas.encoding import b64url, unb64url
from tests import builders

TEXTS = {
    "en": {"title": "A visit"},
    "ru": {"title": "Посещение"},
    "uz-Latn": {"title": "Tashrif"},
    "uz-Cyrl": {"title": "Ташриф"},
    "kk": {"title": "Сапар"},
}

# CloudEvents 1.0 §3.1 and §4, and the JSON event format §3, for what we send.
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "format": "uri-reference", "pattern": "^https://[^/]+/log$"},
        "type": {"type": "string", "pattern": r"^org\.nhri\.exchange\.[a-z]+\.v[0-9]+$"},
        "subject": {"type": "string", "minLength": 1},
        "time": {
            "type": "string",
            "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$",
        },
        "datacontenttype": {"const": "application/json"},
        "data": {"type": "object"},
    },
    "required": ["specversion", "id", "source", "type", "subject", "time", "data"],
    # §3.1: names of attributes are small letters and digits.
    "propertyNames": {"pattern": "^[a-z0-9]+$"},
    "additionalProperties": False,
}
MESSAGE = {
    "type": "object",
    "properties": {
        "message": {"type": "object", "required": ["id", "kind", "sender", "marking"]},
        "envelope": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
        "acceptance": {"type": "object", "required": ["entry", "private", "salt", "proof"]},
    },
    "required": ["message", "envelope", "acceptance"],
    "additionalProperties": False,
}


def event_of(*languages, **overrides):
    """The event of a message, as it stands in the body."""
    raw = builders.signed(builders.message(texts=TEXTS, **overrides))
    made = cloudevent.of_message(builders.ORIGIN, builders.delivery(raw), languages)
    return json.loads(jsontext.encode(made))


def challenge(randomness=b"r" * 16):
    return cloudevent.of_challenge(
        "127.0.0.1:8080/log", "an-id", "a-subscription", builders.time(), randomness
    )


class TestAMessage:
    def test_becomes_an_event_that_cloudevents_takes(self):
        event = event_of()
        Draft202012Validator(SCHEMA).validate(event)
        Draft202012Validator(MESSAGE).validate(event["data"])
        assert event["id"] == event["subject"] == event["data"]["message"]["id"]
        assert event["source"] == f"https://{builders.ORIGIN}"
        assert event["time"] == builders.time()

    def test_comes_with_what_proves_it(self):
        data = event_of("kk")["data"]
        accepted = acceptance.open_acceptance(
            jsontext.convert(data["acceptance"], Acceptance), builders.LOG
        )
        envelope = unb64url(data["envelope"])
        jws = signature.parse(envelope, signature.MESSAGE_TYPE)
        signature.verify(jws, lambda kid: builders.public(builders.key("kz")))
        assert message.parse(jws.payload).id == accepted.entry.subject
        assert json.loads(jws.payload) == data["message"]

    @pytest.mark.parametrize(
        ("languages", "order"),
        [
            ((), ["en", "ru", "uz-Latn", "uz-Cyrl", "kk"]),
            (("kk", "ru"), ["kk", "ru", "en", "uz-Latn", "uz-Cyrl"]),
            (("uz", "en"), ["uz-Latn", "uz-Cyrl", "en", "ru", "kk"]),
            (("uz-Cyrl", "uz"), ["uz-Cyrl", "uz-Latn", "en", "ru", "kk"]),
            (("fr", "u"), ["en", "ru", "uz-Latn", "uz-Cyrl", "kk"]),
        ],
    )
    def test_has_the_languages_asked_for_first(self, languages, order):
        assert list(event_of(*languages)["data"]["message"]["texts"]) == order

    def test_without_texts_has_none(self):
        raw = builders.signed(builders.response())
        event = cloudevent.of_message(builders.ORIGIN, builders.delivery(raw), ["ru"])
        assert event.data["message"] == builders.response()


class TestAChallenge:
    def test_is_an_event_that_cloudevents_takes(self):
        Draft202012Validator(SCHEMA).validate(json.loads(jsontext.encode(challenge())))

    @pytest.mark.parametrize("around", [b"%s", b"%s\n", b" %s\r\n"])
    def test_is_answered_by_itself(self, around):
        assert cloudevent.is_answer(challenge(), around % b64url(b"r" * 16).encode())

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"ok",
            "ж".encode(),
            b64url(b"s" * 16).encode(),
            b64url(b"r" * 16).encode()[:-1],
            jsontext.encode(challenge()),
            b'"%s"' % b64url(b"r" * 16).encode(),
        ],
    )
    def test_is_answered_by_nothing_else_and_not_by_an_echo(self, body):
        assert not cloudevent.is_answer(challenge(), body)

    def test_cannot_be_guessed(self):
        with pytest.raises(ValueError, match="16 random bytes"):
            challenge(b"r" * 15)
