"""Where a command is run: the settings, the institution's profile, and its state folder."""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias
from zoneinfo import ZoneInfo

import click
import msgspec

from connectors import config as configs
from connectors import keys, profile
from connectors.cli.options import common_options, config_path
from connectors.cli.outcome import Mistaken, NotSo
from connectors.config import Config, ConfigError
from connectors.joined import JoinedError
from connectors.keys import Keyring, KeysError
from connectors.profile import Profile
from connectors.store import Reader, StoreError
from schemas.encoding import parse_time

Command: TypeAlias = Callable[..., None]


class Site(msgspec.Struct, frozen=True):
    """One institution's connector, as its commands see it. The store is only ever read."""

    path: Path
    config: Config
    profile: Profile
    as_json: bool

    @property
    def code(self) -> str:
        """The institution's code."""
        return self.config.code

    def reader(self) -> Reader:
        """The store, read-only: the daemon is its one writer."""
        return Reader.open(self.config.store)

    def glance(self) -> Reader | None:
        """The store where it can be read: what is written goes into the outbox without it, too."""
        try:
            return self.reader()
        except StoreError:
            return None

    def keys(self) -> Keyring:
        """The institution's own keys."""
        return keys.load(self.config.keys)

    def local(self, time: str | None) -> str:
        """A time of the exchange as the clock on the institution's wall shows it."""
        if time is None:
            return ""
        zone = ZoneInfo(self.profile.time_zone)
        return f"{parse_time(time).astimezone(zone):%Y-%m-%d %H:%M}"


def now() -> datetime:
    """The time on this machine."""
    return datetime.now(UTC)


def profile_of(code: str) -> Profile:
    """The profile of an institution; a bare one where none comes with the program."""
    try:
        return profile.load(code)
    except LookupError:
        return Profile(
            code=code,
            role="observer",
            short_name=code,
            names={},
            languages=("en",),
            time_zone="UTC",
            website="",
        )


def on_site(command: Callable[..., None]) -> Command:
    """Give a command its ``Site`` first, then its own arguments; add the common options."""

    @functools.wraps(command)
    def run(config: Path | None, as_json: bool, **arguments: object) -> None:
        path = config_path(config)
        if not path.exists():
            raise click.UsageError(
                f"There is no {path}. Give the connector's settings with --config FILE; "
                "`nhri-connector join BUNDLE` makes new ones."
            )
        try:
            settings = configs.load(path)
        except ConfigError as error:
            raise Mistaken(str(error)) from None
        try:
            command(Site(path, settings, profile_of(settings.code), as_json), **arguments)
        except (StoreError, KeysError, JoinedError) as error:
            raise NotSo(str(error)) from None

    return common_options(run)
