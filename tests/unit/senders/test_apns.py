from __future__ import annotations

import asyncio
import json
import ssl
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from aioapns.connection import APNsTLSClientProtocol
from h2.errors import ErrorCodes
from hypothesis import given
from hypothesis import strategies as st

from receivers.keys import new_p256, pem
from senders.apns import MAX_PAYLOAD, payload
from senders.apns_answers import REASONS
from senders.apns_pool import ApnsPool, ProviderToken
from senders.apns_protocol import ApnsProtocol, ApnsRequest, NoAnswerError
from senders.base import Device
from senders.outcomes import Misconfigured, NotConfigured, Receipt, Rejected, SendError, TargetGone, Transient
from senders.push import PushConfig
from senders.push_content import fit
from tests.unit.senders.push_support import (
    IOS_TOKEN,
    TOPIC,
    FaultyApns,
    Request,
    apns_credentials,
    apns_sender,
    apns_settings,
    faulty_apns,
    push,
    until,
)
from tests.unit.senders.support import closed_port, raw_server

if TYPE_CHECKING:
    from pathlib import Path

    from senders.base import Notification

KEY = new_p256()
CHANNEL = PushConfig(all_users=True, apns=apns_credentials(KEY))

# Apple's table, row by row.
ROWS: list[tuple[int, str, type[SendError]]] = [
    (400, "BadCollapseId", Rejected),
    (400, "BadDeviceToken", TargetGone),
    (400, "BadExpirationDate", Rejected),
    (400, "BadMessageId", Rejected),
    (400, "BadPriority", Rejected),
    (400, "BadTopic", Misconfigured),
    (400, "DeviceTokenNotForTopic", TargetGone),
    (400, "DuplicateHeaders", Rejected),
    (400, "IdleTimeout", Transient),
    (400, "InvalidPushType", Rejected),
    (400, "MissingDeviceToken", Rejected),
    (400, "MissingTopic", Misconfigured),
    (400, "PayloadEmpty", Rejected),
    (400, "TopicDisallowed", Misconfigured),
    (403, "BadCertificate", Misconfigured),
    (403, "BadCertificateEnvironment", Misconfigured),
    (403, "BadEnvironmentKeyIdInToken", Misconfigured),
    (403, "ExpiredProviderToken", Transient),
    (403, "Forbidden", Misconfigured),
    (403, "InvalidProviderToken", Misconfigured),
    (403, "InvalidSigningKey", Misconfigured),
    (403, "MissingProviderToken", Misconfigured),
    (403, "UnrelatedKeyIdInToken", Misconfigured),
    (404, "BadPath", Rejected),
    (405, "MethodNotAllowed", Rejected),
    (410, "ExpiredToken", TargetGone),
    (410, "Unregistered", TargetGone),
    (413, "PayloadTooLarge", Rejected),
    (429, "TooManyProviderTokenUpdates", Transient),
    (429, "TooManyRequests", Transient),
    (500, "InternalServerError", Transient),
    (503, "ServiceUnavailable", Transient),
    (503, "Shutdown", Transient),
]
# What no table of Apple's has: the status decides.
UNKNOWN: list[tuple[int, str, type[SendError]]] = [
    (301, "", Misconfigured),
    (400, "SomethingNew", Rejected),
    (403, "", Misconfigured),
    (408, "", Transient),
    (410, "", TargetGone),
    (429, "", Transient),
    (502, "", Transient),
    (503, "", Transient),
]


def alert_push(**overrides: Any) -> Notification[PushConfig]:
    return push(config=CHANNEL, **overrides)


def parse(body: bytes) -> Any:
    return json.loads(body)


@pytest.mark.parametrize(("status", "reason", "kind"), [*ROWS, *UNKNOWN])
async def test_outcome_table(tmp_path: Path, status: int, reason: str, kind: type[SendError]) -> None:
    async with (
        faulty_apns(tmp_path, on_request=lambda r: r.answer(status, reason)) as apns,
        apns_sender(apns) as sender,
    ):
        with pytest.raises(SendError) as caught:
            await sender.send(alert_push())
    assert type(caught.value) is kind
    assert caught.value.code == f"{status} {reason}".strip()


def test_the_table_names_every_reason_that_the_sender_knows() -> None:
    assert {reason: kind for _, reason, kind in ROWS} == REASONS


