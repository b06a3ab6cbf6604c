"""What is published: it is what the code says, it tells right from wrong, and it can be recomputed.

The last part, the test vectors, believes nothing of this project: it is joserfc, hashlib and the
specifications alone.
"""

import base64
import copy
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey
from jsonschema import Draft202012Validator

from schemas import message
from schemas.kinds import KINDS
from schemas.publication.formats import FORMATS, LANGUAGE_TAG, PUBLIC_PARTS
from schemas.refusal import REFUSALS, Refused
from schemas.vocabulary import LANGUAGES, is_language_tag
from tests.publish.documents import FOLDER, ROOT, documents, strays
from tests.publish.markdown import REMEDIES

DOCUMENTS = documents()
SCHEMAS = {
    path.removeprefix(f"{FOLDER}/").removesuffix(".json"): json.loads(raw)
    for path, raw in DOCUMENTS.items()
    if path.startswith(FOLDER) and not path.endswith(("openapi.json", "vectors.json"))
}
MESSAGES = SCHEMAS["message"]["examples"]


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMAS[name])


# --- Drift ---


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_generated_file_is_what_the_code_says(path):
    committed = ROOT / path
    assert committed.exists(), "run: make publish"
    assert committed.read_bytes() == DOCUMENTS[path], "run: make publish"


def test_nothing_else_is_published():
    assert strays() == set()


def test_every_kind_has_a_schema_of_its_message_and_of_its_content():
    of_kinds = {f"{part}.{kind}" for kind in KINDS for part in ("message", "content")}
    assert SCHEMAS.keys() == {*FORMATS, "message", *of_kinds}


def test_every_refusal_says_what_to_do():
    assert REMEDIES.keys() == REFUSALS.keys()


# --- Right and wrong ---


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_of_its_dialect_with_a_name_and_valid_examples(name):
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:nhri-exchange:schema:{name}"
    assert schema["title"]
    assert schema["description"]
    assert schema["examples"]
    for example in schema["examples"]:
        validator(name).validate(example)


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_of_a_kind_are_messages(kind):
    for example in SCHEMAS[f"message.{kind}"]["examples"]:
        parsed = message.parse(json.dumps(example).encode())
        assert parsed.kind == kind


def test_the_examples_speak_every_language_of_the_exchange():
    assert {tag for sent in MESSAGES for tag in sent.get("texts", {})} == LANGUAGES.keys()


def changed(sent, path, value):
    """A copy of a message with another value at a path; ... takes the member away."""
    result = copy.deepcopy(sent)
    at = result
    *above, last = path.split("/")
    for name in above:
        at = at[int(name)] if isinstance(at, list) else at[name]
    last = int(last) if isinstance(at, list) else last
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return result


BULLETIN, *_ = SCHEMAS["message.activity_bulletin.v1"]["examples"]
[NOTICE] = SCHEMAS["message.joint_action_notice.v1"]["examples"]
ACCEPT, RESERVATION, STEP = SCHEMAS["message.joint_action_response.v1"]["examples"]

WRONG = [
    (BULLETIN, "id", "019b6dd7-8700-4000-8000-000000000001"),
    (BULLETIN, "kind", "activity_bulletin.v2"),
    (BULLETIN, "sender", "Uzbekistan"),
    (BULLETIN, "created", "2025-12-30T06:00:00Z"),
    (BULLETIN, "audience", []),
    (BULLETIN, "audience", ["kz", "kz"]),
    (BULLETIN, "marking", "TLP:WHITE"),
    (BULLETIN, "marking", "TLP:RED"),
    (BULLETIN, "thread", "the first one"),
    (BULLETIN, "texts", {}),
    (BULLETIN, "texts", ...),
    (BULLETIN, "texts/uz", {"title": "Qaysi yozuvda?"}),
    (BULLETIN, "texts/rus", {"title": "Код из трёх букв"}),
    (BULLETIN, "texts/EN", {"title": "Not in canonical case"}),
    (BULLETIN, "texts/en/title", ""),
    (BULLETIN, "texts/en/title", "Two\nlines"),
    (BULLETIN, "texts/en/summary", "Turned \u202earound"),
    (BULLETIN, "texts/en/subtitle", "Unknown member"),
    (BULLETIN, "themes/0", "tortures"),
    (BULLETIN, "sdgs/0", 18),
    (BULLETIN, "sdgs/0", "8.11"),
    (BULLETIN, "sdgs/0", True),
    (BULLETIN, "attachments", [{"size": 1, "sha256": "A" * 43}]),
    (BULLETIN, "sealed", "e30"),
    (BULLETIN, "content", ...),
    (BULLETIN, "content/activity", "holiday"),
    (BULLETIN, "content/period/start", "29.12.2025"),
    (BULLETIN, "content/place/country", "Uzbekistan"),
    (BULLETIN, "content/figures/0/value", "30"),
    (BULLETIN, "content/figures/0/unit", "pieces"),
    (BULLETIN, "content/figures/0/name", "a\tb"),
    (BULLETIN, "content/links/0/href", "ftp://example.org"),
    (BULLETIN, "content/links/0/href", "https://example.org/\u202e"),
    (BULLETIN, "content/links/0/language", "uz"),
    (BULLETIN, "content/answer", "accept"),
    (NOTICE, "content/action", "party"),
    (NOTICE, "content/invited", []),
    (NOTICE, "content/invited", ["kz", "kz"]),
    (NOTICE, "content/answer_by", "2023-02-19"),
    (NOTICE, "content/answer_by", ...),
    (ACCEPT, "content/signature", ...),
    (ACCEPT, "content/signature", None),
    (ACCEPT, "in_reply_to", ...),
    (ACCEPT, "in_reply_to", None),
    (ACCEPT, "content/answer", "perhaps"),
    (ACCEPT, "content/answer", "decline"),
    (RESERVATION, "texts", ...),
    (STEP, "content/notice", ...),
    (STEP, "content/signature", ACCEPT["content"]["signature"]),
]


