"""The settings file: what it means, what overrides it, and errors that name the field."""

import tomllib

import pytest

from connectors import config
from connectors.config import ConfigError
from tests import builders

LOG = str(builders.LOG)
TEXT = config.template("kz", "http://127.0.0.1:8080", LOG)
MAIL = f"{TEXT}[mail]\nhost = 'm.example'\nfrom = \"c@b.c\"\nto = ['a@b.c']\n"


@pytest.fixture
def load(tmp_path):
    """Write a settings file and load it."""

    def write_and_load(text=TEXT, **environ):
        (tmp_path / "kz.toml").write_text(text)
        return config.load(tmp_path / "kz.toml", environ)

    return write_and_load


def test_a_new_settings_file_says_all_there_is(load, tmp_path):
    loaded = load()
    assert loaded.code == "kz"
    assert loaded.hub.url == "http://127.0.0.1:8080"
    assert loaded.log_key == builders.LOG
    assert loaded.receipts.overdue_hours == 72
    assert loaded.state == tmp_path.resolve() / "kz"


def test_everything_that_must_survive_is_in_one_folder_beside_the_file(load):
    loaded = load()
    for path in (loaded.keys, loaded.outbox, loaded.store, loaded.joined):
        assert path.parent == loaded.state


def test_an_absolute_state_folder_is_taken_as_it_is(load):
    assert str(load(TEXT.replace('"kz"  #', '"/var/lib/kz"  #')).state) == "/var/lib/kz"


def test_the_environment_overrides_the_file(load, tmp_path):
    loaded = load(
        NHRI_HUB_URL="https://hub.example", NHRI_RECEIPTS_OVERDUE_HOURS="5", NHRI_STATE="elsewhere"
    )
    assert loaded.hub.url == "https://hub.example"
    assert loaded.receipts.overdue_hours == 5
    assert loaded.state == tmp_path.resolve() / "elsewhere"


def test_a_variable_can_name_a_file_instead(load, tmp_path):
    (tmp_path / "url").write_text("https://hub.example\n")
    assert load(NHRI_HUB_URL_FILE=str(tmp_path / "url")).hub.url == "https://hub.example"


def test_the_broker_s_address_is_what_its_file_has_now(load, tmp_path):
    file = tmp_path / "url"
    file.write_text("amqp://kz:one@broker/nhri\n")
    environment = {"NHRI_LINK_AMQP_FILE": str(file)}
    loaded = load(**environment)
    file.write_text("amqp://kz:two@broker/nhri\n")
    assert config.amqp_url(loaded, environment) == "amqp://kz:two@broker/nhri"
    assert config.amqp_url(loaded, {}) == "amqp://kz:one@broker/nhri"


def test_mail_is_off_until_a_server_is_named(load, tmp_path):
    assert load().mail.host == ""
    mail = load(MAIL + "ca = 'ca.pem'\npassword_file = 'secret'\n").mail
    assert (mail.host, mail.port, mail.tls) == ("m.example", 0, "starttls")
    assert (mail.sender, mail.to) == ("c@b.c", ("a@b.c",))
    assert mail.ca == str(tmp_path.resolve() / "ca.pem")
    assert mail.password_file == str(tmp_path.resolve() / "secret")


def test_mail_can_be_set_in_the_environment_with_its_password_in_a_file(load, tmp_path):
    (tmp_path / "secret").write_text("open sesame\n")
    mail = load(
        NHRI_MAIL_HOST="m.example",
        NHRI_MAIL_PORT="2525",
        NHRI_MAIL_FROM="c@b.c",
        NHRI_MAIL_TO="a@b.c, d@e.f",
        NHRI_MAIL_USER="c",
        NHRI_MAIL_PASSWORD_FILE=str(tmp_path / "secret"),
    ).mail
    assert (mail.port, mail.sender, mail.to) == (2525, "c@b.c", ("a@b.c", "d@e.f"))
    assert mail.password == "open sesame"


