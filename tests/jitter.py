"""Jitter: whatever comes over a socket or out of a thread comes late, now and then, by chance.

A test that looks at something before it has waited for it passes on a quiet machine and fails on a
busy one; code that relies on an order that nothing gives it does so as well. With jitter both are
found in one run::

    python -m pytest -p tests.jitter --jitter 0.1 tests/integration

Only this process is late; the programs that tests start are as they are.
"""

import random
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol, TypeVar

import pytest

R = TypeVar("R")

LATEST: Final = 0.25
"""Seconds; by how much something is late at most."""

_POLL = 0.002

Ready = list[tuple[selectors.SelectorKey, int]]
_submit = ThreadPoolExecutor.submit


class HasFileno(Protocol):
    """A file, as selectors take it."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...


class LateSelector(selectors.DefaultSelector):
    """A selector that keeps some events back for a while."""

    share = 0.0
    chance = random.Random()

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[int, float] = {}

    def select(self, timeout: float | None = None) -> Ready:
        """As always, without what is held back."""
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            left = None if end == float("inf") else max(0.0, end - time.monotonic())
            ready = super().select(left)
            due = [event for event in ready if self._due(event[0].fd, time.monotonic())]
            if due or not ready or time.monotonic() >= end:
                return due
            time.sleep(_POLL)

    def unregister(self, fileobj: int | HasFileno) -> selectors.SelectorKey:
        """Forget what was held: the number may come again as another file's."""
        key = super().unregister(fileobj)
        self._held.pop(key.fd, None)
        return key

    def _due(self, fd: int, now: float) -> bool:
        late = self.chance.random() < self.share
        held = self._held.setdefault(fd, now + late * self.chance.random() * LATEST)
        if held <= now:
            del self._held[fd]
        return held <= now


def late_submit(pool: ThreadPoolExecutor, work: Callable[..., R], /, *given: object) -> Future[R]:
    """Begin some work late, and be late to say that it is done."""
    chance, late = LateSelector.chance, LATEST / 2
    if chance.random() >= LateSelector.share:
        return _submit(pool, work, *given)
    before, after = chance.random() * late, chance.random() * late

    def slow() -> R:
        time.sleep(before)
        try:
            return work(*given)
        finally:
            time.sleep(after)

    return _submit(pool, slow)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the share of what is late."""
    parser.addoption("--jitter", type=float, default=0.1, help="the share of events that are late")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Put both in the place of Python's own, for every event loop that is made from now on."""
    LateSelector.share = config.getoption("--jitter")
    LateSelector.chance.seed(config.option.hypothesis_seed)
    setattr(selectors, "DefaultSelector", LateSelector)  # noqa: B010 - a class, to mypy
    setattr(ThreadPoolExecutor, "submit", late_submit)  # noqa: B010 - a method, to mypy
