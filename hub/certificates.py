"""Certificate files at the hub's edge: the authority's, the HTTP door's and the broker link's."""

import ssl
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hub import authority
from hub.authority import Authority
from hub.settings import Settings, StartError, broker_url, write_new

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


def create_client(
    issuer: Authority, folder: Path, account: str, now: datetime, serial: int
) -> tuple[Path, Path]:
    """Make the certificate and key with which an account comes to the broker; gives their files.

    Raises:
        StartError: one of the files is there already, or the folder cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = asked.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    made = authority.issue_client(issuer, account, request, now, serial)
    files = folder / f"{account}.pem", folder / f"{account}-key.pem"
    _write(files[1], private_pem(key), 0o600)
    _write(files[0], authority.pem(made).encode(), 0o644)
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


class Door:
    """TLS for the HTTP door, which takes new files while it is open."""

    def __init__(self, settings: Settings) -> None:
        """Read the files that the settings name.

        Raises:
            StartError: certificate or key cannot be used.
        """
        folder = Path(settings.folder)
        self._files = folder / settings.http.certificate, folder / settings.http.key
        self._seen = self._state()
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load(self.context)

    def refresh(self) -> bool:
        """Show the files' content to whoever connects from here on; tell whether it is another.

        Raises:
            StartError: it cannot be used, perhaps because one of the two is not replaced yet; then
                the door goes on with what it has.
        """
        state = self._state()
        if state == self._seen:
            return False
        self._load(
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        )  # what fails halfway is lost
        self._load(self.context)
        self._seen = state
        return True

    def _state(self) -> tuple[tuple[int, int], ...]:
        try:
            return tuple((found.st_ino, found.st_mtime_ns) for found in map(Path.stat, self._files))
        except OSError as error:
            raise _unusable(error) from None

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(*self._files)
        except OSError as error:  # an SSLError, too
            raise _unusable(error) from None


def _unusable(error: OSError) -> StartError:
    return StartError(f"The door's certificate or key cannot be used: {error}.")


def own_days_left(settings: Settings, now: datetime) -> dict[str, int]:
    """Whole days until the certificates end that no participant holds and nobody renews by itself.

    They are called ``hub:authority``, ``hub:door`` and ``hub:broker`` (what the hub shows the
    broker) as far as the settings name files, and ``server:NAME`` for what ``create_server`` left
    beside the settings; no participant can be called so. A file that the settings name and that
    cannot be read has -1: it is of no more use than one that ended.
    """
    folder = Path(settings.folder)
    try:
        broker = broker_url(settings)
    except StartError:
        broker = settings.broker.url
    query = parse_qs(urlsplit(broker).query)
    named = {
        "hub:authority": _in(folder, settings.authority.certificate),
        "hub:door": _in(folder, settings.http.certificate),
        "hub:broker": _in(Path(), next(iter(query.get("certfile", [])), "")),
    }
    files = {name: path for name, path in named.items() if path is not None}
    found = {name: _read(file) for name, file in files.items()}
    if issuer := found.get("hub:authority"):
        for path in sorted({*folder.glob("*.pem")} - {*files.values()}):
            certificate = _read(path)
            if certificate is None or certificate.issuer == certificate.subject:
                continue  # no certificate, or an authority itself, such as the one before
            if certificate.issuer == issuer.subject:
                found[f"server:{path.stem}"] = certificate
    return {name: _days_left(certificate, now) for name, certificate in found.items()}


def _in(folder: Path, name: str) -> Path | None:
    return folder / name if name else None


def _read(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None


def _days_left(certificate: x509.Certificate | None, now: datetime) -> int:
    return -1 if certificate is None else authority.days_left(certificate.not_valid_after_utc, now)