async def test_what_is_sent(tmp_path: Path) -> None:
    # Given an alert with an image and a link
    details = {"url": "https://example.org/alerts/1", "image_url": "https://example.org/1.jpg"}
    it = alert_push(alert={"details": details}, severity=4, is_critical=True)
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        # When it is sent
        receipt = await sender.send(it)
    # Then APNs was asked as Apple documents it
    headers = dict(apns.requests[0].headers)
    token = headers.pop("authorization").removeprefix("bearer ")
    claims = jwt.decode(token, KEY.public_key(), algorithms=["ES256"])
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": "KEY1234567", "typ": "JWT"}
    assert claims["iss"] == "TEAM123456"
    assert abs(claims["iat"] - time.time()) < 5
    assert headers[":path"] == f"/3/device/{IOS_TOKEN}"
    assert headers["apns-topic"] == TOPIC
    assert headers["apns-push-type"] == "alert"
    assert headers["apns-id"] == str(it.id)
    assert headers["apns-collapse-id"] == it.thread
    assert headers["apns-expiration"] == str(int(it.expires_at.timestamp()))
    assert headers["apns-priority"] == "10"
    # And the device shows title and body, rings, and knows which alert it is
    body = parse(apns.requests[0].body)
    assert body["aps"] == {
        "alert": {"title": "Critical: smoke detected at cam-3, berlin", "body": "Smoke in the hall"},
        "thread-id": it.thread,
        "interruption-level": "critical",
        "sound": {"critical": 1, "name": "default", "volume": 1.0},
        "mutable-content": 1,
    }
    assert {key: body[key] for key in body if key != "aps"} == {
        "alert_id": 4711, "event": "OPEN", "severity": 4, "job_id": 12, **details,
    }  # fmt: skip  # reads as one row
    assert receipt == Receipt("200", str(it.id), None)


@pytest.mark.parametrize(
    ("severity", "is_critical", "event", "level", "priority"),
    [
        (0, False, "OPEN", "active", "5"),
        (2, False, "OPEN", "time-sensitive", "10"),
        (4, True, "OPEN", "critical", "10"),
        (4, True, "ESCALATED", "critical", "10"),
        (4, True, "CLOSED", "time-sensitive", "10"),
    ],
)
async def test_how_loud_it_is(
    tmp_path: Path, *, severity: int, is_critical: bool, event: str, level: str, priority: str
) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        await sender.send(alert_push(severity=severity, is_critical=is_critical, event=event))
    aps = parse(apns.requests[0].body)["aps"]
    assert aps["interruption-level"] == level
    assert isinstance(aps["sound"], dict) == (level == "critical")
    assert apns.requests[0].headers["apns-priority"] == priority


@given(
    message=st.text(max_size=6000) | st.text('🔥\\"\x00é', min_size=1000, max_size=3000),
    device=st.text(max_size=500),
    alert_id=st.integers() | st.text(max_size=5000),
    url=st.sampled_from(["", "https://example.org/" + "a" * 2000, "javascript:alert(1)"]),
)
def test_the_payload_is_json_and_fits_whatever_the_alert_says(
    message: str, device: str, alert_id: int | str, url: str
) -> None:
    alert = {
        "message": message,
        "device_id": device,
        "alert_id": alert_id,
        "details": {"url": url, "image_url": url},
    }
    it = alert_push(alert=alert)
    body, note = fit(it, lambda *parts: payload(it, *parts), MAX_PAYLOAD)
    said = json.loads(body)
    assert len(body) <= MAX_PAYLOAD
    assert said["aps"]["alert"]["title"]
    assert "javascript" not in str(said.get("url"))
    assert note is None or "clipped" in note or "left out" in note


