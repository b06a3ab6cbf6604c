"""A mail server that can be told to refuse; it keeps what it took."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.ports import free_port

OK = "250 OK"


class MailServer:
    """Answers to the next letters and, by address, to recipients; otherwise all is taken."""

    def __init__(self, tls: ssl.SSLContext | None = None, password: bytes | None = None) -> None:
        self.answers: list[str] = []
        self.unknown: dict[str, str] = {}
        self.offered = 0
        self.letters: list[EmailMessage] = []
        self.sent_to: list[list[str]] = []
        self.encrypted: list[bool] = []
        self.port = free_port()
        self._tls = tls
        self._password = password
        self._server: asyncio.Server | None = None

    async def handle_RCPT(  # noqa: N802 - the names of the commands are aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self.unknown.get(address, OK)
        if answer == OK:
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.offered += 1
        answer = self.answers.pop(0) if self.answers else OK
        if answer == OK:
            assert isinstance(envelope.content, bytes)
            letter = message_from_bytes(envelope.content, policy=policy.SMTP)
            assert isinstance(letter, EmailMessage)
            self.letters.append(letter)
            self.sent_to.append(list(envelope.rcpt_tos))
            self.encrypted.append(session.ssl is not None)
        return answer

    def _authenticate(self, *asked: object) -> AuthResult:
        right = getattr(asked[-1], "password", None) == self._password
        return AuthResult(success=right, handled=False)  # aiosmtpd answers

    def _session(self) -> SMTP:
        return SMTP(
            self,
            hostname="mail.test",
            tls_context=self._tls,
            require_starttls=self._tls is not None,
            authenticator=self._authenticate,
            auth_required=self._password is not None,
        )

    async def start(self) -> None:
        """Listen, on the same port as before."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._session, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["MailServer"]:
        await self.start()
        try:
            yield self
        finally:
            await self.stop()
