"""A small private certificate authority for members' links. Pure: time and serials are arguments.

It certifies who is at the other end of a TLS connection, nothing else: what an institution says is
proved by its signature, so that a forged certificate can disturb an exchange but not forge one.
"""

import ipaddress
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.refusal import Refused

AUTHORITY_LIFE = timedelta(days=3650)
CERTIFICATE_LIFE = timedelta(days=397)
WARN_DAYS = (30, 14, 3)
"""Days before the end at which an operator is told."""

_BACKDATE = timedelta(minutes=5)
"""For clocks that are a little behind."""


class Authority(msgspec.Struct, frozen=True):
    """The authority's certificate and private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def create(name: str, now: datetime, serial: int, key: ec.EllipticCurvePrivateKey) -> Authority:
    """A new self-signed authority, which can sign certificates but no further authorities."""
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(name))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def issue_client(
    authority: Authority, code: str, request: str, now: datetime, serial: int
) -> x509.Certificate:
    """A participant's client certificate, for the key of its PKCS#10 request (PEM).

    Only the key is taken from the request; the name is the participant's code.

    Raises:
        Refused: ``bad-statement``: the request is none, is not signed by its own key, or holds a
            key that is not on P-256 or P-384.
    """
    try:
        asked = x509.load_pem_x509_csr(request.encode())
        public = asked.public_key()
        sound = asked.is_signature_valid
    except (ValueError, TypeError):
        raise Refused("bad-statement", "The TLS request is not a PKCS#10 request.") from None
    if not sound or not isinstance(public, ec.EllipticCurvePublicKey):
        raise Refused("bad-statement", "The TLS request has to be signed by its own P-256 key.")
    if public.curve.name not in {"secp256r1", "secp384r1"}:
        raise Refused("bad-statement", "The TLS key has to be on P-256 or P-384.")
    usage = ExtendedKeyUsageOID.CLIENT_AUTH
    builder = _builder(authority, code, public, now, serial, usage)
    alternative = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"nhri:{code}")])
    builder = builder.add_extension(alternative, critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def issue_server(
    authority: Authority,
    names: tuple[str, ...],
    public: ec.EllipticCurvePublicKey,
    now: datetime,
    serial: int,
) -> x509.Certificate:
    """A server's certificate, for the hub's door or the broker; names are hosts or addresses."""
    usage = ExtendedKeyUsageOID.SERVER_AUTH
    builder = _builder(authority, names[0], public, now, serial, usage)
    alternative = x509.SubjectAlternativeName([_general(name) for name in names])
    builder = builder.add_extension(alternative, critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    authority: Authority,
    name: str,
    public: ec.EllipticCurvePublicKey,
    now: datetime,
    serial: int,
    usage: x509.ObjectIdentifier,
) -> x509.CertificateBuilder:
    issuer = authority.certificate
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(min(now + CERTIFICATE_LIFE, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def pem(certificate: x509.Certificate) -> str:
    """A certificate as PEM text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def days_left(not_after: datetime, now: datetime) -> int:
    """Whole days until a certificate ends; negative once it has."""
    return (not_after - now) // timedelta(days=1)
