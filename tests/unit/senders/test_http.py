"""The HTTP client against real servers that behave as badly as servers do."""

from __future__ import annotations

import asyncio
import base64
import gzip
import ipaddress
import re
import ssl
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import httpx_aiohttp.transport
import pytest
from aiohttp.abc import AbstractResolver
from aiohttp.client_reqrep import ConnectionKey
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from config.settings import SettingsError, load_settings
from senders.guard import BlockedAddressError
from senders.http import (
    MAX_RETRY_AFTER,
    Answer,
    HttpClient,
    classify,
    parse_retry_after,
    redact,
    url_secrets,
)
from senders.http_errors import translate
from senders.outcomes import Misconfigured, Receipt, Rejected, SendError, Transient
from senders.transport import BODY_CAP
from tests.unit.senders.support import client, closed_port, loopback_settings, raw_server, receiving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aiohttp.abc import ResolveResult

NOW = datetime(2026, 11, 3, 20, 0, tzinfo=UTC)
CANARY = "CANARY-9f8e7d"


async def failure(http: HttpClient, url: str, **more: Any) -> SendError:
    """The error of a request, with nothing of the URL in it or hanging on it."""
    with pytest.raises(SendError) as caught:
        await http.post(f"{url}/{CANARY}?sig={CANARY}", content=b"{}", headers={"x-token": CANARY}, **more)
    error = caught.value
    chain: list[BaseException | None] = [error, error.__cause__, error.__context__]
    assert not any(CANARY in f"{one!r} {one}" for one in chain)
    return error


# What an answer means.


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, Receipt) for status in (200, 201, 202, 204, 299)),
        *((status, Misconfigured) for status in (301, 302, 303, 304, 307, 308)),
        *((status, Transient) for status in (408, 425, 429, 500, 501, 502, 503, 504, 520, 599)),
        *((status, Rejected) for status in (400, 401, 403, 404, 405, 409, 410, 411, 413, 415, 418, 422, 451)),
    ],
)
async def test_statuses(status: int, outcome: type[Any]) -> None:
    async with receiving(status=status, body=b"") as receiver, client() as http:
        answer = await http.post(receiver.url, content=b"{}", headers={})
        try:
            got: Any = classify(answer, detail="why")
        except SendError as error:
            got = error
        assert type(got) is outcome
        assert got.code.startswith(str(status))
        if outcome is not Misconfigured:
            assert got.detail == "why"


def test_a_provider_may_say_which_statuses_concern_the_channel() -> None:
    with pytest.raises(Misconfigured, match="404 no_service: gone"):
        classify(Answer(404, {}, b""), code="404 no_service", detail="gone", misconfigured={404})
    with pytest.raises(Transient):
        classify(Answer(429, {}, b""), misconfigured={429})
    assert classify(Answer(202, {}, b""), detail="taken", note="clipped") == Receipt(
        "202 Accepted", None, "clipped"
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("3601", MAX_RETRY_AFTER),
        ("9" * 5000, MAX_RETRY_AFTER),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=1), usegmt=True), MAX_RETRY_AFTER),
        ("Tuesday, 03-Nov-26 20:01:00 GMT", 60),
        ("Tue Nov  3 20:01:00 2026", 60),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("Mon, 99 Foo 2026 99:99:99 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds
    answer = Answer(503, httpx.Headers([(b"Retry-After", value.encode("latin-1"))]), b"")
    assert answer.retry_after(NOW) == seconds


@given(st.text(), st.datetimes(timezones=st.just(UTC)))
def test_no_retry_after_hurts(value: str, now: datetime) -> None:
    seconds = parse_retry_after(value, now)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)), st.integers(-9999, 9999))  # noqa: DTZ001  # the zone is added below
def test_an_http_date_is_counted_from_now(naive: datetime, offset: int) -> None:
    now = naive.replace(tzinfo=UTC, microsecond=0)
    header = format_datetime(now + timedelta(seconds=offset), usegmt=True)
    assert parse_retry_after(header, now) == min(max(offset, 0), MAX_RETRY_AFTER)


async def test_retry_after_reaches_the_outcome() -> None:
    async with receiving(status=429, headers={"Retry-After": "7"}) as receiver, client() as http:
        answer = await http.post(receiver.url, content=b"", headers={})
        with pytest.raises(Transient) as caught:
            classify(answer)
        assert caught.value.retry_after == 7


def test_an_answer_is_read_without_raising() -> None:
    assert Answer(200, {}, b'{"a": 1}').json() == {"a": 1}
    assert Answer(200, {}, b"\xff{").json() is None
    assert Answer(200, {}, b"\xff{").text == "\ufffd{"
    assert Answer(599, {}, b"").code == "599"
    assert CANARY not in repr(Answer(200, {"x": CANARY}, CANARY.encode()))


