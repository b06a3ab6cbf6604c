"""What a demo's settings say of its broker and database, which have other addresses each time."""

import pytest

from connectors import config
from hub import settings
from hub.demo.broker import Addresses
from tests import builders


def addresses(port):
    return Addresses(
        f"postgresql://admin:word{port}@127.0.0.1:{port}/hub",
        {code: f"amqp://{code}:{code}{port}@127.0.0.1:{port}/nhri" for code in ("hub", "kz")},
    )


@pytest.fixture
def hub_toml(tmp_path):
    return settings.initialise(tmp_path, "hub.example", 8099)


@pytest.fixture
def kz_toml(tmp_path):
    file = tmp_path / "kz.toml"
    file.write_text(config.template("kz", "http://127.0.0.1:8099", str(builders.LOG)))
    return file


def test_the_hub_uses_the_servers_of_the_last_start_and_keeps_its_other_settings(hub_toml):
    before = settings.load(hub_toml, {})

    addresses(1).tell_hub(hub_toml)
    addresses(2).tell_hub(hub_toml)

    after = settings.load(hub_toml, {})
    assert after.store.url == "postgresql://admin:word2@127.0.0.1:2/hub"
    assert after.broker.url == "amqp://hub:hub2@127.0.0.1:2/nhri"
    assert (after.name, after.http, after.log, after.quota) == (
        before.name,
        before.http,
        before.log,
        before.quota,
    )


def test_a_connector_links_with_its_own_account_and_keeps_its_other_settings(kz_toml):
    before = config.load(kz_toml, {})

    addresses(1).tell_connector("kz", kz_toml)
    addresses(2).tell_connector("kz", kz_toml)

    after = config.load(kz_toml, {})
    assert after.link.amqp == "amqp://kz:kz2@127.0.0.1:2/nhri"
    assert (after.code, after.state, after.hub) == (before.code, before.state, before.hub)


def test_settings_with_a_password_are_their_owners_alone(hub_toml, kz_toml):
    assert hub_toml.stat().st_mode & 0o077, "anybody may read them as long as there is none"

    addresses(1).tell_hub(hub_toml)
    addresses(1).tell_connector("kz", kz_toml)

    assert hub_toml.stat().st_mode & 0o777 == kz_toml.stat().st_mode & 0o777 == 0o600


def test_the_words_of_an_earlier_start_are_gone(hub_toml):
    addresses(1).tell_hub(hub_toml)
    addresses(2).tell_hub(hub_toml)

    said = hub_toml.read_text()
    assert "word1" not in said
    assert "hub1" not in said
