"""Settings: one TOML file becomes one struct; the environment overrides, secrets also from files.

``NHRI_<SECTION>_<FIELD>`` overrides a field (``NHRI_HTTP_PORT=8081``), and
``NHRI_<SECTION>_<FIELD>_FILE`` names a file to read it from.
"""

import contextlib
import hashlib
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Meta

from hub.delivery.addresses import PORTS, Allowed
from hub.ledger import retention
from schemas.note import Vkey, ed25519_vkey
from schemas.policy import Policy, PolicyError
from schemas.policy import parse as parse_policy

_SOCKET_PATH_LIMIT = 100  # bytes; sun_path has 108 on Linux and 104 on macOS

_NAME_PATTERN = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(:[0-9]{1,5})?$(?!\n)"

Count = Annotated[int, Meta(ge=1)]


class StartError(Exception):
    """The hub cannot start; the text is one sentence that says what to do."""


class Http(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The HTTP door. ``url`` is how the others reach it, through whatever stands before it.

    With ``certificate`` and ``key`` (PEM files) it speaks TLS itself.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65_535)] = 8080
    url: str = ""
    certificate: str = ""
    key: str = ""


class AuthorityFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The private certificate authority's files; empty where the hub has none."""

    certificate: str = ""
    key: str = ""


class Store(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The database: ``sqlite:///hub.sqlite`` (relative to the settings file)."""

    url: str = "sqlite:///hub.sqlite"


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The log's private key, a PKCS#8 PEM file, and the quorum of its witnesses.

    ``policy`` is a file of C2SP tlog-policy. Without one the quorum is that of the region, with the
    witness keys of the directory: 4 of kz, kg, tj, tm and either institution of Uzbekistan.
    """

    key: str = "log.pem"
    policy: str = ""


class Broker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """RabbitMQ: ``amqps://hub@host/nhri``; empty where there is none and all links are HTTP.

    ``outstanding`` bounds each inbox queue: copies on the broker without a receipt.
    """

    url: str = ""
    outstanding: Count = 1_000


class Quota(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one participant may send; refusals beyond the limit are only counted."""

    messages_per_hour: Count = 2_000
    refusals_per_minute: Count = 30


class Webhooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Webhooks: where they may go beyond the public Internet, and how many there may be.

    ``hosts`` are names or addresses of an intranet, by http too; ``networks`` (CIDR) are where
    they may lead. ``slots`` posts go on at a time; ``subscriptions`` bounds each owner's.
    """

    enabled: bool = True
    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    ports: tuple[Annotated[int, Meta(ge=1, le=65_535)], ...] = tuple(sorted(PORTS))
    subscriptions: Count = 20
    slots: Count = 128

    @property
    def allowed(self) -> Allowed:
        """Where they may go.

        Raises:
            ValueError: what stands among the networks is none.
        """
        return Allowed(
            tuple(ip_network(network) for network in self.networks),
            frozenset(host.lower() for host in self.hosts),
            frozenset(self.ports),
        )


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings. ``name`` is the host name; ``<name>/log`` is the log's origin for ever.

    ``retention`` says after how many days messages are erased: see ``hub.ledger.retention``.
    """

    name: Annotated[str, Meta(pattern=_NAME_PATTERN)]
    http: Http = Http()
    store: Store = Store()
    log: Log = Log()
    broker: Broker = Broker()
    authority: AuthorityFiles = AuthorityFiles()
    quota: Quota = Quota()
    retention: dict[str, Count] = {}
    webhooks: Webhooks = Webhooks()
    folder: str = ""

    @property
    def origin(self) -> str:
        """The log's origin and key name."""
        return f"{self.name}/log"

    @property
    def url(self) -> str:
        """The public address of the HTTP door."""
        scheme = "https" if self.http.certificate else "http"
        return self.http.url or f"{scheme}://{self.http.host}:{self.http.port}"

    @property
    def socket(self) -> Path:
        """The operators' Unix socket; in a short private folder if the path is too long."""
        path = Path(self.folder) / "hub.sock"
        if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
            return path
        digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"nhri-{os.getuid()}" / f"{digest}.sock"

    @property
    def damaged(self) -> Path:
        """Says why the stored log is not the one that was signed, until it is found whole again."""
        return Path(self.folder) / "damaged"

    @property
    def erasures(self) -> Path:
        """The list of what was erased, which outlives every backup of the database."""
        return Path(self.folder) / "erasures"

    @property
    def restored(self) -> Path:
        """A file that a restore leaves: the database may not be the newest that was signed."""
        return Path(self.folder) / "restored"

    @property
    def lost(self) -> Path:
        """What ``restored`` is renamed to by who gives up what nobody could bring back."""
        return Path(self.folder) / "lost"

    @property
    def log_key_path(self) -> Path:
        """The file of the log's private key."""
        return Path(self.folder) / self.log.key


_SECTIONS: Mapping[str, type[msgspec.Struct]] = {
    "http": Http,
    "store": Store,
    "log": Log,
    "broker": Broker,
    "authority": AuthorityFiles,
    "quota": Quota,
    "webhooks": Webhooks,
}


def load(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Raises:
        StartError: the file is missing or wrong; the sentence names the field.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise StartError(f"There is no settings file {path}; make one: nhri-hub init.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StartError(f"The settings file {path} cannot be read: {error}.") from None
    _override(values, os.environ if environment is None else environment)
    values["folder"] = str(path.resolve().parent)
    try:
        made = msgspec.convert(values, Settings, strict=False)
        retention.check(made.retention)
        _ = made.webhooks.allowed
    except ValueError as error:  # msgspec's are ValueErrors, too
        raise StartError(f"The settings in {path} are not right: {error}.") from None
    return made


def _override(values: dict[str, object], environment: Mapping[str, str]) -> None:
    for section, kind in _SECTIONS.items():
        for field in msgspec.structs.fields(kind):
            variable = f"NHRI_{section}_{field.name}".upper()
            value = environment.get(variable)
            if f"{variable}_FILE" in environment:
                value = _secret(f"{variable}_FILE", environment)
            if value is not None:
                table = values.setdefault(section, {})
                if isinstance(table, dict):
                    table[field.name] = value
    if "NHRI_NAME" in environment:
        values["name"] = environment["NHRI_NAME"]


def _secret(variable: str, environment: Mapping[str, str]) -> str:
    try:
        return Path(environment[variable]).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"The file that {variable} names cannot be read: {error}.") from None


def broker_url(settings: Settings, environment: Mapping[str, str] | None = None) -> str:
    """The broker's address as it is now: a password in a file of its own changes while we run.

    Raises:
        StartError: the file cannot be read.
    """
    given = os.environ if environment is None else environment
    variable = "NHRI_BROKER_URL_FILE"
    return _secret(variable, given) if variable in given else settings.broker.url


def log_key(settings: Settings) -> Ed25519PrivateKey:
    """The log's private key.

    Raises:
        StartError: the file is missing, readable by others, or no Ed25519 key.
    """
    path = settings.log_key_path
    try:
        raw = path.read_bytes()
        mode = path.stat().st_mode & 0o077
    except OSError as error:
        raise StartError(f"The log key {path} cannot be read: {error.strerror}.") from None
    if mode:
        raise StartError(f"The log key {path} can be read by others; run chmod 600 {path}.")
    try:
        key = serialization.load_pem_private_key(raw, None)
    except (ValueError, TypeError):
        raise StartError(f"The log key {path} is not an unencrypted PEM key.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise StartError(f"The log key {path} is not an Ed25519 key.")
    return key


def quorum_policy(settings: Settings) -> Policy | None:
    """The quorum policy of the settings' own file; None for that of the region.

    Raises:
        StartError: the file is missing or no policy, or it does not name this log.
    """
    if not settings.log.policy:
        return None
    path = Path(settings.folder) / settings.log.policy
    try:
        policy = parse_policy(path.read_bytes())
    except OSError as error:
        raise StartError(f"The policy {path} cannot be read: {error.strerror}.") from None
    except PolicyError as error:
        raise StartError(f"The policy {path} is not right: {error}") from None
    if policy.logs and log_vkey(settings) not in policy.logs:
        raise StartError(f"The policy {path} is about another log: nhri-hub audit key prints ours.")
    return policy


def log_vkey(settings: Settings) -> Vkey:
    """The log's verifier key, which everybody may know."""
    return ed25519_vkey(settings.origin, log_key(settings).public_key().public_bytes_raw())


def initialise(folder: Path, name: str, port: int = 8080, host: str = "127.0.0.1") -> Path:
    """Make ``hub.toml`` and the log key in a folder; neither is ever overwritten.

    Raises:
        StartError: the name is no host name, one of the files is there already, or the folder
            cannot be written.
    """
    if not re.fullmatch(_NAME_PATTERN, name):
        raise StartError(f"{name!r} is no host name, such as hub.example.org.")
    path, log_pem = folder / "hub.toml", folder / "log.pem"
    try:
        for file in (path, log_pem):
            if file.exists():
                raise StartError(f"{file} is there already; choose an empty folder.")
        folder.mkdir(parents=True, exist_ok=True)
        key = Ed25519PrivateKey.generate()
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_new(log_pem, pem, 0o600)
        write_new(path, _TEMPLATE.format(name=name, host=host, port=port).encode(), 0o644)
    except OSError as error:
        raise StartError(f"{error.filename} cannot be written: {error.strerror}.") from None
    return path


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not be there yet, durably, with its mode from the start."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with contextlib.closing(os.fdopen(descriptor, "wb")) as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


_TEMPLATE = """\
# The hub's host name. The log's origin is made of it; it is never changed.
name = "{name}"

[http]
host = "{host}"
port = {port}
# url = "https://{name}"      # how others reach the hub, where a proxy stands before it

[store]
url = "sqlite:///hub.sqlite"

[log]
key = "log.pem"
# policy = "policy.txt"      # C2SP tlog-policy; without it 4 of the region's 5 countries

[quota]
messages_per_hour = 2000
refusals_per_minute = 30

# [webhooks]                  # an intranet's own: see docs/webhooks.md
# hosts = ["hooks.intranet"]
# networks = ["10.1.2.0/24"]

# [retention]                 # days until a message is erased; without a rule it is kept
# "TLP:AMBER" = 1825
# "activity_bulletin.v1 TLP:CLEAR" = 3650
"""
