"""The client certificate: renewed in time, and never given up for one that does not work."""

import asyncio
import ssl
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from connectors import certificate, keys
from connectors.certificate import Renewal
from connectors.events import Events
from connectors.link import HubRefused, Unreachable
from connectors.link.http import HttpLink, Issued
from connectors.parts import Parts
from connectors.store import Store
from hub import authority, certificates
from tests import builders
from tests.client import Clock
from tests.simulator.institution import Log

ISSUER = authority.create("test", builders.NOW, 1, ec.derive_private_key(11, ec.SECP256R1()))

NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME: the clock of the tests is not the machine's."""


class Hub:
    """A hub with an authority, as far as a connector sees its certificates."""

    def __init__(self, clock):
        self.clock = clock
        self.code = "kz"
        self.newest = None
        self.made = 0
        self.failure = None

    async def certificate(self):
        if self.failure:
            raise self.failure
        if self.newest is None:
            raise HubRefused("not-found", "No certificate was issued to you.")
        return Issued(authority.pem(self.newest))

    async def new_certificate(self, request):
        self.made += 1
        now = self.clock()
        self.newest = authority.issue_client(ISSUER, self.code, request, now, 100 + self.made)
        return Issued(authority.pem(self.newest))


class Member:
    """An institution with its TLS key, and the worker that renews its certificate."""

    def __init__(self, folder):
        self.clock = Clock()
        self.hub = Hub(self.clock)
        self.keyring = keys.make(folder / "keys")
        self.key = folder / "keys" / keys.TLS_FILE
        self.path = folder / "kz.pem"
        self.context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.log = Log()
        self.store = Store.open_for(folder / "store.sqlite", "kz", str(builders.LOG))
        events = Events("kz", self.log)
        nothing = cast("Any", None)  # it neither links nor follows
        self.parts = Parts("kz", builders.LOG, self.store, nothing, nothing, events, self.clock)

    def renewal(self, key=None, own=True):
        private = self.keyring.tls if own else None
        return Renewal(
            self.parts,
            cast("HttpLink", self.hub),
            self.path,
            key or self.key,
            private,
            self.context,
        )

    async def step(self):
        await self.renewal().step()

    async def fails(self):
        """A step that is tried again soon."""
        with pytest.raises((HubRefused, Unreachable)):
            await self.step()

    @property
    def serial(self):
        """Of the certificate in the file; the hub's first one has 101."""
        held = certificate.read(self.path)
        return held and held.serial_number

    @property
    def certificate(self):
        found = certificate.read(self.path)
        assert found is not None
        return found

    @property
    def alarms(self):
        return [(alarm.kind, alarm.sentence) for alarm in self.store.alarms()]

    async def with_days_left(self, days):
        """Let time pass until the certificate holds so long."""
        await self.step()
        self.until(self.certificate.not_valid_after_utc - timedelta(days=days))

    def until(self, time):
        self.clock.forward(seconds=(time - self.clock()).total_seconds())


@pytest.fixture
def member(tmp_path):
    made = Member(tmp_path)
    yield made
    made.store.close()


async def test_the_one_that_the_approval_brought_is_fetched(member):
    await member.hub.new_certificate(keys.tls_request(member.keyring.tls, "kz"))
    await member.step()
    assert (member.serial, member.hub.made) == (101, 1)


async def test_where_there_is_none_one_is_asked_for(member):
    await member.step()
    assert (member.serial, member.hub.made) == (101, 1)
    ends = member.certificate.not_valid_after_utc
    assert member.log.of("certificate.renewed")[0]["ends"] == f"{ends:%Y-%m-%dT%H:%M:%S}.000Z"


async def test_it_is_readable_by_its_owner_alone_and_no_draft_is_left_behind(member):
    await member.step()
    assert member.path.stat().st_mode & 0o777 == 0o600
    assert {path.name for path in member.path.parent.glob("*.pem*")} == {"kz.pem"}
    assert not list(member.path.parent.glob(".kz*"))


@pytest.mark.parametrize(("days", "serial"), [(31, 101), (30, 101), (29.9, 102), (1, 102)])
async def test_it_is_renewed_when_fewer_than_thirty_days_are_left(member, days, serial):
    await member.with_days_left(days)
    await member.step()
    assert member.serial == serial
    assert member.alarms == []


