"""A participant's token: signed by its own key, for one request, for at most sixty seconds."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.doors import authentication
from hub.doors.access import Principal, Role
from hub.intake.batch import Token
from schemas.encoding import b64url
from schemas.refusal import Refused
from tests import builders
from tests.builders import NOW, key
from tests.client import compact

AUDIENCES = frozenset({"hub.example/log", "https://hub.example"})
LOG = builders.directory_log()
SECONDS = int(NOW.timestamp())
CLAIMS = {
    "iss": "kz",
    "aud": "hub.example/log",
    "iat": SECONDS,
    "exp": SECONDS + 60,
    "jti": "x" * 22,
    "htm": "POST",
    "htu": "https://hub.example/v1/messages",
}


def authenticate(token, *changes, now=NOW):
    """What the door makes of a token for ``POST /v1/messages``."""
    log = [*LOG, *changes]
    return authentication.authenticate(
        token, "POST", "/v1/messages", AUDIENCES, builders.fold(log), len(log), now
    )


def token(private=None, **claims):
    return compact(CLAIMS | claims, private or key("kz"))


def refused(presented, *changes, now=NOW):
    with pytest.raises(Refused) as caught:
        authenticate(presented, *changes, now=now)
    return caught.value.code


class TestAGoodToken:
    def test_says_who_is_asking_and_in_which_role(self):
        assert authenticate(token()).principal == Principal("kz", frozenset({Role.MEMBER}))

    @pytest.mark.parametrize(("code", "role"), [("undp", Role.PARTNER), ("guest", Role.OBSERVER)])
    def test_gives_the_role_of_the_directory(self, code, role):
        assert authenticate(token(key(code), iss=code)).principal.roles == {role}

    def test_of_somebody_suspended_gives_that_role_and_no_other(self):
        proven = authenticate(token(), builders.suspended("kz"))
        assert proven.principal.roles == {Role.SUSPENDED}

    def test_is_known_by_its_owner_and_id_until_it_expires(self):
        assert authenticate(token()).token == Token("kz:" + "x" * 22, SECONDS + 60)

    @pytest.mark.parametrize("audience", ["hub.example/log", "https://hub.example/"])
    def test_names_the_hub_by_its_log_or_its_address(self, audience):
        assert authenticate(token(aud=audience))

    def test_may_have_been_sent_through_a_proxy_that_changed_scheme_and_host(self):
        assert authenticate(token(htu="http://10.0.0.7:8080/v1/messages?x=1"))

    def test_may_be_signed_with_the_new_key_after_a_rotation(self):
        rotated = builders.rotated("kz", "kz second")
        assert authenticate(token(key("kz second")), rotated)
        assert refused(token(), rotated) == "revoked-key"


class TestTheTime:
    @pytest.mark.parametrize("seconds", [-30, 0, 59])
    def test_is_right_from_half_a_minute_before_until_the_end(self, seconds):
        assert authenticate(token(), now=NOW + timedelta(seconds=seconds))

    @pytest.mark.parametrize("seconds", [-31, 61])
    def test_is_wrong_earlier_and_later(self, seconds):
        assert refused(token(), now=NOW + timedelta(seconds=seconds)) == "unauthenticated"

    @pytest.mark.parametrize("life", [61, 0, -1])
    def test_is_at_most_a_minute_and_not_nothing(self, life):
        assert refused(token(exp=SECONDS + life)) == "unauthenticated"


class TestAWrongToken:
    @pytest.mark.parametrize(
        "lie",
        [
            {"iss": "kg"},
            {"iss": "nobody"},
            {"aud": "other.example/log"},
            {"htm": "GET"},
            {"htu": "https://hub.example/v1/receipts"},
            {"htu": "http://[/v1/messages"},
            {"jti": "short"},
            {"jti": "x" * 23},
            {"jti": "\x00" * 22},
            {"iat": "now"},
            {"more": 1},
        ],
        ids=str,
    )
    def test_lies(self, lie):
        assert refused(token(**lie)) == "unauthenticated"

    @pytest.mark.parametrize("name", list(CLAIMS))
    def test_leaves_something_out(self, name):
        claims = builders.without(CLAIMS, name)
        assert refused(compact(claims, key("kz"))) == "unauthenticated"

    @pytest.mark.parametrize(
        "header",
        [{"alg": "none"}, {"alg": "EdDSA"}, {"alg": "HS256"}, {"typ": "JWT"}, {"crit": ["b64"]}],
        ids=str,
    )
    def test_has_another_header(self, header):
        assert refused(compact(CLAIMS, key("kz"), **header)) == "unauthenticated"

    def test_is_signed_by_a_key_that_nobody_registered(self):
        assert refused(token(key("thief"))) == "unknown-key"

    def test_is_signed_by_the_thief_in_the_name_of_the_owner(self):
        forged = compact(CLAIMS, key("thief"), kid=builders.kid(key("kz")))
        assert refused(forged) == "unauthenticated"

    def test_is_signed_by_a_revoked_key(self):
        assert refused(token(), builders.revoked("kz")) == "revoked-key"

    def test_is_signed_by_an_expired_key(self):
        expiring = builders.rotated("kz", "kz second", expires=builders.time(1))
        later = NOW + timedelta(minutes=2)
        late = {"iat": SECONDS + 120, "exp": SECONDS + 180}
        assert refused(token(key("kz second"), **late), expiring, now=later) == "expired-key"

    def test_has_duplicate_claims(self):
        raw = json.dumps(CLAIMS).encode()[:-1] + b',"iss":"kz"}'
        assert refused(compact(raw, key("kz"))) == "unauthenticated"

    def test_is_signed_as_a_message(self):
        assert refused(compact(CLAIMS, key("kz"), typ="nhri-message+json")) == "unauthenticated"

    @pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c", "a.b.c.d", "ä.b.c", "." * 5000])
    def test_is_no_token_at_all(self, text):
        assert refused(text) == "unauthenticated"

    def test_is_longer_than_any_token(self):
        assert refused(token(htu="https://hub.example/" + "x" * 5000)) == "unauthenticated"

    @given(st.text(max_size=60) | st.lists(st.binary(max_size=40), min_size=3, max_size=3))
    def test_may_be_anything(self, made):
        text = made if isinstance(made, str) else ".".join(b64url(part) for part in made)
        assert refused(text) == "unauthenticated"

    @given(st.sampled_from(list(CLAIMS)), st.integers(0) | st.text() | st.none() | st.floats())
    def test_may_be_signed_with_anything_in_it(self, name, value):
        assert refused(token(**{name: value})) == "unauthenticated"
