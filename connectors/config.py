"""A connector's settings: one TOML file, ``<code>.toml``, with overrides from the environment.

Every setting can be overridden by ``NHRI_`` and its name in capitals (``hub.url`` by
``NHRI_HUB_URL``), or by the content of a file named in the same variable with ``_FILE``.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from connectors import keys
from schemas.encoding import CODE_PATTERN
from schemas.note import NoteError, Vkey
from schemas.vocabulary import LANGUAGES

_TEMPLATE = """\
# The connector of one institution. Paths are relative to this file.
code = {code}
state = {code}  # keys, outbox and store; back this folder up and show it to nobody

[hub]
url = {url}
log = {log}  # the key that the hub's log is verified with

# [link]  # where messages and receipts travel over RabbitMQ instead of over HTTP
# amqp = "amqps://CODE@HOST/nhri"  # whole, with a password, in a file: NHRI_LINK_AMQP_FILE
# ca = "authority.pem"  # whom to believe, where it is not one that this machine knows
# certificate = "CODE.pem"  # instead of a password; fetched from the hub, and renewed in time
# key = "CODE-key.pem"  # only for a certificate of another authority, which nobody renews here

# [witness]  # where another log may reach the witness (C2SP tlog-witness); our hub need not
# listen = "127.0.0.1:8099"

# [mail]  # who is told of alarms by e-mail; no message's content is ever in it
# host = "mail.example.org"
# from = "connector@example.org"
# to = ["technician@example.org"]
# user = "connector"  # where the server wants one; the password in a file of mode 0600
# password_file = "mail-password"
# tls = "starttls"  # or "tls", or "none" for a server on this machine
# language = "ru"  # the institution's own by default: kk ky tg tk uz-Latn uz-Cyrl ru en

