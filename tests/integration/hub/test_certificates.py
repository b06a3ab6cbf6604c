"""Certificates that end: said in time in the log, the measures and the status; renewed in place."""

import asyncio
import ssl
from pathlib import Path

from cryptography import x509
from msgspec.structs import replace
from structlog.testing import capture_logs

from hub import certificates, upkeep
from tests import builders, client
from tests.integration.hub.test_metrics import measures


def authority_of(settings):
    found = certificates.load_authority(settings)
    assert found is not None
    return found


def with_tls(settings):
    """The same hub with a certificate of its own authority for its door."""
    issuer = authority_of(settings)
    folder = Path(settings.folder)
    certificates.create_server(issuer, folder, ("hub.example",), builders.NOW, 2)
    files = {"certificate": "hub.example.pem", "key": "hub.example-key.pem"}
    return replace(settings, http=replace(settings.http, **files))


def warnings(logs):
    return [(one["code"], one["days_left"]) for one in logs if one["event"] == "certificate.ends"]


async def test_their_ends_are_warned_of_three_times_each(settings, clock, monkeypatch):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0.01)
    with capture_logs() as logs:
        async with client.running(with_tls(settings)) as hub, asyncio.timeout(90):
            kz = client.Participant(hub.operator.connection, "kz", clock)
            await kz.post("/v1/certificate", builders.tls_request("kz").encode())
            for days in (396, 29, 13, 2):
                left = (await hub.operator.get("/v1/status"))["certificate_days"]["hub:door"]
                clock.forward(days=left - days)
                await until_measured(hub, days)
                status = await hub.operator.get("/v1/status")
                assert status["certificate_days"] == {"hub:door": days}
    for code in ("hub:door", "kz"):
        assert [left for who, left in warnings(logs) if who == code] == [29, 13, 2]


async def until_measured(hub, days):
    shown: dict[tuple[str, ...], float] = {}
    while shown.get(("nhri_hub_certificate_days_left", "hub:door")) != days:
        shown = await measures(hub.operator)


async def test_the_door_shows_a_new_certificate_without_a_restart(settings, clock, monkeypatch):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0.01)
    settings = with_tls(settings)
    issuer, folder = authority_of(settings), Path(settings.folder)
    async with client.running(settings), asyncio.timeout(90):
        assert await shown(settings) == 2
        files = certificates.create_server(issuer, folder, ("new",), builders.NOW, 3)
        for new, old in zip(files, ("hub.example.pem", "hub.example-key.pem"), strict=True):
            new.replace(folder / old)
        while await shown(settings) != 3:
            pass


async def shown(settings):
    """The serial of the certificate at the door."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", settings.http.port, ssl=trusting)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(der).serial_number
