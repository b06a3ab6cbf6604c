"""What the daemon's workers share: the store, the link, and who it is all for."""

from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec

from connectors import forks
from connectors.alarms import Finding
from connectors.events import Events
from connectors.follower import Follower
from connectors.link import Link
from connectors.store import Store
from connectors.verification import Backed
from schemas.encoding import format_time
from schemas.note import Vkey


class Parts(msgspec.Struct, frozen=True):
    """The parts of one connector, wired together by ``daemon``."""

    code: str
    log: Vkey
    store: Store
    link: Link
    follower: Follower
    events: Events
    clock: Callable[[], datetime]

    def now(self) -> str:
        """The time on this machine, in the exchange's format."""
        return format_time(self.clock())

    def found(self, findings: Iterable[Finding]) -> None:
        """Keep findings that come with nothing else to be kept, and tell of the new ones."""
        with self.store.transaction():
            raised = self.store.raise_alarms(findings, self.now())
        self.events.findings(raised)

    def fork(self, finding: Finding) -> None:
        """Keep a finding about another history, with both signed sides of it as files."""
        self.found([finding])
        forks.keep(self.store.folder / "forks", finding)

    async def follows(self, backed: Backed) -> bool:
        """Whether an acceptance is of the history that we follow; follows up to it first."""
        return await self.follower.agrees(backed.opened.checkpoint, backed.note)
