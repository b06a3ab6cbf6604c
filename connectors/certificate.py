"""The client certificate for the link over RabbitMQ: fetched from the hub, and renewed in time.

Renewed is the one for the institution's own TLS key. One that comes with a key of its own is from
another authority: it is only watched.
"""

import ssl
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from connectors import files, keys
from connectors.alarms import Finding
from connectors.link import HubRefused, LinkError
from connectors.link.http import HttpLink, Issued
from connectors.parts import Parts
from schemas.encoding import format_time

RENEW = timedelta(days=30)
"""How long before its end a certificate is renewed."""

ALARM = timedelta(days=14)
"""How long before its end somebody is told that it was not, whatever the reason."""

AGAIN = timedelta(days=1)
"""Until the certificate is looked at again."""


class CertificateError(Exception):
    """A certificate cannot be used; says why."""


def read(path: Path) -> x509.Certificate | None:
    """The certificate in a PEM file; None where there is no file.

    Raises:
        CertificateError: it cannot be read, is none, or has the key in it.
    """
    try:
        pem = path.read_bytes()
        if b"PRIVATE KEY-----" in pem:
            raise CertificateError(f"{path} holds a key, too; link.key has to name its own file")
        return x509.load_pem_x509_certificate(pem)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise CertificateError(f"{path} is not a certificate in PEM") from None


def is_for(certificate: x509.Certificate, private: ec.EllipticCurvePrivateKey) -> bool:
    """Whether a certificate is for the public half of a key."""
    return certificate.public_key() == private.public_key()


def is_held(path: Path, private: ec.EllipticCurvePrivateKey) -> bool:
    """Whether a file has a certificate for the public half of a key.

    Raises:
        CertificateError: as ``read``.
    """
    held = read(path)
    return held is not None and is_for(held, private)


def left(certificate: x509.Certificate | None, now: datetime) -> timedelta:
    """How long a certificate still holds; none where there is none."""
    return certificate.not_valid_after_utc - now if certificate else timedelta()


def load(context: ssl.SSLContext, path: Path, key: Path) -> None:
    """Show the certificate of a file to whoever is connected to from here on.

    Raises:
        CertificateError: certificate and key do not belong together, or cannot be read.
    """
    try:
        context.load_cert_chain(path, key)
    except OSError as error:  # an SSLError, too
        raise CertificateError(f"{path} and {key} cannot be used: {error}") from None


class Renewal:
    """The worker that looks at the certificate once a day and renews it when it is due.

    ``own`` is the institution's TLS key, None where the certificate is for another one. A crash
    after the hub has signed a new certificate, and before it is in its file, loses nothing: the
    next step asks for the newest there is before it asks for a new one.
    """

    def __init__(
        self,
        parts: Parts,
        hub: HttpLink,
        path: Path,
        key: Path,
        own: ec.EllipticCurvePrivateKey | None,
        context: ssl.SSLContext,
    ) -> None:
        self._parts = parts
        self._hub = hub
        self._path = path
        self._key = key
        self._own = own
        self._context = context

    async def step(self) -> None:
        """Renew the certificate if it is due, and show the one that there is from here on.

        Raises:
            LinkError: the hub is away or busy, or there is no certificate that holds; it is worth
                asking again soon.
        """
        held = None
        try:
            held = self._held()
            remaining = left(held, self._parts.clock())
            if remaining < RENEW and self._own is not None:
                await self._renew(held, self._own)
            elif remaining < ALARM:
                raise CertificateError("it is not from the hub, which cannot renew it")
            load(self._context, self._path, self._key)
        except (LinkError, CertificateError, OSError) as error:
            remaining = left(held, self._parts.clock())
            soon = _may_pass(error) or (isinstance(error, LinkError) and remaining <= timedelta())
            if not soon or (held and remaining < ALARM):
                self._alarm(held, error)
            if soon:
                raise
            self._parts.events.trouble("certificate", error, AGAIN.total_seconds())
        else:
            self._over()

    def _held(self) -> x509.Certificate | None:
        held = read(self._path)
        # After new keys were made, that of the old ones is of no use.
        return None if held and self._own and not is_for(held, self._own) else held

    async def _renew(self, held: x509.Certificate | None, own: ec.EllipticCurvePrivateKey) -> None:
        """Put the hub's newest certificate into the file, or a new one.

        Raises:
            LinkError, CertificateError: there is none, or what the hub gave is of no use.
            OSError: the disk is full or not to be written; the present one is still there.
        """
        now = self._parts.clock()
        renewed = await self._newest(own)
        if left(renewed, now) < RENEW:
            request = keys.tls_request(own, self._parts.code)
            renewed = self._checked(await self._hub.new_certificate(request), own)
        if renewed is None or left(renewed, now) <= left(held, now):
            raise CertificateError("the new one would not hold any longer")
        files.write(self._path, renewed.public_bytes(Encoding.PEM))
        self._parts.events.certificate_renewed(format_time(renewed.not_valid_after_utc))

    async def _newest(self, own: ec.EllipticCurvePrivateKey) -> x509.Certificate | None:
        """The newest that the hub has for our key, perhaps from a time when we did not get it."""
        try:
            return self._checked(await self._hub.certificate(), own)
        except CertificateError:
            return None  # for the keys that we had before
        except HubRefused as refused:
            if refused.code != "not-found":
                raise
            return None

    def _checked(self, issued: Issued, own: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        """What the hub gave; a file that works is not given up for what cannot."""
        try:
            made = x509.load_pem_x509_certificate(issued.certificate.encode())
        except ValueError:
            raise CertificateError("what the hub gave is no certificate") from None
        names = [name.value for name in made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if not is_for(made, own) or names != [self._parts.code]:
            raise CertificateError("what the hub gave is not for our name and key")
        if made.not_valid_before_utc > self._parts.clock():
            raise CertificateError("what the hub gave does not hold yet; is our clock right?")
        return made

    def _alarm(self, held: x509.Certificate | None, error: Exception) -> None:
        ends = f"It ends at {format_time(held.not_valid_after_utc)}" if held else "There is none"
        self._parts.found([Finding("certificate-ends", "link", f"{ends}: {error}")])

    def _over(self) -> None:
        store = self._parts.store
        with store.transaction():
            store.end_alarm("certificate-ends", "link", self._parts.now())


def _may_pass(error: Exception) -> bool:
    """Whether time alone can mend it."""
    refused = isinstance(error, HubRefused) and not error.retryable
    return isinstance(error, LinkError) and not refused
