"""What tests are made of: real keys, messages, envelopes, entries and acceptances, with defaults.

Everything is deterministic: the same call gives the same bytes. Keys come from a name, so that
``key("kz")`` is the signing key under which ``directory()`` knows kz.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID

from schemas import acceptance as acceptances
from schemas import checkpoint, jsontext, merkle, note, proof, receipt, signature, statement
from schemas import entry as entries
from schemas.acceptance import Acceptance, Delivery
from schemas.checkpoint import Checkpoint
from schemas.directory import Directory
from schemas.encoding import b64url, format_time, unb64url, uuid7
from schemas.entry import AcceptedPrivate, Entry, Recipient
from schemas.kinds.joint_action_notice import JointActionNotice
from schemas.proof import Proof
from schemas.statement import Join, Keys, Revoke, Rotate

NOW = datetime(2026, 7, 1, 9, tzinfo=UTC)

ROLES = {
    "kz": "member",
    "kg": "member",
    "tj": "member",
    "tm": "member",
    "uz": "member",
    "uz-nhrc": "member",
    "undp": "partner",
    "ohchr": "partner",
    "guest": "observer",
}
"""Everybody in the default directory."""


def time(minutes: float = 0) -> str:
    """The time so many minutes after ``NOW``."""
    return format_time(NOW + timedelta(minutes=minutes))


# --- Keys ---


def key(seed: str) -> Ed25519PrivateKey:
    """The Ed25519 private key of a name: ``key("kz")``, ``key("kz second")``, ``key("thief")``."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed.encode()).digest())


def public(private: Ed25519PrivateKey) -> bytes:
    """The 32 public bytes."""
    return private.public_key().public_bytes_raw()


def kid(private: Ed25519PrivateKey) -> str:
    """The ``kid`` under which a key signs."""
    return signature.thumbprint(public(private))


def keys(seed: str, **overrides: object) -> Keys:
    """The public keys of an institution whose signing key is ``key(seed)``."""
    seal = X25519PrivateKey.from_private_bytes(hashlib.sha256(f"{seed} seal".encode()).digest())
    fields: dict[str, object] = {
        "sign": signature.jwk(public(key(seed))),
        "witness": signature.jwk(public(key(f"{seed} witness"))),
        "seal": signature.jwk(seal.public_key().public_bytes_raw(), "X25519"),
    }
    return jsontext.convert({**_plain(fields), **_plain(overrides)}, Keys)


# --- Messages ---


def message_id(number: int = 1) -> str:
    """The id number so-and-so, created at ``NOW``."""
    return uuid7(NOW, number.to_bytes(10, "big"))


def message(**overrides: object) -> dict[str, object]:
    """A bulletin of kz to the region; any member can be given another value or added."""
    return {
        "id": message_id(),
        "kind": "activity_bulletin.v1",
        "sender": "kz",
        "created": time(),
        "audience": ["region"],
        "marking": "TLP:GREEN",
        "texts": {"en": {"title": "A visit", "summary": "What we saw.", "body": "At length."}},
        "themes": ["torture_prevention"],
        "sdgs": [16, "16.3"],
        "content": {
            "activity": "visit",
            "period": {"start": "2026-06-29", "end": "2026-06-30"},
            "place": {"country": "KZ", "name": "Almaty"},
            "partners": [{"name": "UNDP", "code": "undp"}],
            "figures": [{"name": "places visited", "value": 3, "unit": "count"}],
            "links": [{"href": "https://example.org/visit", "language": "en"}],
        },
    } | overrides


def notice(**overrides: object) -> dict[str, object]:
    """A notice of kz that invites kg and tj until a day after ``NOW``."""
    content = {"action": "statement", "invited": ["kg", "tj"], "answer_by": time(24 * 60)}
    return message(
        **{
            "id": message_id(100),
            "kind": "joint_action_notice.v1",
            "texts": {"en": {"title": "A joint statement", "body": "We, the institutions, …"}},
            "content": content,
        }
        | overrides
    )


def response(
    answer: str = "accept",
    to: Mapping[str, object] | None = None,
    sender: str = "kg",
    **overrides: object,
) -> dict[str, object]:
    """An answer of kg to a notice; a plain accept carries kg's signature over the notice."""
    answered = notice() if to is None else to
    content: dict[str, object] = {"notice": answered["id"], "answer": answer}
    texts = {}
    if answer == "accept":
        content["signature"] = cosignature(answered, key(sender))
    if answer == "accept_with_reservation":
        texts = {"en": {"title": "Without the last paragraph."}}
    return {
        "id": message_id(101),
        "kind": "joint_action_response.v1",
        "sender": sender,
        "created": time(),
        "audience": ["kz", "tj"],
        "marking": "TLP:GREEN",
        "in_reply_to": answered["id"],
        "texts": texts,
        "content": content,
    } | overrides


