"""At the door: whatever the bytes, one parsed message or one refusal; and no forgery passes.

What is tried: any bytes; bits flipped; parts cut out; and surgery on the JSON of the envelope, of
its protected header and of its payload, with and without a good signature over the result.
"""

import copy
import json

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import acceptance, jsontext, message, receipt, signature, statement
from schemas import entry as entries
from schemas.acceptance import Acceptance, Broken
from schemas.encoding import b64url, unb64url
from schemas.refusal import REFUSALS, Refused
from schemas.signature import KEY_TYPE, MESSAGE_TYPE
from tests import builders
from tests.builders import key, kid, payload, public, signed

KEYS = {kid(key(code)): public(key(code)) for code in ("kz", "kg")}

MESSAGES = {
    "bulletin": builders.message(),
    "notice": builders.notice(),
    "response": builders.response(),
}
ENVELOPES = {
    "one signature": signed(builders.message()),
    "two signatures": signed(builders.message(), key("kz"), key("kg")),
}
every_envelope = pytest.mark.parametrize("raw", ENVELOPES.values(), ids=ENVELOPES)
every_message = pytest.mark.parametrize("value", MESSAGES.values(), ids=MESSAGES)


def key_of(wanted):
    if wanted not in KEYS:
        raise Refused("unknown-key", f"No participant ever registered the key {wanted}.")
    return KEYS[wanted]


def verified(raw):
    """The payload of a verified envelope, or the refusal; any other exception fails the test."""
    try:
        jws = signature.parse(raw, MESSAGE_TYPE)
        signature.verify(jws, key_of)
    except Refused as refusal:
        return checked(refusal)
    return jws.payload


def read(raw):
    """The message in a payload, or the refusal."""
    try:
        return message.parse(raw)
    except Refused as refusal:
        return checked(refusal)


def checked(refusal):
    assert refusal.code in REFUSALS
    assert refusal.detail.isprintable()
    return refusal


def check_no_forgery(mutated, original):
    found = verified(mutated)
    if not isinstance(found, Refused):
        assert found == signature.parse(original, MESSAGE_TYPE).payload


# --- Surgery on JSON ---

odd_texts = st.sampled_from(
    ["", "\n", "\x00", "\u202e", "\ud800", "é", "=", "e30", "kz", "kz\n", "A" * 43, "TLP:RED"]
)
odd_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1.5, 1e308, 2**53, 10**400, float("nan"), float("inf")]),
    odd_texts,
    st.text(max_size=8),
)
odd_values: st.SearchStrategy[object] = st.one_of(
    odd_leaves,
    st.lists(odd_leaves, max_size=3),
    st.dictionaries(st.sampled_from(["alg", "kid", "title", "code", "x", ""]), odd_leaves),
    st.builds(json.loads, st.just("[" * 40 + "]" * 40)),
)


def places(value):
    """Every (container, key or position) below a value."""
    if isinstance(value, dict | list):
        for name, below in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, name
            yield from places(below)


@st.composite
def operated(draw, value):
    """A copy of a JSON value after one to three cuts and grafts; now and then as it was."""
    body = [copy.deepcopy(value)]
    for _ in range(draw(st.integers(1, 3))):
        holder, name = draw(st.sampled_from(list(places(body))))
        _operate(draw, holder, name)
        if not body:
            return None
    return body[0]


def _operate(draw, holder, name):
    match draw(st.sampled_from(["replace", "remove", "add", "wrap", "double", "change"])):
        case "remove":
            del holder[name]
        case "add" if isinstance(holder, dict):
            holder[draw(odd_texts | st.sampled_from(["header", "sealed", "crit"]))] = draw(
                odd_values
            )
        case "wrap":
            holder[name] = [holder[name]]
        case "double" if isinstance(holder, list):
            holder.append(copy.deepcopy(holder[name]))
        case "change" if isinstance(holder[name], str):
            text = holder[name]
            place = draw(st.integers(0, len(text)))
            holder[name] = text[:place] + draw(odd_texts) + text[place + draw(st.integers(0, 3)) :]
        case _:
            holder[name] = draw(odd_values)