def test_excerpts_are_short_clean_and_redacted() -> None:
    url = f"https://example.org/services/T000/{CANARY}?sig=a%2Fb%2B{CANARY}&x=1#{CANARY}"
    body = f"Bad\r\n\x1b[31m {url} sig=a/b+{CANARY} a\\/b+{CANARY} a%2fb%2b " + "👍" * 300
    excerpt = Answer(400, {}, body.encode()).excerpt(url_secrets(url))
    assert excerpt.startswith("Bad [31m *** sig=***")
    assert CANARY not in excerpt
    assert len(excerpt) <= 200
    assert Answer(400, {}, f"got {url}".encode()).excerpt(url_secrets(url)) == "got ***"


@given(
    st.text(min_size=6, max_size=40),
    st.binary(max_size=10),
    st.binary(max_size=10),
    st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]),
)
def test_a_secret_is_redacted_in_base64_wherever_it_stands(
    secret: str, before: bytes, after: bytes, encode: Callable[[bytes], bytes]
) -> None:
    text = encode(before + secret.encode() + after).decode()
    redacted = redact(text, [secret])
    # What is left on either side is at most two characters that also hold bits of the secret.
    left, _, right = redacted.partition("***")
    assert "***" in redacted
    assert len(left) + len(right) <= len(encode(before)) + len(encode(after)) + 4


@pytest.mark.parametrize(
    "said",
    [
        "QUxJQ0VkXw==",
        base64.b64encode(b"\0alice-in-chains\0wonder/land?>").decode(),
        "Basic YWxpY2UtaW4tY2hhaW5zOng=",
    ],
)
def test_credentials_that_a_server_quotes_are_not_repeated(said: str) -> None:
    redacted = redact(f"535 no: {said}", ["alice-in-chains", "wonder/land?>", "ALICEd_"])
    assert "***" in redacted
    for part in re.findall(r"[A-Za-z0-9+/]{8,}", redacted):
        assert b"alice" not in base64.b64decode(part + "=" * (-len(part) % 4)).lower()
        assert b"land" not in base64.b64decode(part + "=" * (-len(part) % 4)).lower()


@given(st.text(min_size=4, max_size=40), st.text(), st.text())
def test_a_secret_is_redacted_wherever_it_stands(secret: str, before: str, after: str) -> None:
    assert secret not in redact(before + secret + after, [secret]) or secret in "*" * 40


# What is sent, and what is read.


async def test_a_request_goes_out_as_asked_and_its_answer_comes_back() -> None:
    async with receiving(status=201, body=b'{"id": 1}', headers={"X-Id": "1"}) as receiver, client() as http:
        answer = await http.post(
            f"{receiver.url}/a%2Fb?c=d%20e", content="ü".encode(), headers={"X-A": "b"}, method="PUT"
        )
        assert (answer.status, answer.json(), answer.headers["x-id"]) == (201, {"id": 1}, "1")
        request = receiver.requests[0]
        assert (request.method, request.path, request.body) == ("PUT", "/a%2Fb?c=d%20e", "ü".encode())
        assert request.headers["X-A"] == "b"
        assert request.headers["Accept-Encoding"] == "identity"
        assert request.headers["User-Agent"] == "tocsin"


async def test_connections_are_reused() -> None:
    async with receiving() as receiver, client() as http:
        for _ in range(5):
            await http.post(receiver.url, content=b"x", headers={})
        assert len(receiver.connections) == 1


async def test_several_hundred_requests_are_in_flight_at_once() -> None:
    async with receiving() as receiver, client() as http:
        answers = await asyncio.gather(
            *(http.post(f"{receiver.url}/{i}", content=b"x", headers={}) for i in range(500))
        )
        assert {answer.status for answer in answers} == {200}
        assert len({request.path for request in receiver.requests}) == 500


async def test_no_cookie_of_one_tenants_receiver_is_ever_sent_back() -> None:
    async with receiving(headers={"Set-Cookie": "session=1; Path=/"}) as receiver, client() as http:
        await http.post(receiver.url, content=b"", headers={})
        await http.post(receiver.url, content=b"", headers={})
        assert "Cookie" not in receiver.requests[1].headers


async def test_a_redirect_is_not_followed() -> None:
    async with receiving() as target, receiving(status=307) as receiver, client() as http:
        receiver.headers["Location"] = target.url
        answer = await http.post(receiver.url, content=b"", headers={})
        assert answer.status == 307
        assert not target.requests
        with pytest.raises(Misconfigured, match="never followed"):
            classify(answer)


