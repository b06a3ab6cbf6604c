"""Making a page: what is shown is escaped, isolated, and never left out in silence."""

import msgspec
import pytest
from jinja2 import UndefinedError

from hub.doors.console.configuration import Section, View
from hub.doors.console.pages import Frame, Pages, bdi, named, time, translators

HERE = "/console/settings"
FRAME = Frame("hub.example/log", "en", HERE, HERE, 7, "desk", "auditor")
PAGES = Pages()


def settings(value):
    return View("1", "an instance", "https://hub.example", [Section("", [("name", value)])])


def test_what_a_page_shows_is_only_ever_text():
    page = PAGES.render("settings.html", settings("<b>&\"'"), FRAME)
    assert "<b>&" not in page
    assert "&lt;b&gt;&amp;&#34;&#39;" in page


def test_a_name_that_nothing_stands_for_is_an_error():
    with pytest.raises(UndefinedError, match="version"):
        PAGES.render("settings.html", msgspec.defstruct("Other", [])(), FRAME)


@pytest.mark.parametrize("language", ["en", "ru"])
def test_what_is_put_into_a_translation_is_escaped(language):
    made = translators(PAGES._catalogues[language], str)
    one, several = made["_"], made["ngettext"]
    assert "&lt;b&gt;" in one("Behind for more than a day: {codes}", codes="<b>")
    assert several("Last {count} day", "Last {count} days", 3).split()[1] == "3"


def test_a_text_of_somebody_elses_is_isolated():
    assert bdi("\u202e<i>") == '<bdi dir="auto">\u202e&lt;i&gt;</bdi>'


def test_a_time_is_numbers_in_utc():
    moment = "2026-07-01T09:05:00.000Z"
    assert time(moment) == f'<time datetime="{moment}">2026-07-01 09:05 UTC</time>'
    assert time(None) == "–"


@pytest.mark.parametrize(("language", "name"), [("kk", "Уәкіл"), ("tg", "Commissioner")])
def test_a_name_is_in_the_readers_language_or_in_english(language, name):
    assert named({"en": "Commissioner", "kk": "Уәкіл"}, language, "kz") == name
    assert named({"ru": "Уполномоченный"}, "kk", "kz") == "kz"


def test_who_is_signed_in_can_sign_out_and_nobody_else():
    assert "/console/logout" in PAGES.render("settings.html", settings("x"), FRAME)
    nobody = msgspec.structs.replace(FRAME, account=None)
    assert "/console/logout" not in PAGES.render("settings.html", settings("x"), nobody)


def test_the_language_links_keep_the_page_and_its_question():
    asked = msgspec.structs.replace(FRAME, here='/console/search?q="&after=3')
    page = PAGES.render("settings.html", settings("x"), asked)
    assert 'href="/console/search?q=&#34;&amp;after=3&amp;lang=tk"' in page
    assert 'href="/console/settings?lang=tk"' in PAGES.render("settings.html", settings("x"), FRAME)
