"""The HTTP client against real servers that behave as badly as servers do."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.abc import AbstractResolver

from config.settings import load_settings
from senders.http import classify
from senders.outcomes import Misconfigured, Transient
from senders.transport import BODY_CAP
from tests.unit.senders.http_support import failure
from tests.unit.senders.support import client, closed_port, loopback_settings, raw_server, receiving

if TYPE_CHECKING:
    from aiohttp.abc import ResolveResult


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
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "connection reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "bad answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "bad answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "bad answer"),
    ],
    ids=["hangs up", "half a body", "broken chunk", "two lengths", "no HTTP", "long header"],
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
        assert "may have been taken" in error.detail


@pytest.mark.parametrize("version", ["HTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/1.1 200"])
async def test_a_body_whose_length_is_not_given_ends_with_its_connection(version: str) -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in (f"{version}\r\nX: a\r\nx: b\r\n\r\nall".encode(), b" of it"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    async with raw_server(server) as url, client() as http:
        answer = await http.post(url, content=b"", headers={})
    assert (answer.status, answer.headers["x"], answer.body) == (200, "a, b", b"all of it")


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nb", "a\rb", "a\0b", "caf\u00e9"])
async def test_a_header_cannot_add_to_a_request(value: str) -> None:
    async with receiving() as receiver, client() as http:
        with pytest.raises(ValueError, match=r"line breaks|ascii"):
            await http.post(receiver.url, content=b"", headers={"x-token": value})
        assert not receiver.requests


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
