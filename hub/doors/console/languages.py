"""The console's seven languages: which one a visitor reads, and its catalogue.

English stands in the templates; the others are gettext catalogues in ``translations/``, read when
the hub starts. Dates are numbers and in UTC: long dates are poor in some of these languages.
"""

import gettext
import io
import re
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType
from typing import Final

from babel import Locale
from babel.messages import mofile, pofile

from schemas.vocabulary import LANGUAGES as TAGS
from schemas.vocabulary import Language

LANGUAGES: Final[Mapping[str, Language]] = MappingProxyType(
    {tag: TAGS[tag] for tag in ("kk", "ky", "tg", "tk", "uz-Latn", "ru", "en")}
)

SOURCE: Final = "en"
"""The language of the templates, and of whoever asks for none of ours."""

_RANGE = re.compile(
    r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]+)?\s*(?:;\s*q=([01](?:\.[0-9]{0,3})?))?\s*"
)


def choose(asked: str | None, remembered: str | None, accepted: str) -> str:
    """The language for a visitor.

    Args:
        asked: what stands in ``?lang=``.
        remembered: what the cookie says.
        accepted: the ``Accept-Language`` header (RFC 9110 §12.5.4).
    """
    for tag in (asked, remembered):
        if tag is not None and tag in LANGUAGES:
            return tag
    return next(iter(_by_preference(accepted)), SOURCE)


def _by_preference(accepted: str) -> list[str]:
    by_primary = {tag.partition("-")[0]: tag for tag in LANGUAGES}
    found: list[tuple[float, str]] = []
    for part in accepted[:500].split(","):
        match = _RANGE.fullmatch(part)
        tag = by_primary.get(match[1].lower()) if match else None
        if match and tag and (quality := float(match[2] or 1)):
            found.append((-quality, tag))
    return [tag for _, tag in sorted(found, key=lambda pair: pair[0])]


def locale(tag: str) -> Locale:
    """How numbers are written in a language."""
    return Locale.parse(tag, sep="-")


def load(package: str = __package__) -> Mapping[str, gettext.NullTranslations]:
    """Every catalogue of the pages in a package, by its language's tag.

    Raises:
        PoFileError: one cannot be read; the package is damaged.
    """
    found: dict[str, gettext.NullTranslations] = {SOURCE: gettext.NullTranslations()}
    folder = resources.files(package).joinpath("translations")
    for tag in LANGUAGES.keys() - {SOURCE}:
        raw = folder.joinpath(f"{tag}.po").read_bytes()
        catalogue = pofile.read_po(io.BytesIO(raw), abort_invalid=True)
        packed = io.BytesIO()
        mofile.write_mo(packed, catalogue)
        packed.seek(0)
        found[tag] = gettext.GNUTranslations(packed)
    return found
