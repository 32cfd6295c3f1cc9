"""The way to a server: TLS, and proxies."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import example, given
from hypothesis import strategies as st

from config.settings import SettingsError
from senders.guard import MAX_URL, check_url
from senders.http import HttpClient, common_parts
from senders.outcomes import Misconfigured, SendError, Transient
from tests.unit.senders.http_support import failure
from tests.unit.senders.support import client, closed_port, loopback_settings, raw_server, receiving

if TYPE_CHECKING:
    from pathlib import Path


# URLs.


@given(
    st.text("aZ09._~!$&'()*+,;=:@%/?#-\\ä\n", max_size=60),
    st.sampled_from(["https://a.example", "http://[::1]:80"]),
)
@example("..", "https://a.example")
@example("a%2Fb%zz", "https://a.example")
@example("a//b", "https://a.example")
def test_what_needs_no_parsing_is_what_parsing_finds(rest: str, origin: str) -> None:
    url = f"{origin}/{rest}"
    parts = common_parts(url)
    if parts is not None:
        assert check_url(url) == url
        parsed = httpx.URL(url)
        assert parts == (origin, parsed.raw_path.decode())
        assert not parsed.fragment


@pytest.mark.parametrize(
    "path", ["/fcm/send/c0ffee:APA91b-_x", "/wpush/v2/gAAAAA%3D%3D", "/v1/projects/p/messages:send", "/a/"]
)
def test_push_services_urls_need_none(path: str) -> None:
    assert common_parts(f"https://push.example{path}") == ("https://push.example", path)


def test_a_url_that_is_too_long_is_looked_at() -> None:
    assert common_parts("https://push.example/" + MAX_URL * "a") is None


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


async def test_an_odd_answer_is_taken_over_tls_straight_and_through_a_tunnel(
    clean_environment: pytest.MonkeyPatch, certificate: Path, server_tls: ssl.SSLContext
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    tunnels = []

    async def receiver(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nnull")
        await writer.drain()
        await reader.read()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        host, port = head.split()[1].decode().split(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        tunnels.append(host)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_relay(reader, far_writer), _relay(far_reader, writer))

    async with raw_server(receiver, tls=server_tls) as url, raw_server(proxy) as way:
        async with client(ssl_context=trusting) as http:
            assert (await http.post(url, content=b"", headers={})).status == 204
        clean_environment.setenv("HTTPS_PROXY", way)
        async with client(loopback_settings(trust_env=True), ssl_context=trusting) as http:
            for _ in range(2):
                assert (await http.post(url, content=b"", headers={})).status == 204
    assert tunnels == ["127.0.0.1"] * 2


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def test_a_proxy_that_is_away(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    async with client(loopback_settings(trust_env=True)) as http:
        error = await failure(http, "http://hooks.example.org")
    assert (type(error), error.code) == (Transient, "proxy error")


def test_a_proxy_that_is_not_understood_stops_the_start(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(SettingsError, match="TOCSIN_TRUST_ENV"):
        HttpClient(loopback_settings(trust_env=True))