def test_other_variables_are_left_alone(load):
    assert load(NHRI_DATABASE_URL="postgresql:///hub").code == "kz"


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        (TEXT.replace("url =", "# url ="), {}, "hub: Object missing required field `url`"),
        (TEXT.replace("72", '"often"'), {}, "receipts.overdue_hours: Expected `int`, got `str`"),
        (TEXT.replace("72", "0"), {}, "receipts.overdue_hours: Expected `int` >= 1"),
        (TEXT, {"NHRI_RECEIPTS_OVERDUE_HOURS": "soon"}, "receipts.overdue_hours: Expected `int`"),
        (TEXT + "colour = 1\n", {}, "receipts: Object contains unknown field `colour`"),
        ("colour = 1\n" + TEXT, {}, "settings: Object contains unknown field `colour`"),
        (TEXT.replace('code = "kz"', 'code = "KZ"'), {}, "code: A code is 2 to 16"),
        (TEXT.replace("http:", "ftp:"), {}, "hub.url: An address is written"),
        (TEXT.replace("http:", "http:?"), {}, "hub.url: An address is written"),
        (TEXT.replace(LOG, "nonsense"), {}, "hub.log: A verifier key is written"),
        ("code = ", {}, "not a TOML file"),
        ('hub = "here"', {}, "hub: Expected `object`, got `str`"),
        (f"{TEXT}[mail]\nto = ['a@b.c']\n", {}, "mail.host: The mail server is missing"),
        (MAIL.replace("from", "# from"), {}, "mail.from: The sender's address is missing"),
        (MAIL.replace("['a@b.c']", "[]"), {}, "mail.to: Nobody is to be told"),
        (MAIL.replace("a@b.c", "a@b.c, d@e.f"), {}, "mail.to[0]: Addresses are written"),
        (MAIL.replace("c@b.c", "c@b.c\\n"), {}, "mail.from: An address is written"),
        (MAIL + "tls = 'none'\nuser = 'c'\n", {}, "mail.tls: A password is not sent unencrypted"),
        (MAIL + "tls = 'maybe'\n", {}, "mail.tls: Invalid enum value 'maybe'"),
        (MAIL + "language = 'fr'\n", {}, "mail.language: There are en, ru"),
        (MAIL + "port = 70000\n", {}, "mail.port: Expected `int` <= 65535"),
        (TEXT, {"NHRI_HUB_URL_FILE": "/nowhere"}, "NHRI_HUB_URL_FILE: /nowhere cannot be read"),
    ],
)
def test_an_error_names_the_field(load, text, environ, said):
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"kz\.toml: No such file"):
        config.load(tmp_path / "kz.toml", {})


@pytest.mark.parametrize(
    ("url", "encrypted"),
    [
        ("https://hub.example", True),
        ("http://127.0.0.1:8080", True),
        ("http://localhost", True),
        ("http://hub.example", False),
        ("http://127.0.0.1.example", False),
    ],
)
def test_only_this_machine_is_reached_without_encryption_unnoticed(load, url, encrypted):
    assert load(NHRI_HUB_URL=url).encrypted is encrypted


@pytest.mark.parametrize(
    ("key", "renews"), [("", True), ("kz/keys/tls.pem", True), ("other.pem", False)]
)
def test_the_client_certificate_is_for_our_own_key_unless_another_is_named(
    load, tmp_path, key, renews
):
    loaded = load(NHRI_LINK_CERTIFICATE="kz.pem", NHRI_LINK_KEY=key)
    assert loaded.link.certificate == str(tmp_path.resolve() / "kz.pem")
    assert loaded.link.key == str(tmp_path.resolve() / (key or "kz/keys/tls.pem"))
    assert loaded.renews is renews


def test_without_a_client_certificate_nothing_is_renewed(load):
    assert load().renews is False


def test_a_bundle_cannot_smuggle_settings_into_the_file():
    hostile = 'https://hub.example"\nlog = "other'
    assert tomllib.loads(config.template("kz", hostile, LOG))["hub"] == {"url": hostile, "log": LOG}