@pytest.mark.parametrize(("sent", "path", "value"), WRONG)
def test_a_wrong_message_is_refused_by_the_parser_and_by_the_schema_alone(sent, path, value):
    wrong = changed(sent, path, value)
    assert not validator("message").is_valid(wrong)
    assert not validator(f"message.{sent['kind']}").is_valid(wrong)
    with pytest.raises(Refused):
        message.parse(json.dumps(wrong).encode())


FINE = [
    (BULLETIN, "expires", None),
    (BULLETIN, "texts/en/body", "Two\nlines"),
    (BULLETIN, "texts/kaa", {"title": "Qaraqalpaqsha"}),
    (BULLETIN, "texts/ru-KZ", {"title": "По-русски"}),
    (BULLETIN, "marking", "TLP:AMBER+STRICT"),
    (BULLETIN, "sdgs", ["16.a", 17]),
    (BULLETIN, "attachments", []),
    (BULLETIN, "content", {"activity": "other"}),
    (BULLETIN, "content/links/0/language", None),
    (RESERVATION, "content/signature", None),
    (STEP, "texts", {}),
]


@pytest.mark.parametrize(("sent", "path", "value"), FINE)
def test_an_unusual_message_is_taken_by_the_parser_and_by_the_schema(sent, path, value):
    fine = changed(sent, path, value)
    validator("message").validate(fine)
    assert message.parse(json.dumps(fine).encode()).id == sent["id"]


@given(
    st.from_regex(r"[a-zA-Z]{1,4}(-[a-zA-Z]{2,4})?(-([a-zA-Z]{2}|[0-9]{3}))?", fullmatch=True)
    | st.sampled_from(["uz", "eng", "rus", "kaz", "kir", "tgk", "tuk", "uzb", "uzb-Latn", "uzbek"])
    | st.sampled_from([f"{tag}-{more}" for tag in LANGUAGES for more in ("KZ", "Cyrl", "419")])
)
def test_the_pattern_of_a_language_tag_takes_what_the_code_takes(tag):
    assert Draft202012Validator(LANGUAGE_TAG).is_valid(tag) == is_language_tag(tag)


WRONG_FORMATS = [
    ("envelope", "payload", "e30="),
    ("envelope", "payload", "e31"),  # the unused bits are not zero
    ("envelope", "signatures", []),
    ("envelope", "signatures/0/signature", "AAAA"),
    ("envelope", "signatures/0/header", {"alg": "none"}),
    ("entry", "v", 2),
    ("entry", "type", "Message"),
    ("entry", "time", "2025-12-30"),
    ("entry", "private", "short"),
    ("entry", "public/version", 1),
    ("private.message.accepted", "recipients/kz/position", 0),
    ("private.message.refused", "envelope", None),
    ("acceptance", "salt", "AAAA"),
    ("acceptance", "entry", "{}"),
    ("delivery", "envelope", ...),
    ("tombstone", "tombstone", "lost"),
    ("evidence", "v", 2),
    ("evidence", "entries/0/salt", "AAAA"),
    ("evidence", "entries/0/proof/0", "AAAA"),
    ("tombstone", "position", 0),
    ("receipt", "items", []),
    ("receipt", "items/0/3", "seen"),
    ("receipt", "items/0/4", "two\nlines"),
    ("statement", "statement", "leave"),
    ("statement", "keys/seal/crv", "Ed25519"),
    ("statement", "keys/sign/kty", "RSA"),
    ("statement", "invitation", "short"),
    ("bundle", "v", 2),
    ("bundle", "invitation", ...),
    ("problem", "code", "no"),
    ("problem", "status", 200),
]


