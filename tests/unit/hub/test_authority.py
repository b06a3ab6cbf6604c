"""The private certificate authority: who may be certified, as what, and until when."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store

from hub import authority
from schemas.refusal import Refused
from tests import builders

NOW = datetime(2026, 7, 1, 9, tzinfo=UTC)


@pytest.fixture(scope="module")
def issuer():
    return authority.create("hub.example members", NOW, 1, ec.generate_private_key(ec.SECP256R1()))


def test_a_client_certificate_is_for_the_code_whatever_the_request_says(issuer):
    issued = authority.issue_client(issuer, "kz", builders.tls_request("somebody else"), NOW, 2)
    assert issued.subject.rfc4514_string() == "CN=kz"
    usage = issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_client_certificate_verifies_under_the_authority_alone(issuer):
    issued = authority.issue_client(issuer, "kz", builders.tls_request("kz"), NOW, 2)
    other = authority.create("another", NOW, 1, ec.generate_private_key(ec.SECP256R1()))
    verifier = PolicyBuilder().store(Store([issuer.certificate])).time(NOW).build_client_verifier()
    assert verifier.verify(issued, []).chain[-1] == issuer.certificate
    stranger = PolicyBuilder().store(Store([other.certificate])).time(NOW).build_client_verifier()
    with pytest.raises(x509.verification.VerificationError):
        stranger.verify(issued, [])


def test_a_server_certificate_is_good_for_its_names(issuer):
    key = ec.generate_private_key(ec.SECP256R1())
    names = ("hub.example", "127.0.0.1")
    issued = authority.issue_server(issuer, names, key.public_key(), NOW, 3)
    store = Store([issuer.certificate])
    good = PolicyBuilder().store(store).time(NOW).build_server_verifier(x509.DNSName("hub.example"))
    assert good.verify(issued, [])
    bad = (
        PolicyBuilder().store(store).time(NOW).build_server_verifier(x509.DNSName("other.example"))
    )
    with pytest.raises(x509.verification.VerificationError):
        bad.verify(issued, [])


def test_no_certificate_outlives_its_authority(issuer):
    late = NOW + authority.AUTHORITY_LIFE - timedelta(days=10)
    issued = authority.issue_client(issuer, "kz", builders.tls_request("kz"), late, 4)
    assert issued.not_valid_after_utc == issuer.certificate.not_valid_after_utc


@pytest.mark.parametrize("request_text", ["", "no PEM", "-----BEGIN CERTIFICATE REQUEST-----\n"])
def test_what_is_no_request_is_refused(issuer, request_text):
    with pytest.raises(Refused) as refused:
        authority.issue_client(issuer, "kz", request_text, NOW, 5)
    assert refused.value.code == "bad-statement"


def test_a_key_of_another_kind_is_refused(issuer):
    private = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kz")])
    signed = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name)
        .sign(private, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
    with pytest.raises(Refused, match="P-256"):
        authority.issue_client(issuer, "kz", signed, NOW, 6)


@pytest.mark.parametrize(("hours", "days"), [(24, 1), (23, 0), (0, 0), (-1, -1)])
def test_days_left_are_whole_days(hours, days):
    assert authority.days_left(NOW + timedelta(hours=hours), NOW) == days
