"""Where a webhook may go: which URLs are taken, and which addresses are connected to. Pure.

A hub that posts wherever it is told reaches what only the hub can reach: its own database, the
neighbour's printer, a cloud's metadata. A URL is checked when it is saved (``check_url``), for its
owner to hear at once; what counts is the address, which is checked when it is connected to
(``forbidden``, by ``hub/delivery/guard.py``), because a name can lead elsewhere a moment later.

The tables are our own: what ``ipaddress`` calls global differs between versions of Python, and it
does not look into addresses that carry another one. They follow the IANA special-purpose address
registries (RFC 6890) and refuse more: multicast, and the anycast services that no web server has.
"""

import re
from collections.abc import Mapping
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from types import MappingProxyType
from typing import Final, TypeAlias

import msgspec

from schemas.refusal import Refused

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

SPECIAL: Mapping[Network, str] = MappingProxyType(
    {
        ip_network(network): what
        for network, what in (
            ("0.0.0.0/8", "this network (RFC 791)"),
            ("10.0.0.0/8", "private use (RFC 1918)"),
            ("100.64.0.0/10", "shared by carriers (RFC 6598)"),
            ("127.0.0.0/8", "loopback (RFC 1122)"),
            ("169.254.0.0/16", "link local (RFC 3927)"),
            ("172.16.0.0/12", "private use (RFC 1918)"),
            ("192.0.0.0/24", "protocol assignments (RFC 6890)"),
            ("192.0.2.0/24", "documentation (RFC 5737)"),
            ("192.31.196.0/24", "AS112 (RFC 7535)"),
            ("192.52.193.0/24", "AMT (RFC 7450)"),
            ("192.88.99.0/24", "6to4 relays (RFC 7526)"),
            ("192.168.0.0/16", "private use (RFC 1918)"),
            ("192.175.48.0/24", "AS112 (RFC 7534)"),
            ("198.18.0.0/15", "benchmarks (RFC 2544)"),
            ("198.51.100.0/24", "documentation (RFC 5737)"),
            ("203.0.113.0/24", "documentation (RFC 5737)"),
            ("224.0.0.0/4", "multicast (RFC 5771)"),
            ("240.0.0.0/4", "reserved (RFC 1112)"),
            ("2001::/23", "protocol assignments, Teredo (RFC 2928)"),
            ("2001:db8::/32", "documentation (RFC 3849)"),
            ("2002::/16", "6to4 (RFC 3056)"),
            ("2620:4f:8000::/48", "AS112 (RFC 7534)"),
            ("3ffe::/16", "6bone (RFC 3701)"),
            ("3fff::/20", "documentation (RFC 9637)"),
        )
    }
)
"""What lies in the two spaces of unicast addresses and is not reachable from everywhere."""

_UNICAST: Final = (IPv4Network("0.0.0.0/0"), IPv6Network("2000::/3"))
"""All of IPv6 that is assigned for the world; loopback, link local, multicast lie outside."""

_MAPPED: Final = IPv6Network("::ffff:0:0/96")  # RFC 4291 §2.5.5.2
_NAT64: Final = IPv6Network("64:ff9b::/96")  # RFC 6052 §2.1
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214 §6.1

SPECIAL_NAMES: Final = frozenset(
    {"localhost", "local", "internal", "intranet", "lan", "home", "corp", "private", "arpa"}
    | {"test", "invalid", "example", "onion", "alt", "localdomain"}
)
"""Last labels that lead nowhere in the public tree of names, or to whoever asks."""

PORTS: Final = frozenset({443, 8443})

MAX_URL: Final = 2000
"""Characters."""

_URL: Final = re.compile(r"(?P<scheme>[A-Za-z]+)://(?P<authority>[^/?#]*)(?P<rest>[/?#].*)?")
_AUTHORITY: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]{1,5}))?")
_REST: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DEVIATING: Final = re.compile("[ßς\u200c\u200d]")


class Allowed(msgspec.Struct, frozen=True):
    """What an operator allows beyond the rule, for an intranet.

    ``networks`` may be connected to although they are not global. ``hosts`` are names or addresses
    that a URL may name although they are not of the public tree, and by ``http``; where they lead
    is still checked. ``ports``: what a URL may name.
    """

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    ports: frozenset[int] = PORTS


class Target(msgspec.Struct, frozen=True):
    """A URL that was taken, spelt in the one way that every program reads alike."""

    url: str
    host: str


