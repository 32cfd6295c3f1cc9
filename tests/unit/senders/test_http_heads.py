"""Answers that are not as they should be behind their head, in whatever pieces they come."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from senders.http import classify
from senders.outcomes import Receipt, Transient
from senders.transport import FIELD_CAP, HEAD_CAP, INTERIM_CAP, AnswerReader
from tests.unit.senders.http_support import failure
from tests.unit.senders.support import client, loopback_settings, raw_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"

#: What some servers answer and common clients take; its status, its body.
ODD = {
    "a 204 with a body": (
        b"HTTP/1.1 204 No Content\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nnull", 204, b"",
    ),
    "a 204 with chunks": (
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnull\r\n0\r\n\r\n", 204, b"",
    ),
    "a 204 with a body and no word of it": (b"HTTP/1.1 204 No Content\r\n\r\nnull", 204, b""),
    "a 204 of lines that end in LF": (b"HTTP/1.1 204 No Content\nContent-Length: 4\n\nnull", 204, b""),
    "bytes behind the body": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n\r\n\0", 200, b"ok"),
    "bytes behind no body": (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n<html>", 202, b""),
    "bytes behind the last chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\0", 200, b"ok",
    ),
    "an answer behind the answer": (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n" + FINE, 202, b""),
    "a hint before the answer": (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nnull",
        204, b"",
    ),
    "a long header": (
        b"HTTP/1.1 200 OK\r\nContent-Security-Policy: " + b"a" * 60_000 + b"\r\nContent-Length: 2\r\n\r\nok",
        200, b"ok",
    ),
}  # fmt: skip


def answering(*pieces: bytes, then: bytes = FINE) -> Callable[..., Awaitable[None]]:
    """A server that answers the first request with these pieces, one a segment, and each later one with `then`."""
    asked = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while True:
            await reader.readuntil(b"\r\n\r\n")
            asked += 1
            for piece in pieces if asked == 1 else [then]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.002)

    return talk


async def both(*pieces: bytes) -> list[tuple[int, bytes]]:
    """Status and body of the answer that comes in these pieces, and of one to a request right behind it."""
    async with raw_server(answering(*pieces)) as url, client() as http:
        answers = [await http.post(url, content=b"", headers={}) for _ in range(2)]
    assert all(isinstance(classify(answer), Receipt) for answer in answers)
    return [(answer.status, answer.body) for answer in answers]


@pytest.mark.parametrize(("answer", "status", "body"), ODD.values(), ids=ODD.keys())
async def test_what_is_wrong_behind_a_head_does_not_take_the_head_with_it(
    answer: bytes, status: int, body: bytes
) -> None:
    # Given an answer in one piece, then its request has it, and the next request another
    assert await both(answer) == [(status, body), (200, b"fine")]


@pytest.mark.parametrize(
    "name", ["a 204 with a body", "a 204 of lines that end in LF", "a hint before the answer"]
)
async def test_a_head_in_pieces(name: str) -> None:
    # Given any cut in two near the end of a head, then it is as in one piece
    answer, status, body = ODD[name]
    ends = [found.end() for found in re.finditer(rb"\n\r?\n", answer)]
    cuts = sorted({end + offset for end in ends for offset in range(-5, 3)} & set(range(1, len(answer))))
    for cut in cuts:
        assert await both(answer[:cut], answer[cut:]) == [(status, body), (200, b"fine")], cut
    # Given single bytes, too
    assert await both(*(answer[at : at + 1] for at in range(len(answer)))) == [(status, body), (200, b"fine")]


async def test_what_comes_while_nobody_asks_is_no_answer_to_the_next_request() -> None:
    # Given a proxy that ends an idle connection with a 408, and does not close it
    idle = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
    async with raw_server(answering(FINE, idle)) as url, client() as http:
        await http.post(url, content=b"", headers={})
        await asyncio.sleep(0.1)
        # When the next request is made, then its answer is its own
        assert (await http.post(url, content=b"", headers={})).body == b"fine"


async def test_what_comes_with_the_end_of_a_body_is_no_answer_to_the_next_request_either() -> None:
    # Given an answer of which the end came together with a whole one that nobody asked for
    stray = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
    # Then the next request has its own
    assert await both(FINE[:-2], FINE[-2:] + stray) == [(200, b"fine")] * 2
    # And a hint that comes so does not have the next answer taken for a late one
    hint = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert await both(FINE[:-2], FINE[-2:] + hint) == [(200, b"fine")] * 2


async def test_hints_without_end_are_hung_up_on() -> None:
    # Given some heads of 1xx, then the answer is taken; given very many, then at once nothing more is
    hint = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert await both(hint * INTERIM_CAP + FINE) == [(200, b"fine")] * 2
    async with raw_server(answering(*[hint * 1000] * 100)) as url, client() as http:
        started = time.monotonic()
        assert (await failure(http, url)).code == "bad answer"
        assert time.monotonic() - started < 5


async def test_a_body_that_breaks_ends_the_wait_for_it() -> None:
    pieces = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nok\r\n", b"zz\r\n")
    for parts in (pieces, [b"".join(pieces)]):
        async with raw_server(answering(*parts)) as url, client() as http:
            started = time.monotonic()
            error = await failure(http, url)
            assert (type(error), error.code) == (Transient, "connection reset")
            assert time.monotonic() - started < 5


async def test_a_head_without_end_is_hung_up_on() -> None:
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while sent < 100 * FIELD_CAP:
            writer.write(b"X: " + b"y" * 60_000 + b"\r\n")
            await writer.drain()
            sent += 60_000

    async with raw_server(endless) as url, client() as http:
        assert (await failure(http, url)).code == "bad answer"
    assert sent < 100 * FIELD_CAP
    assert HEAD_CAP > 2 * FIELD_CAP


async def test_aiohttp_still_asks_its_factory_who_reads() -> None:
    """`_factory` is private: should aiohttp drop it, its own reader would read, and the answers above be lost."""
    readers: list[Any] = []

    async with raw_server(answering(FINE)) as url, client(loopback_settings()) as http:
        connector = http._open()
        make = connector._factory
        connector._factory = lambda: readers.append(make()) or readers[-1]  # type: ignore[assignment,func-returns-value]  # a spy
        await http.post(url, content=b"", headers={})
    assert [type(reader) for reader in readers] == [AnswerReader]
