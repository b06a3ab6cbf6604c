"""What holds for every test: one printed seed, and the servers with the mark of who starts them."""

import itertools
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
import structlog
from hypothesis import settings

from hub.demo import servers
from tests import ports
from tests.broker import Brokers

TESTS = Path(__file__).parent
SERVER_FOLDERS = {"integration", "faults", "browser"}
SERVER_FIXTURES = {"rabbitmq", "postgresql_server"}

# No deadline: on a busy machine a slow example says nothing about the code. Not derandomized: every
# run looks at other examples, and the seed in the header and the printed blob bring one back.
settings.register_profile("exchange", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("exchange")

# Tracebacks as Python writes them: with every local variable, one takes a second to draw.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.dev.ConsoleRenderer(colors=False),
    ]
)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed here, before hypothesis would draw one a test without saying which."""
    # Tables are as wide as in a pipe, whatever terminal the tests are run from.
    os.environ.pop("COLUMNS", None)
    ports.divide()
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = secrets.randbits(32)


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.option.hypothesis_seed
    return f"seed: {seed} (the same again: --hypothesis-seed={seed})"


def pytest_itemcollected(item: pytest.Item) -> None:
    folder = item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else None
    if folder in SERVER_FOLDERS or SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
        item.add_marker("servers")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rabbitmq():
    """One RabbitMQ for all tests. Who kills it starts it again, who declares a queue names it."""
    with server_folder() as folder:
        async with servers.rabbitmq(folder) as broker:
            yield broker


@pytest.fixture(scope="session")
def brokers(rabbitmq):
    """Places on the broker, for whoever needs one for longer than a test."""
    return Brokers(rabbitmq)


@pytest.fixture
async def broker(brokers):
    """A place of the test's own on the broker, with accounts for everybody in it."""
    return await brokers.new()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgresql_server():
    """One PostgreSQL for all tests. Who kills it starts it again."""
    with server_folder() as folder:
        async with servers.postgresql(folder, "unused") as server:
            yield server


DATABASES = itertools.count(1)


@pytest.fixture
async def postgresql(postgresql_server):
    """A database of the test's own, empty."""
    database = await postgresql_server.create(f"test_{next(DATABASES)}")
    yield database
    await database.drop()


@contextmanager
def server_folder() -> Iterator[Path]:
    """A short-lived folder: pytest would keep those of the last three runs."""
    with tempfile.TemporaryDirectory(prefix="nhri-test-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # PostgreSQL, which root starts as another user, has to pass
        yield folder
