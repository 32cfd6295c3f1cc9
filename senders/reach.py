"""How senders that speak no HTTP reach a host: the same guard as for HTTP, then a plain connection.

A name is looked up once, every address is judged, and the connection is made to an address that was judged,
so that a name which answers differently a moment later gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Final

import aiohappyeyeballs
import certifi

from senders import names
from senders.guard import UrlError, check_url, refusal
from senders.http_errors import CONNECT_TIMEOUT
from senders.outcomes import Misconfigured, Transient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohappyeyeballs import AddrInfoType

    from senders.guard import Network

UNKNOWN: Final = "it may have been taken all the same"

STAGGER: Final = 0.25
"""Seconds for which one address has the time to itself before the next is tried beside it (RFC 8305, 5)."""


def check_host(host: str) -> str:
    """Accept a host name or an IP address, or say what is wrong with it. Fit for a pydantic AfterValidator.

    Returns:
        The host, unchanged; an IPv6 address without brackets.

    Raises:
        UrlError: one clause that names the rule.
    """
    if not host or any(mark in host for mark in "/?#@[]"):
        raise UrlError("must be a host name or an IP address, without scheme, port or path")
    check_url(f"http://[{host}]/" if ":" in host else f"http://{host}/")
    return host


async def addresses(
    host: str, port: int, kind: socket.SocketKind, allowed_networks: Sequence[Network] | None
) -> list[tuple[str, int]]:
    """Look a host up.

    Args:
        host: a name or an address.
        port: what to pair the addresses with.
        kind: SOCK_STREAM or SOCK_DGRAM.
        allowed_networks: as in guard.refusal; None for a host that the operator named, which needs no guard.

    Returns:
        At least one numeric address, in the resolver's order.

    Raises:
        Misconfigured: one of the addresses may not be reached.
        Transient: the name does not resolve now.
    """
    try:
        found = await names.system.look_up(host, kind=kind)
    except (socket.gaierror, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no address"
        raise Transient("name not resolved", f"{host}: {reason}") from None
    for _, address in found:
        reason = None if allowed_networks is None else refusal(address, allowed_networks)
        if reason is not None:
            raise Misconfigured(
                "blocked address",
                f"{host} is at {address}, which is not public: {reason}. If this installation is meant to "
                "reach it, its operator adds the network to TOCSIN_ALLOWED_NETWORKS",
            )
    return [(address, port) for _, address in found]


async def connect(host: str, port: int, allowed_networks: Sequence[Network] | None) -> socket.socket:
    """Open a TCP connection to the first address that takes one.

    Args:
        host: a name or an address.
        port: the port.
        allowed_networks: as in `addresses`.

    Returns:
        A connected, non-blocking socket; the caller's to close.

    Raises:
        Misconfigured: see `addresses`.
        Transient: see `addresses`; or no address took the connection.
    """
    found = await addresses(host, port, socket.SOCK_STREAM, allowed_networks)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await first_to_answer(found)
    except TimeoutError:
        failure = Transient("connect timeout", f"no connection in {CONNECT_TIMEOUT:g} s")
    except OSError as error:
        failure = unconnected(error, port)
    raise failure


async def first_to_answer(found: Sequence[tuple[str, int]]) -> socket.socket:
    """A connection to one of these addresses; one that says nothing keeps none of the others waiting.

    Raises:
        OSError: none of them takes it.
    """
    infos: list[AddrInfoType] = [
        (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port))
        for address, port in found
    ]
    return await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=STAGGER)


def has_way_to(address: tuple[str, int]) -> bool:
    """Whether this machine knows a way to a numeric address. Nothing is sent: nobody may be there."""
    try:
        with socket.socket(
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM
        ) as probe:
            probe.connect(address)
    except OSError:
        return False
    return True


def unconnected(error: OSError, port: int) -> Transient:
    """The outcome for a connection that could not be made."""
    if isinstance(error, ConnectionRefusedError):
        return Transient("connect refused", f"nothing listens on port {port}")
    return Transient("unreachable", error.strerror or "no connection")


def tls_failure(error: ssl.SSLError) -> Misconfigured | Transient:
    """The outcome for a failed TLS handshake: a person must mend a certificate, other failures may pass."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message or "not valid"
        return Misconfigured("tls certificate", f"the server's certificate is not trusted: {reason}")
    reason = getattr(error, "reason", None) or "handshake failed"
    return Transient("tls error", reason.replace("_", " ").lower())


def tls_context() -> ssl.SSLContext:
    """Certificate and host name verified against certifi's authorities and the system's."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context
