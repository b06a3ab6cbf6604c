"""Client certificates: participants fetch and renew theirs, operators see when they end."""

from aiohttp import web
from cryptography import x509

from hub import authority, certificates
from hub.authority import Authority
from hub.doors.service import Asked, Service, answer, arriving
from hub.intake.batch import Token
from hub.intake.certificates import IssueCertificate
from hub.ledger.queries import CertificateRow
from schemas.encoding import format_time, parse_time
from schemas.refusal import Refused


def _authority(hub: Service) -> Authority:
    if hub.authority is None:
        raise Refused("not-found", "This hub has no certificate authority (nhri-hub ca init).")
    return hub.authority


def _shown(hub: Service, row: CertificateRow) -> dict[str, object]:
    return {
        "code": row.code,
        "serial": row.serial,
        "not_after": row.not_after,
        "days_left": authority.days_left(parse_time(row.not_after), hub.clock()),
        "certificate": row.pem,
        "authority": authority.pem(_authority(hub).certificate),
    }


async def issue(
    hub: Service, code: str, request: str, by: str, token: Token | None = None
) -> CertificateRow:
    """Sign and record a certificate for a participant's request.

    Raises:
        Refused: the request is not a sound one, or the hub has no authority.
    """
    serial = int.from_bytes(hub.random_bytes(16), "big") >> 1 | 1
    issuer = _authority(hub)
    signed: x509.Certificate = await hub.offload.run(
        lambda: authority.issue_client(issuer, code, request, hub.clock(), serial)
    )
    row = CertificateRow(
        f"{signed.serial_number:x}",
        code,
        format_time(signed.not_valid_after_utc),
        authority.pem(signed),
    )
    await hub.change(IssueCertificate(row, by, token))
    return row


async def own(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/certificate``: the asker's newest certificate."""
    code = asked.principal.name
    for row in await hub.queries.certificates():
        if row.code == code:
            return answer(_shown(hub, row))
    raise Refused("not-found", "No certificate was issued to you; send a request for one.")


async def renew(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/certificate``: a new certificate for a PKCS#10 request (PEM)."""
    try:
        request = (await arriving(asked.request.read())).decode("ascii")
    except UnicodeDecodeError:
        raise Refused("bad-statement", "Send a PKCS#10 request as PEM.") from None
    code = asked.principal.name
    row = await issue(hub, code, request, code, asked.token)
    return answer(_shown(hub, row), 201)


async def every(hub: Service, asked: Asked) -> web.Response:
    """``GET /v1/certificates``: each participant's newest one, and how long the hub's own hold."""
    rows = sorted(await hub.queries.certificates(), key=lambda row: row.not_after)
    own_days = certificates.own_days_left(hub.settings, hub.clock())
    return answer({"certificates": [_shown(hub, row) for row in rows], "own": own_days})


async def issue_again(hub: Service, asked: Asked) -> web.Response:
    """``POST /v1/certificates/{code}``: a certificate for the request registered at the join."""
    row = await reissue(hub, asked.request.match_info["code"], asked.principal.name)
    return answer(_shown(hub, row), 201)


async def reissue(hub: Service, code: str, by: str) -> CertificateRow:
    """A new certificate for the request that a participant registered at its join.

    Raises:
        Refused: it registered none, or the hub has no authority.
    """
    participant = hub.recorder.state.directory.participants.get(code)
    if participant is None or participant.keys is None or participant.keys.tls_request is None:
        raise Refused("not-found", f"{code} has registered no TLS request.")
    return await issue(hub, code, participant.keys.tls_request, by)