[receipts]
overdue_hours = 72  # when a recipient's receipt counts as overdue
"""

_NUMBERS = frozenset({"overdue_hours", "port"})

_LISTS = frozenset({"to"})
"""In the environment a text with commas."""

_ADDRESS = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,255}$(?!\n)"

_HINTS = MappingProxyType(
    {
        "code": "A code is 2 to 16 of the characters a-z, 0-9 and -, a letter first",
        "hub.url": "An address is written like https://hub.example",
        "link.amqp": "An address is written like amqps://kz@hub.example/nhri",
        "mail.from": "An address is written like connector@example.org",
        "mail.to": 'Addresses are written like ["technician@example.org"]',
        "mail.host": "A host is written like mail.example.org",
    }
)

_ENCRYPTED = frozenset({"https", "amqps"})

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

S = TypeVar("S", bound=msgspec.Struct)

Toml: TypeAlias = "str | int | float | bool | list[Toml] | dict[str, Toml]"


class ConfigError(ValueError):
    """The settings cannot be used; the message names the file and the field."""


class HubConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the hub is, and the verifier key (vkey) of its log, which was compared at ``join``."""

    url: Annotated[str, Meta(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$(?!\n)")]
    log: str


class LinkConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The broker that messages travel over; without ``amqp`` everything goes over HTTP.

    The others are PEM files for its TLS, as absolute paths: whom to believe, where the machine's
    own authorities are not meant, and a client certificate in place of a password, with its key.
    By default that is the institution's own TLS key, which the hub's authority certifies.
    """

    amqp: Annotated[str, Meta(pattern=r"^(amqps?://[^\s/?#]+/[^\s?#]+)?$(?!\n)")] = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""


class ReceiptsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a recipient's receipt counts as overdue, in hours after the acceptance."""

    overdue_hours: Annotated[int, Meta(ge=1, le=24 * 365)] = 72


class MetricsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file for Prometheus's textfile collector, rewritten every minute; empty for none."""

    file: str = ""


class WitnessConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the witness listens (C2SP tlog-witness), as ``host:port``; empty: nowhere."""

    listen: Annotated[str, Meta(pattern=r"^([^\s/]+:[1-9][0-9]{0,4})?$(?!\n)")] = ""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class MailConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"sender": "from"}
):
    """The mail server that takes alarms, and who is told; without ``host`` nobody is.

    ``port`` 0 is the usual one: 587 with ``starttls``, 465 with ``tls``, 25 with ``none``. ``ca``
    is a PEM file of whom to believe, where the machine's own authorities are not meant.
    ``language`` is a tag of the exchange's languages; empty for the institution's own.
    """

    host: Annotated[str, Meta(pattern=r"^([A-Za-z0-9.:-]{1,255})?$(?!\n)")] = ""
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    tls: Literal["starttls", "tls", "none"] = "starttls"
    ca: str = ""
    user: str = ""
    password: str = ""
    password_file: str = ""
    sender: Annotated[str, Meta(pattern=_ADDRESS)] | None = None
    to: tuple[Annotated[str, Meta(pattern=_ADDRESS)], ...] = ()
    language: str = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    code: Annotated[str, Meta(pattern=CODE_PATTERN)]
    hub: HubConfig
    state: Annotated[str, Meta(min_length=1)] | None = None
    link: LinkConfig = LinkConfig()
    receipts: ReceiptsConfig = ReceiptsConfig()
    metrics: MetricsConfig = MetricsConfig()
    witness: WitnessConfig = WitnessConfig()
    mail: MailConfig = MailConfig()


class Config(msgspec.Struct, frozen=True):
    """The settings as they hold. ``state`` is the absolute folder of all that must survive."""

    code: str
    state: Path
    hub: HubConfig
    receipts: ReceiptsConfig = ReceiptsConfig()
    link: LinkConfig = LinkConfig()
    metrics: Path | None = None
    witness: WitnessConfig = WitnessConfig()
    mail: MailConfig = MailConfig()

    @property
    def log_key(self) -> Vkey:
        """The key that the hub's log is verified with."""
        return Vkey.parse(self.hub.log)

    @property
    def keys(self) -> Path:
        """The folder of the private keys."""
        return self.state / "keys"

    @property
    def renews(self) -> bool:
        """Whether the client certificate is for our own TLS key, so that the hub renews it."""
        return self.link.key == str(self.keys / keys.TLS_FILE)

    @property
    def outbox(self) -> Path:
        """The folder of signed messages that wait for the daemon."""
        return self.state / "outbox"

    @property
    def store(self) -> Path:
        """The database, which only the daemon writes."""
        return self.state / "store.sqlite"

    @property
    def joined(self) -> Path:
        """What the institution itself asked of the hub about its membership."""
        return self.state / "joined.json"

    @property
    def acknowledged(self) -> Path:
        """The folder of what was noted on alarms."""
        return self.state / "acknowledged"

    @property
    def encrypted(self) -> bool:
        """Whether nobody on the way to the hub and its broker can read along."""
        urls = [urlsplit(url) for url in (self.hub.url, self.link.amqp) if url]
        return all(url.scheme in _ENCRYPTED or url.hostname in _LOOPBACK for url in urls)


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the settings.

    Raises:
        ConfigError: the file cannot be read, or a field is missing, unknown or wrong.
    """
    try:
        values: dict[str, Toml] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not a TOML file: {error}.") from None
    _override(values, _File, "NHRI", environ)
    try:
        file = msgspec.convert(values, _File)
        Vkey.parse(file.hub.log)
    except msgspec.ValidationError as error:
        detail, _, place = str(error).partition(" - at ")
        field = place.strip("`$.") or "settings"
        raise ConfigError(
            f"{path}: {field}: {_HINTS.get(field.partition('[')[0], detail)}."
        ) from None
    except NoteError as error:
        raise ConfigError(f"{path}: hub.log: {error}") from None
    wrong = _wrong_in(file.mail)
    if wrong:
        raise ConfigError(f"{path}: {wrong}")
    folder = path.resolve().parent
    state = folder / (file.state or file.code)
    link = _with_paths(file.link, folder, state)
    metrics = folder / file.metrics.file if file.metrics.file else None
    mail = _absolute(file.mail, ("ca", "password_file"), folder)
    return Config(file.code, state, file.hub, file.receipts, link, metrics, file.witness, mail)


def _wrong_in(mail: MailConfig) -> str | None:
    """What cannot be meant in the settings for mail, as a sentence that begins with the field."""
    if not mail.host:
        return None if mail == MailConfig() else "mail.host: The mail server is missing."
    if mail.sender is None:
        return "mail.from: The sender's address is missing."
    if not mail.to:
        return "mail.to: Nobody is to be told; name at least one address."
    if mail.tls == "none" and mail.user and mail.host not in _LOOPBACK:
        return "mail.tls: A password is not sent unencrypted; use starttls or tls."
    if mail.language and mail.language not in LANGUAGES:
        return f"mail.language: There are {', '.join(LANGUAGES)}."
    return None


def _with_paths(link: LinkConfig, folder: Path, state: Path) -> LinkConfig:
    files = {name: getattr(link, name) for name in ("ca", "certificate", "key")}
    if link.certificate and not link.key:
        files["key"] = str(state / "keys" / keys.TLS_FILE)
    return _absolute(msgspec.structs.replace(link, **files), tuple(files), folder)


def _absolute(section: S, names: tuple[str, ...], folder: Path) -> S:
    """A section with the files that it names as absolute paths."""
    named = {name: getattr(section, name) for name in names}
    absolute = {name: str(folder / file) for name, file in named.items() if file}
    return msgspec.structs.replace(section, **absolute)


def template(code: str, url: str, log: str) -> str:
    """The text of a new settings file, as ``join`` writes it."""
    # A JSON string is a TOML string too: nothing in an invitation can add a line of its own.
    values = {"code": code, "url": url, "log": log}
    quoted = {name: msgspec.json.encode(value).decode() for name, value in values.items()}
    return _TEMPLATE.format(**quoted)


def amqp_url(config: Config, environ: Mapping[str, str] = os.environ) -> str:
    """The broker's address as it is now: a password in a file of its own changes while we run.

    Raises:
        ConfigError: the file cannot be read.
    """
    return _from_environment("NHRI_LINK_AMQP", environ) or config.link.amqp


def _override(
    table: dict[str, Toml], of: type[msgspec.Struct], prefix: str, environ: Mapping[str, str]
) -> None:
    for field in msgspec.structs.fields(of):
        name = field.encode_name
        variable = f"{prefix}_{name.upper()}"
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            inner = table.setdefault(name, {})
            if isinstance(inner, dict):  # anything else is refused with its name afterwards
                _override(inner, field.type, variable, environ)
            continue
        text = _from_environment(variable, environ)
        if text is not None:
            table[name] = _value(name, text)


def _value(name: str, text: str) -> Toml:
    """A value out of the environment, where all is text; only there may it be."""
    if name in _LISTS:
        return [item.strip() for item in text.split(",")]
    return int(text) if name in _NUMBERS and text.isdecimal() else text


def _from_environment(variable: str, environ: Mapping[str, str]) -> str | None:
    if variable in environ:
        return environ[variable]
    file = environ.get(f"{variable}_FILE")
    if file is None:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{variable}_FILE: {file} cannot be read: {error}.") from None
