"""The big list of naughty strings: each is text like any other, or refused with its place."""

import json
from pathlib import Path

import pytest

from schemas import message
from schemas.kinds.activity_bulletin import ActivityBulletin
from schemas.refusal import REFUSALS, Refused
from tests.builders import message as bulletin
from tests.builders import payload

FILE = Path(__file__).parents[3] / "shared" / "vectors" / "naughty_strings.json"

pytestmark = pytest.mark.skipif(
    not FILE.is_file(), reason="../shared/vectors/naughty_strings.json is absent"
)


def strings():
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else []


def with_title(text):
    return bulletin(texts={"en": {"title": text}})


def with_body(text):
    return bulletin(texts={"en": {"title": "x", "body": text}})


def with_figure(text):
    figure = {"name": text, "value": 1, "unit": "count"}
    return bulletin(content={"activity": "report", "figures": [figure]})


def with_partner(text):
    return bulletin(content={"activity": "report", "partners": [{"name": text}]})


def content(sent):
    typed = message.content(sent)
    assert isinstance(typed, ActivityBulletin)
    return typed


PLACES = [
    # where it is put, how it is read back, the paths under which it may be refused
    (with_title, lambda m: m.texts["en"].title, {"$.texts.en.title", "$.texts[...].title"}),
    (with_body, lambda m: m.texts["en"].body, {"$.texts.en.body"}),
    (with_figure, lambda m: content(m).figures[0].name, {"$.content.figures[0].name"}),
    (with_partner, lambda m: content(m).partners[0].name, {"$.content.partners[0].name"}),
]
place = pytest.mark.parametrize(
    ("put", "back", "paths"), PLACES, ids=["title", "body", "figure", "partner"]
)


def outcome(put, back, text):
    """The text as it arrives, or the refusal."""
    try:
        return back(message.parse(payload(put(text))))
    except Refused as refusal:
        return refusal


@place
@pytest.mark.parametrize("text", strings(), ids=lambda text: ascii(text[:30]))
def test_a_string_arrives_unchanged_or_is_refused_with_code_and_path(put, back, paths, text):
    found = outcome(put, back, text)
    if isinstance(found, Refused):
        assert found.code in REFUSALS
        assert found.path in paths
        assert found.detail.isprintable()
    else:
        assert found == text


@place
def test_most_of_them_are_just_text(put, back, paths):
    refused = [text for text in strings() if isinstance(outcome(put, back, text), Refused)]
    assert len(strings()) == 515
    assert 0 < len(refused) < 80
