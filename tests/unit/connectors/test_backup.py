"""A connector's backup: all of it comes back, or none of it does, and a sentence says why."""

import asyncio
import io
import shutil
import stat
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import backup, config
from connectors.backup import BackupError
from connectors.outbox import Outbox
from connectors.store import Store, StoreError
from connectors.witness import BOUND, bind
from tests.simulator.institution import exchange

PASSPHRASE = "Шамол эсади тоғларда"


class Quick:
    """A key derivation that takes no time; the real one is in the integration tests."""

    def __init__(self, salt, **_):
        self._salt = salt

    def derive(self, typed):
        return sha256(self._salt + typed).digest()


@pytest.fixture(scope="module", autouse=True)
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backup, "Scrypt", Quick)
        yield


@pytest.fixture(scope="module")
def made(quick, tmp_path_factory):
    """An institution's folder after some exchange, and a message in the outbox."""
    folder = tmp_path_factory.mktemp("kz")

    async def prepare():
        async with exchange("kz", "kg") as (_, them):
            kz = them["kz"]
            async with kz.running(), them["kg"].running():
                await kz.settled(kz.send(audience=["kg"]))
            kz.outbox.put(b"an envelope", "01890a5d-ac96-774b-bcce-b302099a8057")
            shutil.copy(kz.path, folder / "kz.toml")
            shutil.copytree(kz.config.state, folder / "kz")

    asyncio.run(prepare())
    return folder / "kz.toml"


@pytest.fixture
def kz(made, tmp_path):
    """A copy of the settings and the state."""
    shutil.copytree(made.parent, tmp_path / "old")
    return tmp_path / "old/kz.toml"


@pytest.fixture
def file(kz, tmp_path):
    """Its backup."""
    path = tmp_path / "kz.backup"
    backup.write(path, kz, config.load(kz), PASSPHRASE)
    return path


def contents(settings):
    """Every file of the state but the database, which is another copy; and what is in that."""
    state = config.load(settings).state
    found = {
        str(path.relative_to(state)): path.read_bytes()
        for path in state.rglob("*")
        if path.is_file() and not path.name.startswith(("store.sqlite", "lock"))
    }
    return found, rows(settings)


def rows(settings):
    with opened(settings) as store:
        return store.sent_list(), store.followed(), store.cosigned(), store.directory()


def opened(settings):
    loaded = config.load(settings)
    return Store.open_for(loaded.store, loaded.code, loaded.hub.log)


def test_everything_comes_back(kz, file, tmp_path):
    new = tmp_path / "new/kz.toml"
    new.parent.mkdir()
    restored = backup.restore(file, new, PASSPHRASE)
    assert restored == config.load(new)
    assert contents(new) == contents(kz)
    assert Outbox(restored.outbox).pending() == ["01890a5d-ac96-774b-bcce-b302099a8057"]
    assert {path.name for path in new.parent.iterdir()} == {"kz.toml", "kz"}


def test_nobody_else_reads_a_backup_or_what_is_restored(file, tmp_path):
    new = tmp_path / "kz.toml"
    state = backup.restore(file, new, PASSPHRASE).state
    for path in (file, new, *(path for path in state.rglob("*"))):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_backup_is_of_one_moment_while_the_store_is_written(kz, tmp_path):
    loaded = config.load(kz)
    with opened(kz) as store, store.transaction():
        store.set_cursor("a test", 1)
        backup.write(tmp_path / "kz.backup", kz, loaded, PASSPHRASE)
    new = tmp_path / "kz.toml"
    backup.restore(tmp_path / "kz.backup", new, PASSPHRASE)
    with opened(new) as store:
        assert store.cursor("a test", 0) == 0


def test_what_was_restored_is_not_bound_to_its_keys(file, tmp_path):
    loaded = backup.restore(file, tmp_path / "kz.toml", PASSPHRASE)
    with opened(tmp_path / "kz.toml") as store:
        assert not bind(loaded.keys, store)


