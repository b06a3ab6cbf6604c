"""The catalogues: every text of every template, in every language, with the same placeholders."""

import gettext
import string
from pathlib import Path

import pytest
from babel.messages import pofile
from jinja2 import Environment, nodes

from hub.doors.console import languages
from hub.doors.console.languages import LANGUAGES, SOURCE, choose
from hub.ledger import explain

FOLDER = Path(languages.__file__).parent
ARGUMENTS = {"_": 1, "ngettext": 2}


def texts():
    """What the templates say: a text, or one with its plural; and the reasons of the routing."""
    found = {(text,) for text in explain.TEXTS}
    for file in FOLDER.glob("templates/*.html"):
        tree = Environment(autoescape=True).parse(file.read_text("utf-8"))
        for call in tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name in ARGUMENTS:
                given = call.args[: ARGUMENTS[call.node.name]]
                found.add(tuple(one.as_const() for one in given))
    return found


TEXTS = texts()


def catalogue(tag):
    """The catalogue of a language: each text with its translations, one a plural form."""
    with (FOLDER / "translations" / f"{tag}.po").open("rb") as file:
        read = pofile.read_po(file, abort_invalid=True)
    several = lambda one: one if isinstance(one, tuple | list) else (one,)  # noqa: E731
    return read, {tuple(several(m.id)): tuple(several(m.string)) for m in read if m.id}


def placeholders(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


translated = pytest.mark.parametrize("tag", sorted(LANGUAGES.keys() - {SOURCE}))


def test_there_are_seven_languages():
    assert list(LANGUAGES) == ["kk", "ky", "tg", "tk", "uz-Latn", "ru", "en"]
    files = {file.stem for file in FOLDER.glob("translations/*")}
    assert files == LANGUAGES.keys() - {SOURCE}


@translated
def test_a_language_has_every_text_and_no_other(tag):
    assert catalogue(tag)[1].keys() == TEXTS


@translated
def test_every_text_is_translated_in_every_plural_form(tag):
    read, found = catalogue(tag)
    for text, forms in found.items():
        assert len(forms) == (1 if len(text) == 1 else read.num_plurals), text
        assert all(form.strip() for form in forms), text


@translated
def test_a_translation_has_the_placeholders_of_its_text(tag):
    for text, forms in catalogue(tag)[1].items():
        wanted = placeholders(text[-1])
        assert {frozenset(placeholders(form)) for form in forms} == {frozenset(wanted)}, text


@translated
def test_no_translation_of_a_sentence_is_the_english_one(tag):
    same = [text for text, forms in catalogue(tag)[1].items() if " " in text[0] and text == forms]
    assert same == []


@pytest.mark.parametrize(
    ("count", "said"), [(1, "запись,"), (3, "записи,"), (11, "записей,"), (22, "записи,")]
)
def test_russian_has_its_plural_forms(count, said):
    russian = languages.load()["ru"]
    one, several = "A quorum has cosigned {count} entry,", "A quorum has cosigned {count} entries,"
    assert russian.ngettext(one, several, count).endswith(said)


def test_english_needs_no_catalogue():
    assert type(languages.load()[SOURCE]) is gettext.NullTranslations


@pytest.mark.parametrize(
    ("asked", "remembered", "accepted", "chosen"),
    [
        (None, None, "", "en"),
        (None, None, "kk", "kk"),
        (None, None, "uz", "uz-Latn"),
        (None, None, "ru-KZ,ru;q=0.9,kk;q=0.95", "ru"),
        (None, None, "fr, tg;q=0.5, ky;q=0.8", "ky"),
        (None, None, "ru;q=0, tk;q=0.1", "tk"),
        (None, None, "x" * 10_000, "en"),
        (None, None, "*;q=;, ;;;", "en"),
        (None, "tg", "kk", "tg"),
        (None, "xx", "kk", "kk"),
        ("tk", "tg", "kk", "tk"),
        ("../etc", None, "kk", "kk"),
    ],
)
def test_the_language_is_the_one_asked_for_remembered_or_preferred(
    asked, remembered, accepted, chosen
):
    assert choose(asked, remembered, accepted) == chosen
