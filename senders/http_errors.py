"""What went wrong on the way to a receiver, as one of the outcomes of senders.outcomes.

    Transient       connect refused | connect timeout | timeout | connection reset | name not resolved
                    | tls error | unreachable | bad answer | proxy error
    Misconfigured   blocked address | invalid url | tls certificate | proxy authentication

The one place where the errors of the HTTP libraries are translated. Texts never hold a URL: paths and queries
are credentials with half of the providers.
"""

from __future__ import annotations

import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import httpx

from senders.guard import BlockedAddressError
from senders.outcomes import Misconfigured, Transient
from senders.transport import NotHttpError

if TYPE_CHECKING:
    from collections.abc import Callable

    from senders.outcomes import SendError

CONNECT_TIMEOUT: Final = 5.0
"""Seconds to connect, TLS included; Linux sends its third SYN after 3 s."""

_UNKNOWN: Final = "it may have been taken all the same"

# The errors of the libraries, and their outcomes; the first that fits decides.
_OUTCOMES: Final[tuple[tuple[type[Exception], Callable[[Any, float], SendError]], ...]] = (
    (BlockedAddressError, lambda error, _: _blocked(error)),
    (
        aiohttp.ClientConnectorCertificateError,
        lambda error, _: Misconfigured("tls certificate", _untrusted(error)),
    ),
    (aiohttp.ClientSSLError, lambda error, _: Transient("tls error", _tls_reason(error.os_error))),
    (
        aiohttp.ClientConnectorDNSError,
        lambda error, _: Transient(
            "name not resolved", f"{error.host}: {error.os_error.strerror or 'no address'}"
        ),
    ),
    (
        aiohttp.ClientProxyConnectionError,
        lambda _, __: Transient("proxy error", "no connection to the proxy of the environment"),
    ),
    (aiohttp.ClientConnectorError, lambda error, _: _unconnected(error)),
    (
        aiohttp.ConnectionTimeoutError,
        lambda _, deadline: Transient(
            "connect timeout", f"no connection in {min(CONNECT_TIMEOUT, deadline):g} s"
        ),
    ),
    (
        TimeoutError,
        lambda _, deadline: Transient("timeout", f"no complete answer in {deadline:g} s; {_UNKNOWN}"),
    ),
    (aiohttp.ClientHttpProxyError, lambda error, _: _proxy(error.status)),
    (NotHttpError, lambda _, __: _no_http()),
    (aiohttp.ClientResponseError, lambda _, __: _no_http()),
    (
        aiohttp.ClientPayloadError,
        lambda _, __: Transient("connection reset", f"the answer broke off; {_UNKNOWN}"),
    ),
    (aiohttp.InvalidURL, lambda _, __: invalid_url("is not acceptable")),
    (aiohttp.NonHttpUrlClientError, lambda _, __: invalid_url("is not acceptable")),
    (httpx.InvalidURL, lambda _, __: invalid_url("is not acceptable")),
    (aiohttp.ClientError, lambda _, __: Transient("connection reset", f"the far side hung up; {_UNKNOWN}")),
    (ssl.SSLError, lambda error, _: Transient("tls error", _tls_reason(error))),
    (OSError, lambda _, __: Transient("connection reset", f"the connection broke; {_UNKNOWN}")),
)


def translate(error: Exception, deadline: float) -> SendError:
    """The outcome for whatever httpx, aiohttp or the socket raised for a request.

    Args:
        error: a httpx.InvalidURL, aiohttp.ClientError or OSError.
        deadline: seconds that the request had.
    """
    cause = error
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, BlockedAddressError):
        cause = error.os_error
    for kind, outcome in _OUTCOMES:
        if isinstance(cause, kind):
            return outcome(cause, deadline)
    raise error


def invalid_url(rule: str) -> Misconfigured:
    """A URL that breaks this rule; the URL itself may hold a secret and is not quoted."""
    return Misconfigured("invalid url", f"the receiver's URL {rule}")


def _blocked(error: BlockedAddressError) -> Misconfigured:
    return Misconfigured(
        "blocked address",
        f"{error}. If this installation is meant to reach it, its operator adds the network to "
        "TOCSIN_ALLOWED_NETWORKS",
    )


def _untrusted(error: aiohttp.ClientConnectorCertificateError) -> str:
    reason = getattr(error.certificate_error, "verify_message", "") or "not valid"
    return f"the receiver's certificate is not trusted: {reason}"


def _no_http() -> Transient:
    return Transient("bad answer", f"the far side does not speak HTTP as it should; {_UNKNOWN}")


def _tls_reason(error: OSError) -> str:
    return (getattr(error, "reason", None) or "handshake failed").replace("_", " ").lower()


def _proxy(status: int) -> SendError:
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return Misconfigured("proxy authentication", "the proxy of the environment wants other credentials")
    return Transient("proxy error", f"the proxy of the environment answered {status}")


def _unconnected(error: aiohttp.ClientConnectorError) -> SendError:
    beneath = error.os_error
    if isinstance(beneath, ConnectionRefusedError):
        return Transient("connect refused", f"nothing listens on port {error.port}")
    if isinstance(beneath, ConnectionError):
        return Transient("connection reset", "the far side closed the connection during the handshake")
    return Transient("unreachable", beneath.strerror or "no connection")
