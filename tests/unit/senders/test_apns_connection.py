"""Faults of the connection to APNs: what it breaks, whom that costs, and how it is replaced."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest
from aioapns.connection import APNsTLSClientProtocol
from h2.errors import ErrorCodes

from senders import names
from senders.apns_protocol import ApnsProtocol, NoAnswerError
from senders.names import Names
from senders.outcomes import Misconfigured, Receipt, Transient
from tests.unit.senders.apns_support import alert_push, pool_to, request_of
from tests.unit.senders.push_support import Request, apns_sender, faulty_apns, until
from tests.unit.senders.servers_support import answers, black_hole
from tests.unit.senders.support import closed_port, outcome, raw_server

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_cancelled_send_harms_nobody(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path, on_request=lambda _: None) as apns, apns_sender(apns) as sender:
        # Given three sends in flight on one connection
        sends = [asyncio.create_task(sender.send(alert_push())) for _ in range(3)]
        requests = await apns.arrived(3)
        # When one is cancelled, and APNs answers all three
        sends[1].cancel()
        await asyncio.wait([sends[1]])
        for request in requests:
            request.answer()
        # Then the others have their receipts, the connection goes on, and APNs knows that one was given up
        assert (await sends[0]).code == (await sends[2]).code == "200"
        apns.on_request = Request.answer
        assert (await sender.send(alert_push())).code == "200"
    assert len(apns.connections) == 1
    assert apns.connections[0].resets == [requests[1].stream_id]


@pytest.mark.parametrize(
    ("code", "taken"),
    [(ErrorCodes.INTERNAL_ERROR, "may have been taken"), (ErrorCodes.REFUSED_STREAM, "was not taken")],
)
async def test_a_reset_stream_is_transient(tmp_path: Path, code: ErrorCodes, taken: str) -> None:
    async with faulty_apns(tmp_path, on_request=lambda r: r.reset(code)) as apns, apns_sender(apns) as sender:
        with pytest.raises(Transient, match=f"stream reset: {code.name}.*{taken}"):
            await sender.send(alert_push())
        apns.on_request = Request.answer
        assert (await sender.send(alert_push())).code == "200"
    assert len(apns.connections) == 1


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b"\xff", b"{", b"[" * 16_000, b'{"reason": 7}'])
async def test_an_answer_without_a_readable_body_or_id_is_an_answer(tmp_path: Path, body: bytes) -> None:
    async with (
        faulty_apns(tmp_path, on_request=lambda r: r.answer_raw(503, body, {})) as apns,
        apns_sender(apns) as sender,
    ):
        with pytest.raises(Transient, match=r"^503"):
            await sender.send(alert_push())


async def test_goaway_in_mid_flight(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path, on_request=lambda _: None) as apns, apns_sender(apns) as sender:
        # Given three sends in flight
        sends = [asyncio.create_task(outcome(sender, alert_push())) for _ in range(3)]
        first, second, _ = await apns.arrived(3)
        # When APNs goes away and promises to answer the first two, then does so
        first.connection.go_away(second.stream_id)
        lost = await sends[2]
        apns.on_request = Request.answer
        late = await sender.send(alert_push())
        first.answer()
        second.answer(503, "Shutdown")
        # Then each has its own outcome, and the next went out on a new connection
        assert (await sends[0]).code == "200"
        assert (await sends[1]).code == "503 Shutdown"
        assert isinstance(lost, Transient)
        assert "GOAWAY" in lost.code
        assert "not taken" in lost.detail
        assert late.code == "200"
    assert len(apns.connections) == 2


async def test_a_connection_that_breaks_fails_all_and_is_replaced(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path, on_request=lambda _: None) as apns, apns_sender(apns) as sender:
        sends = [asyncio.create_task(outcome(sender, alert_push())) for _ in range(3)]
        await apns.arrived(3)
        apns.connections[0].transport.abort()
        outcomes = await asyncio.gather(*sends)
        assert set(map(type, outcomes)) == {Transient}
        apns.on_request = Request.answer
        assert (await sender.send(alert_push())).code == "200"


class Impatient(ApnsProtocol):
    TICK = 0.05


async def test_a_dead_connection_is_found_out_by_a_ping(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path, on_request=lambda _: None) as apns:
        pool = pool_to(apns, protocol=Impatient)
        # Given a send in flight, over a connection that then goes silent without closing
        send = asyncio.create_task(pool.send_notification(request_of()))
        (request,) = await apns.arrived(1)
        request.connection.is_deaf = True
        # Then it ends by itself
        with pytest.raises(NoAnswerError, match="PING"):
            await asyncio.wait_for(send, 2)
        # And the next one goes over another connection
        apns.on_request = Request.answer
        assert (await pool.send_notification(request_of())).status == "200"
        await pool.aclose()


async def test_bytes_that_are_no_http2_are_found_out_too(tmp_path: Path) -> None:
    def babble(request: Request) -> None:
        request.connection.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with faulty_apns(tmp_path, on_request=babble) as apns:
        pool = pool_to(apns, protocol=Impatient)
        with pytest.raises(NoAnswerError):
            await asyncio.wait_for(pool.send_notification(request_of()), 2)
        apns.on_request = Request.answer
        assert (await pool.send_notification(request_of())).status == "200"
        await pool.aclose()


async def test_frames_against_the_protocol_end_the_connection(tmp_path: Path) -> None:
    def break_rules(request: Request) -> None:
        request.connection.transport.write(b"\x00\x00\x00\x00\x00\x00\x00\x00\x00")  # DATA on stream 0

    async with faulty_apns(tmp_path, on_request=break_rules) as apns, apns_sender(apns) as sender:
        with pytest.raises(Transient, match="HTTP/2 error"):
            await sender.send(alert_push())
        apns.on_request = Request.answer
        assert (await sender.send(alert_push())).code == "200"


async def test_a_slow_answer_over_a_live_connection_is_waited_for(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path, on_request=lambda _: None) as apns:
        pool = pool_to(apns, protocol=Impatient)
        send = asyncio.create_task(pool.send_notification(request_of()))
        (request,) = await apns.arrived(1)
        await asyncio.sleep(0.3)  # six ticks, each with a PING that is answered
        request.answer()
        assert (await send).status == "200"
        await pool.aclose()


async def test_an_idle_connection_is_let_go(tmp_path: Path) -> None:
    class Restless(Impatient):
        INACTIVITY_TIME = 0

    async with faulty_apns(tmp_path) as apns:
        pool = pool_to(apns, protocol=Restless)
        await pool.send_notification(request_of())
        await until(lambda: not pool.connections)
        assert (await pool.send_notification(request_of())).status == "200"
        await pool.aclose()


async def test_a_cancelled_sender_does_not_take_the_connection_from_the_others(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        sends = [asyncio.create_task(sender.send(alert_push())) for _ in range(3)]
        await asyncio.sleep(0)
        sends[0].cancel()
        results = await asyncio.gather(*sends, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert [result.code for result in results[1:] if isinstance(result, Receipt)] == ["200", "200"]
    assert len(apns.connections) == 1


async def test_a_name_is_looked_up_apart_and_the_first_address_that_listens_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    found = [(*stream, ("127.0.0.9", 0)), (*stream, ("127.0.0.1", 0))]
    monkeypatch.setattr(names, "system", Names(lambda *_, **__: found))
    async with faulty_apns(tmp_path) as apns, apns_sender(apns, apns_host="localhost") as sender:
        assert (await sender.send(alert_push())).code == "200"


async def test_nobody_listens(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns, apns_port=closed_port()) as sender:
        with pytest.raises(Transient, match="connect refused"):
            await sender.send(alert_push())


async def test_a_certificate_of_somebody_else(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns, apns_ca_file=None) as sender:
        with pytest.raises(Misconfigured, match="tls certificate"):
            await sender.send(alert_push())


async def test_a_server_that_never_greets(tmp_path: Path) -> None:
    async def silence(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with faulty_apns(tmp_path) as apns, raw_server(silence) as url:
        port = int(url.rpartition(":")[2])
        async with apns_sender(apns, apns_port=port, send_deadline=0.3) as sender:
            with pytest.raises(Transient, match="timeout"):
                await sender.send(alert_push())


def test_aioapns_own_classes_are_left_alone() -> None:
    assert APNsTLSClientProtocol.APNS_SERVER == "api.push.apple.com"
    assert APNsTLSClientProtocol.APNS_PORT == 443
    assert not hasattr(ApnsProtocol, "ready")


async def test_an_address_that_says_nothing_keeps_none_waiting_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "system", Names(lambda *_, **__: answers("127.0.0.9", "127.0.0.1")))
    async with faulty_apns(tmp_path) as apns, apns_sender(apns, apns_host="localhost") as sender:
        with black_hole("127.0.0.9", apns.port):
            assert (await sender.send(alert_push())).code == "200"
