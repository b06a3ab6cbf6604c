"""JSON Schemas (2020-12) of every format, from the structs that read them.

``FIELDS`` and the rules below it say what the types cannot: vocabularies, exact sizes, one member
that depends on another. A value that a schema takes can still be refused for what no schema of one
value can say (a period that ends before it starts, a text that is not in Unicode's form NFC).
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import msgspec

from schemas import directory, statement, text
from schemas import entry as entries
from schemas.acceptance import Acceptance, Delivery, Tombstone
from schemas.directory import Role
from schemas.encoding import BASE64URL_PATTERN, DATE_PATTERN, HASH_PATTERN, TIME_PATTERN
from schemas.entry import AcceptedPrivate, Entry, RefusedPrivate
from schemas.evidence.bundle import Evidence, Proven
from schemas.kinds import KINDS
from schemas.kinds.activity_bulletin import ActivityBulletin, Figure, Link
from schemas.kinds.joint_action_notice import JointActionNotice
from schemas.kinds.joint_action_response import JointActionResponse
from schemas.message import Message
from schemas.publication import examples
from schemas.receipt import Receipt
from schemas.refusal import REFUSALS
from schemas.signature import MAX_SIGNATURES, Jwk, JwsEnvelope, JwsSignature
from schemas.statement import Join, Keys, Statement
from schemas.vocabulary import (
    ACTIVITIES,
    JOINT_ACTIONS,
    MARKINGS,
    SDG_GOALS,
    SDG_TARGETS,
    THEMES,
    UNITS,
    languages,
)

Schema: TypeAlias = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
URN: Final = "urn:nhri-exchange:schema:"


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator hands to an institution's technician: good for one join, then worthless.

    ``hub`` is the hub's address, ``log`` the log's verifier key (vkey), by which everything that
    the hub says is checked. The join fingerprint is compared aloud before the operator approves.
    """

    v: Literal[1]
    hub: str
    log: str
    code: directory.Code
    role: Role
    names: dict[str, str]
    invitation: str
    expires: str


class Problem(msgspec.Struct, frozen=True):
    """Why a request was refused (RFC 9457).

    ``code`` is for programs, ``detail`` says to a person what to do. ``retryable``: the same
    request can succeed later. ``path`` is the JSON path of the offending value. ``refusal`` is the
    recorded refusal of an authenticated sender's message, in the form of an acceptance.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    path: str | msgspec.UnsetType = msgspec.UNSET
    refusal: Acceptance | msgspec.UnsetType = msgspec.UNSET


class RefusalCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The public part of ``message.refused``; with ``count``, so many more within a minute."""

    code: str
    count: int | msgspec.UnsetType = msgspec.UNSET


class HubVersion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public part of ``hub.started`` and ``hub.stopped``."""

    version: str


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A public part that says nothing: what there is to say is in the private part."""


# Only the canonical spelling: the unused bits of the last character are zero (RFC 4648 §3.5).
_LAST_OF_2, _LAST_OF_3 = "[AQgw]", "[AEIMQUYcgkosw048]"
_B64 = "[A-Za-z0-9_-]"
BASE64URL: Final[Schema] = {
    "type": "string",
    "pattern": f"^({_B64}{{4}})*({_B64}{_LAST_OF_2}|{_B64}{{2}}{_LAST_OF_3})?$",
    "contentEncoding": "base64url",
}
HASH: Final[Schema] = BASE64URL | {"pattern": f"^{_B64}{{42}}{_LAST_OF_3}$"}
SIGNATURE: Final[Schema] = BASE64URL | {"pattern": f"^{_B64}{{85}}{_LAST_OF_2}$"}
INVITATION: Final[Schema] = BASE64URL | {"pattern": f"^{_B64}{{21}}{_LAST_OF_2}$"}