def cosignature(over: Mapping[str, object], private: Ed25519PrivateKey) -> dict[str, str]:
    """A signature over a message's payload, as an accept carries it."""
    wire = signature.sign_payload(payload(over), signature.MESSAGE_TYPE, private)
    return {"protected": wire.protected, "signature": wire.signature}


def without(value: Mapping[str, object], *names: str) -> dict[str, object]:
    """A copy without some members."""
    return {name: member for name, member in value.items() if name not in names}


def with_content(value: Mapping[str, object], **members: object) -> dict[str, object]:
    """A copy whose content has other or further members."""
    content = value["content"]
    assert isinstance(content, dict)
    return {**value, "content": {**content, **members}}


def payload(value: object) -> bytes:
    """A message as the bytes that are signed; bytes stay as they are."""
    if isinstance(value, bytes):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def signed(
    value: Mapping[str, object] | bytes,
    *privates: Ed25519PrivateKey,
    typ: str = signature.MESSAGE_TYPE,
) -> bytes:
    """An envelope; signed by ``key(sender)`` where no key is given."""
    if not privates:
        assert not isinstance(value, bytes), "say who signs these bytes"
        privates = (key(str(value["sender"])),)
    return signature.sign(payload(value), typ, *privates)


# --- The directory ---


def entry(
    kind: str,
    subject: str | None = None,
    public: Mapping[str, object] | None = None,
    *,
    actor: str = "operator",
    at: str | None = None,
    private: bytes | None = None,
) -> Entry:
    """A log entry, recorded at ``NOW`` unless said otherwise."""
    committed = None if private is None else entries.commitment(salt(), private)
    return Entry(1, kind, at or time(), actor, subject, dict(public or {}), committed)


def invitation(name: str) -> str:
    """The invitation id of a name: 16 bytes in base64url."""
    return b64url(hashlib.sha256(f"invitation {name}".encode()).digest()[:16])


def invited(code: str, role: str = "member", name: str | None = None) -> Entry:
    """``member.invited`` under ``invitation(name)``; the name is the code where none is given."""
    digest = entries.digest(invitation(name or code).encode())
    public = {"role": role, "names": {"en": code.upper()}, "country": None, "invitation": digest}
    return entry(entries.MEMBER_INVITED, code, public)


def joined(code: str, seed: str | None = None, name: str | None = None) -> Entry:
    """``member.joined`` with ``key(seed)`` under ``invitation(name)``; both default to the code."""
    return stated(entries.MEMBER_JOINED, code, join(code, seed, name))


def held(code: str, name: str) -> Entry:
    """``member.held``: the keys ended; new ones may come under ``invitation(name)``."""
    digest = entries.digest(invitation(name).encode())
    return entry(entries.MEMBER_HELD, code, {"invitation": digest})


def replaced(code: str, seed: str, name: str) -> Entry:
    """``key.replaced``: ``key(seed)`` under ``invitation(name)``."""
    return stated(entries.KEY_REPLACED, code, join(code, seed, name))


def rotated(code: str, seed: str, previous: str | None = None, **overrides: object) -> Entry:
    """``key.rotated`` from ``key(previous)``, the code's first key by default, to ``key(seed)``."""
    return stated(entries.KEY_ROTATED, code, rotate(code, seed, previous, **overrides), actor=code)


def revoked(code: str, seed: str | None = None, by: str | None = None) -> Entry:
    """``key.revoked`` of ``key(seed)``: by an operator, or stated by the code with ``key(by)``."""
    revoked_kid = kid(key(seed or code))
    public: dict[str, object] = {"kid": revoked_kid, "reason": "compromised", "statement": None}
    if by is not None:
        public["statement"] = b64url(revoke(code, revoked_kid, by))
    return entry(entries.KEY_REVOKED, code, public, actor=code if by else "operator")


def suspended(code: str) -> Entry:
    """``member.suspended``."""
    return entry(entries.MEMBER_SUSPENDED, code)


def resumed(code: str) -> Entry:
    """``member.resumed``."""
    return entry(entries.MEMBER_RESUMED, code)


def group(code: str, *members: str) -> Entry:
    """``group.changed``."""
    return entry(entries.GROUP_CHANGED, code, {"members": list(members)})


def stated(kind: str, code: str, raw: bytes, *, actor: str = "operator") -> Entry:
    """An entry whose public part is a signed statement."""
    return entry(kind, code, {"statement": b64url(raw)}, actor=actor)


def join(code: str, seed: str | None = None, name: str | None = None) -> bytes:
    """A join statement, signed by the new key."""
    made = Join(code, invitation(name or code), keys(seed or code), time())
    return statement.sign(made, key(seed or code))


def rotate(code: str, seed: str, previous: str | None = None, **overrides: object) -> bytes:
    """A rotation, signed by the previous and the new key; ``overrides`` are of its ``keys``."""
    made = Rotate(code, keys(seed, **overrides), time())
    return statement.sign(made, key(previous or code), key(seed))


def revoke(code: str, revoked_kid: str, by: str) -> bytes:
    """A revocation, signed by ``key(by)``."""
    return statement.sign(Revoke(code, revoked_kid, "compromised", time()), key(by))