async def test_a_shortened_body_is_said_in_the_receipt(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        receipt = await sender.send(alert_push(alert={"message": "🔥" * 3000}))
    assert receipt.detail == "clipped: message"
    assert 4080 < len(apns.requests[0].body) <= MAX_PAYLOAD
    assert parse(apns.requests[0].body)["aps"]["alert"]["body"].endswith("🔥…")


@pytest.mark.parametrize(
    "token", ["", "../../x", "abc?y=1", "0f" * 31, "0f" * 101, "0" * 65, "0g" * 32, "0f" * 32 + "\n"]
)
async def test_a_token_that_is_no_hex_never_reaches_a_path(tmp_path: Path, token: str) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        with pytest.raises(TargetGone, match="bad device token"):
            await sender.send(alert_push(device=Device(1, "u", "ios", token)))
    assert apns.connections == []


async def test_gone_since(tmp_path: Path) -> None:
    since = datetime(2026, 11, 1, 12, tzinfo=UTC)
    stamp = int(since.timestamp() * 1000)
    async with (
        faulty_apns(tmp_path, on_request=lambda r: r.answer(410, "Unregistered", timestamp=stamp)) as apns,
        apns_sender(apns) as sender,
    ):
        with pytest.raises(TargetGone) as caught:
            await sender.send(alert_push())
    assert caught.value.since == since


@pytest.mark.parametrize("timestamp", ["x", None, 1e300, [], float("nan")])
async def test_a_senseless_timestamp_is_none(tmp_path: Path, timestamp: Any) -> None:
    async with (
        faulty_apns(
            tmp_path, on_request=lambda r: r.answer(410, "Unregistered", timestamp=timestamp)
        ) as apns,
        apns_sender(apns) as sender,
    ):
        with pytest.raises(TargetGone) as caught:
            await sender.send(alert_push())
    assert caught.value.since is None


async def test_many_tokens_of_another_topic_are_the_topics_fault(tmp_path: Path) -> None:
    async with (
        faulty_apns(tmp_path, on_request=lambda r: r.answer(400, "DeviceTokenNotForTopic")) as apns,
        apns_sender(apns) as sender,
    ):
        outcomes = [await outcome_of(sender.send(alert_push())) for _ in range(8)]
    assert [type(outcome) for outcome in outcomes] == [TargetGone] * 5 + [Misconfigured] * 3


async def test_without_credentials(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        with pytest.raises(NotConfigured, match="TOCSIN_APNS_KEY_FILE"):
            await sender.send(push())


async def test_credentials_of_the_settings(tmp_path: Path) -> None:
    key_file = tmp_path / "key.p8"
    key_file.write_bytes(pem(KEY))
    async with (
        faulty_apns(tmp_path) as apns,
        apns_sender(
            apns,
            apns_key_file=key_file,
            apns_key_id="KEY7654321",
            apns_team_id="TEAM654321",
            apns_topic="org.own",
        ) as sender,
    ):
        await sender.send(push())
    assert apns.requests[0].headers["apns-topic"] == "org.own"


@pytest.mark.parametrize(
    "key", ["canary-secret", "-----BEGIN PRIVATE KEY-----\ncanary-secret\n-----END PRIVATE KEY-----"]
)
async def test_a_bad_key_is_the_channels_fault_and_not_quoted(tmp_path: Path, key: str) -> None:
    credentials = apns_credentials().model_copy(update={"key": type(apns_credentials().key)(key)})
    config = PushConfig(all_users=True, apns=credentials)
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        with pytest.raises(Misconfigured, match="bad credentials") as caught:
            await sender.send(push(config=config))
    assert "canary" not in repr(caught.value) + str(caught.value) + repr(caught.value.__cause__) + repr(
        config
    )


async def test_a_tenant_that_names_anothers_team_does_not_get_its_token(tmp_path: Path) -> None:
    thief = PushConfig(all_users=True, apns=apns_credentials())
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        await sender.send(alert_push())
        await sender.send(push(config=thief))
    assert len({r.headers["authorization"] for r in apns.requests}) == 2
    assert len(apns.connections) == 2


# Faults of the connection.


async def outcome_of(sending: Any) -> Any:
    try:
        return await sending
    except SendError as error:
        return error


async def test_thousands_of_error_answers_do_not_stall_the_connection(tmp_path: Path) -> None:
    # Given an APNs that, as any, sends bodies only into a window that is acknowledged
    async with (
        faulty_apns(tmp_path, on_request=lambda r: r.answer(400, "BadDeviceToken")) as apns,
        apns_sender(apns) as sender,
    ):
        # When it refuses 2,400 devices, which is more bytes than the window has
        for _ in range(24):
            outcomes = await asyncio.gather(*(outcome_of(sender.send(alert_push())) for _ in range(100)))
            assert {type(outcome) for outcome in outcomes} == {TargetGone}
    # Then the window was never full
    assert apns.starved == 0
    assert len(apns.requests) * len('{"reason": "BadDeviceToken"}') > 65_535
    assert len(apns.connections) == 1


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
        sends = [asyncio.create_task(outcome_of(sender.send(alert_push()))) for _ in range(3)]
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
        sends = [asyncio.create_task(outcome_of(sender.send(alert_push()))) for _ in range(3)]
        await apns.arrived(3)
        apns.connections[0].transport.abort()
        outcomes = await asyncio.gather(*sends)
        assert {type(outcome) for outcome in outcomes} == {Transient}
        apns.on_request = Request.answer
        assert (await sender.send(alert_push())).code == "200"


class Impatient(ApnsProtocol):
    TICK = 0.05


def pool_to(apns: FaultyApns, **more: Any) -> ApnsPool:
    settings = apns_settings(apns)
    context = ssl.create_default_context(cafile=settings.apns_ca_file)
    context.set_alpn_protocols(["h2"])
    token = ProviderToken(pem(KEY).decode(), "KEY1234567", "TEAM123456")
    return ApnsPool("127.0.0.1", apns.port, token, ssl_context=context, connect_timeout=5, **more)


def request_of(size: int = 100) -> ApnsRequest:
    it = alert_push()
    return ApnsRequest(
        IOS_TOKEN, b" " * size, apns_id=str(it.id), topic=TOPIC, collapse_id="c", priority=10, expiration=0
    )


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


async def test_all_connections_share_one_token(tmp_path: Path) -> None:
    async with (
        faulty_apns(tmp_path, on_request=lambda _: None, max_streams=1) as apns,
        apns_sender(apns) as sender,
    ):
        sends = [asyncio.create_task(sender.send(alert_push())) for _ in range(4)]
        for request in list(await apns.arrived(4)):
            request.answer()
        await asyncio.gather(*sends)
    assert len(apns.connections) == 4
    assert len({request.headers["authorization"] for request in apns.requests}) == 1


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


async def test_a_cancelled_sender_does_not_take_the_connection_from_the_others(tmp_path: Path) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns) as sender:
        sends = [asyncio.create_task(sender.send(alert_push())) for _ in range(3)]
        await asyncio.sleep(0)
        sends[0].cancel()
        results = await asyncio.gather(*sends, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert [result.code for result in results[1:] if isinstance(result, Receipt)] == ["200", "200"]
    assert len(apns.connections) == 1


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


# The provider token.


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def token(clock: Clock) -> ProviderToken:
    return ProviderToken(pem(KEY).decode(), "KEY1234567", "TEAM123456", clock)


def test_a_token_lives_forty_minutes(token: ProviderToken, clock: Clock) -> None:
    first = token.get_header()
    clock.now += timedelta(minutes=39, seconds=59).total_seconds()
    assert token.get_header() == first
    clock.now += 1
    assert token.get_header() != first


def test_an_expired_token_is_replaced_once(token: ProviderToken, clock: Clock) -> None:
    # Given a hundred sends with one token
    first = token.get_header()
    # When Apple calls it expired a hundred times
    assert all(token.expired(first) for _ in range(100))
    # Then one new one was made, and if that counts as expired as well the clock is wrong
    second = token.get_header()
    assert second != first
    assert not token.expired(second)
    assert token.get_header() == second
    clock.now += 20 * 60
    assert token.expired(second)


def test_too_many_updates_brings_the_old_token_back_for_twenty_minutes(
    token: ProviderToken, clock: Clock
) -> None:
    first = token.get_header()
    clock.now += 40 * 60
    second = token.get_header()
    token.too_many_updates(second)
    assert token.get_header() == first
    assert not token.expired(first)
    clock.now += 20 * 60 - 1
    assert token.get_header() == first
    clock.now += 1
    assert token.get_header() not in {first, second}


async def test_an_expired_token_costs_one_retry_and_no_more(tmp_path: Path) -> None:
    async with (
        faulty_apns(tmp_path, on_request=lambda r: r.answer(403, "ExpiredProviderToken")) as apns,
        apns_sender(apns) as sender,
    ):
        assert type(await outcome_of(sender.send(alert_push()))) is Transient
        assert type(await outcome_of(sender.send(alert_push()))) is Misconfigured
    assert len({request.headers["authorization"] for request in apns.requests}) == 2
