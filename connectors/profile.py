"""Profiles: what a connector knows of its own institution before it has met any hub."""

import tomllib
from importlib import resources

import msgspec

from schemas.vocabulary import RoleCode, Titles


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One institution's profile.

    ``country`` is an ISO 3166-1 alpha-2 code, None for an international body. ``names`` are the
    official names, one for each of ``languages``, the languages of work in order of preference.
    ``short_name`` is English, for lists. ``time_zone`` is an IANA name.
    """

    code: str
    role: RoleCode
    country: str | None = None
    short_name: str
    names: Titles
    languages: tuple[str, ...]
    time_zone: str
    website: str


_FOLDER = resources.files("connectors") / "profiles"


def known() -> tuple[str, ...]:
    """The codes that have a profile, in alphabetical order."""
    files = (file.name for file in _FOLDER.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


def load(code: str) -> Profile:
    """The profile of an institution.

    Raises:
        LookupError: there is no profile for ``code``; the message names those there are.
    """
    # Asked first, so that a code with a slash in it never becomes a path.
    if code not in known():
        raise LookupError(f"No profile for {code!r}; there are {', '.join(known())}.")
    text = (_FOLDER / f"{code}.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Profile)