async def test_a_long_answer_is_read_up_to_the_cap_and_then_hung_up_on() -> None:
    hung_up = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            hung_up.set()

    async with raw_server(endless) as url, client() as http:
        answer = await http.post(url, content=b"{}", headers={})
        assert answer.body == b"x" * BODY_CAP
        await asyncio.wait_for(hung_up.wait(), 5)


async def test_a_compressed_bomb_stays_compressed() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    async with receiving(body=bomb, headers={"Content-Encoding": "gzip"}) as receiver, client() as http:
        answer = await http.post(receiver.url, content=b"", headers={})
        assert answer.body == bomb[:BODY_CAP]


# What goes wrong on the way.


async def test_nothing_listens() -> None:
    async with client() as http:
        error = await failure(http, f"http://127.0.0.1:{closed_port()}")
        assert isinstance(error, Transient)
        assert error.code == "connect refused"


@pytest.mark.parametrize(
    ("talk", "code"),
    [
        (b"", "connection reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", "connection reset"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "bad answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "bad answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "bad answer"),
    ],
    ids=["hangs up", "half a body", "broken chunk", "no HTTP", "endless header"],
)
async def test_broken_answers(talk: bytes, code: str) -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(talk)
        await writer.drain()

    async with raw_server(server) as url, client() as http:
        error = await failure(http, url)
        assert isinstance(error, Transient)
        assert error.code == code


async def test_a_reset_connection() -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        # Closing with the abort flag sends RST instead of FIN.
        writer.transport.abort()

    async with raw_server(server) as url, client() as http:
        error = await failure(http, url)
        assert (type(error), error.code) == (Transient, "connection reset")


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"]
)
async def test_one_deadline_holds_for_an_answer_that_stalls(answer: bytes) -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await asyncio.Event().wait()

    async with raw_server(server) as url, client() as http:
        started = time.monotonic()
        error = await failure(http, url, timeout=0.2)
        assert (type(error), error.code) == (Transient, "timeout")
        assert time.monotonic() - started < 2


async def test_the_deadline_holds_for_an_answer_that_drips() -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_server(server) as url, client(loopback_settings(send_deadline=0.3)) as http:
        error = await failure(http, url)
        assert error.code == "timeout"
        assert "0.3 s" in error.detail


async def test_cancelling_one_request_leaves_the_others_alone() -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/slow" in head:
            await asyncio.Event().wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with raw_server(server) as url, client() as http:
        slow = asyncio.create_task(http.post(f"{url}/slow", content=b"", headers={}))
        await http.post(url, content=b"", headers={})
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert (await http.post(url, content=b"", headers={})).status == 200


class Resolver(AbstractResolver):
    """Answers with these addresses; with none it fails; with None it never answers."""

    def __init__(self, addresses: list[str] | None) -> None:
        self._addresses = addresses
        self.closed = False

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        if self._addresses is None:
            await asyncio.Event().wait()
        if not self._addresses:
            raise OSError(-2, "Name or service not known")
        return [
            {"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": 0}
            for address in self._addresses
        ]

    async def close(self) -> None:
        self.closed = True


async def test_names() -> None:
    async with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        url = f"http://hooks.example.org:{port}"
        resolver = Resolver(["127.0.0.1"])
        async with client(resolver=resolver) as http:
            await http.post(url, content=b"", headers={})
        assert resolver.closed
        assert receiver.requests[0].headers["Host"] == f"hooks.example.org:{port}"
        async with client(resolver=Resolver([])) as http:
            error = await failure(http, url)
            assert (type(error), error.code) == (Transient, "name not resolved")
            assert "hooks.example.org" in error.detail
        async with client(resolver=Resolver(None)) as http:
            assert (await failure(http, url, timeout=0.1)).code == "timeout"


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], ["127.0.0.1", "fe80::1"]])
async def test_a_name_with_a_forbidden_address_is_never_connected_to(addresses: list[str]) -> None:
    async with receiving() as receiver, client(resolver=Resolver(addresses)) as http:
        error = await failure(http, f"http://hooks.example.org:{receiver.url.rpartition(':')[2]}")
        assert type(error) is Misconfigured
        assert error.code == "blocked address"
        assert "TOCSIN_ALLOWED_NETWORKS" in error.detail
        assert addresses[-1] in error.detail
        assert not receiver.requests


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "localhost", "[::]", "0.0.0.0"],  # noqa: S104  # to connect to, not to bind
)
async def test_loopback_is_out_of_reach_by_default(host: str) -> None:
    async with receiving() as receiver, client(load_settings()) as http:
        error = await failure(http, f"http://{host}:{receiver.url.rpartition(':')[2]}")
        assert (type(error), error.code) == (Misconfigured, "blocked address")
        assert not receiver.requests


