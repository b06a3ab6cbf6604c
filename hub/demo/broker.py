"""The broker and the database of a demo: private servers, and what of them settings say.

Ports, and the accounts on the broker with their passwords, are new at each start: settings, which
then only their owner can read, are the one place where a participant's password stands.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from hub.delivery import topology
from hub.demo import servers
from hub.demo.corpus import PARTICIPANTS
from schemas import amqp

RABBITMQ: Final = "rabbitmq"
"""The one broker that there is."""

_MARK: Final = "\n# What follows is written anew at each start of the demo.\n"

_SQLITE: Final = '[store]\nurl = "sqlite:///hub.sqlite"\n'
"""As ``nhri-hub init`` writes it."""


class Addresses(msgspec.Struct, frozen=True):
    """Where database and broker are, with passwords; on the broker by account."""

    database: str
    broker: Mapping[str, str]

    def tell_hub(self, settings: Path) -> None:
        """Have the hub with these settings use both."""
        store = f'[store]\nurl = "{self.database}"\n'
        broker = f'\n[broker]\nurl = "{self.broker[topology.HUB_ACCOUNT]}"\n'
        _rewrite(settings, store + broker, instead=_SQLITE)

    def tell_connector(self, code: str, settings: Path) -> None:
        """Have the connector with these settings link over the broker."""
        _rewrite(settings, f'[link]\namqp = "{self.broker[code]}"\n')


@asynccontextmanager
async def running(folder: Path, say: Callable[[str], None]) -> AsyncIterator[Addresses]:
    """PostgreSQL and RabbitMQ, with the hub's topology; up in about 15 s.

    Args:
        folder: what they keep; a folder that was used before goes on with what it holds.
        say: called with a sentence for each step.

    Raises:
        ProcessError: one of them is not installed or did not come up.
    """
    say("  PostgreSQL starts ...")
    async with servers.postgresql(folder / "postgresql") as database:
        say(f"  PostgreSQL is at 127.0.0.1:{database.port}; RabbitMQ starts ...")
        async with servers.rabbitmq(folder / RABBITMQ) as node:
            say(f"  RabbitMQ is at 127.0.0.1:{node.port}; it takes accounts and queues ...")
            accounts = (topology.HUB_ACCOUNT, *PARTICIPANTS)
            passwords = {account: secrets.token_hex(16) for account in accounts}
            hashes = {
                account: topology.password_hash(password, secrets.token_bytes(4))
                for account, password in passwords.items()
            }
            await node.import_definitions(topology.definitions(PARTICIPANTS, hashes))
            await node.settle()
            urls = {a: node.url_for(amqp.VHOST, a, password) for a, password in passwords.items()}
            yield Addresses(database.url, urls)


def _rewrite(settings: Path, tables: str, instead: str = "") -> None:
    """End settings with these tables, after those of an earlier start and another are gone."""
    text = settings.read_text("utf-8").partition(_MARK)[0].replace(instead, "")
    draft = settings.with_name(f".{settings.name}.new")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    draft.write_text(f"{text}{_MARK}{tables}", "utf-8")
    draft.replace(settings)
