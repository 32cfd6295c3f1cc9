"""The limits of a connection to APNs: its window, its streams, and what waits for them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from senders.outcomes import TargetGone, Transient
from tests.unit.senders.apns_support import alert_push, pool_to, request_of
from tests.unit.senders.push_support import Request, apns_sender, faulty_apns
from tests.unit.senders.support import outcome

if TYPE_CHECKING:
    from pathlib import Path


async def test_thousands_of_error_answers_do_not_stall_the_connection(tmp_path: Path) -> None:
    # Given an APNs that, as any, sends bodies only into a window that is acknowledged
    async with (
        faulty_apns(tmp_path, on_request=lambda r: r.answer(410, "Unregistered")) as apns,
        apns_sender(apns) as sender,
    ):
        # When it refuses 2,600 devices, which is more bytes than the window has
        for _ in range(26):
            outcomes = await asyncio.gather(*(outcome(sender, alert_push()) for _ in range(100)))
            assert set(map(type, outcomes)) == {TargetGone}
    # Then the window was never full
    assert apns.starved == 0
    assert len(apns.requests) * len('{"reason": "Unregistered"}') > 65_535
    assert len(apns.connections) == 1


async def test_a_stalled_stream_ends_at_the_deadline_and_frees_its_slot(tmp_path: Path) -> None:
    async with (
        faulty_apns(tmp_path, on_request=lambda _: None, max_streams=1) as apns,
        apns_sender(apns, send_deadline=0.3) as sender,
    ):
        with pytest.raises(Transient, match="timeout"):
            await sender.send(alert_push())
        apns.on_request = Request.answer
        assert (await sender.send(alert_push())).code == "200"
    assert len(apns.connections) == 1


async def test_more_sends_than_streams_wait_in_line(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path, max_streams=2) as apns, apns_sender(apns) as sender:
        receipts = await asyncio.gather(*(sender.send(alert_push()) for _ in range(200)))
    assert len(receipts) == len(apns.requests) == 200
    assert len(apns.connections) <= 4


async def test_a_limit_that_is_raised_while_a_stream_is_open_counts(tmp_path: Path) -> None:
    # Given an APNs that takes one stream until it has seen a good token, as Apple's
    async with faulty_apns(tmp_path, on_request=lambda _: None, max_streams=1) as apns:
        pool = pool_to(apns, max_connections=1)
        first = asyncio.create_task(pool.send_notification(request_of()))
        await apns.arrived(1)
        others = [asyncio.create_task(pool.send_notification(request_of())) for _ in range(20)]
        # When it raises the limit while that one is open
        apns.connections[0].allow_streams(1000)
        # Then the others go out at once
        for request in list(await apns.arrived(21)):
            request.answer()
        assert {(await each).status for each in [first, *others]} == {"200"}
        await pool.aclose()


@pytest.mark.parametrize("window", [1000, 65_535])
async def test_bodies_wait_for_the_window_and_not_for_a_second(tmp_path: Path, window: int) -> None:
    async with faulty_apns(tmp_path, window=window) as apns:
        pool = pool_to(apns)
        began = time.monotonic()
        answers = await asyncio.gather(*(pool.send_notification(request_of(4096)) for _ in range(100)))
        assert time.monotonic() - began < 5
        assert {answer.status for answer in answers} == {"200"}
        assert {len(request.body) for request in apns.requests} == {4096}
        await pool.aclose()


async def test_a_send_cancelled_in_line_or_with_half_a_body_leaves_no_trace(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path, window=1000) as apns:
        pool = pool_to(apns, max_connections=1)
        # Given a server that gives no more window than 1,000 bytes
        await pool.send_notification(request_of(10))
        apns.connections[0].is_reading = False
        stuck = asyncio.create_task(pool.send_notification(request_of(4096)))
        waiting = asyncio.create_task(pool.send_notification(request_of(10)))
        await asyncio.sleep(0.05)
        # When both are cancelled, and it reads again
        for each in (waiting, stuck):
            each.cancel()
        await asyncio.wait([waiting, stuck])
        apns.connections[0].is_reading = True
        # Then the next send is served by the same connection
        assert (await asyncio.wait_for(pool.send_notification(request_of(10)), 2)).status == "200"
        assert len(apns.connections) == 1
        await pool.aclose()
