"""Standard Webhooks: standardwebhooks is the oracle for v1, cryptography for v1a."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from schemas import webhook
from schemas.refusal import Refused
from schemas.webhook import PublicKey, Secret, SigningKey

NOW = datetime(2026, 7, 1, 9, tzinfo=UTC)
SECRET = Secret(b"s" * 32)
OTHER = Secret(b"t" * 32)
KEY = SigningKey(b"k" * 32)
ID = "019f1234-0000-7000-8000-000000000001"
BODY = '{"title":"Сапар"}'.encode()

secrets = st.binary(min_size=24, max_size=64).map(Secret)
ids = st.from_regex(r"[A-Za-z0-9_-]*[A-Za-z0-9]", fullmatch=True)
moments = st.integers(0, 2**32).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
texts = st.text().map(str.encode)


def signed(*keys, body=BODY, now=NOW):
    return webhook.sign(keys, ID, now, body)


class TestSigning:
    @given(secrets, ids, moments, texts)
    def test_with_a_secret_gives_what_the_reference_library_gives(self, secret, name, now, body):
        headers = webhook.sign([secret], name, now, body)
        reference = standardwebhooks.Webhook(secret.text)
        assert headers["webhook-signature"] == reference.sign(name, now, body.decode())

    def test_with_a_secret_convinces_the_reference_library(self):
        headers = signed(SECRET, OTHER, KEY, now=datetime.now(UTC))
        for secret in (SECRET, OTHER):
            reference = standardwebhooks.Webhook(secret.text)
            assert reference.verify(BODY, headers) == {"title": "Сапар"}

    def test_with_a_key_pair_is_ed25519_over_id_time_and_body(self):
        headers = signed(KEY)
        version, encoded = headers["webhook-signature"].split(",")
        public = Ed25519PublicKey.from_public_bytes(
            base64.b64decode(KEY.public.text.removeprefix("whpk_"))
        )
        public.verify(
            base64.b64decode(encoded),
            f"{ID}.{headers['webhook-timestamp']}.".encode() + BODY,
        )
        assert version == "v1a"

    def test_has_one_signature_for_each_key_in_their_order(self):
        claims = signed(SECRET, KEY, OTHER)["webhook-signature"].split(" ")
        assert [claim.partition(",")[0] for claim in claims] == ["v1", "v1a", "v1"]

    @pytest.mark.parametrize("name", ["", "a.b", "a b", "a\n", "ж", "--"])
    def test_takes_no_id_that_could_be_read_in_two_ways(self, name):
        with pytest.raises(ValueError, match="webhook-id"):
            webhook.sign([SECRET], name, NOW, BODY)

    def test_takes_a_key(self):
        with pytest.raises(ValueError, match="one key"):
            webhook.sign([], ID, NOW, BODY)


class TestVerifying:
    @pytest.mark.parametrize("trusted", [SECRET, KEY.public, OTHER])
    def test_is_content_with_one_signature_that_holds(self, trusted):
        webhook.verify([trusted], signed(SECRET, KEY, OTHER), BODY, NOW)

    def test_takes_what_any_of_the_trusted_keys_signed(self):
        webhook.verify([OTHER, SECRET], signed(SECRET), BODY, NOW)

    @pytest.mark.parametrize("trusted", [OTHER, SigningKey(b"l" * 32).public])
    def test_takes_nothing_under_another_key(self, trusted):
        with pytest.raises(Refused, match="No signature holds"):
            webhook.verify([trusted], signed(SECRET, KEY), BODY, NOW)

    @pytest.mark.parametrize("trusted", [SECRET, KEY.public])
    @pytest.mark.parametrize(
        "change",
        [
            {"webhook-id": "other"},
            {"webhook-timestamp": str(int(NOW.timestamp()) + 1)},
            {"webhook-signature": ""},
            {"webhook-signature": "v1,!!! v1a,??? v1 ,"},
            {"webhook-signature": "v2,AAAA"},
        ],
    )
    def test_takes_nothing_that_was_changed(self, trusted, change):
        with pytest.raises(Refused, match="No signature holds"):
            webhook.verify([trusted], signed(SECRET, KEY) | change, BODY, NOW)
        with pytest.raises(Refused, match="No signature holds"):
            webhook.verify([trusted], signed(SECRET, KEY), BODY + b" ", NOW)

    @pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
    def test_needs_the_three_headers(self, name):
        headers = signed(SECRET)
        del headers[name]
        with pytest.raises(Refused, match=r"Send webhook-id, webhook-timestamp"):
            webhook.verify([SECRET], headers, BODY, NOW)

    @pytest.mark.parametrize("stamp", ["soon", "1e3", "-1", "١٢٣", "9" * 12, "1.5"])
    def test_needs_a_time_that_is_a_whole_number(self, stamp):
        with pytest.raises(Refused, match="whole number"):
            webhook.verify([SECRET], signed(SECRET) | {"webhook-timestamp": stamp}, BODY, NOW)

    @pytest.mark.parametrize("way", [-1, 1])
    def test_takes_five_minutes_of_difference_and_no_second_more(self, way):
        headers = signed(SECRET)
        webhook.verify([SECRET], headers, BODY, NOW + way * timedelta(minutes=5))
        with pytest.raises(Refused, match="too long ago"):
            webhook.verify([SECRET], headers, BODY, NOW + way * timedelta(minutes=5, seconds=1))

    def test_takes_no_signature_of_one_version_for_the_other(self):
        headers = signed(SECRET)
        headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v1a,")
        with pytest.raises(Refused):
            webhook.verify([SECRET, KEY.public], headers, BODY, NOW)


class TestAKey:
    @pytest.mark.parametrize("key", [SECRET, KEY, KEY.public], ids=lambda key: type(key).__name__)
    def test_is_read_as_it_was_written(self, key):
        assert webhook.parse_key(key.text) == key

    def test_of_a_pair_may_be_the_seed_alone(self):
        text = f"whsk_{base64.b64encode(KEY.seed).decode()}"
        assert webhook.parse_key(text) == KEY

    def test_of_a_pair_is_the_one_of_cryptography(self):
        private = Ed25519PrivateKey.from_private_bytes(KEY.seed)
        assert KEY.public == PublicKey(private.public_key().public_bytes_raw())

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "whsec_",
            "whsec_" + base64.b64encode(b"s" * 23).decode(),
            "whsec_" + base64.b64encode(b"s" * 65).decode(),
            "whsec_" + "é" * 40,
            SECRET.text.removeprefix("whsec_"),
            KEY.text.replace("whsk_", "whpk_"),
            "whsk_" + base64.b64encode(KEY.seed + OTHER.raw).decode(),
        ],
    )
    def test_that_is_none_is_refused_without_being_quoted(self, text):
        with pytest.raises(Refused) as refused:
            webhook.parse_key(text)
        assert refused.value.code == "schema"
        assert not text[8:] or text[8:] not in refused.value.detail

    def test_under_which_anything_would_hold_is_refused(self):
        with pytest.raises(Refused, match="low-order-key"):
            webhook.parse_key(PublicKey(bytes(32)).text)

    def test_is_not_in_what_a_log_shows(self):
        assert "sss" not in repr([SECRET])
        assert "kkk" not in repr([KEY])
