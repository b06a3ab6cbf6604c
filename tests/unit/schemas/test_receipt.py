"""Delivery receipts: the receiver's signature that it holds certain messages."""

import json

import pytest

from schemas import jsontext, receipt, signature
from schemas.receipt import MAX_ITEMS, Item, Receipt
from schemas.refusal import Refused
from tests.builders import key, kid, message_id, public, signed, signed_receipt, time

HASH = "A" * 43
ITEM: Item = (message_id(), HASH, 1, "received", "")


def made(items=(ITEM,), **overrides):
    plain = {"receiver": "kg", "time": time(), "items": items} | overrides
    return signed(json.dumps(plain).encode(), key("kg"), typ=signature.DELIVERY_TYPE)


def refused(raw):
    with pytest.raises(Refused) as caught:
        receipt.parse(raw)
    return caught.value.code, caught.value.path


def test_a_receipt_is_read_as_it_was_signed():
    written = Receipt("kg", time(), (ITEM, (message_id(2), HASH, 2, "refused", "Нечитаемо")))
    jws, read = receipt.parse(receipt.sign(written, key("kg")))
    assert read == written
    signature.verify(jws, {kid(key("kg")): public(key("kg"))}.__getitem__)


def test_the_payload_has_its_items_as_lists():
    _, read = receipt.parse(signed_receipt())
    plain = json.loads(jsontext.encode(read))
    assert list(plain) == ["receiver", "time", "items"]
    assert plain["items"][0][2:] == [1, "received", ""]


@pytest.mark.parametrize("status", ["received", "read", "refused"])
def test_a_message_was_received_read_or_refused(status):
    assert receipt.parse(made([(*ITEM[:3], status, "")]))


def test_one_receipt_covers_a_thousand_messages_at_most():
    items = [(message_id(number), HASH, number, "received", "") for number in range(1, 1_001)]
    assert len(receipt.parse(made(items))[1].items) == MAX_ITEMS
    assert refused(made([*items, ITEM])) == ("schema", "$.items")


def test_one_receipt_covers_one_message_at_least():
    assert refused(made([])) == ("schema", "$.items")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, "1"),
        (0, message_id() + "\n"),
        (1, "A" * 42),
        (1, "A" * 44),
        (1, 1),
        (2, 0),
        (2, -1),
        (2, 1.0),
        (2, "1"),
        (3, "seen"),
        (3, None),
        (4, "x" * 501),
        (4, None),
    ],
)
def test_every_part_of_an_item_has_its_form(place, value):
    item = [*ITEM[:place], value, *ITEM[place + 1 :]]
    assert refused(made([ITEM, item])) == ("schema", f"$.items[1][{place}]")


@pytest.mark.parametrize("item", [ITEM[:4], (*ITEM, "")])
def test_an_item_has_five_parts(item):
    assert refused(made([item])) == ("schema", "$.items[0]")


@pytest.mark.parametrize("reason", ["a\u202eb", "a\nb", "\x1b[2J"])
def test_a_reason_is_one_line_of_text(reason):
    raw = made([(*ITEM[:3], "refused", reason)])
    assert refused(raw) == ("forbidden-character", "$.items[0][4]")


@pytest.mark.parametrize("receiver", ["KG", "", "kg\n", None])
def test_the_receiver_is_a_code(receiver):
    assert refused(made(receiver=receiver)) == ("schema", "$.receiver")


@pytest.mark.parametrize("value", ["2026-07-01", "2026-02-30T00:00:00.000Z", f"{time()}\n"])
def test_the_time_exists(value):
    assert refused(made(time=value)) == ("schema", "$.time")


def test_there_is_no_further_member():
    assert refused(made(note="x")) == ("schema", "$.note")


def test_a_signed_message_is_no_receipt():
    body = json.dumps({"receiver": "kg", "time": time(), "items": [ITEM]}).encode()
    assert refused(signed(body, key("kg")))[0] == "bad-header"


@pytest.mark.parametrize("raw", [b"", b"{}", b"\xff", b"[" * 10_000])
def test_any_other_bytes_are_refused(raw):
    assert refused(raw)[0] == "malformed"
