"""The one HTTP client of a worker process, and what every answer means.

The guard looks at every connection. There are no redirects, no cookies, no decompression, and no proxy unless
TOCSIN_TRUST_ENV says so; answers are read up to 64 KiB; each request has one deadline for all of it. How a request
goes over the wire, and why by no client of a library, is in senders.transport.

An answer is judged by `classify`, a failure on the way by senders.http_errors.
"""

from __future__ import annotations

import email.utils
import re
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]  # not in typeshed

import aiohttp
import certifi
import httpx
import orjson
import yarl

from config.settings import SettingsError
from senders import guard
from senders.deadline import Deadline
from senders.http_errors import CONNECT_TIMEOUT, invalid_url, translate
from senders.names import Resolver
from senders.outcomes import Misconfigured, Receipt, Rejected, Transient
from senders.redaction import excerpt
from senders.transport import Connector, Target, exchange, forgetful

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from aiohttp.abc import AbstractResolver

    from config import Settings

MAX_RETRY_AFTER: Final = 3600.0
"""Seconds. A provider that asks for more is asked again after an hour."""

CONNECTIONS: Final = 4096
"""Open connections of a process at most: room for a hundred destinations that hang, and for all others."""

CONNECTIONS_PER_HOST: Final = 256
"""So that one destination that hangs cannot hold them all."""

KEEPALIVE: Final = 30.0
"""Seconds; below the 60 s after which common servers and load balancers close an idle connection."""

MOST_WAYS: Final = 4096
"""URLs, or origins of common ones, whose parts a process remembers."""

_COMMON: Final = re.compile(
    r"(https?://[\w.:\[\]-]+)((?:/(?![./])[\w~!$&'()*+,;=:@.-]*(?:%[0-9A-Fa-f]{2}[\w~!$&'()*+,;=:@.-]*)*)+)",
    re.ASCII,
)
"""Nothing in the path to encode (RFC 3986, 3.3), no "." and ".." to resolve (5.2.4)."""

_HEADERS: Final = {"user-agent": "tocsin", "accept": "*/*", "accept-encoding": "identity"}
_TRANSIENT_STATUSES: Final = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Answer:
    """What the far side answered.

    Attributes:
        status: the HTTP status.
        headers: by their names in lower case.
        body: the first 64 KiB as they came; compressed only where `accept-encoding: identity` was ignored.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004  # RFC 9110, 15.3

    @property
    def code(self) -> str:
        """The status with its standard phrase: "503 Service Unavailable"."""
        try:
            return f"{self.status} {HTTPStatus(self.status).phrase}"
        except ValueError:
            return str(self.status)

    @property
    def text(self) -> str:
        """The body as UTF-8, with U+FFFD for what is none."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body parsed as JSON; None where it is none. Never raises."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None

    def retry_after(self, now: datetime | None = None) -> float | None:
        """Seconds that the far side asks us to wait, clamped to [0, 3600]; None where it does not say.

        Args:
            now: what an HTTP date is counted from; else the present.
        """
        return parse_retry_after(self.headers.get("retry-after", ""), now or datetime.now(UTC))

    def excerpt(self, secrets: Iterable[str] = ()) -> str:
        """The start of the body as one line for people, without the secrets that it may echo."""
        return excerpt(self.text, secrets)


