"""Log entries: a public part that tells nothing, and a private part that can be erased."""

import hashlib
import json

import pytest

from schemas import entry as entries
from schemas.encoding import b64url
from schemas.entry import Entry
from schemas.refusal import Refused
from tests.builders import entry, salt, time

PRIVATE = b'{"recipients":{"kg":{"position":1,"reason":"named"}}}'


def decoded(**overrides):
    plain = {
        "v": 1,
        "type": "hub.started",
        "time": time(),
        "actor": "hub",
        "subject": None,
        "public": {},
        "private": None,
    }
    return entries.decode(json.dumps(plain | overrides).encode())


def refused(**overrides):
    with pytest.raises(Refused) as caught:
        decoded(**overrides)
    return caught.value.code, caught.value.path


class TestAnEntry:
    def test_is_one_compact_json_object_with_seven_members(self):
        made = Entry(1, "hub.started", time(), "hub", "one", {"version": "1.0"}, None)
        assert entries.encode(made) == (
            b'{"v":1,"type":"hub.started","time":"2026-07-01T09:00:00.000Z","actor":"hub",'
            b'"subject":"one","public":{"version":"1.0"},"private":null}'
        )

    def test_is_read_as_it_was_written(self):
        made = entry("group.changed", "net", {"members": ["kz", "қз"]}, private=PRIVATE)
        assert entries.decode(entries.encode(made)) == made

    def test_has_at_most_65535_bytes(self):
        room = entries.MAX_ENTRY - len(entries.encode(entry("hub.started", public={"x": ""})))
        assert len(entries.encode(entry("hub.started", public={"x": "x" * room}))) == 65_535
        with pytest.raises(ValueError, match="at most 65535 bytes"):
            entries.encode(entry("hub.started", public={"x": "x" * (room + 1)}))

    @pytest.mark.parametrize("v", [0, 2, -1])
    def test_of_another_version_is_not_guessed_at(self, v):
        assert refused(v=v) == ("schema", "$.v")

    @pytest.mark.parametrize(
        "kind", ["started", "hub.", ".started", "Hub.started", "hub.started\n", "hub.a.b", ""]
    )
    def test_has_a_type_of_two_words(self, kind):
        assert refused(type=kind) == ("schema", "$.type")

    @pytest.mark.parametrize("value", ["2026-07-01", "2026-02-30T00:00:00.000Z", f"{time()}\n", 1])
    def test_has_a_time_that_exists(self, value):
        assert refused(time=value) == ("schema", "$.time")

    @pytest.mark.parametrize("name", ["v", "type", "time", "actor", "subject", "public", "private"])
    def test_misses_no_member(self, name):
        plain = json.loads(entries.encode(entry("hub.started")))
        del plain[name]
        with pytest.raises(Refused, match=f"missing required field `{name}`"):
            entries.decode(json.dumps(plain).encode())

    def test_has_no_further_member_and_none_twice(self):
        assert refused(sequence=1) == ("schema", "$.sequence")
        with pytest.raises(Refused, match="duplicate-key"):
            entries.decode(entries.encode(entry("hub.started")).replace(b"{", b'{"v":1,', 1))

    @pytest.mark.parametrize("public", [[], None, "x"])
    def test_has_an_object_as_its_public_part(self, public):
        assert refused(public=public) == ("schema", "$.public")

    def test_gives_one_public_member_or_none(self):
        made = entry("group.changed", "net", {"members": ["kg", "kz"]})
        assert entries.public_member(made, "members") == ["kg", "kz"]
        assert entries.public_member(made, "names") is None


class TestTheCommitmentToThePrivatePart:
    def test_is_the_hash_of_salt_and_bytes(self):
        expected = b64url(hashlib.sha256(salt() + PRIVATE).digest())
        assert entries.commitment(salt(), PRIVATE) == expected
        assert entry("message.accepted", private=PRIVATE).private == expected

    def test_hides_the_same_bytes_under_another_salt(self):
        assert entries.commitment(salt("a"), b"x") != entries.commitment(salt("b"), b"x")

    @pytest.mark.parametrize("size", [0, 31, 33])
    def test_takes_a_salt_of_32_bytes_so_that_nothing_moves_between_salt_and_private(self, size):
        with pytest.raises(ValueError, match="32 bytes"):
            entries.commitment(bytes(size), PRIVATE)


def test_a_digest_is_sha_256_in_base64url():
    assert entries.digest(b"") == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"


def test_the_directory_is_folded_from_members_keys_and_groups_only():
    prefixes = {kind.partition(".")[0] for kind in entries.DIRECTORY_TYPES}
    assert prefixes == {"member", "key", "group"}
    others = {entries.MESSAGE_ACCEPTED, entries.RECEIPTS_RECORDED, entries.OPERATOR_QUERY}
    assert not others & set(entries.DIRECTORY_TYPES)