_THREE_LETTERS = "|".join(sorted(languages._THREE_LETTER_NAMES))
LANGUAGE_TAG: Final[Schema] = {
    "type": "string",
    "pattern": "^[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?$",
    # Uzbek names its script; a language with a code of two letters goes by that.
    "not": {
        "pattern": f"^(uz(-([A-Z]{{2}}|[0-9]{{3}}))?|({_THREE_LETTERS})(-.*)?)$",
        "type": "string",
    },
}


def _either(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _escaped(pattern: str) -> str:
    """A pattern that holds control characters, as ECMA-262 writes it in visible ones."""
    return "".join(
        char if char.isascii() and char.isprintable() else f"\\u{ord(char):04x}" for char in pattern
    )


_FORBIDDEN = _escaped(text._FORBIDDEN.pattern)
_FORBIDDEN_BUT_LINE_FEED = _escaped(text._FORBIDDEN_BUT_LINE_FEED.pattern)

FIELDS: Final[Mapping[tuple[type, str], Schema]] = MappingProxyType(
    {
        (Message, "id"): {"description": "UUIDv7 (RFC 9562); unique in the whole log."},
        (Message, "kind"): {"enum": list(KINDS), "description": "Says what `content` is."},
        (Message, "sender"): {"description": "The participant that signs."},
        (Message, "created"): {
            "description": "At most 5 minutes ahead of the hub's clock and 90 days behind it."
        },
        (Message, "expires"): {"description": "After it, the message is not delivered any more."},
        (Message, "audience"): {
            "uniqueItems": True,
            "description": "Codes of participants and groups; never the sender.",
        },
        (Message, "marking"): {
            "enum": [marking.label for marking in MARKINGS.values() if not marking.sealed],
            "description": "TLP 2.0. TLP:RED travels sealed only, which is not yet supported.",
        },
        (Message, "thread"): {"description": "Id of the message that the exchange began with."},
        (Message, "in_reply_to"): {"description": "Id of the message that is answered."},
        (Message, "supersedes"): {"description": "Id of the message that this one replaces."},
        (Message, "texts"): {
            "propertyNames": LANGUAGE_TAG,
            "description": "The same words in one or more languages, by BCP 47 tag. NFC.",
        },
        (Message, "themes"): {"items": {"enum": list(THEMES)}},
        (Message, "sdgs"): {
            "items": {"enum": [*SDG_GOALS, *SDG_TARGETS]},
            "description": "Sustainable Development Goals (1 to 17) and targets (`16.3`, `16.a`).",
        },
        (Message, "attachments"): {"maxItems": 0, "description": "Not yet supported."},
        (ActivityBulletin, "activity"): {"enum": list(ACTIVITIES)},
        (Figure, "unit"): {"enum": list(UNITS)},
        (Link, "language"): _either(LANGUAGE_TAG),
        (Link, "href"): {"not": {"pattern": _FORBIDDEN}},
        (JointActionNotice, "action"): {"enum": list(JOINT_ACTIONS)},
        (JointActionNotice, "invited"): {"uniqueItems": True},
        (JwsEnvelope, "payload"): BASE64URL | {"contentMediaType": "application/json"},
        (JwsEnvelope, "signatures"): {"minItems": 1, "maxItems": MAX_SIGNATURES},
        (JwsSignature, "protected"): BASE64URL | {"contentMediaType": "application/json"},
        (JwsSignature, "signature"): SIGNATURE,
        (Jwk, "kty"): {"const": "OKP"},
        (Jwk, "crv"): {"enum": ["Ed25519", "X25519"]},
        (Jwk, "x"): HASH,
        (Entry, "v"): {"const": 1},
        (Entry, "subject"): {"description": "What it is about: a message id or a code."},
        (Entry, "private"): _either(HASH)
        | {"description": "SHA-256(salt ‖ private bytes); null where there is no private part."},
        (AcceptedPrivate, "envelope"): HASH | {"description": "SHA-256 of the envelope's bytes."},
        (RefusedPrivate, "envelope"): HASH | {"description": "SHA-256 of the bytes refused."},
        (RefusalCode, "code"): {"enum": list(REFUSALS)},
        (directory.Invited, "names"): {"propertyNames": LANGUAGE_TAG},
        (directory.Invited, "invitation"): HASH | {"description": "SHA-256 of the invitation."},
        (directory.Held, "invitation"): HASH | {"description": "SHA-256 of the new invitation."},
        (directory.Stated, "statement"): BASE64URL,
        (directory.Revoked, "kid"): HASH,
        (directory.Revoked, "statement"): _either(BASE64URL),
        (Acceptance, "entry"): BASE64URL | {"contentMediaType": "application/json"},
        (Acceptance, "private"): _either(BASE64URL | {"contentMediaType": "application/json"})
        | {"description": "Null where it was erased."},
        (Acceptance, "salt"): _either(HASH)
        | {"description": "32 random bytes; null where they were erased."},
        (Delivery, "entry"): BASE64URL | {"contentMediaType": "application/json"},
        (Delivery, "private"): BASE64URL | {"contentMediaType": "application/json"},
        (Delivery, "salt"): HASH | {"description": "32 random bytes."},
        (Delivery, "envelope"): BASE64URL | {"contentMediaType": "application/jose+json"},
        (Evidence, "envelope"): _either(BASE64URL),
        (Proven, "entry"): BASE64URL | {"contentMediaType": "application/json"},
        (Proven, "private"): _either(BASE64URL),
        (Proven, "salt"): _either(HASH),
        (Proven, "proof"): {"items": HASH},
        (Tombstone, "position"): {"minimum": 1},
        (Tombstone, "tombstone"): {"enum": ["erased", "expired"]},
        (Join, "invitation"): INVITATION,
        (Bundle, "hub"): {"pattern": "^https?://"},
        (Bundle, "names"): {"propertyNames": LANGUAGE_TAG},
        (Bundle, "invitation"): INVITATION,
        (Bundle, "expires"): {"pattern": TIME_PATTERN},
        (Problem, "type"): {"pattern": "^urn:nhri-exchange:refusal:[a-z-]+$"},
        (Problem, "code"): {"enum": list(REFUSALS)},
        (Problem, "status"): {"minimum": 400, "maximum": 599},
    }
)
"""What the types cannot say of a field, merged into its schema."""

PUBLIC_PARTS: Final[Mapping[str, type]] = MappingProxyType(
    {
        entries.MESSAGE_ACCEPTED: Nothing,
        entries.MESSAGE_REFUSED: RefusalCode,
        entries.RECEIPTS_RECORDED: Nothing,
        entries.MESSAGE_ERASED: Nothing,
        entries.MESSAGE_HELD: Nothing,
        entries.MESSAGE_RELEASED: Nothing,
        entries.DELIVERY_EXPIRED: Nothing,
        entries.DELIVERY_ERASED: Nothing,
        entries.MEMBER_INVITED: directory.Invited,
        entries.MEMBER_JOINED: directory.Stated,
        entries.MEMBER_HELD: directory.Held,
        entries.MEMBER_SUSPENDED: Nothing,
        entries.MEMBER_RESUMED: Nothing,
        entries.KEY_ROTATED: directory.Stated,
        entries.KEY_REVOKED: directory.Revoked,
        entries.KEY_REPLACED: directory.Stated,
        entries.GROUP_CHANGED: directory.Group,
        entries.OPERATOR_QUERY: Nothing,
        entries.OPERATOR_EXPORT: Nothing,
        entries.OPERATOR_BODY_READ: Nothing,
        entries.HUB_STARTED: HubVersion,
        entries.HUB_STOPPED: HubVersion,
    }
)
"""The public part of an entry, by its type; a type that is not here is newer than this schema."""

_SAYS_SOMETHING: Schema = {"required": ["texts"], "properties": {"texts": {"minProperties": 1}}}

KIND_RULES: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        "activity_bulletin.v1": _SAYS_SOMETHING,
        "joint_action_notice.v1": _SAYS_SOMETHING,
        "joint_action_response.v1": {
            "required": ["in_reply_to"],
            "properties": {"in_reply_to": {"type": "string"}},
            "if": {
                "properties": {
                    "content": {"properties": {"answer": {"const": "accept_with_reservation"}}}
                }
            },
            "then": _SAYS_SOMETHING,
        },
    }
)
"""What a kind asks of the whole message."""