def parse_retry_after(value: str, now: datetime) -> float | None:
    """Read a Retry-After header: seconds or an HTTP date (RFC 9110, 10.2.3), clamped to [0, 3600] seconds."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        # Nobody means a number of more digits, and int() is slow on thousands of them.
        return min(float(value[:12]), MAX_RETRY_AFTER)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return min(max((when - now).total_seconds(), 0.0), MAX_RETRY_AFTER)


def classify(
    answer: Answer,
    *,
    detail: str = "",
    code: str | None = None,
    note: str | None = None,
    misconfigured: Collection[int] = (),
) -> Receipt:
    """What an answer's status means, where the provider has nothing more to say.

    Args:
        answer: any answer.
        detail: goes with the error; and with the receipt, unless there is a note.
        code: the provider's own words; else the status with its phrase.
        note: goes with the receipt, such as what was left out of the message.
        misconfigured: 4xx statuses with which this provider says that the channel is wrong, not the message.

    Returns:
        A receipt for 2xx.

    Raises:
        Transient: 408, 425, 429 and 5xx, with Retry-After.
        Misconfigured: 3xx, which is never followed, 1xx, and the statuses given.
        Rejected: every other 4xx.
    """
    code = code or answer.code
    if answer.ok:
        return Receipt(code, detail=note or detail or None)
    if answer.status in _TRANSIENT_STATUSES or answer.status >= 500:  # noqa: PLR2004  # RFC 9110, 15.6
        raise Transient(code, detail, retry_after=answer.retry_after())
    if answer.status < 400:  # noqa: PLR2004  # RFC 9110, 15.5
        raise Misconfigured(
            code, "the receiver answers with a redirect, which is never followed: use its final URL"
        )
    if answer.status in misconfigured:
        raise Misconfigured(code, detail)
    raise Rejected(code, detail)


def common_parts(url: str) -> tuple[str, str] | None:
    """Origin and path of a URL whose path goes over the wire as it stands; None for one that has to be parsed for that.

    Only the path has been looked at: the origin may still be none that is acceptable.
    """
    found = _COMMON.fullmatch(url) if len(url) <= guard.MAX_URL else None
    return None if found is None else (found[1], found[2])


class HttpClient:
    """Makes requests, guarded and bounded. One per worker process, on the event loop that first uses it.

    Args:
        settings: allowed_networks, send_deadline and trust_env are read.
        ssl_context: whom to trust; else certifi's and the system's authorities.
        resolver: who resolves names; else senders.names. It stands behind the guard and is closed by `aclose`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ssl_context: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._settings = settings
        self._ssl = ssl_context or _default_ssl_context()
        self._resolver = resolver
        self._connector: Connector | None = None
        self._environment = getproxies_environment() if settings.trust_env else {}
        self._proxies = {scheme: _proxy(url) for scheme, url in _proxy_urls(self._environment).items()}
        self._ways: dict[str, tuple[Target, str]] = {}

    def _open(self) -> Connector:
        """The connections, which belong to the loop of the first request."""
        if self._connector is None:
            networks = self._settings.allowed_networks
            self._connector = Connector(
                resolver=guard.GuardedResolver(self._resolver or Resolver(), networks),
                socket_factory=forgetful(
                    guard.guarded_socket_factory(networks), self._settings.send_deadline
                ),
                ssl=self._ssl,
                limit=CONNECTIONS,
                limit_per_host=CONNECTIONS_PER_HOST,
                keepalive_timeout=KEEPALIVE,
            )
        return self._connector

    async def post(
        self,
        url: str,
        *,
        content: bytes,
        headers: Mapping[str, str],
        timeout: float | None = None,  # noqa: ASYNC109  # the deadline is kept here, for every caller alike
        method: str = "POST",
    ) -> Answer:
        """Make one request and read its answer, whatever its status.

        Args:
            url: http or https; see guard.check_url.
            content: the body, as it goes over the wire.
            headers: ASCII, without CR, LF and NUL.
            timeout: seconds for all of it, name lookup to last byte; else TOCSIN_SEND_DEADLINE.
            method: the HTTP method.

        Raises:
            Transient: no answer. Whether the far side took the message is unknown.
            Misconfigured: the URL, its address or its certificate is not acceptable.
        """
        deadline = self._settings.send_deadline if timeout is None else timeout
        try:
            target, path = self._way(url)
            fields = _HEADERS | {name.lower(): value for name, value in headers.items()}
            message = target.message(method, path, fields, content)
            async with Deadline(deadline):
                raw = await exchange(self._open(), target, message, _timeout(min(CONNECT_TIMEOUT, deadline)))
            return Answer(*raw)
        except (httpx.InvalidURL, aiohttp.ClientError, OSError) as error:
            outcome = translate(error, deadline)
        except guard.UrlError as error:
            outcome = invalid_url(str(error))
        # Outside of the except clause: the original holds the URL and must not be the outcome's context.
        raise outcome

    def _way(self, url: str) -> tuple[Target, str]:
        """Where a URL leads, and its path as it goes over the wire.

        A push to ten thousand browsers has as many URLs, each a tenth of a millisecond to parse, of few origins.
        """
        common = common_parts(url)
        if common is None:
            return self._parsed(url)
        origin, path = common
        return self._parsed(f"{origin}/")[0], path

    def _parsed(self, url: str) -> tuple[Target, str]:
        found = self._ways.get(url)
        if found is None:
            # httpx writes a URL as RFC 3986 has it, for aiohttp to leave it alone.
            parsed = yarl.URL(str(httpx.URL(guard.check_url(url))), encoded=True)
            found = Target(parsed, *self._proxy_for(url)), parsed.raw_path_qs
            if len(self._ways) >= MOST_WAYS:
                self._ways.clear()
            self._ways[url] = found
        return found

    def _proxy_for(self, url: str) -> tuple[yarl.URL, str | None] | tuple[()]:
        """The proxy that the environment names for a URL, and what it is told.

        Raises:
            BlockedAddressError: a proxy would have to be asked for an address that is not public.
        """
        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme)
        if proxy is None or proxy_bypass_environment(parts.hostname, self._environment):
            return ()
        # The proxy resolves names out of our sight, but an address in the URL can be judged here.
        reason = guard.literal_refusal(url, self._settings.allowed_networks)
        if reason is not None:
            raise guard.BlockedAddressError(f"{parts.hostname} is not public: {reason}")
        return proxy

    async def aclose(self) -> None:
        """Close every connection. No request is in flight any more."""
        if self._connector is not None:
            await self._connector.close()
        if self._resolver is not None:
            await self._resolver.close()


@lru_cache(maxsize=64)
def _timeout(connect: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(sock_connect=connect)


def _proxy_urls(environment: Mapping[str, str]) -> dict[str, str]:
    """The proxy of each scheme, from HTTP_PROXY, HTTPS_PROXY and ALL_PROXY.

    Raises:
        SettingsError: one of them is no HTTP proxy, and going round it would be a surprise.
    """
    found = {scheme: environment.get(scheme) or environment.get("all") for scheme in ("http", "https")}
    proxies = {scheme: proxy for scheme, proxy in found.items() if proxy}
    if any(urlsplit(proxy).scheme not in {"http", "https"} for proxy in proxies.values()):
        raise SettingsError(
            "TOCSIN_TRUST_ENV: the proxies of the environment must be http:// or https:// URLs"
        )
    return proxies


def _proxy(url: str) -> tuple[yarl.URL, str | None]:
    """A proxy without its credentials, and these as a header."""
    proxy = httpx.Proxy(url)
    told = None if proxy.auth is None else aiohttp.encode_basic_auth(*proxy.auth)
    return yarl.URL(str(proxy.url)), told


def _default_ssl_context() -> ssl.SSLContext:
    """Certifi's authorities for slim images, and the system's, where an operator puts a company's own."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    return context
