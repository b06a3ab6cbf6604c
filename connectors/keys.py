"""The institution's own keys. They are made here and never leave this folder.

Four private keys as PKCS#8 PEM files of mode 0600: ``sign`` and ``witness`` (Ed25519), ``seal``
(X25519) and ``tls`` (EC P-256, for the certificate request). They are not encrypted: the daemon
starts without anybody at the keyboard, so that the folder's permissions are what guards them.
"""

# The key classes of `cryptography` are abstract to a type checker; here they are only compared.
# mypy: disable-error-code="type-abstract"

import shutil
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from connectors import files
from schemas import cosignature, signature, statement
from schemas.statement import Keys

TLS_FILE = "tls.pem"

Private = TypeVar(
    "Private",
    Ed25519PrivateKey,
    X25519PrivateKey,
    ec.EllipticCurvePrivateKey,
    MLDSA44PrivateKey,
)

_SECOND_WITNESS = "witness-ml-dsa-44.pem"


class KeysError(Exception):
    """The keys are missing, damaged, readable by others, or there already; says what to do."""


class Keyring(msgspec.Struct, frozen=True):
    """The private keys of one institution."""

    sign: Ed25519PrivateKey
    witness: Ed25519PrivateKey
    seal: X25519PrivateKey
    tls: ec.EllipticCurvePrivateKey

    @property
    def kid(self) -> str:
        """The thumbprint (RFC 7638) of the signing key."""
        return signature.thumbprint(self.sign.public_key().public_bytes_raw())

    def public(self, code: str) -> Keys:
        """The public halves as they are registered, with a TLS request for ``CN=<code>``."""
        return Keys(
            signature.jwk(self.sign.public_key().public_bytes_raw()),
            signature.jwk(self.witness.public_key().public_bytes_raw()),
            signature.jwk(self.seal.public_key().public_bytes_raw(), "X25519"),
            tls_request(self.tls, code),
        )


def make(folder: Path) -> Keyring:
    """Make new keys and write them, durably.

    A crash leaves all of them or none, and perhaps a draft, which the next call clears away.

    Raises:
        KeysError: there are keys already; ``set_aside`` moves them.
    """
    if folder.exists():
        raise KeysError(f"There are keys in {folder} already; they are not overwritten.")
    keyring = Keyring(
        Ed25519PrivateKey.generate(),
        Ed25519PrivateKey.generate(),
        X25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256R1()),
    )
    draft = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    files.make_folder(draft)
    for name, private in msgspec.structs.asdict(keyring).items():
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        files.write(draft / f"{name}.pem", pem)
    draft.rename(folder)
    files.sync_folder(folder.parent)
    return keyring


def load(folder: Path) -> Keyring:
    """Read the keys.

    Raises:
        KeysError: a key is missing, damaged, of another type, or readable by others.
    """
    return Keyring(
        _read(folder / "sign.pem", Ed25519PrivateKey),
        _read(folder / "witness.pem", Ed25519PrivateKey),
        _read(folder / "seal.pem", X25519PrivateKey),
        _read(folder / TLS_FILE, ec.EllipticCurvePrivateKey),
    )


def make_second_witness(folder: Path) -> MLDSA44PrivateKey:
    """Make a second witness key, for ML-DSA-44 cosignatures, durably; or give the one there is.

    It is known from the policies that name it: the directory has no place for it.

    Raises:
        KeysError: there are no keys, the one there is cannot be used, or ML-DSA is not supported.
    """
    load(folder)
    path = folder / _SECOND_WITNESS
    if path.exists():
        return _read(path, MLDSA44PrivateKey)
    try:
        made = MLDSA44PrivateKey.generate()
    except UnsupportedAlgorithm:
        raise KeysError("The cryptography library of this machine has no ML-DSA-44.") from None
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files.write(path, pem)
    return made


def witnesses(folder: Path) -> list[cosignature.Private]:
    """The one or two keys that cosign: the registered one first.

    Raises:
        KeysError: as ``load``.
    """
    second = folder / _SECOND_WITNESS
    found: list[cosignature.Private] = [load(folder).witness]
    return [*found, _read(second, MLDSA44PrivateKey)] if second.exists() else found


def set_aside(folder: Path) -> Path:
    """Move the keys out of the way, before new ones are made for those that were stolen.

    They are not deleted: what was sealed for them can be opened with nothing else.

    Raises:
        KeysError: as ``load``.
    """
    target = folder.with_name(f"{folder.name}-{load(folder).kid}")
    folder.rename(target)
    files.sync_folder(folder.parent)
    return target


def join_statement(keyring: Keyring, code: str, invitation: str, time: str) -> bytes:
    """The ``join`` key statement, signed by the new signing key (proof of possession)."""
    stated = statement.Join(code, invitation, keyring.public(code), time)
    return statement.sign(stated, keyring.sign)


def tls_request(private: ec.EllipticCurvePrivateKey, code: str) -> str:
    """A PKCS#10 request (RFC 2986) in PEM for ``CN=<code>``."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, code)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    return builder.sign(private, hashes.SHA256()).public_bytes(Encoding.PEM).decode("ascii")


def _read(path: Path, expected: type[Private]) -> Private:
    try:
        if path.stat().st_mode & 0o077:
            raise KeysError(f"{path} can be read by others; run: chmod 600 {path}")
        private = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError:
        raise KeysError(f"{path} is missing; `nhri-connector join` makes the keys.") from None
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeysError(f"{path} is not a usable key: {error}.") from None
    if not isinstance(private, expected):
        raise KeysError(f"{path} holds a key of another type.")
    return private
