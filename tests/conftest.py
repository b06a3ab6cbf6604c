"""What holds for every test: one printed seed, and the mark of those that start servers."""

import secrets
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
SERVER_FOLDERS = {"integration", "faults", "browser"}

# No deadline: on a busy machine a slow example says nothing about the code. Not derandomized: every
# run looks at other examples, and the seed in the header and the printed blob bring one back.
settings.register_profile("exchange", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("exchange")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed here, before hypothesis would draw one a test without saying which."""
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = secrets.randbits(32)


def pytest_report_header(config: pytest.Config) -> str:
    seed = config.option.hypothesis_seed
    return f"seed: {seed} (the same again: --hypothesis-seed={seed})"


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).parts[0] in SERVER_FOLDERS:
        item.add_marker("servers")
