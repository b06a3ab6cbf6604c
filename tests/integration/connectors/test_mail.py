"""Alarms by e-mail, at a real mail server: told once, whatever the server and the line do."""

import asyncio
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec

from connectors import config as configs
from connectors.alarms import Finding
from connectors.cli.main import main
from connectors.store import Store
from hub import authority, certificates
from schemas.encoding import format_time
from tests.integration.connectors.test_daemon import MovedClock
from tests.simulator.institution import exchange
from tests.simulator.mail import MailServer
from tests.simulator.process import Process
from tests.simulator.waiting import until

FORKED = Finding("log-forked", "1", "Secret words of the hub.")


def told(institution, server, **settings):
    """Let an institution be told of its alarms by a mail server."""
    fields = {
        "host": "127.0.0.1",
        "port": server.port,
        "tls": "none",
        "from": "connector@kz.example",
        "to": ["technician@kz.example"],
    } | settings
    lines = [
        f"{name} = {str(value) if type(value) is int else repr(value)}"
        for name, value in fields.items()
    ]
    text = institution.path.read_text().partition("\n[mail]")[0]
    institution.path.write_text("\n".join([text, "[mail]", *lines, ""]))
    institution.config = configs.load(institution.path, {})


def raise_alarms(institution, *findings):
    """Raise alarms while the daemon is stopped."""
    config = institution.config
    with Store.open_for(config.store, config.code, config.hub.log) as store, store.transaction():
        store.raise_alarms(findings, "2026-07-01T00:00:00.000Z")


@asynccontextmanager
async def mailing(server=None, **settings):
    """kz with an alarm that nobody was told of yet, and its mail server."""
    async with exchange("kz", "kg") as (_, them), (server or MailServer()).running() as mail:
        kz = them["kz"]
        told(kz, mail, **settings)
        raise_alarms(kz, FORKED)
        yield kz, mail


async def typed(institution, *words):
    """Type a command."""
    line = [*words, "--config", str(institution.path)]
    return await asyncio.to_thread(CliRunner().invoke, main, line)


def unmailed(institution):
    return institution.ask(lambda store: store.unmailed(""))


def trouble(institution):
    found = institution.ask(lambda store: store.mail_trouble())
    return found.detail if found else ""


async def test_an_alarm_is_mailed_once_in_the_language_of_the_institution():
    async with mailing() as (kz, mail):
        async with kz.running():
            await until(lambda: kz.log.of("alarms.mailed"), "mailed")
        async with kz.running():
            await until(lambda: kz.log.of("log.followed"), "at work again")
        (letter,) = mail.letters
        assert letter["From"] == "connector@kz.example"
        assert letter["To"] == "technician@kz.example"
        assert letter["Subject"] == "[nhri kz] Хаб бұрынғыдан басқа тарихты көрсетті"
        assert letter["Auto-Submitted"] == "auto-generated"
        body = letter.get_content()
        assert "nhri-connector alarms ack 1 --note" in body
        assert "2026-07-01 05:00 (Asia/Almaty)" in body
        assert "Secret words" not in letter.as_string() + body
        assert unmailed(kz) == []


async def test_another_language_and_several_people_can_be_chosen():
    people = ["one@kz.example", "two@kz.example"]
    async with mailing(to=people, language="ru") as (kz, mail), kz.running():
        await until(lambda: mail.letters, "mailed")
        assert mail.letters[0]["Subject"] == "[nhri kz] Хаб показал другую историю, чем раньше"
        assert mail.sent_to == [people]


@pytest.mark.parametrize("answer", ["451 Try again later", "554 You look like spam"])
async def test_what_a_server_does_not_take_is_offered_again_until_it_does(answer):
    async with mailing() as (kz, mail), kz.running():
        mail.answers = [answer, answer]
        await until(lambda: mail.letters, "mailed")
        await until(lambda: kz.log.of("alarms.mailed"), "noted")
        assert mail.offered == 3
        assert len(mail.letters) == 1
        assert unmailed(kz) == []
        assert trouble(kz) == ""
        details = [event["detail"] for event in kz.log.of("trouble") if event["work"] == "mail"]
        assert details == [f"The mail server 127.0.0.1 did not take it: {answer}."] * 2


async def test_a_letter_outlives_a_server_that_is_down_and_a_restart():
    async with mailing() as (kz, mail):
        await mail.stop()
        async with kz.running():
            await until(lambda: trouble(kz), "the server is away")
            sent = kz.send()
            await until(lambda: kz.receipts(sent), "and everything else goes on")
        assert "did not take it" in trouble(kz)
        assert len(unmailed(kz)) == 1
        await mail.start()
        async with kz.running():
            await until(lambda: mail.letters, "mailed")


async def test_doctor_says_that_mails_wait_and_why():
    async with mailing() as (kz, mail):
        mail.unknown = {"technician@kz.example": "550 Nobody of that name"}
        async with kz.running():
            await until(lambda: trouble(kz), "refused")
        said = await typed(kz, "doctor")
        assert said.exit_code == 1
        assert "1 alarms wait; since" in said.stdout
        assert "technician@kz.example: 550 Nobody of that name" in said.stdout


