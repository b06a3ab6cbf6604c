"""Settings: one TOML file, the environment over it, and a sentence that names what is wrong."""

import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from hub import settings
from hub.settings import StartError


@pytest.fixture
def written(tmp_path):
    """The settings file of a new hub."""
    return settings.initialise(tmp_path / "hub", "hub.example.org")


def write(path, text):
    path.write_text(text, "utf-8")
    return path


class TestANewHub:
    def test_has_settings_that_can_be_read_as_they_are(self, written):
        made = settings.load(written, {})
        assert made.name == "hub.example.org"
        assert made.origin == "hub.example.org/log"
        assert made.url == "http://127.0.0.1:8080"
        assert made.store.url == "sqlite:///hub.sqlite"
        assert (made.quota.messages_per_hour, made.quota.refusals_per_minute) == (2_000, 30)
        assert made.folder == str(written.parent.resolve())

    def test_has_a_key_of_its_own_that_only_its_owner_may_read(self, written, tmp_path):
        other = settings.initialise(tmp_path / "other", "hub.example.org")
        assert stat.S_IMODE((written.parent / "log.pem").stat().st_mode) == 0o600
        vkeys = {str(settings.log_vkey(settings.load(path, {}))) for path in (written, other)}
        assert len(vkeys) == 2
        assert all(vkey.startswith("hub.example.org/log+") for vkey in vkeys)

    @pytest.mark.parametrize("existing", ["hub.toml", "log.pem"])
    def test_never_overwrites_what_is_there_and_leaves_nothing_half_made(self, tmp_path, existing):
        write(tmp_path / existing, "precious")
        with pytest.raises(StartError, match=f"{existing} is there already"):
            settings.initialise(tmp_path, "hub.example.org")
        assert [path.name for path in tmp_path.iterdir()] == [existing]
        assert (tmp_path / existing).read_text() == "precious"

    @pytest.mark.parametrize("name", ["", "my hub", "hub+1", 'a"b', "hub/log", "hub\n", "-hub"])
    def test_is_named_like_a_host(self, tmp_path, name):
        with pytest.raises(StartError, match="host name"):
            settings.initialise(tmp_path, name)
        assert list(tmp_path.iterdir()) == []

    def test_needs_a_folder_that_can_be_made(self, tmp_path):
        in_the_way = write(tmp_path / "file", "")
        with pytest.raises(StartError, match="cannot be written"):
            settings.initialise(in_the_way / "hub", "hub.example.org")


class TestTheFile:
    def test_must_be_there(self, tmp_path):
        with pytest.raises(StartError, match=r"There is no settings file .*nhri-hub init"):
            settings.load(tmp_path / "hub.toml", {})

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("name = ", "cannot be read"),
            ("http = 3\nname = 'h.org'", r"\$\.http"),
            ("[http]\nport = 8080", "missing required field `name`"),
            ("name = 'h.org'\ncolour = 'red'", "colour"),
            ("name = 'h.org'\n[http]\nprot = 1", "prot"),
            ("name = 'h.org'\n[http]\nport = 'soon'", r"\$\.http\.port"),
            ("name = 'h.org'\n[http]\nport = 65536", r"\$\.http\.port"),
            ("name = 'my hub'", r"\$\.name"),
            ("name = 'h.org'\n[retention]\n'TLP:AMBR' = 9", "'TLP:AMBR' is neither a kind"),
            ("name = 'h.org'\n[retention]\n'TLP:AMBER' = 0", r"\$\.retention"),
            ("name = 'h.org'\n[quota]\nmessages_per_hour = 0", r"\$\.quota\.messages_per_hour"),
        ],
    )
    def test_is_refused_with_what_is_wrong_in_it(self, tmp_path, text, said):
        with pytest.raises(StartError, match=said):
            settings.load(write(tmp_path / "hub.toml", text), {})

    def test_is_utf_8(self, tmp_path):
        path = tmp_path / "hub.toml"
        path.write_bytes(b"name = '\xff'")
        with pytest.raises(StartError, match="cannot be read"):
            settings.load(path, {})

    def test_a_public_address_stands_before_the_one_listened_at(self, tmp_path):
        text = "name = 'h.org'\n[http]\nurl = 'https://h.org'"
        assert settings.load(write(tmp_path / "hub.toml", text), {}).url == "https://h.org"


