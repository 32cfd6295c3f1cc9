"""The map of errors is whole: every error of the HTTP libraries has an outcome, and shows no URL."""

from __future__ import annotations

import ssl
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp.client_reqrep import ConnectionKey

from senders.guard import BlockedAddressError
from senders.http_errors import translate
from senders.outcomes import Misconfigured, Transient
from tests.unit.senders.support import CANARY


def _subclasses(kind: type[Any]) -> set[type[Any]]:
    return {kind}.union(*(_subclasses(one) for one in kind.__subclasses__()))


def _instance(kind: type[Exception]) -> Exception:
    """One of a library's errors, as it would be raised."""
    key = ConnectionKey("example.org", 443, True, True, None, None, None)  # a tuple of aiohttp's
    info = aiohttp.RequestInfo(httpx.URL("http://x/" + CANARY), "POST", {}, httpx.URL("http://x"))  # type: ignore[arg-type]  # never read
    if issubclass(kind, aiohttp.ClientConnectorCertificateError):
        return kind(key, ssl.SSLCertVerificationError(1, "no"))
    if issubclass(kind, aiohttp.client_exceptions.UnixClientConnectorError):
        return kind("/socket", key, OSError(1, "no"))
    if issubclass(kind, aiohttp.ClientConnectorError):
        return kind(key, OSError(1, "no"))
    if issubclass(kind, aiohttp.ClientResponseError):
        return kind(info, (), status=500)
    if issubclass(kind, aiohttp.ServerFingerprintMismatch):
        return kind(b"a", b"b", "example.org", 443)
    return kind("http://x/" + CANARY)


@pytest.mark.parametrize(
    "kind",
    sorted(
        _subclasses(aiohttp.ClientError)
        | {
            httpx.InvalidURL,
            TimeoutError,
            ConnectionResetError,
            BrokenPipeError,
            ssl.SSLError,
            BlockedAddressError,
        },
        key=repr,
    ),
    ids=lambda kind: f"{kind.__module__}.{kind.__name__}",
)
def test_every_error_of_the_libraries_has_an_outcome_without_the_url(kind: type[Exception]) -> None:
    raised = _instance(kind)
    outcome = translate(raised, 15)
    assert isinstance(outcome, Transient | Misconfigured)
    if kind is not BlockedAddressError:
        assert CANARY not in str(outcome)
