"""Words are compared alike whoever wrote them and however they are asked for."""

from hypothesis import given
from hypothesis import strategies as st

from hub.ledger import search
from hub.ledger.queries import EventFilter
from hub.ledger.search import Indexed

WORDS = st.text(min_size=1, max_size=40)
APOSTROPHES = "'`´ʹʻʼʽˈ‘’‛′＇"


def entry(text):
    return Indexed(0, "", frozenset(), frozenset(search.words(text)))


@given(WORDS)
def test_a_word_is_its_own_word(text):
    found = search.words(text)
    assert search.words(" ".join(found)) == found


@given(WORDS)
def test_a_word_is_letters_and_digits_alone(text):
    assert all(word.isalnum() and len(word) <= search.MAX_WORD for word in search.words(text))


@given(WORDS, WORDS)
def test_a_text_is_found_by_each_of_its_words_and_by_their_beginnings(first, second):
    text = f"{first} {second}"
    for word in search.words(text):
        assert entry(text).matches(EventFilter(text=word))
        assert entry(text).matches(EventFilter(text=f"{word[:2]}*"))


@given(st.text("abгқ ", min_size=1), st.sampled_from(APOSTROPHES), st.integers(0, 40))
def test_an_apostrophe_makes_no_other_word(text, apostrophe, place):
    place = min(place, len(text))
    assert search.words(text[:place] + apostrophe + text[place:]) == search.words(text)


@given(WORDS)
def test_capitals_make_no_other_word(text):
    assert search.words(text.casefold()) == search.words(text)