STRUCT_RULES: Final[Mapping[type, Schema]] = MappingProxyType(
    {
        JointActionResponse: {
            # An accept, and only an accept, carries the signature over the notice.
            "if": {"properties": {"answer": {"const": "accept"}}},
            "then": {"required": ["signature"], "properties": {"signature": {"type": "object"}}},
            "else": {"properties": {"signature": {"type": "null"}}},
        },
        Keys: {
            "properties": {
                name: {"properties": {"crv": {"const": curve}}}
                for name, curve in (("sign", "Ed25519"), ("witness", "Ed25519"), ("seal", "X25519"))
            }
        },
    }
)
"""What a struct asks of its members together."""

FORMATS: Final[Mapping[str, tuple[str, object]]] = MappingProxyType(
    {
        "envelope": ("Envelope", JwsEnvelope),
        "entry": ("Log entry", Entry),
        "private.message.accepted": ("Private part of message.accepted", AcceptedPrivate),
        "private.message.refused": ("Private part of message.refused", RefusedPrivate),
        "acceptance": ("Acceptance", Acceptance),
        "delivery": ("Delivery", Delivery),
        "tombstone": ("Tombstone", Tombstone),
        "evidence": ("Evidence", Evidence),
        "receipt": ("Delivery receipt", Receipt),
        "statement": ("Key statement", Statement),
        "bundle": ("Bundle", Bundle),
        "problem": ("Problem document", Problem),
    }
)
"""Every format but the message: its published name, its title, its struct."""


