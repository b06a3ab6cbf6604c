"""The demo's folder: where everything of one run stands."""

import tomllib
from pathlib import Path

import msgspec

from hub.demo.corpus import PARTICIPANTS


class FolderError(Exception):
    """The folder cannot be used; the sentence says why and what helps."""


class Folder(msgspec.Struct, frozen=True):
    """The paths below one folder."""

    path: Path

    @property
    def hub(self) -> Path:
        """The hub's settings."""
        return self.path / "hub.toml"

    @property
    def logs(self) -> Path:
        """What the daemons say, a file each."""
        return self.path / "logs"

    def log(self, name: str) -> Path:
        """What one daemon says."""
        return self.logs / f"{name}.log"

    def connector(self, code: str) -> Path:
        """A connector's settings."""
        return self.path / "connectors" / f"{code}.toml"

    def signing_key(self, code: str) -> Path:
        """The key that an institution signs with, which its connector made."""
        return self.path / "connectors" / code / "keys" / "sign.pem"

    @property
    def webhooks(self) -> Path:
        """What the receivers verify with, a file each, and what they took, a folder each."""
        return self.path / "webhooks"

    @property
    def servers(self) -> Path:
        """What PostgreSQL and RabbitMQ keep; it is there where the demo runs over them."""
        return self.path / "servers"

    def token(self, account: str) -> Path:
        """The token of an operator or auditor."""
        return self.path / "tokens" / account

    def bundle(self, code: str) -> Path:
        """The invitation that a technician joins with."""
        return self.path / "bundles" / f"{code}.json"

    def message(self, code: str, record: str) -> Path:
        """The message file that one sender makes of a record."""
        return self.path / "messages" / code / f"{record}.json"

    def sent(self, code: str) -> Path:
        """The ids of the records that one sender put in its outbox."""
        return self.path / "messages" / code / "sent"

    def answered(self, code: str) -> Path:
        """The ids of the answers that one member put in its outbox, a line for each time."""
        return self.path / "messages" / code / "answered"

    def prepare(self, *, broker: bool) -> bool:
        """Make the folder ready; True when it holds a demo to go on with.

        Args:
            broker: whether a new demo runs over RabbitMQ and PostgreSQL.

        Raises:
            FolderError: it holds something else, a demo that was broken off before all had joined,
                one of a hub without webhooks, or one without the broker that is asked for.
        """
        if self.hub.exists():
            self._check(broker=broker)
            return True
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if any(self.path.iterdir()):
                raise FolderError(
                    f"{self.path} is not empty and holds no demo; choose another: "
                    "DIR=path make demo."
                )
            for folder in ("bundles", "connectors", "logs"):
                (self.path / folder).mkdir()
            if broker:
                self.servers.mkdir()
            for code in PARTICIPANTS:
                (self.path / "messages" / code).mkdir(parents=True)
            for private in (self.path / "tokens", self.webhooks):
                private.mkdir(mode=0o700)
        except OSError as error:
            raise FolderError(f"{error.filename} cannot be made: {error.strerror}.") from None
        return False

    def _check(self, *, broker: bool) -> None:
        """Refuse a demo that cannot go on."""
        if broker and not self.servers.exists():
            raise FolderError(
                f"The demo in {self.path} runs without a broker; leave BROKER out, or choose "
                "another folder: DIR=path make demo BROKER=rabbitmq."
            )
        missing = [code for code in PARTICIPANTS if not self.connector(code).exists()]
        if missing:
            raise FolderError(
                f"The demo in {self.path} was broken off before {', '.join(missing)} had "
                "joined; remove the folder or choose another: DIR=path make demo."
            )
        if not self.webhooks.exists():
            raise FolderError(
                f"The demo in {self.path} began before there were webhooks; remove the folder "
                "or choose another: DIR=path make demo."
            )

    def port(self) -> int:
        """The port of the folder's hub, as its settings have it.

        Raises:
            FolderError: the settings cannot be read.
        """
        try:
            settings = tomllib.loads(self.hub.read_text("utf-8"))
            return msgspec.convert(settings["http"]["port"], int)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FolderError(f"{self.hub} cannot be read: {error}.") from None
