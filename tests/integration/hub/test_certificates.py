"""Certificates that end: said in time in the log, the measures and the status; renewed in place."""

import asyncio
import json
import ssl
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from click.testing import CliRunner
from cryptography import x509
from msgspec.structs import replace
from structlog.testing import capture_logs

from hub import certificates, upkeep
from hub import settings as configuration
from hub.cli.main import main
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


async def test_their_ends_are_warned_of_on_the_30th_14th_and_3rd_day_before(
    settings, clock, monkeypatch
):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0.01)
    settings = with_tls(settings)
    certificates.create_server(
        authority_of(settings), Path(settings.folder), ("broker.example",), builders.NOW, 3
    )
    with capture_logs() as logs:
        async with client.running(settings) as hub, asyncio.timeout(90):
            kz = client.Participant(hub.operator.connection, "kz", clock)
            await kz.post("/v1/certificate", builders.tls_request("kz").encode())
            for days in (31, 30, 15, 14, 4, 3):
                await until_it_has_left(hub, clock, "hub:door", days)
    for code in ("hub:door", "server:broker.example", "kz"):
        assert [left for who, left in warnings(logs) if who == code] == [30, 14, 3]


async def test_the_end_of_the_authority_is_warned_of_as_well(settings, clock, monkeypatch):
    monkeypatch.setattr(upkeep, "ROUND_SECONDS", 0.01)
    with capture_logs() as logs:
        async with client.running(settings) as hub, asyncio.timeout(90):
            for days in (31, 30, 15, 14, 4, 3):
                await until_it_has_left(hub, clock, "hub:authority", days)
    assert warnings(logs) == [("hub:authority", 30), ("hub:authority", 14), ("hub:authority", 3)]


async def until_it_has_left(hub, clock, name, days):
    """Let time pass until a certificate has so many days left and the upkeep has seen it."""
    left = (await hub.operator.get("/v1/status"))["certificate_days"][name]
    clock.forward(days=left - days)
    shown: dict[tuple[str, ...], float] = {}
    while shown.get(("nhri_hub_certificate_days_left", name)) != days:
        shown = await measures(hub.operator)


class TestTheCommands:
    """``nhri-hub ca``, from a hub without an authority to a certificate that ends."""

    async def test_make_an_authority_once(self, tmp_path):
        await run("init", tmp_path, "--name", "hub.example")
        config = tmp_path / "hub.toml"
        said = await run("ca", "server", "hub.example", "--config", config, code=1)
        assert "make one: nhri-hub ca init" in said
        said = await run("ca", "init", "--config", config)
        with config.open("a") as file:
            file.write(said[said.index("[authority]") :])
        found = authority_of(configuration.load(config, {}))
        assert found.certificate.subject.rfc4514_string() == "CN=hub.example members"
        assert (tmp_path / "authority-key.pem").stat().st_mode & 0o077 == 0
        said = await run("ca", "init", "--config", config, code=1)
        assert "is there already" in said
        assert authority_of(configuration.load(config, {})).certificate == found.certificate

    async def test_make_a_server_s_certificate_once(self, settings):
        config = f"{settings.folder}/hub.toml"
        said = await run("ca", "server", "broker.example", "192.0.2.7", "--config", config)
        file = Path(settings.folder) / "broker.example.pem"
        key = Path(settings.folder) / "broker.example-key.pem"
        assert said == f"The certificate is in {file}, its key in {key}.\n"
        made, issuer = x509.load_pem_x509_certificates(file.read_bytes())
        made.verify_directly_issued_by(issuer)
        assert issuer == authority_of(settings).certificate
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["broker.example"]
        assert names.get_values_for_type(x509.IPAddress) == [ip_address("192.0.2.7")]
        assert key.stat().st_mode & 0o077 == 0
        again = await run("ca", "server", "broker.example", "--config", config, code=1)
        assert "is there already" in again

    async def test_make_the_hub_s_own_for_the_broker(self, settings):
        folder = Path(settings.folder)
        said = await run("ca", "hub", "--config", folder / "hub.toml")
        made = x509.load_pem_x509_certificate((folder / "hub.pem").read_bytes())
        made.verify_directly_issued_by(authority_of(settings).certificate)
        assert made.subject.rfc4514_string() == "CN=hub"
        assert (folder / "hub-key.pem").stat().st_mode & 0o077 == 0
        with (folder / "hub.toml").open("a") as file:
            file.write(said[said.index("[broker]") :])
        own = certificates.own_days_left(
            configuration.load(folder / "hub.toml", {}), datetime.now(UTC)
        )
        assert (own["hub:broker"], "server:hub" in own) == (396, False)

    async def test_issue_a_member_s_certificate_and_renew_it(self, hub):
        uz = await joined_with_a_request(hub)
        first = await uz.get("/v1/certificate")
        said = await asked(hub, "issue", "uz")
        assert said.startswith(f"uz has a certificate until {first['not_after']};")
        renewed = json.loads(await asked(hub, "issue", "uz", "--json"))
        assert renewed["serial"] != first["serial"]
        assert (await uz.get("/v1/certificate"))["certificate"] == renewed["certificate"]
        assert "kz has registered no TLS request" in await asked(hub, "issue", "kz", code=4)

    async def test_list_what_ends_when_and_end_with_one_three_days_before(self, settings, clock):
        async with client.running(with_tls(settings)) as hub:
            await joined_with_a_request(hub)
            clock.forward(days=397 - 4)
            lines = [line.split() for line in (await asked(hub, "list")).splitlines()]
            listed = {line[0]: line for line in lines[1:]}
            assert [*listed] == ["uz", "hub:door", "hub:authority"]
            assert (listed["uz"][2], listed["hub:door"][1]) == ("4", "4")
            clock.forward(days=1)
            assert "within three days: uz, hub:door." in await asked(hub, "list", code=1)
            await asked(hub, "issue", "uz")
            assert "within three days: hub:door." in await asked(hub, "list", code=1)


async def joined_with_a_request(hub):
    """A participant that registered a TLS request when it joined."""
    uz = client.Participant(hub.operator.connection, "uz", hub.service.clock)
    await hub.operator.join(uz, keys=builders.keys("uz", tls_request=builders.tls_request("uz")))
    return uz


async def asked(hub, *words, code=0):
    """What ``nhri-hub ca`` says of a running hub."""
    return await run("ca", *words, "--config", f"{hub.settings.folder}/hub.toml", code=code)


async def run(*words, code=0):
    """Run a command to its end; gives what it printed."""
    result = await asyncio.to_thread(CliRunner().invoke, main, [*map(str, words)])
    assert result.exit_code == code, result.output
    return result.output


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
