"""The page of a report: its numbers, its words in seven languages, and what it never holds."""

import re
import string
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from babel.messages import pofile
from jinja2 import Environment, nodes
from msgspec.structs import replace

from hub.doors.console.languages import LANGUAGES, SOURCE
from hub.doors.report import page, route
from hub.doors.report.page import BAR, place, render
from hub.ledger.report import Copy, Covered, Figures, Period, Refusal, SentMessage
from schemas import checkpoint, note
from schemas.checkpoint import Checkpoint
from schemas.joint_action import Answer
from schemas.refusal import REFUSALS
from tests import builders
from tests.builders import signed, time

HALF = Period(date(2026, 7, 1), date(2026, 12, 31))
NAMES = {"kz": "Commissioner <b>of</b> Kazakhstan", "kg": "Akyikatchy", "tj": "Ваколатдор"}


def covered(size=42, at=60 * 24 * 200):
    text = checkpoint.format(Checkpoint(builders.LOG.name, size, bytes(32)))
    line = note.sign(text, builders.LOG, builders.LOG_KEY)
    return Covered(size, note.encode(note.Note(text, (line,))), time(at))


def filled(period=HALF, many=1):
    """Figures with something in every part of the page."""
    figures = Figures(period, covered())
    copies = (
        Copy("kg", "received", None, time(2)),
        Copy("tj", "refused", None, time(60 * 30)),
        Copy("tm", "waiting", None, None),
        Copy("uz", "expired", time(60), None),
    )
    notice = builders.notice()
    answers = (Answer(8, time(90), "kg", "accept"), Answer(9, time(60 * 30), "tj", "decline"))
    for number in range(many):
        sent = SentMessage(number, "kz", "activity_bulletin.v1", time(), None, None, copies)
        themed = builders.message(themes=["children", "climate"])
        asked = replace(sent, kind="joint_action_notice.v1", copies=())
        figures.take(
            [
                replace(sent, envelope=signed(themed)),
                replace(
                    sent,
                    sender="kg",
                    envelope=signed(builders.message(sender="kg")),
                    accepted=time(60 * 24 * 40),
                    copies=copies[1:],
                ),
                replace(asked, envelope=signed(notice), answers=answers),
                replace(asked, erased=9),
            ]
        )
    figures.refuse([Refusal(3, "kz", "schema", 2), Refusal(4, "tm", "quota", 40)])
    return figures


def shown(language="en", now=None, before=None):
    now = filled() if now is None else now
    before = Figures(now.period.before(), now.covered) if before is None else before
    return render(now, before, NAMES, language)