def test_nor_is_it_where_the_backup_was_made_before_the_first_start(kz, tmp_path):
    loaded = config.load(kz)
    (loaded.keys / BOUND).unlink()
    backup.write(tmp_path / "kz.backup", kz, loaded, PASSPHRASE)
    restored = backup.restore(tmp_path / "kz.backup", tmp_path / "kz.toml", PASSPHRASE)
    with opened(tmp_path / "kz.toml") as store:
        assert not bind(restored.keys, store)


def test_settings_that_are_there_stay(kz, file, tmp_path):
    new = tmp_path / "kz.toml"
    text = kz.read_text().replace('state = "kz"', 'state = "elsewhere"')
    new.write_text(text)
    restored = backup.restore(file, new, PASSPHRASE)
    assert (new.read_text(), restored.state) == (text, tmp_path / "elsewhere")
    assert contents(new) == contents(kz)


def test_a_passphrase_is_the_same_from_another_keyboard(kz, tmp_path):
    backup.write(tmp_path / "kz.backup", kz, config.load(kz), "caf\u00e9 au lait chaud")
    backup.restore(tmp_path / "kz.backup", tmp_path / "kz.toml", "cafe\u0301 au lait chaud")


# --- What is refused ---


def test_nothing_is_restored_over_a_state(kz, file):
    before = contents(kz)
    with pytest.raises(BackupError, match="nothing is restored over it"):
        backup.restore(file, kz, PASSPHRASE)
    assert contents(kz) == before


def test_another_institution_s_settings_are_not_given_this_state(kz, file, tmp_path):
    new = tmp_path / "kg.toml"
    new.write_text(kz.read_text().replace('"kz"', '"kg"'))
    with pytest.raises(BackupError, match="is kz's"):
        backup.restore(file, new, PASSPHRASE)
    assert not (tmp_path / "kg").exists()


def test_another_passphrase_is_refused_and_leaves_nothing(file, tmp_path):
    with pytest.raises(BackupError, match="passphrase is another"):
        backup.restore(file, tmp_path / "kz.toml", PASSPHRASE.lower())
    assert {path.name for path in tmp_path.iterdir()} == {"old", "kz.backup"}


def test_a_file_that_is_there_is_not_overwritten(kz, file):
    before = file.read_bytes()
    with pytest.raises(BackupError, match="is there already"):
        backup.write(file, kz, config.load(kz), PASSPHRASE)
    assert file.read_bytes() == before


def test_a_damaged_store_is_not_kept(kz, tmp_path):
    store = config.load(kz).store
    with store.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(b"\xff" * 40_000)
    with pytest.raises(StoreError):
        backup.write(tmp_path / "kz.backup", kz, config.load(kz), PASSPHRASE)
    assert not (tmp_path / "kz.backup").exists()
    assert not store.with_name(".store.backup").exists()


PIECE = 64 * 1024 + 16
HEAD = len(backup.MAGIC) + 16


def sealed(data):
    into = io.BytesIO()
    sealer = backup._Sealer(into, PASSPHRASE)
    sealer.write(data)
    sealer.finish()
    return into.getvalue()


def opened_again(raw):
    return backup._Opened(io.BytesIO(raw), PASSPHRASE).read()


def test_pieces_cannot_be_left_out_moved_or_added():
    raw = sealed(bytes(200_000))
    assert opened_again(raw) == bytes(200_000)
    head, body = raw[:HEAD], raw[HEAD:]
    one, two, rest = body[:PIECE], body[PIECE : 2 * PIECE], body[2 * PIECE :]
    for changed in (one + rest, two + one + rest, one + two, one + one + two + rest, body + one):
        with pytest.raises(BackupError, match="damaged"):
            opened_again(head + changed)


@given(data=st.data(), length=st.sampled_from([0, 1, 64 * 1024, 200_000]))
def test_a_flipped_bit_is_refused(data, length):
    changed = bytearray(sealed(bytes(length)))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BackupError):
        opened_again(bytes(changed))


@given(length=st.integers(0, 3 * 64 * 1024), cut=st.integers(1, 70_000))
def test_a_file_that_was_cut_off_is_refused(length, cut):
    with pytest.raises(BackupError):
        opened_again(sealed(bytes(length))[:-cut])


@given(raw=st.binary(max_size=200))
def test_any_other_bytes_are_refused(raw):
    with pytest.raises(BackupError):
        opened_again(raw)
