"""The five countries of the exchange, by ISO 3166-1 alpha-2 code."""

from collections.abc import Mapping
from types import MappingProxyType

from schemas.vocabulary.titles import Titles, titles

COUNTRIES: Mapping[str, Titles] = MappingProxyType(
    {
        "KZ": titles(
            en="Kazakhstan",
            ru="Казахстан",
            kk="Қазақстан",
            ky="Казакстан",
            tg="Қазоқистон",
            tk="Gazagystan",
            uz_latn="Qozogʻiston",
            uz_cyrl="Қозоғистон",
        ),
        "KG": titles(
            en="Kyrgyzstan",
            ru="Кыргызстан",
            kk="Қырғызстан",
            ky="Кыргызстан",
            tg="Қирғизистон",
            tk="Gyrgyzystan",
            uz_latn="Qirgʻiziston",
            uz_cyrl="Қирғизистон",
        ),
        "TJ": titles(
            en="Tajikistan",
            ru="Таджикистан",
            kk="Тәжікстан",
            ky="Тажикстан",
            tg="Тоҷикистон",
            tk="Täjigistan",
            uz_latn="Tojikiston",
            uz_cyrl="Тожикистон",
        ),
        "TM": titles(
            en="Turkmenistan",
            ru="Туркменистан",
            kk="Түрікменстан",
            ky="Түркмөнстан",
            tg="Туркманистон",
            tk="Türkmenistan",
            uz_latn="Turkmaniston",
            uz_cyrl="Туркманистон",
        ),
        "UZ": titles(
            en="Uzbekistan",
            ru="Узбекистан",
            kk="Өзбекстан",
            ky="Өзбекстан",
            tg="Ӯзбекистон",
            tk="Özbegistan",
            uz_latn="Oʻzbekiston",
            uz_cyrl="Ўзбекистон",
        ),
    }
)