@pytest.mark.parametrize(
    "url", ["http://2130706433", "ftp://127.0.0.1", "http://u:p@127.0.0.1", "http://x:99999"]
)
async def test_a_bad_url_is_a_matter_of_the_channel(url: str) -> None:
    async with client() as http:
        error = await failure(http, url)
        assert (type(error), error.code) == (Misconfigured, "invalid url")


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key, as one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_certificate_that_is_trusted(certificate: Path, server_tls: ssl.SSLContext) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with receiving(tls=server_tls) as receiver, client(ssl_context=trusting) as http:
        assert (await http.post(receiver.url, content=b"", headers={})).status == 200


async def test_a_certificate_that_is_not_trusted_is_a_matter_for_a_person(server_tls: ssl.SSLContext) -> None:
    async with receiving(tls=server_tls) as receiver, client() as http:
        error = await failure(http, receiver.url)
        assert (type(error), error.code) == (Misconfigured, "tls certificate")
        assert "self-signed" in error.detail


async def test_a_server_that_speaks_no_tls() -> None:
    async with receiving() as receiver, client() as http:
        error = await failure(http, receiver.url.replace("http:", "https:"))
        assert (type(error), error.code) == (Transient, "tls error")
        assert error.detail


# Proxies.


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


async def test_proxy_variables_are_ignored_unless_trusted(clean_environment: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as receiver:
        clean_environment.setenv("HTTP_PROXY", proxy.url)
        clean_environment.setenv("ALL_PROXY", proxy.url)
        async with client() as http:
            await http.post(receiver.url, content=b"", headers={})
        assert (len(proxy.requests), len(receiver.requests)) == (0, 1)


async def test_a_trusted_proxy_is_used_but_for_what_it_must_not(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    async with receiving() as proxy, receiving() as receiver:
        # Given a proxy, and a host that is exempt
        clean_environment.setenv("ALL_PROXY", proxy.url.replace("//", "//user:pass@"))
        clean_environment.setenv("NO_PROXY", "127.0.0.1")
        async with client(loopback_settings(trust_env=True)) as http:
            # When a name, the exempt host, and a forbidden address are sent to
            await http.post("http://hooks.example.org/x", content=b"", headers={})
            await http.post(receiver.url, content=b"", headers={})
            error = await failure(http, "http://10.0.0.1")
        # Then the first went through the proxy with its credentials, the second did not, the third nowhere
        assert [request.headers["Host"] for request in proxy.requests] == ["hooks.example.org"]
        assert proxy.requests[0].headers["Proxy-Authorization"].startswith("Basic ")
        assert len(receiver.requests) == 1
        assert error.code == "blocked address"


@pytest.mark.parametrize(
    ("status", "outcome", "code"),
    [("407 No", Misconfigured, "proxy authentication"), ("502 No", Transient, "proxy error")],
)
async def test_a_proxy_that_refuses_a_tunnel(
    clean_environment: pytest.MonkeyPatch, status: str, outcome: type[SendError], code: str
) -> None:
    heads = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    async with raw_server(proxy) as url:
        clean_environment.setenv("HTTPS_PROXY", url.replace("//", "//user:pass@"))
        async with client(loopback_settings(trust_env=True)) as http:
            error = await failure(http, "https://hooks.example.org")
    assert (type(error), error.code) == (outcome, code)
    assert heads[0].startswith(b"CONNECT hooks.example.org:443")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in heads[0]


async def test_a_proxy_that_is_away(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    async with client(loopback_settings(trust_env=True)) as http:
        error = await failure(http, "http://hooks.example.org")
    assert (type(error), error.code) == (Transient, "proxy error")


def test_a_proxy_that_is_not_understood_stops_the_start(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(SettingsError, match="TOCSIN_TRUST_ENV"):
        HttpClient(loopback_settings(trust_env=True))


# The map of errors is whole.


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
        | _subclasses(httpx.TransportError)
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
    # And the same beneath whatever httpx-aiohttp makes of it
    wrapped = httpx.ConnectTimeout("x")
    wrapped.__cause__ = raised
    assert str(translate(wrapped, 15)) == str(outcome)


def test_the_transport_maps_nothing_that_is_not_looked_beneath() -> None:
    for mapped in httpx_aiohttp.transport.AIOHTTP_EXC_MAP.values():
        assert issubclass(mapped, httpx.TransportError)
