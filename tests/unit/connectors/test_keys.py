"""The institution's keys, and what it notes of its own requests."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from connectors import joined, keys
from connectors.joined import Join, Joined, JoinedError
from connectors.keys import KeysError
from schemas import statement
from tests import builders


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "kz" / "keys"


def test_what_is_made_is_what_is_loaded(folder):
    made = keys.make(folder)
    loaded = keys.load(folder)
    assert loaded.public("kz").sign == made.public("kz").sign
    assert loaded.kid == made.kid


def test_every_key_is_a_file_that_only_its_owner_can_read(folder):
    keys.make(folder)
    assert {path.name for path in folder.iterdir()} == {
        "sign.pem",
        "witness.pem",
        "seal.pem",
        "tls.pem",
    }
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_registered_keys_are_real_and_different(folder):
    public = keys.make(folder).public("kz")
    statement.check_keys(public)
    assert len({public.sign.x, public.witness.x, public.seal.x}) == 3


def test_the_tls_request_names_the_institution_and_is_signed_with_its_own_key(folder):
    keyring = keys.make(folder)
    request = x509.load_pem_x509_csr(str(keyring.public("kz").tls_request).encode())
    assert request.subject.rfc4514_string() == "CN=kz"
    assert request.is_signature_valid
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert key == keyring.tls.public_key()


def test_a_join_statement_is_signed_by_the_new_key(folder):
    keyring = keys.make(folder)
    raw = keys.join_statement(keyring, "kz", builders.invitation("kz"), builders.time())
    jws, stated = statement.parse(raw)
    assert isinstance(stated, statement.Join)
    assert (stated.code, stated.invitation) == ("kz", builders.invitation("kz"))
    statement.verify_signed_by(jws, keyring.sign.public_key().public_bytes_raw())


def test_keys_are_never_overwritten(folder):
    first = keys.make(folder)
    with pytest.raises(KeysError, match="already"):
        keys.make(folder)
    assert keys.load(folder).kid == first.kid


def test_stolen_keys_are_set_aside_and_new_ones_take_their_place(folder):
    first = keys.make(folder)
    aside = keys.set_aside(folder)
    second = keys.make(folder)
    assert keys.load(aside).kid == first.kid
    assert second.kid != first.kid


def test_an_interrupted_making_leaves_no_keys_and_the_next_one_makes_them(folder, monkeypatch):
    monkeypatch.setattr(Path, "rename", crash_before_the_keys_are_there)
    with pytest.raises(OSError, match="power"):
        keys.make(folder)
    monkeypatch.undo()
    assert not folder.exists()
    assert keys.make(folder).kid == keys.load(folder).kid
    assert [path.name for path in folder.parent.iterdir()] == ["keys"]


def crash_before_the_keys_are_there(path, target):
    if target.name == "keys":
        raise OSError("no power")
    path.replace(target)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "missing; `nhri-connector join` makes"),
        (lambda path: path.write_text("nonsense"), "not a usable key"),
        (lambda path: path.chmod(0o640), "chmod 600"),
        (lambda path: path.write_bytes((path.parent / "seal.pem").read_bytes()), "another type"),
    ],
)
def test_a_key_that_cannot_be_used_is_named_with_what_to_do(folder, damage, said):
    keys.make(folder)
    damage(folder / "witness.pem")
    with pytest.raises(KeysError, match=said) as caught:
        keys.load(folder)
    assert "witness.pem" in str(caught.value)


def test_a_keyring_in_a_log_shows_no_private_byte(folder):
    keyring = keys.make(folder)
    assert keyring.sign.private_bytes_raw().hex() not in repr(keyring)
    assert repr(keyring.sign.private_bytes_raw()) not in repr(keyring)


# --- joined.json ---

JOIN = Join(builders.invitation("kz"), "c3RhdGVtZW50", "0" * 30, builders.time())


def test_who_never_joined_asked_for_nothing(tmp_path):
    assert joined.read(tmp_path / "joined.json", "kz") == Joined("kz")


def test_every_request_is_kept_once_and_in_order(tmp_path):
    path = tmp_path / "kz" / "joined.json"
    second = Join(builders.invitation("kz again"), "YWdhaW4", "1" * 30, builders.time(5))
    for join in (JOIN, JOIN, second):
        joined.add(path, "kz", join)
    assert joined.read(path, "kz").joins == (JOIN, second)
    assert path.stat().st_mode & 0o777 == 0o600


def test_another_institutions_file_is_refused(tmp_path):
    joined.add(tmp_path / "joined.json", "kz", JOIN)
    with pytest.raises(JoinedError, match="is about kz, not kg"):
        joined.read(tmp_path / "joined.json", "kg")


def test_a_damaged_file_is_refused_and_not_overwritten(tmp_path):
    path = tmp_path / "joined.json"
    path.write_text("{")
    with pytest.raises(JoinedError, match="damaged"):
        joined.add(path, "kz", JOIN)
    assert path.read_text() == "{"
