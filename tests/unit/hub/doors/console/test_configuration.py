"""The settings as the console shows them: all of them, and no secret."""

import pytest

from hub.doors.console.configuration import sections, shown
from hub.settings import Broker, Settings, Store


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("amqps://hub:secret@rabbit.example/nhri", "amqps://hub:…@rabbit.example/nhri"),
        ("amqps://hub:se@cr/et@rabbit.example/nhri", "amqps://hub:…@rabbit.example/nhri"),
        ("postgresql://hub:secret@/nhri?host=/run", "postgresql://hub:…@/nhri?…"),
        ("postgresql://db/nhri?user=hub&password=secret", "postgresql://db/nhri?…"),
        ("postgresql://:secret@db/nhri", "postgresql://:…@db/nhri"),
        ("amqp://hub@rabbit.example/nhri", "amqp://hub@rabbit.example/nhri"),
        ("sqlite:///hub.sqlite", "sqlite:///hub.sqlite"),
        ("log.pem", "log.pem"),
        (2_000, "2000"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_password(value, seen):
    assert shown(value) == seen


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (True, "true"),
        (False, "false"),
        ((), ""),
        (("10.0.0.0/8", "amqp://hub:secret@rabbit/"), "10.0.0.0/8, amqp://hub:…@rabbit/"),
    ],
)
def test_a_value_is_shown_as_people_write_it_and_not_as_a_program_prints_it(value, seen):
    assert shown(value) == seen


def test_every_field_is_shown_in_its_section():
    settings = Settings(
        name="hub.example",
        store=Store("postgresql://hub:secret@db/nhri"),
        broker=Broker("amqps://hub:secret@rabbit/nhri"),
    )
    found = {section.name: dict(section.fields) for section in sections(settings)}
    assert found[""]["name"] == "hub.example"
    assert {name for name in Settings.__struct_fields__ if name not in found[""]} == {
        name for name in found if name
    }
    assert "secret" not in str(found)