@pytest.mark.parametrize(("name", "path", "value"), WRONG_FORMATS)
def test_a_wrong_value_of_any_other_format_is_refused(name, path, value):
    assert not validator(name).is_valid(changed(SCHEMAS[name]["examples"][0], path, value))


def test_the_public_part_of_an_entry_is_that_of_its_type():
    seen = set()
    for entry in SCHEMAS["entry"]["examples"]:
        seen.add(entry["type"])
        assert not validator("entry").is_valid(changed(entry, "public/more", 1))
    assert {"member.invited", "member.joined", "message.accepted", "message.refused"} <= seen
    assert seen <= PUBLIC_PARTS.keys()


# --- The test vectors, recomputed by others' code ---

VECTORS = json.loads((ROOT / FOLDER / "vectors.json").read_bytes())
TYPES = {
    "message": "nhri-message+json",
    "joint_action": "nhri-message+json",
    "statement": "nhri-key+json",
    "receipt": "nhri-delivery+json",
}


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "==")


def jose_key(name: str) -> OKPKey:
    key = VECTORS["keys"][name]
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": key["public"], "d": key["private"]}
    return OKPKey.import_key(jwk)


def signed_by(name: str, data: bytes) -> bytes:
    private = jose_key(name).get_op_key("sign")
    assert isinstance(private, Ed25519PrivateKey)
    return private.sign(data)


def log_key(vkey: str) -> tuple[str, bytes, bytes]:
    """Name, key id and Ed25519 public key of a verifier key (C2SP signed-note)."""
    name, key_id, encoded = vkey.split("+", 2)
    data = base64.b64decode(encoded)
    assert data[0] == 1
    assert sha256(f"{name}\n".encode() + data)[:4].hex() == key_id
    return name, bytes.fromhex(key_id), data[1:]


def opened_checkpoint(note: str) -> tuple[int, bytes]:
    """Size and root of a signed checkpoint (C2SP tlog-checkpoint)."""
    name, key_id, public = log_key(VECTORS["log"]["vkey"])
    text, _, line = note.partition("\n\n")
    origin, size, root = text.split("\n")
    dash, signer, signature = line.removesuffix("\n").split(" ")
    value = base64.b64decode(signature)
    assert (origin, dash, signer, value[:4]) == (name, "—", name, key_id)
    verifier = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": b64url(public)})
    log = verifier.get_op_key("verify")
    assert isinstance(log, Ed25519PublicKey)
    log.verify(value[4:], f"{text}\n".encode())
    return int(size), base64.b64decode(root)


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right)