class TestTheEnvironment:
    def test_overrides_every_field(self, written):
        environment = {
            "NHRI_NAME": "other.example",
            "NHRI_HTTP_PORT": "9000",
            "NHRI_STORE_URL": "sqlite:///elsewhere.sqlite",
            "NHRI_LOG_KEY": "other.pem",
            "NHRI_QUOTA_MESSAGES_PER_HOUR": "5",
        }
        made = settings.load(written, environment)
        assert made.name == "other.example"
        assert made.http.port == 9000
        assert made.store.url == "sqlite:///elsewhere.sqlite"
        assert made.log_key_path == written.parent / "other.pem"
        assert made.quota.messages_per_hour == 5

    def test_adds_a_section_that_the_file_does_not_have(self, tmp_path):
        path = write(tmp_path / "hub.toml", "name = 'h.org'")
        assert settings.load(path, {"NHRI_HTTP_PORT": "9000"}).http.port == 9000

    def test_names_a_file_to_read_a_secret_from(self, written, tmp_path):
        secret = write(tmp_path / "url", "sqlite:///secret.sqlite\n")
        made = settings.load(written, {"NHRI_STORE_URL_FILE": str(secret)})
        assert made.store.url == "sqlite:///secret.sqlite"

    def test_a_file_that_is_not_there_is_named(self, written):
        with pytest.raises(StartError, match="NHRI_STORE_URL_FILE"):
            settings.load(written, {"NHRI_STORE_URL_FILE": "/nowhere/url"})

    def test_the_broker_s_address_is_what_its_file_has_now(self, written, tmp_path):
        secret = write(tmp_path / "url", "amqp://hub:one@broker/nhri\n")
        environment = {"NHRI_BROKER_URL_FILE": str(secret)}
        made = settings.load(written, environment)
        assert settings.broker_url(made, environment) == "amqp://hub:one@broker/nhri"
        secret.write_text("amqp://hub:two@broker/nhri\n")
        assert settings.broker_url(made, environment) == "amqp://hub:two@broker/nhri"
        assert settings.broker_url(made, {}) == "amqp://hub:one@broker/nhri"

    def test_a_wrong_value_is_refused_with_its_field(self, written):
        with pytest.raises(StartError, match=r"\$\.http\.port"):
            settings.load(written, {"NHRI_HTTP_PORT": "soon"})


class TestTheLogKey:
    def test_must_be_there(self, written):
        (written.parent / "log.pem").unlink()
        with pytest.raises(StartError, match="No such file"):
            settings.log_key(settings.load(written, {}))

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
    def test_must_be_its_owners_alone(self, written, mode):
        (written.parent / "log.pem").chmod(mode)
        with pytest.raises(StartError, match="chmod 600"):
            settings.log_key(settings.load(written, {}))

    def test_must_be_a_pem_key(self, written):
        write(written.parent / "log.pem", "a secret")
        with pytest.raises(StartError, match="not an unencrypted PEM key"):
            settings.log_key(settings.load(written, {}))

    def test_must_be_ed25519(self, written):
        other = generate_private_key(SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (written.parent / "log.pem").write_bytes(other)
        with pytest.raises(StartError, match="not an Ed25519 key"):
            settings.log_key(settings.load(written, {}))


class TestTheSocket:
    def test_stands_beside_the_database(self, written):
        assert settings.load(written, {}).socket == written.parent.resolve() / "hub.sock"

    def test_moves_to_a_short_private_folder_where_its_path_would_be_too_long(self, tmp_path):
        folders = [tmp_path / ("n" * 100) / name for name in ("one", "two")]
        sockets = {
            settings.load(settings.initialise(folder, "h.org"), {}).socket for folder in folders
        }
        assert len(sockets) == 2
        assert all(len(str(path)) < 100 for path in sockets)