_PATTERNS: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        TIME_PATTERN: {"format": "date-time"},
        DATE_PATTERN: {"format": "date"},
        HASH_PATTERN: HASH,
        BASE64URL_PATTERN: BASE64URL,
    }
)
"""What more is known of a text of such a pattern."""

# The $ of ECMA-262, which JSON Schema means, stands at the very end only; and not every engine that
# partners have knows look-ahead.
_PYTHON_ONLY: Final = r"(?!\n)"


def definitions(
    types: Iterable[object], ref: str = "#/$defs/{name}"
) -> tuple[Sequence[Schema], dict[str, Schema]]:
    """The schemas of some types, and of every struct below them by name.

    Args:
        types: structs, or types made of them.
        ref: how a struct is referred to.

    Raises:
        ValueError: two of the structs have one name.
    """
    schemas, named = msgspec.json.schema_components(
        types, schema_hook=lambda _: {"description": "Any JSON value."}, ref_template=ref
    )
    if any("." in name for name in named):
        raise ValueError(f"two structs share a name: {', '.join(named)}")
    for (struct, field), more in FIELDS.items():
        if struct.__name__ in named:
            named[struct.__name__]["properties"][field] |= more
    for struct, rule in STRUCT_RULES.items():
        if struct.__name__ in named:
            named[struct.__name__].setdefault("allOf", []).append(rule)
    for schema in (*schemas, *named.values()):
        tidy(schema)
    return list(schemas), dict(named)


def tidy(schema: object) -> None:
    """Readable descriptions, more of what a pattern means, and nothing of OpenAPI."""
    if isinstance(schema, list):
        for item in schema:
            tidy(item)
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("description"), str):
        schema["description"] = prose(schema["description"])
    if isinstance(schema.get("pattern"), str):
        schema |= _PATTERNS.get(schema["pattern"], {})
        schema["pattern"] = schema["pattern"].removesuffix(_PYTHON_ONLY)
    schema.pop("discriminator", None)
    for member in schema.values():
        tidy(member)


