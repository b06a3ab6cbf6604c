"""The served log, verified by a program that has nothing of ours (tests/outsider.py)."""

import ast
import base64
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from hub.cli import log_client
from hub.cli.access import Access
from hub.cli.client import connect
from tests import client, outsider
from tests.integration.hub.test_tiles import grow

SIZE = 256 + 44


def test_the_outsider_imports_nothing_of_ours():
    tree = ast.parse(Path(outsider.__file__).read_text(encoding="utf-8"))
    imported = {
        name.split(".")[0]
        for found in ast.walk(tree)
        for name in (
            [found.module or ""]
            if isinstance(found, ast.ImportFrom)
            else [alias.name for alias in found.names]
            if isinstance(found, ast.Import)
            else []
        )
    }
    assert imported == {"base64", "hashlib", "pathlib", "cryptography"}


@pytest.fixture
async def mirrored(tmp_path):
    """A log of a real hub as ``audit mirror`` writes it, its key, and an acceptance from it."""
    settings = client.new_settings(tmp_path / "hub")
    access = Access(Path(settings.folder) / "hub.toml")
    async with client.running(settings) as hub, connect(access, as_json=True) as asked:
        kz = hub.participant("kz")
        for code in ("kz", "kg"):
            await hub.operator.join(hub.participant(code))
        first = (await kz.send(audience=["kg"])).acceptance()
        await grow(hub, SIZE)
        last = (await kz.send(audience=["kg"])).acceptance()
        vkey = access.log_vkey(None)
        await log_client.mirror(asked.fetch, vkey, tmp_path / "log", lambda done, total: None)
    return tmp_path / "log", str(vkey), (first, last)


async def test_every_file_of_a_mirror_and_the_proofs_of_acceptances_hold(mirrored):
    folder, vkey, acceptances = mirrored
    entries = outsider.verify_files(folder, vkey)
    assert len(entries) > SIZE
    for acceptance in acceptances:
        entry = base64.urlsafe_b64decode(acceptance.entry + "==")
        index, _ = outsider.verify_proof(acceptance.proof, entry, vkey)
        assert entries[index] == entry


async def test_a_changed_file_or_proof_does_not_hold(mirrored):
    folder, vkey, (first, _) = mirrored
    entry = base64.urlsafe_b64decode(first.entry + "==")
    with pytest.raises(AssertionError):
        outsider.verify_proof(first.proof, entry + b" ", vkey)
    with pytest.raises((AssertionError, InvalidSignature)):
        outsider.verify_proof(first.proof.replace("index ", "index 1"), entry, vkey)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) == 6
    for path in files:
        raw = path.read_bytes()
        # Not the last digit of a base64 text, of which some bits mean nothing.
        path.write_bytes(raw[:-8] + bytes([raw[-8] ^ 1]) + raw[-7:])
        with pytest.raises((AssertionError, InvalidSignature, ValueError)):
            outsider.verify_files(folder, vkey)
        path.write_bytes(raw)
    assert outsider.verify_files(folder, vkey)