def forbidden(address: Address, allowed: Allowed) -> str | None:
    """What an address is that is not to be connected to, or None: it may be.

    An address that carries an IPv4 address counts as that one where the network delivers it there
    (IPv4-mapped, NAT64); the others that carry one (6to4, Teredo, IPv4-compatible, SIIT, local
    NAT64) are refused whatever they carry. ISATAP can stand in any prefix: both have to be global.
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "bound to one interface (RFC 4007)"
    address = carried(address)
    if any(address in network for network in allowed.networks):
        return None
    for network, what in SPECIAL.items():
        if address in network:
            return what
    if not any(address in network for network in _UNICAST):
        return "not assigned to the world (RFC 4291)"
    if isinstance(address, IPv6Address) and (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return forbidden(_last_four(address), allowed)
    return None


def carried(address: Address) -> Address:
    """The IPv4 address to which the network delivers an IPv6 address, or the address itself."""
    if isinstance(address, IPv6Address) and (address in _MAPPED or address in _NAT64):
        return _last_four(address)
    return address


def _last_four(address: IPv6Address) -> IPv4Address:
    return IPv4Address(int(address) & 0xFFFFFFFF)


def check_url(url: str, allowed: Allowed) -> Target:
    """Take a URL to post to, and spell it canonically.

    The grammar is narrower than RFC 3986: nothing is left that two programs could read differently.
    A host is a name, an IPv4 address in four decimal numbers or an IPv6 address in brackets.

    Raises:
        Refused: ``bad-request``, with what to write instead.
    """
    match = _URL.fullmatch(url)
    if match is None or len(url) > MAX_URL:
        raise _refused(f"Give a whole URL, https://…, of at most {MAX_URL} characters")
    if "@" in match["authority"]:
        raise _refused("A webhook's URL holds no user and password; the signature is the proof")
    authority = _AUTHORITY.fullmatch(match["authority"])
    if authority is None:
        raise _refused("What stands between https:// and the path is host or host:port")
    rest = match["rest"] or "/"
    if "#" in rest or not _REST.fullmatch(rest):
        raise _refused("Percent-encode the path, and leave out the fragment (#…)")
    host = _host(authority["host"])
    _check_host(host, allowed)
    scheme = match["scheme"].lower()
    if scheme != "https" and not (scheme == "http" and host in allowed.hosts):
        raise _refused("A webhook's URL begins with https://")
    port = _port(scheme, authority["port"], allowed)
    shown = f"[{host}]" if ":" in host else host
    slash = "" if rest.startswith("/") else "/"
    return Target(f"{scheme}://{shown}{port}{slash}{rest}", host)


def _port(scheme: str, text: str | None, allowed: Allowed) -> str:
    """``:8443``, or nothing for the scheme's own port."""
    usual = 443 if scheme == "https" else 80
    port = usual if text is None else int(text)
    if port == usual and scheme == "http":
        return ""  # where http is allowed, its port is
    if port not in allowed.ports:
        ports = ", ".join(map(str, sorted(allowed.ports)))
        raise _refused(f"A webhook's port is one of {ports}")
    return "" if port == usual else f":{port}"


def _host(text: str) -> str:
    """The canonical spelling: an address as ``ipaddress`` writes it, a name in ASCII."""
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1]))
        except ValueError:
            raise _refused("What stands in brackets is not an IPv6 address") from None
    name = _ascii(text).lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Programs read 127.1, 0x7f000001 and 2130706433 as addresses, each in its own way.
        try:
            return str(IPv4Address(name))
        except ValueError:
            raise _refused("An IPv4 address is written as four decimal numbers") from None
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused("The host is not a name of the Internet")
    return name


def _ascii(text: str) -> str:
    if _DEVIATING.search(text):
        # IDNA 2003 and IDNA 2008 lead from these to two different names.
        raise _refused("Write this host in ASCII, xn--…: its letters are read in two ways")
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError:
        raise _refused("The host is not a name of the Internet") from None


def _check_host(host: str, allowed: Allowed) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        if host in allowed.hosts:
            return
        labels = host.split(".")
        if len(labels) == 1 or labels[-1] in SPECIAL_NAMES:
            raise _refused(f"{host} is not a name of the Internet; give a public one") from None
        return
    what = forbidden(address, allowed)
    if what is not None:
        raise _refused(f"Webhooks do not go to {host}: {what}; give a public address")


def _refused(sentence: str) -> Refused:
    return Refused("bad-request", f"{sentence}.", "$.url")