async def test_one_that_was_signed_and_did_not_arrive_is_not_signed_again(member):
    await member.with_days_left(29)
    await member.hub.new_certificate(keys.tls_request(member.keyring.tls, "kz"))
    await member.step()
    assert (member.serial, member.hub.made) == (102, 2)


async def test_after_new_keys_were_made_it_is_renewed_whatever_is_left(member):
    await member.step()
    keys.set_aside(member.key.parent)
    member.keyring = keys.make(member.key.parent)
    await member.step()
    assert certificate.is_for(member.certificate, member.keyring.tls)


async def test_a_refusal_is_an_alarm_and_is_tried_again_the_next_day(member):
    await member.with_days_left(29)
    member.hub.failure = HubRefused("forbidden", "You are suspended.")
    await member.step()
    [(kind, sentence)] = member.alarms
    assert kind == "certificate-ends"
    assert sentence.startswith("It ends at 20")
    assert sentence.endswith("forbidden: You are suspended.")
    await member.step()
    assert [line["again_in"] for line in member.log.of("trouble")] == [86_400, 86_400]
    assert len(member.log.of("alarm")) == 1
    member.hub.failure = None
    await member.step()
    assert (member.serial, member.alarms) == (102, [])


@pytest.mark.parametrize(("days", "alarms"), [(29, 0), (13, 1), (-1, 1)])
async def test_a_hub_that_is_away_is_an_alarm_when_time_gets_short(member, days, alarms):
    await member.with_days_left(days)
    member.hub.failure = Unreachable("Nobody answers.")
    await member.fails()
    assert len(member.alarms) == alarms
    assert member.serial == 101


async def test_without_any_it_is_tried_again_soon_until_an_operator_has_approved_us(member):
    member.hub.failure = HubRefused("unauthenticated", "The key is not registered here.")
    await member.fails()
    assert member.alarms == []


async def test_another_s_certificate_does_not_replace_ours(member):
    await member.with_days_left(29)
    member.hub.code = "kg"
    await member.step()
    assert member.serial == 101
    assert "not for our name and key" in member.alarms[0][1]


async def test_one_that_ends_no_later_does_not_replace_ours(member):
    await member.with_days_left(29)
    member.hub.clock = Clock(builders.NOW)
    await member.step()
    assert member.serial == 101
    assert "would not hold any longer" in member.alarms[0][1]


async def test_a_folder_that_cannot_be_written_is_an_alarm(member, tmp_path):
    member.path = tmp_path / "missing" / "kz.pem"
    await member.step()
    assert "No such file" in member.alarms[0][1]


async def test_a_file_with_a_key_in_it_is_not_overwritten(member):
    both = member.key.read_bytes()
    member.path.write_bytes(both)
    await member.step()
    assert member.path.read_bytes() == both
    assert "link.key has to name its own file" in member.alarms[0][1]


async def test_another_authority_s_certificate_is_only_watched(member, tmp_path):
    other = ec.generate_private_key(ec.SECP256R1())
    key = tmp_path / "other-key.pem"
    key.write_bytes(certificates.private_pem(other))
    request = keys.tls_request(other, "kz")
    made = authority.issue_client(ISSUER, "kz", request, member.clock(), 7)
    member.path.write_text(authority.pem(made))
    for days, alarms in ((29, 0), (13, 1)):
        member.until(made.not_valid_after_utc - timedelta(days=days))
        await member.renewal(key, own=False).step()
        assert len(member.alarms) == alarms
    assert (member.serial, member.hub.made) == (7, 0)


async def test_the_next_connection_shows_the_new_one(member, tmp_path):
    async with server(tmp_path) as (port, shown):
        await member.step()
        await connect(port, member.context)
        await member.with_days_left(20)
        await connect(port, member.context)
        await member.step()
        await connect(port, member.context)
        assert [await shown.get() for _ in range(3)] == [101, 101, 102]


@asynccontextmanager
async def server(folder):
    """A server that asks for a certificate, and the serials of those that it is shown."""
    files = certificates.create_server(ISSUER, folder, ("127.0.0.1",), builders.NOW, 2)
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cadata=authority.pem(ISSUER.certificate)
    )
    context.load_cert_chain(*files)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= NO_CHECK_TIME
    shown: asyncio.Queue[int] = asyncio.Queue()

    async def serve(_, writer):
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        shown.put_nowait(x509.load_der_x509_certificate(der).serial_number)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as listening:
        yield listening.sockets[0].getsockname()[1], shown


async def connect(port, context):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    assert await reader.read() == b""
    writer.close()