def prose(docstring: str) -> str:
    """A docstring as the Markdown of a description, without line breaks in its paragraphs."""
    paragraphs = inspect.cleandoc(docstring).replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _check_texts(schema: object, name: str = "") -> None:
    """Put into every free text of a schema which characters it must not hold."""
    if isinstance(schema, list):
        for item in schema:
            _check_texts(item, name)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "string" and not schema.keys() & {"pattern", "enum", "const"}:
        multiline = name in {"summary", "body"}
        schema["not"] = {"pattern": _FORBIDDEN_BUT_LINE_FEED if multiline else _FORBIDDEN}
    for key, member in schema.items():
        _check_texts(member, key)


def by(field: str, cases: Mapping[str, Schema]) -> list[Schema]:
    """Schemas of which each holds where a field has its value."""
    return [
        {"if": {"required": [field], "properties": {field: {"const": value}}}, "then": schema}
        for value, schema in cases.items()
    ]


def _message(kind: str) -> dict[str, Schema]:
    """The definitions of a message of one kind; its own is named by the kind."""
    row = KINDS[kind]
    _, named = definitions([Message, row.content])
    message = named.pop(Message.__name__)
    message["title"] = kind
    message["description"] = prose(inspect.getdoc(inspect.getmodule(row.content)) or "")
    message["properties"]["kind"] = {"const": kind}
    message["properties"]["content"] = {"$ref": f"#/$defs/{row.content.__name__}"}
    message["required"].append("content")
    message["allOf"] = [KIND_RULES[kind]]
    named[kind] = message
    _check_texts(named)
    return named


def _head(name: str, title: str) -> Schema:
    return {"$schema": DIALECT, "$id": URN + name, "title": title}


def _of_kind(kind: str) -> Schema:
    defs = _message(kind)
    top = defs.pop(kind)
    head = _head(f"message.{kind}", f"Message {kind}")
    return head | {k: v for k, v in top.items() if k != "title"} | {"$defs": defs}


def _content_of(kind: str) -> Schema:
    defs = _message(kind)
    del defs[kind]
    top = defs.pop(KINDS[kind].content.__name__)
    used = {name: schema for name, schema in defs.items() if name not in {"Text", "Attachment"}}
    head = _head(f"content.{kind}", f"Content of {kind}")
    return head | {k: v for k, v in top.items() if k != "title"} | {"$defs": used}


def _any_message() -> Schema:
    defs: dict[str, Schema] = {}
    for kind in KINDS:
        defs |= _message(kind)
    return _head("message", "Message") | {
        "description": "The payload of an envelope: a message of any kind that is taken.",
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(KINDS)}},
        "allOf": by("kind", {kind: {"$ref": f"#/$defs/{kind}"} for kind in KINDS}),
        "$defs": defs,
    }


def _format(name: str) -> Schema:
    title, kind = FORMATS[name]
    (schema,), named = definitions([kind])
    if kind is Receipt:
        _check_texts(named)
    if kind is Statement:
        schema["description"] = prose(inspect.getdoc(statement) or "")
    if kind is Entry:
        parts, public = definitions(PUBLIC_PARTS.values())
        cases = zip(PUBLIC_PARTS, parts, strict=True)
        rules = by("type", {value: {"properties": {"public": part}} for value, part in cases})
        named["Entry"]["allOf"] = rules
        named |= public
    if "$ref" in schema:
        schema = named.pop(schema["$ref"].rpartition("/")[2])
    schema = {key: value for key, value in schema.items() if key != "title"}
    return _head(name, title) | schema | ({"$defs": named} if named else {})


def documents() -> dict[str, Schema]:
    """Every JSON Schema by its name, with examples."""
    made = {name: _format(name) for name in FORMATS}
    made["message"] = _any_message()
    for kind in KINDS:
        made[f"message.{kind}"] = _of_kind(kind)
        made[f"content.{kind}"] = _content_of(kind)
    shown = examples.by_format()
    return {name: schema | {"examples": shown[name]} for name, schema in made.items()}