def fold(log: Iterable[Entry], directory: Directory | None = None) -> Directory:
    """The directory after these entries, of which the first has index 0."""
    folded = directory or Directory()
    for index, recorded in enumerate(log):
        folded = folded.apply(index, recorded)
    return folded


def directory_log(**roles: str) -> list[Entry]:
    """The entries by which everybody was invited and joined; ``uz_nhrc`` is the code uz-nhrc."""
    everybody = {code.replace("_", "-"): role for code, role in roles.items()} or ROLES
    return [
        made for code, role in everybody.items() for made in (invited(code, role), joined(code))
    ]


def directory(**roles: str) -> Directory:
    """The directory of these participants, all active; of ``ROLES`` where none are given.

    ``directory(kz="member", undp="partner")``: the signing key of each is ``key(code)``.
    """
    return fold(directory_log(**roles))


# --- The log and what it gives back ---

ORIGIN = "hub.example/log"
LOG_KEY = key("log")
LOG = note.ed25519_vkey(ORIGIN, public(LOG_KEY))


def salt(name: str = "salt") -> bytes:
    """A salt of 32 bytes."""
    return hashlib.sha256(name.encode()).digest()


def acceptance(
    envelope: bytes | None = None,
    *,
    recipients: Mapping[str, int] | None = None,
    left_out: Mapping[str, str] | None = None,
    before: Iterable[bytes] = (),
    log_key: Ed25519PrivateKey = LOG_KEY,
) -> Acceptance:
    """The acceptance of an envelope, the last entry of a log.

    Args:
        envelope: that of ``message()`` where none is given.
        recipients: code and position in that inbox; ``{"kg": 1}`` where none are given.
        left_out: code and reason.
        before: the entries that stand before it in the log.
        log_key: signs the checkpoint, under ``ORIGIN``.
    """
    raw = signed(message()) if envelope is None else envelope
    sent = jsontext.parse(signature.parse(raw, signature.MESSAGE_TYPE).payload)
    assert isinstance(sent, dict)
    thread = sent.get("thread")
    private = jsontext.encode(
        AcceptedPrivate(
            envelope=entries.digest(raw),
            kind=str(sent["kind"]),
            marking=str(sent["marking"]),
            thread=None if thread is None else str(thread),
            recipients={
                code: Recipient(position, "named")
                for code, position in (recipients or {"kg": 1}).items()
            },
            left_out=dict(left_out or {}),
        )
    )
    accepted = entry(
        entries.MESSAGE_ACCEPTED, str(sent["id"]), actor=str(sent["sender"]), private=private
    )
    line = entries.encode(accepted)
    return acceptances.pack(line, private, salt(), prove(line, before, log_key))


def prove(line: bytes, before: Iterable[bytes] = (), log_key: Ed25519PrivateKey = LOG_KEY) -> str:
    """The tlog-proof of an entry as the last one of a log."""
    leaves = [merkle.leaf_hash(raw) for raw in (*before, line)]
    size = len(leaves)
    head = Checkpoint(ORIGIN, size, merkle.root(leaves))
    vkey = note.ed25519_vkey(ORIGIN, public(log_key))
    hashes = merkle.inclusion_proof(size - 1, size, merkle.append(0, {}, leaves))
    note_of_head = checkpoint.sign_checkpoint(head, vkey, log_key)
    return proof.encode(Proof(size - 1, tuple(hashes), note_of_head))


def delivery(envelope: bytes | None = None, **of_acceptance: object) -> Delivery:
    """What a recipient gets: ``acceptance`` with the envelope."""
    raw = signed(message()) if envelope is None else envelope
    made = acceptance(raw, **of_acceptance)  # type: ignore[arg-type] # handed on
    return acceptances.deliver(made, raw)


def signed_receipt(
    *items: tuple[object, ...], receiver: str = "kg", private: Ed25519PrivateKey | None = None
) -> bytes:
    """A delivery receipt; by default that kg received the default acceptance at position 1."""
    entry_hash = b64url(merkle.leaf_hash(unb64url(acceptance().entry)))
    made = {
        "receiver": receiver,
        "time": time(1),
        "items": items or [(message_id(), entry_hash, 1, "received", "")],
    }
    return receipt.sign(jsontext.convert(_plain(made), receipt.Receipt), private or key(receiver))


def joint_action_notice(**overrides: object) -> JointActionNotice:
    """The content of ``notice()``, typed."""
    content = notice()["content"]
    assert isinstance(content, dict)
    return jsontext.convert({**content, **_plain(overrides)}, JointActionNotice)


def _plain(value: object) -> dict[str, jsontext.Json]:
    """A value as it would come over the wire."""
    plain = jsontext.parse(jsontext.encode(value))
    assert isinstance(plain, dict)
    return plain


def tls_request(code: str) -> str:
    """A PKCS#10 request (PEM) by a key of its own."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, code)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    signed = request.sign(private, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()
