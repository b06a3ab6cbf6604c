"""Whatever an alarm is about, its letter has the headers it was made with and no others."""

from email import message_from_bytes, policy
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from connectors import letter
from connectors.alarms import KINDS, Finding
from connectors.config import MailConfig
from connectors.letter import Letterhead
from connectors.tables import Alarm
from schemas.vocabulary import LANGUAGES
from tests.builders import NOW, time

HEADERS = [
    *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Language"),
    *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
]

LINES = st.sampled_from(["\r\n", "\n", "\r", "\r\nBcc: x@y.z\r\n\r\n", "\u2028", "\x00", ".\r\n"])
TEXTS = st.lists(st.one_of(st.text(max_size=20), LINES), max_size=5).map("".join)


@st.composite
def alarms(draw):
    found = Finding(draw(st.sampled_from(sorted(KINDS))), draw(TEXTS), draw(TEXTS))
    raw = draw(st.booleans())  # also what did not pass through a finding
    subject = draw(TEXTS) if raw else found.subject
    number = draw(st.integers(1, 10**9))
    ended = draw(st.none() | st.just(time(1)))
    return Alarm(number, found.kind, subject, time(), found.sentence, b"{}", ended)


@given(st.lists(alarms(), min_size=1, max_size=30), st.sampled_from(sorted(LANGUAGES)))
def test_nothing_in_an_alarm_can_add_a_header_an_address_or_a_part(found, tag):
    people = ["a@kz.example", "b@kz.example"]
    zone = ZoneInfo("Asia/Almaty")
    head = Letterhead("kz", "c@kz.example", people, tag, letter.words(tag), zone)
    raw = letter.compose(head, found, NOW).as_bytes()
    read = message_from_bytes(raw, policy=policy.SMTP)
    assert sorted(read.keys()) == sorted(HEADERS)
    assert [address.addr_spec for address in read["To"].addresses] == people
    assert read["From"].addresses[0].addr_spec == "c@kz.example"
    assert not read.is_multipart()
    assert read.defects == []
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))  # RFC 5322 §2.1.1


@given(TEXTS, TEXTS)
def test_no_address_in_the_settings_can_hold_a_second_one_or_a_line(local, domain):
    for field in ("from", "to"):
        value = f"{local}@{domain}"
        settings = {field: [value] if field == "to" else value}
        try:
            read = msgspec.convert(settings, MailConfig)
        except msgspec.ValidationError:
            continue
        address = read.to[0] if field == "to" else str(read.sender)
        assert address.count("@") == 1
        assert address.isascii()
        assert not set(address) & set(' ,;:<>"()[]\\\r\n\x00')
