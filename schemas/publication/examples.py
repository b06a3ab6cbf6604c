"""Examples of every format, one story told through: what they say is public, the keys are not real.

An institution of Uzbekistan reports a visit to one of Kazakhstan, and one of Kyrgyzstan invites
both to a joint action. Every key comes from its name, so that the same bytes come out every time.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from msgspec.structs import replace

from schemas import (
    acceptance,
    checkpoint,
    joint_action,
    jsontext,
    merkle,
    note,
    proof,
    signature,
    statement,
)
from schemas import entry as entries
from schemas import receipt as receipts
from schemas.acceptance import Acceptance, Tombstone
from schemas.checkpoint import Checkpoint
from schemas.encoding import b64url, format_time, uuid7
from schemas.entry import AcceptedPrivate, Entry, Recipient, RefusedPrivate
from schemas.evidence import bundle
from schemas.evidence.bundle import Evidence, Row
from schemas.proof import Proof
from schemas.receipt import Receipt
from schemas.refusal import REFUSALS
from schemas.statement import Join, Keys, Revoke, Rotate

Json: TypeAlias = jsontext.Json

NOW: Final = datetime(2025, 12, 30, 6, 0, tzinfo=UTC)
ORIGIN: Final = "hub.example/log"


def seed(name: str) -> bytes:
    """The 32 private bytes of a key: SHA-256 of its name."""
    return hashlib.sha256(f"nhri-exchange example {name}".encode()).digest()


def key(name: str) -> Ed25519PrivateKey:
    """An Ed25519 key from its name."""
    return Ed25519PrivateKey.from_private_bytes(seed(name))


def public(name: str) -> bytes:
    """The 32 public bytes of a key."""
    return key(name).public_key().public_bytes_raw()


def thumbprint(name: str) -> str:
    """The ``kid`` of a key."""
    return signature.thumbprint(public(name))


LOG: Final = note.ed25519_vkey(ORIGIN, public("log"))


def _time(minutes: float = 0) -> str:
    return format_time(NOW + timedelta(minutes=minutes))


def _id(created: datetime, number: int) -> str:
    return uuid7(created, number.to_bytes(10, "big"))


def _message(number: int, created: datetime, body: Mapping[str, Json]) -> dict[str, Json]:
    return {"id": _id(created, number), "created": format_time(created), **body}


UZ_BULLETIN: Final = _message(
    1,
    NOW,
    {
        "kind": "activity_bulletin.v1",
        "sender": "uz",
        "audience": ["region"],
        "marking": "TLP:GREEN",
        "texts": {
            "uz-Latn": {
                "title": "Namangan viloyatidagi yopiq muassasalarda monitoring oʻtkazildi",
                "summary": "Yashash sharoiti, ovqatlanish, tibbiy xizmat va «Ombudsman qutilari» "
                "koʻzdan kechirildi. 6-son koloniyada 30 nafar mahkumga ID-karta, hunar oʻrgangan "
                "39 nafariga sertifikat topshirildi.",
            },
            "ru": {
                "title": "Мониторинг закрытых учреждений Наманганской области",
                "summary": "Проверены условия, питание, медицинская помощь, труд и «ящики "
                "омбудсмана». В колонии № 6 выданы ID-карты 30 осуждённым и сертификаты 39 "
                "освоившим ремесло.",
            },
            "en": {
                "title": "Closed institutions of Namangan region monitored",
                "summary": "Living conditions, food, medical care, work and 'Ombudsman boxes' were "
                "checked. In penal colony No. 6 identity cards were issued to 30 convicts and "
                "certificates to 39 who had learned a trade.",
            },
        },
        "themes": ["torture_prevention", "places_of_detention", "disability"],
        "sdgs": [8, 16],
        "content": {
            "activity": "monitoring",
            "period": {"start": "2025-12-29", "end": "2025-12-29"},
            "place": {"country": "UZ", "name": "Namangan"},
            "figures": [
                {"name": "id_cards", "value": 30, "unit": "count"},
                {"name": "certificates", "value": 39, "unit": "count"},
            ],
            "links": [
                {
                    "href": "https://ombudsman.uz/en/news/2025/12/29/"
                    "namangan-viloyatida-yopiq-muassasalar-faoliyati-organildi",
                    "language": "en",
                }
            ],
        },
    },
)
KZ_BULLETIN: Final = _message(
    2,
    datetime(2023, 2, 13, 5, 30, tzinfo=UTC),
    {
        "kind": "activity_bulletin.v1",
        "sender": "kz",
        "audience": ["region", "ohchr"],
        "marking": "TLP:CLEAR",
        "texts": {
            "kk": {
                "title": "Омбудсмен Қарағанды облысындағы мекемеде болып, сотталғандарды қабылдады",
                "summary": "Уәкіл қауіпсіздігі барынша жоғары мекеменің тұрғын жайларын, "
                "медициналық бөлімін, асханасын және шағым беретін терминалдарын қарап шықты.",
            },
            "en": {
                "title": "Ombudsman inspects a maximum-security colony in Karaganda region",
                "summary": "He checked living quarters, the medical unit, food, school, workshops "
                "and the complaint terminals, then received convicts in person.",
            },
        },
        "themes": ["places_of_detention", "torture_prevention", "complaints"],
        "sdgs": [16, "16.3"],
        "content": {
            "activity": "visit",
            "period": {"start": "2023-02-10", "end": "2023-02-10"},
            "place": {"country": "KZ"},
        },
    },
)
TJ_BULLETIN: Final = _message(
    3,
    datetime(2016, 6, 27, 4, 0, tzinfo=UTC),
    {
        "kind": "activity_bulletin.v1",
        "sender": "tj",
        "audience": ["kg", "uz"],
        "marking": "TLP:AMBER",
        "texts": {
            "tg": {
                "title": "Ёрии ҳуқуқӣ ба 3511 муҳоҷири меҳнатӣ дар вилояти Свердловск",
                "summary": "Мушкилоти асосӣ нагирифтани музди меҳнат, надонистани забон ва "
                "ҳуҷҷатҳои қалбакӣ мебошанд.",
            }
        },
        "themes": ["migrants", "women", "economic_social_rights"],
        "sdgs": [5, 8, 10],
        "content": {
            "activity": "statistics",
            "place": {"country": "TJ", "name": "Dushanbe"},
            "partners": [{"name": "High Commissioner for Human Rights in the Russian Federation"}],
            "figures": [
                {"name": "migrants_assisted", "value": 3511, "unit": "count"},
                {"name": "women", "value": 835, "unit": "count"},
            ],
        },
    },
)
TM_BULLETIN: Final = _message(
    4,
    datetime(2023, 7, 3, 6, 0, tzinfo=UTC),
    {
        "kind": "activity_bulletin.v1",
        "sender": "tm",
        "audience": ["region", "undp", "ohchr"],
        "marking": "TLP:GREEN",
        "expires": "2024-07-03T06:00:00.000Z",
        "texts": {
            "tk": {
                "title": "2022-nji ýyl boýunça Ombudsmeniň hasabaty: 523 ýüztutma",
                "summary": "Ýüztutmalaryň köpüsi ýaşaýyş jaýy, kazyýet kararlary, migrasiýa, "
                "zähmet we ýer meselelerine degişli boldy.",
            }
        },
        "themes": ["complaints", "economic_social_rights", "migrants"],
        "sdgs": [16],
        "content": {
            "activity": "report",
            "period": {"start": "2022-01-01", "end": "2022-12-31"},
            "partners": [{"name": "UNDP", "code": "undp"}],
            "figures": [{"name": "appeals", "value": 523, "unit": "count"}],
        },
    },
)
NOTICE: Final = _message(
    5,
    datetime(2023, 1, 20, 6, 0, tzinfo=UTC),
    {
        "kind": "joint_action_notice.v1",
        "sender": "kg",
        "audience": ["kz", "uz"],
        "marking": "TLP:GREEN",
        "texts": {
            "ky": {
                "title": "Жарандарды өнөктөш омбудсмендер менен чогуу кабыл алуу пландалууда",
                "summary": "Алар укук бузулган учурда бири-бирине кабар берип, 2023-жылы "
                "жарандарды биргелешип кабыл алууну көздөп жатышат.",
            },
            "ru": {
                "title": "Совместный приём граждан с омбудсменами-партнёрами",
                "summary": "Они предупреждают друг друга о нарушениях и планируют на 2023 год "
                "совместные приёмы граждан.",
            },
        },
        "themes": ["migrants", "complaints"],
        "sdgs": [10, 16, 17],
        "content": {
            "action": "meeting",
            "invited": ["kz", "uz"],
            "answer_by": "2023-02-19T18:00:00.000Z",
            "period": {"start": "2023-03-01", "end": "2023-12-31"},
        },
    },
)


def payload(message: Mapping[str, Json]) -> bytes:
    """A message as the bytes that are signed."""
    return jsontext.encode(message)


_NOTICE_SIGNED_BY_KZ: Final = signature.sign_payload(
    payload(NOTICE), signature.MESSAGE_TYPE, key("kz sign")
)


def _response(
    number: int,
    sender: str,
    content: Mapping[str, Json],
    texts: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    body: dict[str, Json] = {
        "kind": "joint_action_response.v1",
        "sender": sender,
        "audience": [code for code in ("kg", "kz", "uz") if code != sender],
        "marking": "TLP:GREEN",
        "in_reply_to": NOTICE["id"],
        "content": {"notice": NOTICE["id"], **content},
    }
    said: dict[str, Json] = {"texts": dict(texts)} if texts else {}
    return _message(number, datetime(2023, 1, 25, 9, number, tzinfo=UTC), body | said)


RESPONSES: Final = (
    _response(
        6,
        "kz",
        {
            "answer": "accept",
            "signature": {
                "protected": _NOTICE_SIGNED_BY_KZ.protected,
                "signature": _NOTICE_SIGNED_BY_KZ.signature,
            },
        },
    ),
    _response(
        7,
        "uz",
        {"answer": "accept_with_reservation"},
        {
            "uz-Cyrl": {"title": "Қатнашамиз; қабул санаси алоҳида келишилади"},
            "ru": {"title": "Участвуем; дата приёма согласуется отдельно"},
        },
    ),
    _response(8, "kg", {"answer": "start"}),
)

MESSAGES: Final[Mapping[str, tuple[dict[str, Json], ...]]] = {
    "activity_bulletin.v1": (UZ_BULLETIN, KZ_BULLETIN, TJ_BULLETIN, TM_BULLETIN),
    "joint_action_notice.v1": (NOTICE,),
    "joint_action_response.v1": RESPONSES,
}

ENVELOPE: Final = signature.sign(payload(UZ_BULLETIN), signature.MESSAGE_TYPE, key("uz sign"))
MANY_SIGNATURES: Final = joint_action.assemble(
    msgspec.json.decode(
        signature.sign(payload(NOTICE), signature.MESSAGE_TYPE, key("kg sign")),
        type=signature.JwsEnvelope,
    ),
    [_NOTICE_SIGNED_BY_KZ],
)


# --- Joining ---


def invitation(code: str) -> str:
    """The id of an invitation: 16 bytes."""
    return b64url(seed(f"{code} invitation")[:16])


def keys(code: str, sign: str = "sign") -> Keys:
    """The public keys of an institution."""
    seal = X25519PrivateKey.from_private_bytes(seed(f"{code} seal")).public_key()
    return Keys(
        signature.jwk(public(f"{code} {sign}")),
        signature.jwk(public(f"{code} witness")),
        signature.jwk(seal.public_bytes_raw(), "X25519"),
    )


def join(code: str) -> bytes:
    """A join statement, signed by the new key."""
    stated = Join(code, invitation(code), keys(code), _time(-30))
    return statement.sign(stated, key(f"{code} sign"))


NAMES: Final[Mapping[str, dict[str, Json]]] = {
    "uz": {"en": "Ombudsman of Uzbekistan"},
    "kz": {"en": "Ombudsman of Kazakhstan", "kk": "Қазақстан омбудсмені"},
}

BUNDLE: Final[dict[str, Json]] = {
    "v": 1,
    "hub": "https://hub.example",
    "log": str(LOG),
    "code": "uz",
    "role": "member",
    "names": NAMES["uz"],
    "invitation": invitation("uz"),
    "expires": format_time(NOW + timedelta(days=14)),
}

FINGERPRINT: Final = statement.fingerprint(thumbprint("uz sign"), str(LOG), invitation("uz"))


# --- The log ---


class Line(msgspec.Struct, frozen=True):
    """One entry of the log, with the private part and the salt that it commits to."""

    raw: bytes
    private: bytes | None
    salt: bytes

    @property
    def leaf(self) -> bytes:
        """The leaf hash."""
        return merkle.leaf_hash(self.raw)


def line(
    number: int,
    kind: str,
    actor: str,
    subject: str | None,
    public_part: Mapping[str, Json],
    private: bytes | None = None,
) -> Line:
    """An entry of the log, with a salt of its own."""
    salt = seed(f"salt {number}")
    committed = None if private is None else entries.commitment(salt, private)
    written = Entry(1, kind, _time(number), actor, subject, dict(public_part), committed)
    return Line(entries.encode(written), private, salt)


def _invited(number: int, code: str) -> Line:
    said: dict[str, Json] = {
        "role": "member",
        "names": NAMES[code],
        "country": code.upper(),
        "invitation": entries.digest(invitation(code).encode()),
    }
    private = jsontext.encode({"contact": ""})
    return line(number, entries.MEMBER_INVITED, "account:duty", code, said, private)


def _joined(number: int, code: str) -> Line:
    said: dict[str, Json] = {"statement": b64url(join(code))}
    return line(number, entries.MEMBER_JOINED, "account:duty", code, said)


ACCEPTED_PRIVATE: Final = AcceptedPrivate(
    envelope=entries.digest(ENVELOPE),
    kind="activity_bulletin.v1",
    marking="TLP:GREEN",
    thread=None,
    recipients={"kz": Recipient(1, "group:region")},
    left_out={"uz": "sender"},
)
REFUSED_PRIVATE: Final = RefusedPrivate(
    "Name the members of region one by one for TLP:AMBER+STRICT.",
    "$.audience",
    entries.digest(b"an envelope"),
)
_BEFORE: Final = (
    line(0, entries.HUB_STARTED, "hub", b64url(seed("instance")[:8]), {"version": "0.1.0"}),
    _invited(1, "uz"),
    _invited(2, "kz"),
    _joined(3, "uz"),
    _joined(4, "kz"),
)
ACCEPTED: Final = line(
    5,
    entries.MESSAGE_ACCEPTED,
    "uz",
    str(UZ_BULLETIN["id"]),
    {},
    jsontext.encode(ACCEPTED_PRIVATE),
)
RECEIPT: Final = Receipt(
    "kz", _time(6), ((str(UZ_BULLETIN["id"]), b64url(ACCEPTED.leaf), 1, "received", ""),)
)
SIGNED_RECEIPT: Final = receipts.sign(RECEIPT, key("kz sign"))
REFUSED: Final = line(
    7,
    entries.MESSAGE_REFUSED,
    "kz",
    _id(NOW, 9),
    {"code": "marking-conflict"},
    jsontext.encode(REFUSED_PRIVATE),
)
LINES: Final = (
    *_BEFORE,
    ACCEPTED,
    line(6, entries.RECEIPTS_RECORDED, "kz", None, {}, SIGNED_RECEIPT),
    REFUSED,
)
"""The log, entry by entry."""


def head(size: int) -> bytes:
    """The signed checkpoint of the first ``size`` entries."""
    root = merkle.root([entry.leaf for entry in LINES[:size]])
    return checkpoint.sign_checkpoint(Checkpoint(ORIGIN, size, root), LOG, key("log"))


def proof_of(index: int, size: int) -> str:
    """The tlog-proof of one entry in the first ``size``."""
    tiles = merkle.append(0, {}, [entry.leaf for entry in LINES[:size]])
    hashes = merkle.inclusion_proof(index, size, tiles)
    return proof.encode(Proof(index, tuple(hashes), head(size)))


def consistency(old_size: int, size: int) -> Sequence[bytes]:
    """The proof that the first ``size`` entries begin with the first ``old_size``."""
    tiles = merkle.append(0, {}, [entry.leaf for entry in LINES[:size]])
    return merkle.consistency_proof(old_size, size, tiles)


def accepted(index: int) -> Acceptance:
    """The acceptance of one entry, under the checkpoint of its own commit."""
    entry = LINES[index]
    text = proof_of(index, index + 1)
    return acceptance.pack(entry.raw, entry.private or b"", entry.salt, text)


ACCEPTANCE: Final = accepted(LINES.index(ACCEPTED))
DELIVERY: Final = acceptance.deliver(ACCEPTANCE, ENVELOPE)
ERASED: Final = replace(ACCEPTANCE, private=None, salt=None)


def evidence() -> Evidence:
    """All that proves the bulletin, under the checkpoint of the commit of its receipt."""
    size = LINES.index(REFUSED)
    of = bundle.head(head(size), LOG, ())
    tiles = merkle.append(0, {}, [entry.leaf for entry in LINES[:size]])
    history = [Row(index, LINES[index].raw) for index in range(1, 5)]
    shown = [Row(n, LINES[n].raw, LINES[n].private, LINES[n].salt) for n in range(5, size)]
    return bundle.assemble(str(UZ_BULLETIN["id"]), ENVELOPE, [*history, *shown], of, tiles)


PROBLEM: Final[dict[str, Json]] = {
    "type": "urn:nhri-exchange:refusal:marking-conflict",
    "title": REFUSALS["marking-conflict"].title,
    "status": REFUSALS["marking-conflict"].status,
    "detail": REFUSED_PRIVATE.detail,
    "code": "marking-conflict",
    "retryable": False,
    "path": "$.audience",
    "refusal": msgspec.to_builtins(accepted(LINES.index(REFUSED))),
}

_STATEMENTS: Final = (
    Join("uz", invitation("uz"), keys("uz"), _time(-30)),
    Rotate("uz", keys("uz", "second sign"), _time(60)),
    Revoke("uz", thumbprint("uz sign"), "superseded", _time(90)),
)


def by_format() -> dict[str, list[Json]]:
    """Examples for every published JSON Schema, by its name."""
    shown: dict[str, list[Json]] = {
        "envelope": [_plain(ENVELOPE), _plain(MANY_SIGNATURES)],
        "entry": [_plain(entry.raw) for entry in LINES],
        "private.message.accepted": [msgspec.to_builtins(ACCEPTED_PRIVATE)],
        "private.message.refused": [msgspec.to_builtins(REFUSED_PRIVATE)],
        "acceptance": [msgspec.to_builtins(ACCEPTANCE)],
        "delivery": [msgspec.to_builtins(DELIVERY)],
        "tombstone": [
            msgspec.to_builtins(Tombstone(1, "expired", ACCEPTANCE)),
            msgspec.to_builtins(Tombstone(2, "erased", ERASED)),
        ],
        "evidence": [msgspec.to_builtins(evidence())],
        "receipt": [_plain(jsontext.encode(RECEIPT))],
        "statement": [_plain(jsontext.encode(stated)) for stated in _STATEMENTS],
        "bundle": [BUNDLE],
        "problem": [PROBLEM],
        "message": [message for messages in MESSAGES.values() for message in messages],
    }
    for kind, messages in MESSAGES.items():
        shown[f"message.{kind}"] = list(messages)
        shown[f"content.{kind}"] = [message["content"] for message in messages]
    return shown


def _plain(raw: bytes) -> Json:
    return jsontext.parse(raw)
