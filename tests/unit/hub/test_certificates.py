"""The hub's own certificate files: how long they hold, and new ones taken by an open door."""

import ssl
from datetime import timedelta
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from hub import authority, certificates
from hub.settings import AuthorityFiles, Broker, Http, Settings, StartError
from tests.builders import NOW

ISSUER = authority.create("test", NOW, 1, ec.generate_private_key(ec.SECP256R1()))


def make(folder, name, serial=2, days=397):
    """A server's certificate that ends so many days after ``NOW``."""
    made = NOW + timedelta(days=days) - authority.CERTIFICATE_LIFE
    return certificates.create_server(ISSUER, folder, (name,), made, serial)


@pytest.fixture
def settings(tmp_path):
    make(tmp_path, "hub.example")
    http = Http(certificate="hub.example.pem", key="hub.example-key.pem")
    return Settings(name="hub.example", http=http, folder=str(tmp_path))


class TestOwnCertificates:
    def test_have_their_days_counted(self, settings, tmp_path):
        file, key = make(tmp_path, "hub", days=20)
        files = f"certfile={quote(str(file))}&keyfile={quote(str(key))}"
        url = f"amqps://hub@broker.example/nhri?auth=external&{files}"
        both = Settings(
            name="hub.example", http=settings.http, folder=str(tmp_path), broker=Broker(url=url)
        )
        assert certificates.own_days_left(both, NOW) == {"hub:door": 397, "hub:broker": 20}
        later = NOW + timedelta(days=21)
        assert certificates.own_days_left(both, later) == {"hub:door": 376, "hub:broker": -1}

    def test_include_the_authority_and_what_it_made_for_servers(self, settings, tmp_path):
        certificates.create_authority(tmp_path, "hub.example", NOW, 1)
        files = AuthorityFiles(certificate="authority.pem", key="authority-key.pem")
        own = replace(settings, authority=files)
        issuer = certificates.load_authority(own)
        assert issuer is not None
        certificates.create_server(issuer, tmp_path, ("broker.example", "192.0.2.7"), NOW, 3)
        make(tmp_path, "of-another-authority")
        found = {"hub:authority": 3650, "hub:door": 397, "server:broker.example": 397}
        assert certificates.own_days_left(own, NOW) == found
        (tmp_path / "broker.example.pem").unlink()
        (tmp_path / "authority.pem").unlink()
        assert certificates.own_days_left(own, NOW) == {"hub:authority": -1, "hub:door": 397}

    def test_need_not_be(self):
        plain = Settings(name="hub.example", broker=Broker(url="amqp://hub:x@broker.example/nhri"))
        assert certificates.own_days_left(plain, NOW) == {}

    @pytest.mark.parametrize("content", [None, "nothing"])
    def test_that_cannot_be_read_count_as_ended(self, settings, tmp_path, content):
        file = tmp_path / "hub.example.pem"
        file.unlink()
        if content is not None:
            file.write_text(content)
        assert certificates.own_days_left(settings, NOW) == {"hub:door": -1}


class TestTheDoor:
    def test_takes_new_files_once_both_are_there(self, settings, tmp_path):
        door = certificates.Door(settings)
        assert door.refresh() is False
        new, key = make(tmp_path, "new", serial=3)
        new.replace(tmp_path / "hub.example.pem")
        for _ in range(2):
            with pytest.raises(StartError, match="cannot be used"):
                door.refresh()
        assert shown(door.context) == 2
        key.replace(tmp_path / "hub.example-key.pem")
        assert door.refresh() is True
        assert shown(door.context) == 3
        assert door.refresh() is False

    def test_goes_on_with_what_it_has_when_a_file_is_gone(self, settings, tmp_path):
        door = certificates.Door(settings)
        (tmp_path / "hub.example.pem").unlink()
        with pytest.raises(StartError, match="No such file"):
            door.refresh()
        assert shown(door.context) == 2

    def test_does_not_open_without_its_files(self, settings, tmp_path):
        (tmp_path / "hub.example-key.pem").unlink()
        with pytest.raises(StartError, match="No such file"):
            certificates.Door(settings)


def shown(context):
    """The serial of the certificate that a server with this context shows."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number
