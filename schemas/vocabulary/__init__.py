"""The controlled vocabularies: the codes that all parties must read alike, and their titles."""

from schemas.vocabulary.activities import ACTIVITIES, JOINT_ACTIONS
from schemas.vocabulary.countries import COUNTRIES
from schemas.vocabulary.ganhri import ACCREDITATIONS, Accreditation, ganhri_status
from schemas.vocabulary.languages import (
    LANGUAGES,
    Language,
    is_language_range,
    is_language_tag,
)
from schemas.vocabulary.markings import MARKINGS, Marking
from schemas.vocabulary.roles import ROLES, Role, RoleCode
from schemas.vocabulary.sdgs import SDG_GOALS, SDG_TARGETS, is_sdg
from schemas.vocabulary.themes import THEMES
from schemas.vocabulary.titles import Titles
from schemas.vocabulary.units import UNITS

__all__ = [
    "ACCREDITATIONS",
    "ACTIVITIES",
    "COUNTRIES",
    "JOINT_ACTIONS",
    "LANGUAGES",
    "MARKINGS",
    "ROLES",
    "SDG_GOALS",
    "SDG_TARGETS",
    "THEMES",
    "UNITS",
    "Accreditation",
    "Language",
    "Marking",
    "Role",
    "RoleCode",
    "Titles",
    "ganhri_status",
    "is_language_range",
    "is_language_tag",
    "is_sdg",
]
