"""Titles: what a code of the vocabulary is called in each language of the exchange.

The code carries the meaning. Titles may be corrected at any time; only the English ones are final,
and native speakers have not yet read the Kazakh, Kyrgyz, Tajik, Turkmen and Uzbek ones.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

Titles: TypeAlias = Mapping[str, str]
"""Titles by language tag, one for every tag of ``LANGUAGES``, in Unicode's form NFC.

Latin Uzbek writes U+02BB in oʻ and gʻ, and U+02BC for the tutuq belgisi.
"""


def titles(  # noqa: PLR0913 - one for each tag of the exchange
    *, en: str, ru: str, kk: str, ky: str, tg: str, tk: str, uz_latn: str, uz_cyrl: str
) -> Titles:
    """Titles in all eight tags; a table cannot leave one out."""
    return MappingProxyType(
        {
            "en": en,
            "ru": ru,
            "kk": kk,
            "ky": ky,
            "tg": tg,
            "tk": tk,
            "uz-Latn": uz_latn,
            "uz-Cyrl": uz_cyrl,
        }
    )