def as_json(value):
    """The bytes of a JSON value; half surrogates in it become bytes that are not UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


# --- Any bytes ---


@given(st.binary())
@example(b"[" * 200_000)
@example(b'{"payload":"\xc3\xa9","signatures":[{"protected":"","signature":""}]}')
def test_any_bytes_are_refused_as_an_envelope(raw):
    assert isinstance(verified(raw), Refused)


@given(st.binary())
@example(b'{"id":' * 30_000)
def test_any_bytes_under_a_good_signature_are_refused_as_a_message(raw):
    assert verified(signed(raw, key("kz"))) == raw
    assert isinstance(read(raw), Refused)


@given(st.binary())
def test_any_bytes_as_a_header_are_refused(raw):
    protected = b64url(raw)
    body = b64url(b"{}")
    value = b64url(key("kz").sign(f"{protected}.{body}".encode()))
    made = {"payload": body, "signatures": [{"protected": protected, "signature": value}]}
    assert isinstance(verified(as_json(made)), Refused)


# --- A valid envelope, damaged ---


@every_envelope
@given(data=st.data())
def test_flipped_bits_never_give_another_payload(raw, data):
    flipped = bytearray(raw)
    bits = st.lists(st.integers(0, len(raw) * 8 - 1), min_size=1, max_size=3, unique=True)
    for bit in data.draw(bits):
        flipped[bit // 8] ^= 1 << bit % 8
    check_no_forgery(bytes(flipped), raw)


@every_envelope
@given(data=st.data())
def test_a_cut_envelope_is_refused(raw, data):
    start = data.draw(st.integers(0, len(raw) - 1))
    end = data.draw(st.integers(start + 1, len(raw)))
    assert isinstance(verified(raw[:start]), Refused)
    assert isinstance(verified(raw[end:]), Refused)
    check_no_forgery(raw[:start] + raw[end:], raw)


@every_envelope
@given(data=st.data())
def test_surgery_on_the_envelope_never_gives_another_payload(raw, data):
    check_no_forgery(as_json(data.draw(operated(json.loads(raw)))), raw)


@every_envelope
@given(data=st.data())
def test_surgery_on_a_header_never_gives_another_payload(raw, data):
    envelope = json.loads(raw)
    wire = envelope["signatures"][0]
    header = json.loads(unb64url(wire["protected"]))
    wire["protected"] = b64url(as_json(data.draw(operated(header))))
    check_no_forgery(as_json(envelope), raw)


@every_envelope
@given(data=st.data())
def test_surgery_on_a_signed_header_leaves_the_payload_alone(raw, data):
    """Even the owner of the key cannot make one envelope that reads in two ways."""
    body = json.loads(raw)["payload"]
    header = {"alg": "Ed25519", "kid": kid(key("kz")), "typ": MESSAGE_TYPE}
    protected = b64url(as_json(data.draw(operated(header))))
    value = b64url(key("kz").sign(f"{protected}.{body}".encode()))
    made = {"payload": body, "signatures": [{"protected": protected, "signature": value}]}
    check_no_forgery(as_json(made), raw)


@every_message
@given(data=st.data())
def test_surgery_on_the_payload_is_noticed(value, data):
    changed = as_json(data.draw(operated(value)))
    raw = signed(value)
    envelope = json.loads(raw)
    envelope["payload"] = b64url(changed)
    check_no_forgery(as_json(envelope), raw)


# --- A signed message that is not as it should be ---


@every_message
@given(data=st.data())
def test_surgery_under_a_good_signature_gives_a_message_or_a_refusal(value, data):
    found = read(as_json(data.draw(operated(value))))
    if not isinstance(found, Refused):
        assert message.parse(jsontext.encode(found)) == found


@every_message
@given(data=st.data())
def test_flipped_bits_under_a_good_signature_give_a_message_or_a_refusal(value, data):
    raw = bytearray(payload(value))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    found = read(bytes(raw))
    assert isinstance(found, message.Message | Refused)


# --- Everything else that comes in ---

RECEIPT = json.loads(jsontext.encode(receipt.parse(builders.signed_receipt())[1]))
STATEMENT = json.loads(signature.parse(builders.join("kz"), KEY_TYPE).payload)
ENTRY = json.loads(entries.encode(builders.entry("group.changed", "net", {"members": ["kz"]})))
ACCEPTANCE = msgspec.to_builtins(builders.acceptance())


@given(operated(RECEIPT) | st.none())
def test_any_signed_json_is_a_receipt_or_refused(value):
    raw = signed(as_json(value), key("kg"), typ=signature.DELIVERY_TYPE)
    try:
        _, found = receipt.parse(raw)
    except Refused:
        return
    assert receipt.parse(receipt.sign(found, key("kg")))[1] == found


@given(operated(STATEMENT) | st.none())
def test_any_signed_json_is_a_statement_or_refused(value):
    raw = signed(as_json(value), key("kz"), typ=KEY_TYPE)
    try:
        _, found = statement.parse(raw)
    except Refused:
        return
    assert statement.parse(statement.sign(found, key("kz")))[1] == found


@given(operated(ENTRY).map(as_json) | st.binary())
def test_any_bytes_are_an_entry_or_refused(raw):
    try:
        found = entries.decode(raw)
    except Refused:
        return
    assert entries.decode(entries.encode(found)) == found


@given(operated(ACCEPTANCE))
def test_any_json_is_the_acceptance_or_broken(value):
    try:
        made = jsontext.decode(as_json(value), Acceptance)
        found = acceptance.open_acceptance(made, builders.LOG)
    except (Refused, Broken):
        return
    genuine = acceptance.open_acceptance(builders.acceptance(), builders.LOG)
    assert found == genuine
