"""JSONTestSuite: 318 texts that parsers disagree about; here each has one outcome."""

import json
from pathlib import Path

import pytest

from schemas import jsontext, message, signature
from schemas.refusal import Refused
from tests.builders import key, kid, public, signed

FOLDER = Path(__file__).parents[3] / "shared" / "vectors" / "jsontestsuite"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the folder ../shared/vectors/jsontestsuite is absent"
)

REFUSED_THOUGH_VALID = {
    # RFC 8259 §4 only advises against it; RFC 7493 §2.3 forbids it, and so does every format here.
    "y_object_duplicated_key.json": "duplicate-key",
    "y_object_duplicated_key_and_value.json": "duplicate-key",
}
"""JSON by its grammar, and yet two parsers may read it differently."""

ACCEPTED_THOUGH_OPTIONAL = {
    # So small that every parser reads nought.
    "i_number_double_huge_neg_exp.json",
    "i_number_real_underflow.json",
}
"""Of the texts that a parser may take or leave. All others are left: too large a number, half of a
surrogate pair, not UTF-8, a byte order mark, too deep."""


def files(first):
    return [pytest.param(path, id=path.name) for path in sorted(FOLDER.glob(f"{first}_*.json"))]


def opened(payload):
    """A message out of an envelope that kz signed over these bytes."""
    jws = signature.parse(signed(payload, key("kz")), signature.MESSAGE_TYPE)
    signature.verify(jws, {kid(key("kz")): public(key("kz"))}.__getitem__)
    return message.parse(jws.payload)


@pytest.mark.parametrize("path", files("n"))
def test_what_is_not_json_is_refused(path):
    with pytest.raises(Refused) as caught:
        jsontext.parse(path.read_bytes())
    assert caught.value.code == "malformed"


@pytest.mark.parametrize("path", files("y"))
def test_what_is_json_is_read_as_the_standard_parser_reads_it(path):
    raw = path.read_bytes()
    if path.name in REFUSED_THOUGH_VALID:
        with pytest.raises(Refused) as caught:
            jsontext.parse(raw)
        assert caught.value.code == REFUSED_THOUGH_VALID[path.name]
    else:
        assert jsontext.parse(raw) == json.loads(raw)


@pytest.mark.parametrize("path", files("i"))
def test_what_may_be_either_is_refused_unless_it_is_listed(path):
    if path.name in ACCEPTED_THOUGH_OPTIONAL:
        assert jsontext.parse(path.read_bytes()) == [0]
    else:
        with pytest.raises(Refused) as caught:
            jsontext.parse(path.read_bytes())
        assert caught.value.code == "malformed"


@pytest.mark.parametrize("path", files("[nyi]"))
def test_signed_correctly_each_is_refused_as_no_message_and_never_otherwise(path):
    with pytest.raises(Refused) as caught:
        opened(path.read_bytes())
    well_formed = path.name.startswith("y") and path.name not in REFUSED_THOUGH_VALID
    if well_formed:
        assert caught.value.code == "schema"


def test_all_318_texts_are_there():
    assert [len(files(first)) for first in "nyi"] == [188, 95, 35]
