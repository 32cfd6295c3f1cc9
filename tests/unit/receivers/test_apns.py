"""The local APNs: what it takes, what it refuses and why, and what real clients make of its answers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aioapns import APNs, NotificationRequest, PushType
from aioapns.connection import APNsBaseConnectionPool, APNsProductionClientProtocol

from receivers import Answer, FarSide
from receivers.keys import new_p256, pem

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

PAYLOAD = {"aps": {"alert": {"title": "Door", "body": "Somebody is there"}, "sound": "default"}}


@pytest.fixture
def client(trust: ssl.SSLContext) -> Iterator[httpx.Client]:
    with httpx.Client(http2=True, verify=trust, timeout=5) as client:
        yield client


@pytest.fixture
def send(
    far: FarSide, client: httpx.Client, provider_token: Callable[..., str]
) -> Callable[..., httpx.Response]:
    """Sends a right notification but for the arguments; a header of None is left out."""
    right = {
        "apns-topic": far.apns.credential.topic,
        "apns-push-type": "alert",
        "authorization": f"bearer {provider_token()}",
    }

    def send(
        headers: dict[str, str | None] | None = None,
        *,
        token: str = far.apns.device_token("phone"),
        path: str | None = None,
        method: str = "POST",
        content: bytes = json.dumps(PAYLOAD).encode(),
    ) -> httpx.Response:
        merged = {**right, **(headers or {})}
        return client.request(
            method,
            f"https://127.0.0.1:{far.apns.port}{path or f'/3/device/{token}'}",
            content=content,
            headers={name: value for name, value in merged.items() if value is not None},
        )

    return send


def test_a_right_notification_is_taken_and_its_id_echoed(
    far: FarSide, send: Callable[..., httpx.Response]
) -> None:
    apns_id = str(uuid.uuid4())
    response = send(
        {"apns-id": apns_id, "apns-collapse-id": "door", "apns-priority": "10", "apns-expiration": "0"}
    )
    assert response.http_version == "HTTP/2"
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["apns-id"] == apns_id
    (received,) = far.apns.received_for(far.apns.device_token("phone"))
    assert (received.valid, received.id, received.provider_id) == (True, apns_id, apns_id)
    assert received.content == PAYLOAD
    assert received.headers["apns-collapse-id"] == "door"
    assert "authorization" not in received.headers


def test_a_notification_without_id_is_given_one(send: Callable[..., httpx.Response]) -> None:
    assert uuid.UUID(send().headers["apns-id"])


@pytest.mark.parametrize(
    ("wrong", "status", "reason"),
    [
        ({"method": "GET"}, 405, "MethodNotAllowed"),
        ({"path": "/4/device/00"}, 404, "BadPath"),
        ({"path": "/3/device/"}, 400, "MissingDeviceToken"),
        ({"token": "abc"}, 400, "BadDeviceToken"),
        ({"token": "zz" * 32}, 400, "BadDeviceToken"),
        ({"token": "0f" * 32 + "?a=1"}, 400, "BadDeviceToken"),
        ({"content": b""}, 400, "PayloadEmpty"),
        ({"content": b"[]"}, 400, "PayloadEmpty"),
        ({"content": b'{"aps": {}}'}, 400, "PayloadEmpty"),
        ({"content": b'{"aps": {"alert": "%s"}}' % (b"x" * 4100)}, 413, "PayloadTooLarge"),
        ({"content": b"x" * 100_000}, 413, "PayloadTooLarge"),
        ({"headers": {"authorization": None}}, 403, "MissingProviderToken"),
        ({"headers": {"authorization": "basic abc"}}, 403, "MissingProviderToken"),
        ({"headers": {"authorization": "bearer abc"}}, 403, "InvalidProviderToken"),
        ({"headers": {"apns-topic": None}}, 400, "MissingTopic"),
        ({"headers": {"apns-topic": "org.example.other"}}, 400, "TopicDisallowed"),
        ({"headers": {"apns-push-type": "voip"}}, 400, "TopicDisallowed"),
        ({"headers": {"apns-push-type": None}}, 400, "InvalidPushType"),
        ({"headers": {"apns-push-type": "loud"}}, 400, "InvalidPushType"),
        ({"headers": {"apns-id": "1"}}, 400, "BadMessageId"),
        ({"headers": {"apns-id": uuid.UUID(int=5).hex}}, 400, "BadMessageId"),
        ({"headers": {"apns-expiration": "tomorrow"}}, 400, "BadExpirationDate"),
        ({"headers": {"apns-priority": "11"}}, 400, "BadPriority"),
        ({"headers": {"apns-push-type": "background", "apns-priority": "10"}}, 400, "BadPriority"),
        ({"headers": {"apns-collapse-id": "x" * 65}}, 400, "BadCollapseId"),
    ],
)
def test_what_is_wrong_gets_apples_reason(
    far: FarSide, send: Callable[..., httpx.Response], wrong: dict[str, Any], status: int, reason: str
) -> None:
    response = send(**wrong)
    assert (response.status_code, response.json()["reason"]) == (status, reason)
    (received,) = far.apns.received
    assert not received.valid
    assert received.problems[0].startswith(reason)
    assert (received.status, received.reason) == (status, reason)


def test_a_repeated_header_is_refused(
    far: FarSide, client: httpx.Client, provider_token: Callable[..., str]
) -> None:
    headers = [
        ("authorization", f"bearer {provider_token()}"),
        ("apns-topic", far.apns.credential.topic),
        ("apns-push-type", "alert"),
        ("apns-priority", "10"),
        ("apns-priority", "5"),
    ]
    url = f"https://127.0.0.1:{far.apns.port}/3/device/{far.apns.device_token()}"
    assert client.post(url, json=PAYLOAD, headers=headers).json() == {"reason": "DuplicateHeaders"}


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iat": int(time.time()) - 3700}, "ExpiredProviderToken"),
        ({"iat": int(time.time()) + 3700}, "InvalidProviderToken"),
        ({"iat": None}, "InvalidProviderToken"),
        ({"iss": None}, "InvalidProviderToken"),
        ({"iss": "OTHERTEAM1"}, "InvalidProviderToken"),
        ({"kid": "OTHERKEY01"}, "InvalidProviderToken"),
        ({"key": pem(new_p256()).decode()}, "InvalidProviderToken"),
        ({"key": "a shared secret of 32 bytes, say", "algorithm": "HS256"}, "InvalidProviderToken"),
    ],
)
def test_a_wrong_provider_token_is_refused(
    send: Callable[..., httpx.Response],
    provider_token: Callable[..., str],
    claims: dict[str, Any],
    reason: str,
) -> None:
    response = send({"authorization": f"bearer {provider_token(**claims)}"})
    assert (response.status_code, response.json()) == (403, {"reason": reason})


def test_a_voip_push_may_be_larger(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    payload = json.dumps({"aps": {"alert": "x"}, "more": "y" * 5000}).encode()
    headers = {"apns-push-type": "voip", "apns-topic": f"{far.apns.credential.topic}.voip"}
    assert send(headers, content=payload).status_code == 200


def test_a_second_team_has_its_own_key_and_topic(
    far: FarSide, send: Callable[..., httpx.Response], provider_token: Callable[..., str]
) -> None:
    team = far.apns.issue("org.example.second")
    token = provider_token(key=team.key_file.read_text(), kid=team.key_id, iss=team.team_id)
    headers = {"authorization": f"bearer {token}"}
    assert send(headers).json() == {"reason": "TopicDisallowed"}
    assert send({**headers, "apns-topic": "org.example.second"}).status_code == 200
    assert token in far.apns.provider_tokens


def test_a_dead_token_says_since_when(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    far.apns.always(far.apns.device_token("phone"), Answer(dead=True))
    response = send()
    assert response.status_code == 410
    assert response.json()["reason"] == "Unregistered"
    assert abs(response.json()["timestamp"] / 1000 - time.time()) < 10
    assert send(token=far.apns.device_token("another")).status_code == 200


def test_ordered_answers_have_apples_form(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    far.apns.script(
        "*",
        [
            Answer(503, headers={"Retry-After": "7"}),
            Answer(429, reason="TooManyProviderTokenUpdates"),
            Answer(500, body=b""),
            Answer(delay=0.1),
        ],
    )
    unavailable, updates, empty, late = (send() for _ in range(4))
    assert (unavailable.json(), unavailable.headers["retry-after"]) == ({"reason": "ServiceUnavailable"}, "7")
    assert updates.json() == {"reason": "TooManyProviderTokenUpdates"}
    assert (empty.status_code, empty.content) == (500, b"")
    assert late.status_code == 200


def test_a_reset_ends_one_stream_and_not_the_connection(
    far: FarSide, send: Callable[..., httpx.Response]
) -> None:
    far.apns.script("*", [Answer(), Answer(reset=True)])
    assert send().status_code == 200
    with pytest.raises(httpx.RemoteProtocolError, match="StreamReset"):
        send()
    assert send().status_code == 200
    assert far.apns.connections == 1


def test_a_stall_never_answers(
    far: FarSide, client: httpx.Client, send: Callable[..., httpx.Response]
) -> None:
    far.apns.script("*", [Answer(stall=True)])
    client.timeout = httpx.Timeout(0.3)
    with pytest.raises(httpx.ReadTimeout):
        send()
    assert far.apns.received[0].status is None


async def test_aioapns_sends(far: FarSide, trust: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given the library as it comes, pointed here by the class attributes that it has for host and port
    monkeypatch.setattr(APNsProductionClientProtocol, "APNS_SERVER", "localhost")
    monkeypatch.setattr(APNsProductionClientProtocol, "APNS_PORT", far.apns.port)
    credential = far.apns.credential
    apns = APNs(
        key=credential.key_file.read_text(),
        key_id=credential.key_id,
        team_id=credential.team_id,
        topic=credential.topic,
        ssl_context=trust,
    )
    pool: APNsBaseConnectionPool = apns.pool
    try:
        # When it sends to a living and to a dead token
        far.apns.always(far.apns.device_token("old"), Answer(dead=True))
        answers = [
            await apns.send_notification(
                NotificationRequest(
                    device_token=far.apns.device_token(name), message=PAYLOAD, push_type=PushType.ALERT
                )
            )
            for name in ("new", "old")
        ]
    finally:
        for connection in list(pool.connections):
            transport = connection.transport
            connection.close()
            assert transport
            transport.abort()  # or the loop ends before TLS has said goodbye, and the socket with it
        await asyncio.sleep(0.01)  # the loop's turn to close what was aborted
    # Then it reads both answers
    assert [(each.status, each.description) for each in answers] == [("200", None), ("410", "Unregistered")]
    assert far.apns.received[0].id == answers[0].notification_id
    assert far.apns.received[0].valid


def test_nghttp_finds_no_fault_with_the_framing(
    far: FarSide, provider_token: Callable[..., str], tmp_path: Any
) -> None:
    if not shutil.which("nghttp"):
        missing = pytest.fail if os.environ.get("CI", "").lower() in {"1", "true"} else pytest.skip
        missing("needs nghttp: apt-get install nghttp2-client")
    body = tmp_path / "body.json"
    body.write_text(json.dumps(PAYLOAD))
    url = f"https://127.0.0.1:{far.apns.port}/3/device/{far.apns.device_token()}"
    headers = {
        "authorization": f"bearer {provider_token()}",
        "apns-topic": far.apns.credential.topic,
        "apns-push-type": "alert",
    }
    options = [f"--header={name}: {value}" for name, value in headers.items()]
    done = subprocess.run(
        ["nghttp", "-v", "--no-dep", "-m", "5", "-d", str(body), *options, url],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.count(":status: 200") == 5
    assert "[ERROR]" not in done.stdout + done.stderr
    assert "RST_STREAM" not in done.stdout
    assert [each.valid for each in far.apns.received] == [True] * 5
