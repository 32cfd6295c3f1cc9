"""The guard against requests to addresses that are not public, whoever wrote the URL.

A tenant who may name a URL must not be able to reach what only this machine can: its loopback, its private
network, its cloud's metadata service. Names, redirects and spellings are no evidence, so the decision falls
on the address that is really connected to: `guarded_socket_factory` acts at every connection,
`GuardedResolver` at every name.

What is public is decided here and not by `ipaddress.is_global`, which lets multicast, 6to4, NAT64 and
site-local addresses pass. The blocks are those of the IANA special-purpose registries
(https://www.iana.org/assignments/iana-ipv4-special-registry and .../iana-ipv6-special-registry), read
strictly: what an ordinary receiver never has is refused even where the registry calls it reachable.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohappyeyeballs import AddrInfoType
    from aiohttp.abc import ResolveResult
    from pydantic import SecretStr

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL = 2048
"""Characters; the length that every server and proxy in use accepts."""

_V4_BLOCKS: Final = {
    ipaddress.IPv4Network(network): reason
    for network, reason in {
        "0.0.0.0/8": "this host (RFC 791)",
        "10.0.0.0/8": "private network (RFC 1918)",
        "100.64.0.0/10": "carrier-grade NAT (RFC 6598)",
        "127.0.0.0/8": "loopback (RFC 1122)",
        "169.254.0.0/16": "link-local (RFC 3927)",
        "172.16.0.0/12": "private network (RFC 1918)",
        "192.0.0.0/24": "IETF protocol assignments (RFC 6890)",
        "192.0.2.0/24": "documentation (RFC 5737)",
        "192.88.99.0/24": "6to4 relay (RFC 7526)",
        "192.168.0.0/16": "private network (RFC 1918)",
        "198.18.0.0/15": "benchmarking (RFC 2544)",
        "198.51.100.0/24": "documentation (RFC 5737)",
        "203.0.113.0/24": "documentation (RFC 5737)",
        "224.0.0.0/4": "multicast (RFC 5771)",
        "240.0.0.0/4": "reserved (RFC 1112)",
    }.items()
}

_V6_BLOCKS: Final = {
    ipaddress.IPv6Network(network): reason
    for network, reason in {
        "::/128": "unspecified (RFC 4291)",
        "::1/128": "loopback (RFC 4291)",
        "64:ff9b::/96": "NAT64 (RFC 6052)",
        "64:ff9b:1::/48": "local NAT64 (RFC 8215)",
        "2001::/23": "IETF protocol assignments, Teredo among them (RFC 2928)",
        "2001:db8::/32": "documentation (RFC 3849)",
        "2002::/16": "6to4 (RFC 7526)",
        "3fff::/20": "documentation (RFC 9637)",
        "fc00::/7": "unique local (RFC 4193)",
        "fe80::/10": "link-local (RFC 4291)",
        "fec0::/10": "site-local (RFC 3879)",
        "ff00::/8": "multicast (RFC 4291)",
    }.items()
}

_V6_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_SIXTOFOUR: Final = ipaddress.IPv6Network("2002::/16")

_METADATA: Final = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's wire server, inside a public block
        "169.254.169.254",  # AWS, Azure, Google Cloud, Oracle and most others
        "169.254.170.2",  # AWS ECS task credentials
        "169.254.170.23",  # AWS EKS pod identity
        "192.0.0.192",  # Oracle Cloud, classic
        "fd00:ec2::23",  # AWS EKS pod identity
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # Google Cloud
    )
)

_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class BlockedAddressError(OSError):
    """A connection was refused by the guard.

    It is an OSError because the connection machinery beneath us gathers those and hands them on as a connect
    error, and silently drops what is none.
    """


class UrlError(ValueError):
    """A URL breaks a rule. The text is a clause that follows "the URL" and never quotes it."""


def refusal(address: str | Address, allowed_networks: Sequence[Network] = ()) -> str | None:
    """Why no connection may be made to this address; None where one may.

    Args:
        address: an address object, or its canonical text. Other text, such as 0x7f000001 or 127.1, is
            refused.
        allowed_networks: networks that may be reached although they are not public. A metadata address is
            reachable only if it is listed by itself (/32 or /128): a wide range never opens it.
    """
    if isinstance(address, str):
        try:
            address = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return "not an IP address"
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # the kernel connects over IPv4
    inner = _embedded(address)
    if address in _METADATA or inner in _METADATA:
        target = inner if inner in _METADATA else address
        listed = any(target == net.network_address and net.num_addresses == 1 for net in allowed_networks)
        return None if listed else "cloud metadata service"
    if any(address.version == network.version and address in network for network in allowed_networks):
        # An operator behind NAT64 allows 64:ff9b::/96, and means the public Internet with it, not 10.0.0.1.
        return None if inner is None else refusal(inner, allowed_networks)
    return _special(address)


def is_allowed(address: str | Address, allowed_networks: Sequence[Network] = ()) -> bool:
    """Whether a connection may be made to this address; see `refusal`."""
    return refusal(address, allowed_networks) is None


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a translator or tunnel would connect to."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address in _SIXTOFOUR:
            return ipaddress.IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return None


def _special(address: Address) -> str | None:
    blocks = _V4_BLOCKS.items() if isinstance(address, ipaddress.IPv4Address) else _V6_BLOCKS.items()
    for network, reason in blocks:
        if address in network:
            return reason
    if isinstance(address, ipaddress.IPv6Address) and address not in _V6_GLOBAL:
        return "outside global unicast (RFC 4291)"
    return None


def check_url(url: str) -> str:
    """Accept the URL of a receiver, or say what is wrong with it. Pure; fit for a pydantic AfterValidator.

    Whether its address may be reached is decided when it is connected to, not here.

    Returns:
        The URL, unchanged.

    Raises:
        UrlError: one clause that names the rule and never quotes the URL, which may hold a secret.
    """
    if not url or len(url) > MAX_URL:
        raise UrlError(f"must be a URL of 1 to {MAX_URL} characters")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise UrlError(
            "must not hold spaces, control characters, backslashes or unescaped non-ASCII characters"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
    except ValueError:
        raise UrlError("must be a well-formed URL with a port from 1 to 65535, if any") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise UrlError("must begin with https:// or http://")
    if "@" in parts.netloc:
        raise UrlError("must not hold a user name or password; use a header for credentials")
    if port == 0 or parts.netloc.endswith(":"):
        raise UrlError("must have a port from 1 to 65535, or none")
    _check_host(host, bracketed="[" in parts.netloc)
    return url


def check_secret_url(url: SecretStr) -> SecretStr:
    """`check_url` for a URL that is itself a credential."""
    check_url(url.get_secret_value())
    return url


def _check_host(host: str, *, bracketed: bool) -> None:
    if bracketed:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise UrlError("must have a valid IPv6 address between the brackets") from None
        if "%" in host:
            raise UrlError("must not name an IPv6 zone")
        return
    labels = host.removesuffix(".").split(".")
    # A host whose last label is a number is an IPv4 address to every resolver (WHATWG URL, 3.5), and its
    # short, octal and hexadecimal spellings exist to hide which one.
    if _NUMBER.fullmatch(labels[-1]):
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise UrlError("must spell an IPv4 address as four decimal numbers") from None
        return
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):  # noqa: PLR2004  # RFC 1035, 2.3.4
        raise UrlError(
            "must have a host name of letters, digits, hyphens and dots (international names as xn--...)"
        )


def literal_refusal(url: str, allowed_networks: Sequence[Network]) -> str | None:
    """Why the address that this URL spells out is refused; None for an allowed one, and for a name."""
    host = urlsplit(url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return refusal(host, allowed_networks)


def guarded_socket_factory(allowed_networks: Sequence[Network]) -> Callable[[AddrInfoType], socket.socket]:
    """What aiohttp's TCPConnector calls with the address of every connection, IP literals included.

    The function that is returned raises BlockedAddressError instead of opening a socket to a refused address.
    """
    # A process talks to few addresses, many times; the answer for one never changes.
    why = lru_cache(maxsize=4096)(lambda address: refusal(address, allowed_networks))

    def open_socket(info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, sockaddr = info
        reason = why(str(sockaddr[0]))
        if reason is not None:
            raise BlockedAddressError(f"{sockaddr[0]} is not public: {reason}")
        return socket.socket(family, kind, protocol)

    return open_socket


class GuardedResolver(AbstractResolver):
    """Refuses a name as a whole if one of its addresses is refused.

    A name that is public and private at once has no honest reason, and connecting to whichever address
    answers first would let its owner choose.

    Args:
        inner: who really resolves; closed together with this one.
        allowed_networks: as in `refusal`.
    """

    def __init__(self, inner: AbstractResolver, allowed_networks: Sequence[Network]) -> None:
        self._inner = inner
        self._allowed_networks = allowed_networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Look the name up, as the resolver beneath does.

        Raises:
            BlockedAddressError: one of the addresses may not be reached.
        """
        results = await self._inner.resolve(host, port, family)
        for result in results:
            reason = refusal(result["host"], self._allowed_networks)
            if reason is not None:
                raise BlockedAddressError(f"{host} is at {result['host']}, which is not public: {reason}")
        return results

    async def close(self) -> None:
        """Close the resolver beneath."""
        await self._inner.close()
