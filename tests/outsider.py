"""A verifier of the log by somebody who has the C2SP specifications and nothing of ours.

Only hashlib, base64 and an Ed25519 implementation; written from RFC 6962 §2.1 and from tlog-tiles,
tlog-checkpoint, signed-note and tlog-proof, in the plainest way. It imports nothing of the project,
so that a mistake in ``schemas`` cannot hide behind itself.
"""

import base64
import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def open_note(raw: bytes, vkey: str) -> str:
    """The text of a signed note, whose signature by a verifier key holds."""
    name, key_hash, encoded = vkey.split("+", 2)
    key = base64.b64decode(encoded)
    assert key[0] == 1, "an Ed25519 key"
    assert hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8] == key_hash
    text, lines = raw.decode().rsplit("\n\n", 1)
    text += "\n"
    for line in lines.splitlines():
        dash, signer, value = line.split(" ")
        assert dash == "\u2014"
        signature = base64.b64decode(value, validate=True)
        if (signer, signature[:4].hex()) == (name, key_hash):
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], text.encode())
            return text
    raise AssertionError("no line of this key")


def open_checkpoint(raw: bytes, vkey: str) -> tuple[int, bytes]:
    """Size and root in a checkpoint of the log with this key."""
    origin, size, root, *rest = open_note(raw, vkey).split("\n")
    assert origin == vkey.split("+", maxsplit=1)[0]
    assert rest == [""]
    return int(size), base64.b64decode(root, validate=True)


def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, as it is defined there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return node(tree_hash(leaves[:k]), tree_hash(leaves[k:]))


def path(level: str, number: int, width: int) -> str:
    """Where a tile is."""
    digits = f"{number:03}"
    digits = digits.zfill((len(digits) + 2) // 3 * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    elements = [f"x{group}" for group in groups[:-1]] + groups[-1:]
    return f"tile/{level}/{'/'.join(elements)}" + (f".p/{width}" if width < 256 else "")


def entries_of(bundle: bytes) -> list[bytes]:
    """The entries of a bundle: each after its length in two bytes."""
    found = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        assert len(bundle) >= 2 + length
        found.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    return found


def verify_files(folder: Path, vkey: str) -> list[bytes]:
    """Check every file of a log in a folder; gives its entries."""
    size, root = open_checkpoint((folder / "checkpoint").read_bytes(), vkey)
    expected = {"checkpoint"}
    entries: list[bytes] = []
    for number in range((size + 255) // 256):
        name = path("entries", number, min(256, size - 256 * number))
        expected.add(name)
        entries += entries_of((folder / name).read_bytes())
    assert len(entries) == size
    hashes = [leaf(entry) for entry in entries]
    assert tree_hash(hashes) == root
    level = 0
    while hashes:
        for number in range((len(hashes) + 255) // 256):
            part = hashes[256 * number : 256 * (number + 1)]
            name = path(str(level), number, len(part))
            expected.add(name)
            assert (folder / name).read_bytes() == b"".join(part), name
        # Only full tiles have a hash in the level above.
        full = len(hashes) // 256
        hashes = [tree_hash(hashes[256 * i : 256 * (i + 1)]) for i in range(full)]
        level += 1
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert expected <= found
    return entries


def verify_proof(text: str, entry: bytes, vkey: str) -> tuple[int, int]:
    """Check a tlog-proof of an entry; gives its index and the size of the tree."""
    head, checkpoint = text.split("\n\n", 1)
    header, *lines = head.split("\n")
    assert header == "c2sp.org/tlog-proof@v1"
    if lines[0].startswith("extra "):
        del lines[0]
    word, number = lines.pop(0).split(" ")
    assert word == "index"
    index = int(number)
    size, root = open_checkpoint(checkpoint.encode(), vkey)
    hashes = [base64.b64decode(line, validate=True) for line in lines]
    assert from_path(index, size, leaf(entry), hashes) == root
    return index, size


def from_path(index: int, size: int, start: bytes, hashes: list[bytes]) -> bytes:
    """The root to which a path leads: PATH of RFC 6962 §2.1.1 read backwards."""
    assert 0 <= index < size
    if size == 1:
        assert hashes == []
        return start
    k = 1
    while 2 * k < size:
        k *= 2
    *below, top = hashes
    if index < k:
        return node(from_path(index, k, start, below), top)
    return node(top, from_path(index - k, size - k, start, below))
