"""Certificate files at the hub's edge: reading the authority, and the TLS of the HTTP door."""

import ssl
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hub import authority
from hub.authority import Authority
from hub.settings import Settings, StartError, write_new

CERTIFICATE_FILE = "authority.pem"
KEY_FILE = "authority-key.pem"


def create_authority(folder: Path, name: str, now: datetime, serial: int) -> None:
    """Make the authority's two files in a folder; neither is ever overwritten.

    Raises:
        StartError: one of the files is there already, or the folder cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    made = authority.create(f"{name} members", now, serial, key)
    _write(folder / KEY_FILE, private_pem(key), 0o600)
    _write(folder / CERTIFICATE_FILE, authority.pem(made.certificate).encode(), 0o644)


def create_server(
    issuer: Authority, folder: Path, names: tuple[str, ...], now: datetime, serial: int
) -> tuple[Path, Path]:
    """Make a server's certificate (with the authority's behind it) and key; gives their files.

    Raises:
        StartError: one of the files is there already, or the folder cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    made = authority.issue_server(issuer, names, key.public_key(), now, serial)
    chain = authority.pem(made) + authority.pem(issuer.certificate)
    files = folder / f"{names[0]}.pem", folder / f"{names[0]}-key.pem"
    _write(files[1], private_pem(key), 0o600)
    _write(files[0], chain.encode(), 0o644)
    return files


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as unencrypted PKCS#8; the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        write_new(path, data, mode)
    except FileExistsError:
        raise StartError(f"{path} is there already; move it away first.") from None
    except OSError as error:
        raise StartError(f"{path} cannot be written: {error.strerror}.") from None


def load_authority(settings: Settings) -> Authority | None:
    """The authority that the settings name; None where they name none.

    Raises:
        StartError: a file is missing or wrong, or the key can be read by others.
    """
    files = settings.authority
    if not files.certificate:
        return None
    folder = Path(settings.folder)
    key_path = folder / files.key
    try:
        certificate = x509.load_pem_x509_certificate((folder / files.certificate).read_bytes())
        if key_path.stat().st_mode & 0o077:
            raise StartError(f"The authority's key {key_path} can be read by others; chmod 600.")
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except OSError as error:
        raise StartError(f"{error.filename} cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError):
        raise StartError("The authority's files are not PEM; see nhri-hub ca init.") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StartError(f"The authority's key {key_path} is not an EC key.")
    if certificate.public_key() != key.public_key():
        raise StartError("The authority's certificate and key do not belong together.")
    return Authority(certificate, key)


def door_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS for the HTTP door; None where it speaks plain HTTP behind a proxy.

    Raises:
        StartError: certificate or key cannot be used.
    """
    if not settings.http.certificate:
        return None
    folder = Path(settings.folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(folder / settings.http.certificate, folder / settings.http.key)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"The door's certificate or key cannot be used: {error}.") from None
    return context
