"""An outsider's check of the log: nothing that the hub did not sign gets past it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hub.cli import log_client
from hub.cli.log_client import LogError
from schemas import entry as entries
from schemas import merkle
from schemas.entry import Entry
from schemas.note import ed25519_vkey
from tests.unit.hub.cli.static_log import TIME, publish, started

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VKEY = ed25519_vkey("hub.example/log", PRIVATE.public_key().public_bytes_raw())
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER_VKEY = ed25519_vkey("hub.example/log", OTHER.public_key().public_bytes_raw())

SIZE = 600


def log(size: int) -> dict[str, bytes]:
    return publish([started(number) for number in range(size)], VKEY, PRIVATE)


class Server:
    """Serves files, remembers which, and breaks off after as many as it is told."""

    def __init__(self, files: Mapping[str, bytes], breaks_after: int | None = None) -> None:
        self.files = files
        self.asked: list[str] = []
        self._left = breaks_after

    async def __call__(self, path: str, limit: int) -> bytes | None:
        if self._left is not None:
            self._left -= 1
            if self._left < 0:
                raise ConnectionResetError
        self.asked.append(path)
        data = self.files.get(path)
        return None if data is None else data[: limit + 1]


def quiet(done: int, total: int) -> None:
    assert 0 < done <= total


async def walked(files: Mapping[str, bytes]) -> list[log_client.Part]:
    server = Server(files)
    _, head = await log_client.head(server, VKEY)
    return [part async for part in log_client.walk(server, head)]


def on_disk(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, SIZE, 65_536, 65_536 + 300])
async def test_every_file_and_every_entry_of_a_log_is_seen_once_and_in_order(size):
    files = log(size)
    parts = await walked(files)
    assert {part.path: part.data for part in parts} == {
        path: data for path, data in files.items() if path != "checkpoint"
    }
    assert len(parts) == len(files) - 1
    bundles = [merkle.decode_bundle(part.data) for part in parts if part.level == "entries"]
    assert [raw for bundle in bundles for raw in bundle] == list(map(started, range(size)))


@pytest.mark.parametrize("path", sorted(set(log(SIZE)) - {"checkpoint"}))
async def test_one_wrong_bit_or_a_missing_file_anywhere_is_named_by_its_path(path):
    files = log(SIZE)
    flipped = bytes([files[path][0] ^ 1]) + files[path][1:]
    # A partial tile is checked by the root alone, to which all partial tiles lead together.
    named = "newest tiles" if path.startswith(("tile/0/002", "tile/1/")) else path
    for broken in (flipped, files[path][:-1], files[path] + b"\0" * 32, b""):
        with pytest.raises(LogError, match=f"{named}|{path}"):
            await walked({**files, path: broken})
    with pytest.raises(LogError, match=f"{path} is missing"):
        await walked({name: data for name, data in files.items() if name != path})


@given(st.data())
async def test_whatever_bytes_stand_in_for_a_file_the_log_is_refused(data):
    files = log(300)
    path = data.draw(st.sampled_from(sorted(files)))
    instead = data.draw(st.binary(max_size=100).filter(lambda raw: raw != files[path]))
    with pytest.raises(LogError):
        await walked({**files, path: instead})


async def test_a_log_signed_with_another_key_is_refused():
    with pytest.raises(LogError, match="No known key signed"):
        await log_client.verify(Server(log(3)), OTHER_VKEY, quiet)


async def test_a_hub_without_a_checkpoint_is_refused():
    with pytest.raises(LogError, match="no checkpoint"):
        await log_client.head(Server({}), VKEY)


async def test_verifying_gives_the_head_that_everything_leads_to():
    head = (await log_client.verify(Server(log(SIZE)), VKEY, quiet)).head
    assert (head.origin, head.size) == ("hub.example/log", SIZE)


@pytest.mark.parametrize("size", [300, 599, SIZE, 65_536 + 300])
@pytest.mark.parametrize("earlier", [0, 1, 255, 256, 299, 300])
async def test_what_was_verified_is_not_fetched_again_when_the_log_has_grown(earlier, size):
    before = await log_client.verify(Server(log(earlier)), VKEY, quiet)
    server = Server(log(size))
    verified = await log_client.verify(server, VKEY, quiet, before)
    assert verified.head.size == size
    bundles = {path for path in server.asked if path.startswith("tile/entries")}
    new = {start // 256 for start in range(earlier, size)}
    assert bundles == {merkle.tile_path("entries", n, merkle.tile_width(0, n, size)) for n in new}


async def test_a_new_entry_that_is_not_what_was_signed_is_noticed():
    before = await log_client.verify(Server(log(300)), VKEY, quiet)
    files = log(310)
    path = "tile/entries/001.p/54"
    files[path] = files[path][:-1] + b"]"
    with pytest.raises(LogError, match=path):
        await log_client.verify(Server(files), VKEY, quiet, before)


@pytest.mark.parametrize(("size", "said"), [(299, "shrunk"), (SIZE, "not the log"), (300, "not")])
async def test_a_log_that_does_not_extend_what_was_verified_is_noticed(size, said):
    before = await log_client.verify(Server(log(300)), VKEY, quiet)
    numbers = [*range(1, size), 10_000] if size != 299 else range(size)
    other = publish([started(number) for number in numbers], VKEY, PRIVATE)
    with pytest.raises(LogError, match=said):
        await log_client.verify(Server(other), VKEY, quiet, before)


async def test_whoever_goes_gently_gets_the_same_files(monkeypatch):
    monkeypatch.setattr(log_client, "_REST", 0)
    server = Server(log(SIZE))
    verified = await log_client.verify(log_client.gently(server), VKEY, quiet)
    assert verified.head.size == SIZE
    assert set(server.asked) == set(log(SIZE))


async def test_bytes_that_are_no_entry_are_named_by_their_number():
    files = publish([started(0), b'{"v":1}'], VKEY, PRIVATE)
    with pytest.raises(LogError, match="Entry 1 is not an entry"):
        await log_client.verify(Server(files), VKEY, quiet)


async def test_a_member_whom_nobody_invited_is_noticed():
    ghost = Entry(1, "member.joined", TIME, "operator", "kz", {"statement": ""}, None)
    files = publish([started(0), entries.encode(ghost)], VKEY, PRIVATE)
    with pytest.raises(LogError, match=r"Entry 1 changes the directory .* kz is unknown"):
        await log_client.verify(Server(files), VKEY, quiet)


async def test_a_mirror_is_the_log_as_it_is_served(tmp_path):
    files = log(SIZE)
    head = await log_client.mirror(Server(files), VKEY, tmp_path / "log", quiet)
    assert head.size == SIZE
    assert on_disk(tmp_path / "log") == files


@pytest.mark.parametrize("served", range(1, len(log(SIZE))))
async def test_an_interrupted_mirror_has_no_checkpoint_and_goes_on_where_it_stopped(
    tmp_path, served
):
    files = log(SIZE)
    with pytest.raises(ConnectionResetError):
        await log_client.mirror(Server(files, breaks_after=served), VKEY, tmp_path, quiet)
    kept = on_disk(tmp_path)
    assert kept.items() < files.items()
    assert "checkpoint" not in kept
    again = Server(files)
    await log_client.mirror(again, VKEY, tmp_path, quiet)
    assert on_disk(tmp_path) == files
    assert sorted(again.asked) == sorted(set(files) - set(kept))


async def test_a_mirror_catches_up_and_fetches_only_what_is_new(tmp_path):
    await log_client.mirror(Server(log(300)), VKEY, tmp_path, quiet)
    server = Server(log(SIZE))
    await log_client.mirror(server, VKEY, tmp_path, quiet)
    assert on_disk(tmp_path) == {**log(300), **log(SIZE)}
    assert set(server.asked) == set(log(SIZE)) - (set(log(300)) - {"checkpoint"})


@pytest.mark.parametrize("rewritten", [0, 255, 256, 299])
async def test_a_rewritten_log_is_refused_and_the_evidence_is_kept(tmp_path, rewritten):
    await log_client.mirror(Server(log(300)), VKEY, tmp_path, quiet)
    numbers = list(range(SIZE))
    numbers[rewritten] = 10_000
    fork = publish([started(number) for number in numbers], VKEY, PRIVATE)
    with pytest.raises(LogError, match=r"checkpoint\.rejected is the evidence"):
        await log_client.mirror(Server(fork), VKEY, tmp_path, quiet)
    assert on_disk(tmp_path) == {**log(300), "checkpoint.rejected": fork["checkpoint"]}


async def test_a_log_that_has_shrunk_is_refused(tmp_path):
    await log_client.mirror(Server(log(300)), VKEY, tmp_path, quiet)
    with pytest.raises(LogError, match="shrunk from 300 entries to 299"):
        await log_client.mirror(Server(log(299)), VKEY, tmp_path, quiet)


async def test_a_damaged_file_of_the_mirror_is_named(tmp_path):
    await log_client.mirror(Server(log(300)), VKEY, tmp_path, quiet)
    (tmp_path / "tile/entries/000").write_bytes(b"")
    with pytest.raises(LogError, match=r"tile/entries/000 .*damaged \(delete it"):
        await log_client.mirror(Server(log(300)), VKEY, tmp_path, quiet)
    (tmp_path / "tile/entries/000").unlink()
    await log_client.mirror(Server(log(300)), VKEY, tmp_path, quiet)
    assert log(300).items() < on_disk(tmp_path).items()


async def test_a_folder_with_the_mirror_of_another_log_is_left_alone(tmp_path):
    await log_client.mirror(Server(publish([], OTHER_VKEY, OTHER)), OTHER_VKEY, tmp_path, quiet)
    before = on_disk(tmp_path)
    with pytest.raises(LogError, match="is not of this log"):
        await log_client.mirror(Server(log(3)), VKEY, tmp_path, quiet)
    assert on_disk(tmp_path) == before
