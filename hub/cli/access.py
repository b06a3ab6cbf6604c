"""Which hub a command speaks to, and as whom."""

from pathlib import Path

import click
import msgspec

from hub.cli.outcome import NotSo
from hub.settings import Settings, StartError, load, log_vkey
from schemas.note import NoteError, Vkey


class Access(msgspec.Struct, frozen=True):
    """The settings file of a hub on this machine, or the address and token of one elsewhere."""

    config: Path
    hub: str | None = None
    token_file: Path | None = None

    def settings(self) -> Settings:
        """The settings of the hub on this machine.

        Raises:
            UsageError: there is no settings file.
            NotSo: the settings are wrong.
        """
        if not self.config.exists():
            raise click.UsageError(
                f"There is no {self.config}. Give the hub's settings with --config FILE, or --hub "
                "URL with --token-file FILE; `nhri-hub init` makes a new hub."
            )
        try:
            return load(self.config)
        except StartError as error:
            raise NotSo(str(error)) from None

    def token(self) -> str:
        """The operator's or auditor's token for a hub elsewhere.

        Raises:
            UsageError: there is none, or no one line of visible characters in the file.
        """
        if self.token_file is None:
            raise click.UsageError("--hub needs a --token-file FILE.")
        try:
            token = self.token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise click.UsageError(f"{self.token_file} cannot be read: {error}.") from None
        if not token.isprintable() or not token or " " in token:
            raise click.UsageError(f"{self.token_file} does not hold a token.")
        return token

    def log_vkey(self, given: str | None) -> Vkey:
        """The key that the log must be signed with; never asked of the hub that is to be checked.

        Raises:
            UsageError: it was not given and there are no settings, or it is malformed.
            NotSo: the log's key file is not as it must be.
        """
        if given is None and not self.config.exists():
            raise click.UsageError(
                "Give the log's key with --vkey: `nhri-hub audit key` prints it on the hub's own "
                "machine, and every member has it in its bundle."
            )
        try:
            return log_vkey(self.settings()) if given is None else Vkey.parse(given)
        except StartError as error:
            raise NotSo(str(error)) from None
        except NoteError as error:
            raise click.BadParameter(str(error), param_hint="--vkey") from None
