"""The profiles that come with the connector."""

import re
import unicodedata
from zoneinfo import ZoneInfo

import pytest

from connectors import profile
from schemas.vocabulary import COUNTRIES, LANGUAGES

MEMBERS = {"kz": "KZ", "kg": "KG", "tj": "TJ", "tm": "TM", "uz": "UZ", "uz-nhrc": "UZ"}
PARTNERS = {"ohchr", "undp", "ganhri", "apf", "ennhri"}

every_profile = pytest.mark.parametrize("code", profile.known())


def test_the_six_members_and_the_five_partners_have_a_profile():
    assert profile.known() == tuple(sorted(MEMBERS.keys() | PARTNERS))


@pytest.mark.parametrize(("code", "country"), MEMBERS.items())
def test_a_member_belongs_to_a_country_of_the_exchange(code, country):
    loaded = profile.load(code)
    assert loaded.role == "member"
    assert loaded.country == country
    assert country in COUNTRIES


@pytest.mark.parametrize("code", sorted(PARTNERS))
def test_a_partner_belongs_to_no_country(code):
    loaded = profile.load(code)
    assert loaded.role == "partner"
    assert loaded.country is None


@every_profile
def test_a_profile_is_kept_under_its_own_code(code):
    assert profile.load(code).code == code
    assert re.fullmatch("[a-z][a-z0-9-]{1,15}", code)


@every_profile
def test_an_institution_has_its_official_name_in_each_of_its_languages(code):
    loaded = profile.load(code)
    assert set(loaded.names) == set(loaded.languages) <= set(LANGUAGES)
    assert len(set(loaded.languages)) == len(loaded.languages)
    assert {"ru", "en"} <= set(loaded.languages)


@every_profile
def test_names_are_in_nfc_and_no_two_are_alike(code):
    loaded = profile.load(code)
    names = [*loaded.names.values(), loaded.short_name]
    assert all(unicodedata.is_normalized("NFC", name) for name in names)
    assert len(set(names)) == len(names)


def test_no_two_institutions_share_a_name():
    profiles = [profile.load(code) for code in profile.known()]
    assert len({loaded.short_name for loaded in profiles}) == len(profiles)
    assert len({loaded.names["en"] for loaded in profiles}) == len(profiles)


@every_profile
def test_a_profile_has_a_real_time_zone_and_a_public_website(code):
    loaded = profile.load(code)
    assert ZoneInfo(loaded.time_zone).key == loaded.time_zone
    assert re.fullmatch(r"https://[a-z0-9-]+(\.[a-z0-9-]+)+", loaded.website)


def test_the_members_together_work_in_every_language_of_the_exchange():
    assert {tag for code in MEMBERS for tag in profile.load(code).languages} == set(LANGUAGES)


@pytest.mark.parametrize("code", ["xx", "KZ", "", "kz.toml", "../profiles/kz", "profiles"])
def test_an_unknown_code_is_answered_with_the_codes_there_are(code):
    with pytest.raises(LookupError, match=r"No profile for .*; there are apf, .*uz-nhrc\."):
        profile.load(code)