def root_of(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1, as it is written there."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return node(root_of(leaves[:split]), root_of(leaves[split:]))


def root_from_proof(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 9162 §2.1.3.2."""
    last = size - 1
    result = leaf
    for sibling in path:
        assert last > 0
        if index % 2 or index == last:
            result = node(sibling, result)
            while not index % 2 and index:
                index, last = index >> 1, last >> 1
        else:
            result = node(result, sibling)
        index, last = index >> 1, last >> 1
    assert last == 0
    return result


def consistent(old: bytes, new: bytes, old_size: int, size: int, path: list[bytes]) -> bool:
    """RFC 9162 §2.1.4.2, for two sizes of which the older is no power of two."""
    index, last = old_size - 1, size - 1
    while index % 2:
        index, last = index >> 1, last >> 1
    first, *rest = path
    old_root = new_root = first
    for sibling in rest:
        if index % 2 or index == last:
            old_root, new_root = node(sibling, old_root), node(sibling, new_root)
            while not index % 2 and index:
                index, last = index >> 1, last >> 1
        else:
            new_root = node(new_root, sibling)
        index, last = index >> 1, last >> 1
    return (old_root, new_root, last) == (old, new, 0)


@pytest.mark.parametrize("name", VECTORS["keys"])
def test_a_key_has_its_public_half_and_its_thumbprint(name):
    key = VECTORS["keys"][name]
    private = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "d": key["private"], "x": "AA"})
    derived = private.get_op_key("sign").public_key().public_bytes_raw()
    assert b64url(derived) == key["public"]
    assert jose_key(name).thumbprint() == key["thumbprint"]


@pytest.mark.parametrize("name", TYPES)
def test_an_envelope_verifies_and_is_signed_the_same_again(name):
    vector = VECTORS[name]
    envelope = json.loads(vector["envelope"])
    assert unb64url(envelope["payload"]) == vector["payload"].encode()
    assert len(envelope["signatures"]) == len(vector["keys"])
    for signature, signer in zip(envelope["signatures"], vector["keys"], strict=True):
        one: Any = {"payload": envelope["payload"], **signature}
        verified = jws.deserialize_json(one, jose_key(signer), algorithms=["Ed25519"])
        kid = VECTORS["keys"][signer]["thumbprint"]
        header = {"alg": "Ed25519", "kid": kid, "typ": TYPES[name]}
        assert verified.payload == vector["payload"].encode()
        assert json.loads(unb64url(signature["protected"])) == header
        signing_input = f"{signature['protected']}.{envelope['payload']}".encode()
        assert b64url(signed_by(signer, signing_input)) == signature["signature"]


def test_the_token_is_a_compact_jws():
    vector = VECTORS["token"]
    key = jose_key(vector["key"])
    opened = jws.deserialize_compact(vector["compact"], key, algorithms=["Ed25519"])
    assert opened.payload == vector["payload"].encode()
    assert opened.protected["typ"] == "nhri-auth+jwt"


def test_the_join_fingerprint_is_thirty_digits_of_a_hash():
    vector = VECTORS["join"]
    hashed = sha256((vector["thumbprint"] + vector["vkey"] + vector["invitation"]).encode())
    assert vector["fingerprint"] == str(int.from_bytes(hashed, "big") % 10**30).zfill(30)
    assert VECTORS["log"]["vkey"] == vector["vkey"]


def test_the_entry_commits_to_its_private_part():
    vector = VECTORS["entry"]
    committed = b64url(sha256(unb64url(vector["salt"]) + vector["private"].encode()))
    assert vector["commitment"] == committed == json.loads(vector["entry"])["private"]
    assert vector["leaf_hash"] == b64url(sha256(b"\x00" + vector["entry"].encode()))
    digest = sha256(VECTORS["message"]["envelope"].encode())
    assert json.loads(vector["private"])["envelope"] == b64url(digest)


def test_the_log_has_the_root_that_was_signed_and_proves_every_entry():
    log = VECTORS["log"]
    leaves = [sha256(b"\x00" + entry.encode()) for entry in log["entries"]]
    assert [b64url(leaf) for leaf in leaves] == log["leaf_hashes"]
    assert opened_checkpoint(log["checkpoint"]) == (len(leaves), root_of(leaves))
    for index, (proof, leaf) in enumerate(zip(log["proofs"], leaves, strict=True)):
        assert proven(proof, leaf) == (index, len(leaves))


def proven(proof: str, leaf: bytes) -> tuple[int, int]:
    """Index and size of the tree of a tlog-proof that holds for a leaf."""
    head, _, checkpoint = proof.partition("\n\n")
    version, index, *path = head.split("\n")
    assert version == "c2sp.org/tlog-proof@v1"
    number = int(index.removeprefix("index "))
    size, root = opened_checkpoint(checkpoint)
    hashes = [base64.b64decode(line) for line in path]
    assert root_from_proof(leaf, number, size, hashes) == root
    return number, size


def test_the_newer_log_begins_with_the_older():
    log = VECTORS["log"]
    old_size, old_root = opened_checkpoint(log["older_checkpoint"])
    size, root = opened_checkpoint(log["checkpoint"])
    path = [unb64url(value) for value in log["consistency"]]
    assert consistent(old_root, root, old_size, size, path)
    assert not consistent(old_root, root, old_size, size, path[::-1])


def test_the_acceptance_and_the_delivery_hold():
    delivery = VECTORS["delivery"]
    assert VECTORS["acceptance"] == {k: v for k, v in delivery.items() if k != "envelope"}
    entry = unb64url(delivery["entry"])
    assert entry.decode() == VECTORS["entry"]["entry"]
    assert delivery["salt"] == VECTORS["entry"]["salt"]
    assert unb64url(delivery["private"]).decode() == VECTORS["entry"]["private"]
    assert unb64url(delivery["envelope"]).decode() == VECTORS["message"]["envelope"]
    index, size = proven(delivery["proof"], sha256(b"\x00" + entry))
    assert index == size - 1


def test_the_receipt_names_the_delivered_entry_by_its_leaf_hash():
    receipt = json.loads(VECTORS["receipt"]["payload"])
    [[message_id, entry_hash, position, status, reason]] = receipt["items"]
    assert message_id == json.loads(VECTORS["message"]["payload"])["id"]
    assert entry_hash == VECTORS["entry"]["leaf_hash"]
    private = json.loads(VECTORS["entry"]["private"])
    assert position == private["recipients"][receipt["receiver"]]["position"]
    assert (status, reason) == ("received", "")