async def test_an_address_that_is_refused_keeps_nobody_else_from_being_told_once():
    async with mailing(to=["gone@kz.example", "here@kz.example"]) as (kz, mail), kz.running():
        mail.unknown = {"gone@kz.example": "550 Gone"}
        await until(lambda: kz.log.of("alarms.mailed"), "mailed")
        assert mail.sent_to == [["here@kz.example"]]
        assert "refused gone@kz.example: Gone" in trouble(kz)
        assert unmailed(kz) == []


async def test_a_flood_becomes_one_letter_and_a_kind_then_rests():
    async with mailing() as (kz, mail):
        raise_alarms(kz, *(Finding("receipt-overdue", f"m{n} kg", "Late.") for n in range(50)))
        clock = MovedClock()
        async with kz.running(clock=clock):
            await until(lambda: kz.log.of("alarms.mailed"), "mailed")
        assert mail.letters[0]["Subject"] == "[nhri kz] Дабылдар: 51"
        raise_alarms(
            kz, Finding("receipt-overdue", "later kg", "Late."), Finding("own-keys", "7", "Keys.")
        )
        async with kz.running(clock=clock):
            await until(lambda: len(mail.letters) == 2, "another kind is told at once")
            # The letter is here before the connector has written down that it was taken.
            await until(
                lambda: [alarm.kind for alarm in unmailed(kz)] == ["receipt-overdue"], "one rests"
            )
            clock.off = timedelta(minutes=6)
            await until(lambda: len(mail.letters) == 3, "the first one, after its rest")


async def test_notices_and_what_somebody_noted_are_not_mailed():
    async with mailing() as (kz, mail):
        raise_alarms(kz, Finding("directory-changed", "5", "It changed."))
        assert (await typed(kz, "alarms", "ack", "1", "--note", "x")).exit_code == 0
        raise_alarms(kz, Finding("own-keys", "7", "Keys."))
        async with kz.running():
            await until(lambda: kz.log.of("alarms.mailed"), "mailed")
        assert kz.log.of("alarms.mailed")[0]["count"] == 1
        assert "own" not in str(mail.letters[0]["Subject"])


async def test_an_alarm_that_was_over_before_it_could_be_mailed_is_told_as_over():
    async with mailing(language="en") as (kz, mail):
        config = kz.config
        with Store.open_for(config.store, "kz", config.hub.log) as store, store.transaction():
            store.end_alarm("log-forked", "1", format_time(datetime.now(UTC)))
        async with kz.running():
            await until(lambda: mail.letters, "mailed")
        assert "Over since" in mail.letters[0].get_content()


# --- TLS ---


@pytest.fixture
def issuer(tmp_path):
    """An authority, as a file, and the mail server's TLS with a certificate of it."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    made = authority.create("test", now, 1, key)
    (tmp_path / "authority.pem").write_text(authority.pem(made.certificate))
    files = certificates.create_server(made, tmp_path, ("127.0.0.1",), now, 2)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    return tmp_path / "authority.pem", context


async def test_over_starttls_with_a_password_from_a_file(issuer, tmp_path):
    ca, context = issuer
    (tmp_path / "password").write_text("open sesame\n")
    files = {"ca": str(ca), "password_file": str(tmp_path / "password")}
    server = MailServer(context, password=b"open sesame")
    async with mailing(server, tls="starttls", user="kz", **files) as (kz, mail), kz.running():
        await until(lambda: mail.letters, "mailed")
        assert mail.encrypted == [True]


async def test_a_wrong_password_is_said_and_not_shown(issuer):
    ca, context = issuer
    server = MailServer(context, password=b"open sesame")
    settings = {"tls": "starttls", "ca": str(ca), "user": "kz", "password": "wrong-one"}
    async with mailing(server, **settings) as (kz, _), kz.running():
        await until(lambda: "535" in trouble(kz), "refused")
        assert "wrong-one" not in kz.log.getvalue() + trouble(kz)


async def test_a_certificate_of_somebody_else_is_refused(issuer):
    _, context = issuer
    async with mailing(MailServer(context), tls="starttls") as (kz, mail), kz.running():
        await until(lambda: "certificate" in trouble(kz).lower(), "refused")
        assert mail.offered == 0


async def test_a_server_without_starttls_gets_nothing():
    async with mailing(tls="starttls") as (kz, mail), kz.running():
        await until(lambda: "STARTTLS" in trouble(kz), "refused")
        assert mail.offered == 0


async def test_a_password_file_that_is_not_there_is_said():
    async with mailing(user="kz", password_file="nowhere") as (kz, _), kz.running():
        await until(lambda: "nowhere" in trouble(kz), "said")


async def test_a_connector_that_mails_takes_at_most_80_mb():
    async with mailing() as (kz, mail):
        with Process(kz) as process:
            process.start()
            await until(lambda: mail.letters, "mailed")
            assert process.memory() <= 80
            assert await process.stop() == 0