class Read(HTMLParser):
    """The cells of all tables, by what names them, with all tags and attributes."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.attributes, self.tags = {}, [], []
        self._rows, self._cell = [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "table":
            self._rows = self.tables.setdefault(dict(attrs)["aria-labelledby"], [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in {"td", "th"}:
            self._cell = []

    def handle_endtag(self, tag):
        if tag in {"td", "th"} and self._cell is not None:
            self._rows[-1].append("".join(self._cell).strip())
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell.append(data)


def rows(html, name):
    """The lines of a table, without its headings."""
    return Read(html).tables[name][1:]


# --- Numbers ---


def test_every_table_has_the_figures_of_both_periods():
    html = shown(before=filled(HALF.before(), many=2))
    assert rows(html, "totals") == [
        ["Messages accepted", "4", "8", "−4"],
        ["Copies, one for each recipient", "7", "14", "−7"],
        ["Copies with a receipt that the recipient signed", "1", "2", "−1"],
        ["Copies that were refused, expired, erased or overdue", "6", "12", "−6"],
        ["Joint actions proposed", "2", "4", "−2"],
        ["Messages refused by the hub", "42", "42", "±0"],
    ]
    assert rows(html, "senders") == [
        ["Commissioner <b>of</b> Kazakhstan kz", "", "3", "6", "−3"],
        ["Akyikatchy kg", "", "1", "2", "−1"],
    ]
    assert rows(html, "themes") == [
        ["Torture prevention", "", "2", "4", "−2"],
        ["Rights of the child", "", "1", "2", "−1"],
        ["Climate change and human rights", "", "1", "2", "−1"],
    ]
    assert rows(html, "goals") == [
        ["16. Peace, justice and strong institutions", "", "3", "6", "−3"]
    ]
    assert rows(html, "actions") == [
        ["Agreed by some", "", "1", "2", "−1"],
        ["Not known, the content was erased", "", "1", "2", "−1"],
    ]
    assert rows(html, "refusals") == [
        ["kz", f"{REFUSALS['schema'].title}. schema", "", "2", "2", "±0"],
        ["tm", f"{REFUSALS['quota'].title}. quota", "", "40", "40", "±0"],
    ]
    assert rows(html, "by-recipient") == [
        ["Ваколатдор tj", "2", "0", "0", "0"],
        ["tm", "0", "0", "0", "2"],
        ["uz", "0", "2", "0", "0"],
    ]


def test_delivery_times_are_told_in_the_greatest_fitting_unit():
    assert rows(shown(), "delivery") == [
        ["Akyikatchy kg", "", "2 min", "2 min", "2 min", "1", "–"],
        ["Ваколатдор tj", "", "0 s", "1.2 d", "1.2 d", "2", "–"],
    ]
    assert "half of them within 1.5 h, nine in ten within 1.5 h" in shown()


def test_the_columns_are_the_steps_of_the_period_with_their_numbers():
    html = shown()
    found = re.findall(r"<li><b>(\d+)</b>.*?</svg> .*?>([0-9-]+)</span>([0-9]+)</span>", html)
    assert found == [
        ("3", "2026-", "07"),
        ("1", "2026-", "08"),
        *(("0", "2026-", month) for month in ("09", "10", "11", "12")),
    ]


def test_the_longest_bar_is_as_long_as_its_picture_and_none_is_longer():
    widths = [
        float(found) for found in re.findall(r'<rect class="now" [^>]*width="(.*?)"', shown())
    ]
    assert max(widths) == BAR
    assert min(widths) >= 0


@pytest.mark.parametrize(("found", "at"), [(0, 0), (100, 0), (10**6, BAR * 4 / 7.5), (10**11, BAR)])
def test_a_duration_has_its_place_on_the_scale(found, at):
    assert place(found) == round(at, 1)


# --- What is on the page, and what is not ---


def test_the_same_figures_give_the_same_bytes():
    assert shown() == shown()


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_empty_period_gives_an_honest_page(language):
    html = shown(language, now=Figures(HALF, covered()))
    assert [row[1:] for row in rows(html, "totals")] == [["0", "0", "±0"]] * 6
    assert {*Read(html).tables} == {"totals", "fates"}


def test_a_period_that_is_not_over_says_so():
    assert "before the period does" not in shown()
    unfinished = Figures(HALF, covered(at=60))
    assert "The log ends at <time" in shown(now=unfinished)


def test_it_has_the_checkpoint_and_the_command_that_gives_it_again():
    html = shown("ru")
    found = html.split("<pre>")[1].split("</pre>")[0].replace("&#43;", "+")
    assert checkpoint.open_checkpoint(found.encode(), builders.LOG).size == 42
    command = "audit report --from 2026-07-01 --to 2026-12-31 --language ru --at 42 -o report.html"
    assert f"<pre>nhri-hub {command}</pre>" in html


def test_names_are_shown_as_they_are_and_obeyed_by_nobody():
    assert "Commissioner &lt;b&gt;of&lt;/b&gt; Kazakhstan" in shown()


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_loads_and_runs_nothing(language):
    read = Read(shown(language))
    loading = {"src", "href", "srcset", "data", "action", "style", "background"}
    assert loading.isdisjoint(name for name, _ in read.attributes)
    assert {"script", "link", "img", "iframe", "object", "form"}.isdisjoint(read.tags)
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    style = shown(language).split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_has_nothing_that_anybody_wrote(language):
    html = shown(language)
    for value in (builders.message(), builders.notice()):
        wanted = [value["id"], value["content"]]
        for said in texts_of([value["texts"], *wanted]):
            assert said not in html, said


def texts_of(value):
    """Every text in a value that cannot be taken for a code or a day."""
    if isinstance(value, str):
        return {value} if len(value) > 5 and not re.fullmatch("[0-9-]{10}", value) else set()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(texts_of, parts))


# --- Words ---

ARGUMENTS = {"_": 1, "ngettext": 2}
FOLDER = Path(page.__file__).parent
TRANSLATED = sorted(LANGUAGES.keys() - {SOURCE})


def texts():
    """What the template says: a text, or one with its plural."""
    found = set()
    source = (FOLDER / "templates" / "report.html").read_text("utf-8")
    for call in Environment(autoescape=True).parse(source).find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name in ARGUMENTS:
            given = call.args[: ARGUMENTS[call.node.name]]
            found.add(tuple(one.as_const() for one in given))
    return found


def catalogue(tag):
    """The catalogue of a language: each text with its translations, one a plural form."""
    with (FOLDER / "translations" / f"{tag}.po").open("rb") as file:
        read = pofile.read_po(file, abort_invalid=True)
    several = lambda one: one if isinstance(one, tuple | list) else (one,)  # noqa: E731
    return read, {tuple(several(m.id)): tuple(several(m.string)) for m in read if m.id}


def placeholders(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_the_languages_are_those_of_the_console():
    assert get_args(route.Language) == tuple(LANGUAGES)
    assert {file.stem for file in FOLDER.glob("translations/*")} == {*TRANSLATED}


@pytest.mark.parametrize("tag", TRANSLATED)
def test_a_language_has_every_text_and_no_other(tag):
    read, found = catalogue(tag)
    assert found.keys() == texts()
    for text, forms in found.items():
        assert len(forms) == (1 if len(text) == 1 else read.num_plurals), text
        assert all(form.strip() for form in forms), text
        assert {frozenset(placeholders(form)) for form in forms} == {
            frozenset(placeholders(text[-1]))
        }, text


@pytest.mark.parametrize("tag", TRANSLATED)
def test_no_translation_of_a_sentence_is_the_english_one(tag):
    same = [text for text, forms in catalogue(tag)[1].items() if text == forms]
    assert same in ([], [("{count} min",)])
