"""Languages of the exchange, and which tags may mark a text."""

import re
from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class Language(msgspec.Struct, frozen=True):
    """A language of the exchange: its BCP 47 tag, its name in itself and in English."""

    tag: str
    own: str
    english: str


LANGUAGES: Mapping[str, Language] = MappingProxyType(
    {
        language.tag: language
        for language in (
            Language("en", "English", "English"),
            Language("ru", "Русский", "Russian"),
            Language("kk", "Қазақша", "Kazakh"),
            Language("ky", "Кыргызча", "Kyrgyz"),
            Language("tg", "Тоҷикӣ", "Tajik"),
            Language("tk", "Türkmençe", "Turkmen"),
            Language("uz-Latn", "Oʻzbekcha", "Uzbek (Latin)"),
            Language("uz-Cyrl", "Ўзбекча", "Uzbek (Cyrillic)"),
        )
    }
)
"""Seven languages under eight tags: Uzbek is written in two scripts."""

# RFC 5646 §2.1 `langtag`, cut down to language, script and region, in the case of §2.1.1.
_TAG = re.compile("(?P<language>[a-z]{2,3})(?P<script>-[A-Z][a-z]{3})?(?:-(?:[A-Z]{2}|[0-9]{3}))?")

# RFC 5646 §2.2.1: a language with a code of two letters is never named by its three-letter one.
# With both allowed, a reader who asks for `uz-Latn` would miss a text marked `uzb-Latn`.
_THREE_LETTER_NAMES = frozenset({"eng", "rus", "kaz", "kir", "tgk", "tuk", "uzb"})


def is_language_tag(tag: str) -> bool:
    """Whether ``tag`` may mark a text: ``fr``, ``kaa``, ``ru-KZ`` or ``uz-Cyrl``, but not ``uz``.

    Any well-formed ``language[-Script][-REGION]`` of RFC 5646 in canonical case, whether or not
    the IANA registry knows it. Uzbek must name its script, for both are in everyday use.
    """
    match = _TAG.fullmatch(tag)
    if match is None or match["language"] in _THREE_LETTER_NAMES:
        return False
    return match["language"] != "uz" or match["script"] is not None


def is_language_range(tag: str) -> bool:
    """Whether texts can be asked for by ``tag``: by each that may mark one, and by ``uz``."""
    return tag == "uz" or is_language_tag(tag)
