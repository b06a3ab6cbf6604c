"""TLS to the broker: client certificates and no password, as ``--external`` prints it."""

import asyncio
from datetime import UTC, datetime

import pytest
from aio_pika.exceptions import AMQPError
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from connectors.link import Unreachable
from connectors.link.amqp import AmqpLink, address, tls_context
from hub import authority, certificates
from hub.delivery import broker as connections
from hub.delivery import topology
from hub.demo import servers
from schemas import amqp
from schemas import entry as entries
from tests import broker as brokers
from tests import client
from tests.conftest import server_folder
from tests.ports import free_port

SETTINGS = """\
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {folder}/authority.pem
ssl_options.certfile = {folder}/127.0.0.1.pem
ssl_options.keyfile = {folder}/127.0.0.1-key.pem
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_cert_login_from = common_name
auth_mechanisms.1 = EXTERNAL
auth_mechanisms.2 = PLAIN
"""


@pytest.fixture
def issuer(tmp_path):
    """An authority with the broker's certificate and those of the hub and two members."""
    now = datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    made = authority.create("test", now, 1, key)
    (tmp_path / "authority.pem").write_text(authority.pem(made.certificate))
    certificates.create_server(made, tmp_path, ("127.0.0.1",), now, 2)
    for serial, account in enumerate(("hub", "kz", "kg"), 3):
        certificates.create_client(made, tmp_path, account, now, serial)
    return tmp_path


@pytest.fixture
async def node(issuer):
    """A RabbitMQ that speaks TLS and takes a certificate for who comes."""
    with server_folder() as folder:
        home = folder / "rabbit1"
        (home / "conf.d").mkdir(parents=True)
        port = free_port()
        text = SETTINGS.format(port=port, folder=issuer)
        (home / "conf.d" / "tls.conf").write_text(text)
        async with servers.rabbitmq(folder) as made:
            plugins = home / "enabled_plugins"
            plugins.write_text("[rabbitmq_auth_mechanism_ssl].\n")
            await made.ctl("eval", f'rabbit_plugins:ensure("{plugins}").')
            await made.import_definitions(topology.definitions(("kz", "kg"), {}))
            yield f"amqps://127.0.0.1:{port}/{amqp.VHOST}"


def hub_url(node, folder):
    files = f"cafile={folder}/authority.pem&certfile={folder}/hub.pem&keyfile={folder}/hub-key.pem"
    return f"{node}?auth=external&{files}"


def link_of(code, node, folder, hub, certificate=None):
    own = certificate or code
    tls = tls_context(f"{folder}/authority.pem", f"{folder}/{own}.pem", f"{folder}/{own}-key.pem")
    url = address(node.replace("//", f"//{code}@"), "a certificate")
    troubles = []
    made = AmqpLink(
        lambda: url,
        code,
        brokers.http_link(hub, code),
        lambda work, error, delay: troubles.append(str(error)),
        tls,
        patience=replace(brokers.QUICK, connect=2, confirm=2),
    )
    return made, troubles


async def test_hub_and_members_come_in_by_their_certificates(node, issuer, tmp_path):
    settings = client.new_settings(tmp_path / "hub")
    url = hub_url(node, issuer)
    settings = replace(settings, broker=replace(settings.broker, url=url))
    async with client.running(settings) as hub:
        for code in ("kz", "kg"):
            await hub.operator.join(hub.participant(code))
        kz, _ = link_of("kz", node, issuer, hub)
        kg, _ = link_of("kg", node, issuer, hub)
        try:
            sender = hub.participant("kz")
            envelope = sender.sign(sender.message())
            opened = hub.open(await kz.submit(envelope))
            assert opened.entry.type == entries.MESSAGE_ACCEPTED
            (item,) = (await kg.inbox(0, 8, 10)).deliveries
            assert client.envelope(item.delivery) == envelope
        finally:
            await asyncio.gather(kz.close(), kg.close())
        await who_has_another_s_certificate_cannot_send_in_its_name(node, issuer, hub, envelope)
    await without_a_certificate_nobody_comes_in(node, issuer)


async def who_has_another_s_certificate_cannot_send_in_its_name(node, issuer, hub, envelope):
    link, troubles = link_of("kz", node, issuer, hub, certificate="kg")
    try:
        with pytest.raises(Unreachable, match="no connection"):
            await link.submit(envelope)
        assert "inbox.kz" in troubles[0]
    finally:
        await link.close()


async def without_a_certificate_nobody_comes_in(node, issuer):
    for query in (f"?cafile={issuer}/authority.pem", "?"):
        with pytest.raises((AMQPError, OSError)):
            async with connections.connected(f"{node.replace('//', '//kz:@')}{query}", "test"):
                pass
