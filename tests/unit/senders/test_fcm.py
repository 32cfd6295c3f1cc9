from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senders.base import Device
from senders.fcm import MAX_MESSAGE, MAX_TTL, FcmSender, message
from senders.fcm_account import ServiceAccount, check_token_uri
from senders.http import Answer
from senders.outcomes import Misconfigured, NotConfigured, Receipt, Rejected, SendError, TargetGone, Transient
from senders.push import FcmCredentials, PushConfig
from tests.unit.senders.push_support import (
    ANDROID_TOKEN,
    LINKS,
    LocalFcm,
    local_fcm,
    push,
    trust,
    until,
    well_fitted,
)
from tests.unit.senders.support import client, loopback_settings, outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from senders.base import Notification

PHONE = Device(8, "alice", "android", ANDROID_TOKEN)
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


def error(status: int, *details: dict[str, Any]) -> dict[str, Any]:
    return {"error": {"code": status, "message": "m", "status": "S", "details": list(details)}}


def fcm_error(status: int, word: str, *more: dict[str, Any]) -> dict[str, Any]:
    return error(status, {"@type": FCM_ERROR, "errorCode": word}, *more)


def violation(*fields: str) -> dict[str, Any]:
    return {"@type": BAD_REQUEST, "fieldViolations": [{"field": name, "description": "d"} for name in fields]}


VIOLATION = violation("message.data")

ROWS: list[tuple[int, Any, type[SendError]]] = [
    (400, fcm_error(400, "INVALID_ARGUMENT"), TargetGone),
    (400, fcm_error(400, "INVALID_ARGUMENT", VIOLATION), Rejected),
    (400, fcm_error(400, "INVALID_ARGUMENT", violation("message.token")), TargetGone),
    (400, fcm_error(400, "INVALID_ARGUMENT", violation("message.token", "message.data")), Rejected),
    (400, fcm_error(400, "INVALID_ARGUMENT", violation("message.token"), VIOLATION), Rejected),
    (400, fcm_error(400, "INVALID_ARGUMENT", {"@type": BAD_REQUEST, "fieldViolations": 1}), Rejected),
    (400, fcm_error(400, "INVALID_ARGUMENT", violation()), Rejected),
    (400, fcm_error(400, "INVALID_ARGUMENT", {"@type": BAD_REQUEST, "fieldViolations": [1]}), Rejected),
    (400, error(400, VIOLATION), Rejected),
    (400, "no json", Rejected),
    (401, fcm_error(401, "THIRD_PARTY_AUTH_ERROR"), Misconfigured),
    (401, error(401), Misconfigured),
    (403, fcm_error(403, "SENDER_ID_MISMATCH"), TargetGone),
    (403, error(403), Misconfigured),
    (404, fcm_error(404, "UNREGISTERED"), TargetGone),
    (404, error(404), Misconfigured),
    (413, [], Rejected),
    (429, fcm_error(429, "QUOTA_EXCEEDED"), Transient),
    (429, error(429), Transient),
    (500, fcm_error(500, "INTERNAL"), Transient),
    (502, "bad gateway", Transient),
    (503, fcm_error(503, "UNAVAILABLE"), Transient),
    (504, None, Transient),
    (302, {}, Misconfigured),
    (503, {"error": {"details": "x"}}, Transient),
    (503, {"error": {"details": [1, {"@type": 5}]}}, Transient),
    (503, {"error": "x"}, Transient),
]


@asynccontextmanager
async def sending(fcm: LocalFcm, tmp_path: Path, **overrides: Any) -> AsyncIterator[FcmSender]:
    """A sender with the installation's own service account."""
    file = tmp_path / "account.json"
    file.write_text(fcm.document(), encoding="utf-8")
    settings = loopback_settings(**{"fcm_url": fcm.url, "fcm_credentials_file": file, **overrides})
    async with client(settings, ssl_context=trust()) as http:
        sender = FcmSender(settings, http)
        try:
            yield sender
        finally:
            await sender.aclose()


def android(**overrides: Any) -> Notification[PushConfig]:
    return push(PHONE, **overrides)


@pytest.mark.parametrize(("status", "body", "kind"), ROWS)
async def test_outcome_table(tmp_path: Path, status: int, body: Any, kind: type[SendError]) -> None:
    async with local_fcm(status=status, body=body) as fcm, sending(fcm, tmp_path) as sender:
        got = await outcome(sender, android())
    assert type(got) is kind
    assert got.code.startswith(str(status))


@pytest.mark.parametrize(
    ("status", "word", "headers", "wait"),
    [
        (429, "QUOTA_EXCEEDED", {}, 60),
        (429, "QUOTA_EXCEEDED", {"Retry-After": "90"}, 90),
        (503, "UNAVAILABLE", {"Retry-After": "7"}, 7),
        (503, "UNAVAILABLE", {}, None),
    ],
)
async def test_how_long_to_wait(
    tmp_path: Path, status: int, word: str, headers: dict[str, str], wait: float | None
) -> None:
    async with (
        local_fcm(status=status, body=fcm_error(status, word), headers=headers) as fcm,
        sending(fcm, tmp_path) as sender,
    ):
        got = await outcome(sender, android())
    assert isinstance(got, Transient)
    assert got.retry_after == wait


async def test_what_is_sent(tmp_path: Path) -> None:
    details = {"url": "https://example.org/alerts/1", "image_url": "https://example.org/1.jpg"}
    it = android(alert={"details": details}, severity=4, is_critical=True)
    async with local_fcm() as fcm, sending(fcm, tmp_path) as sender:
        receipt = await sender.send(it)
    assert receipt == Receipt("200 OK", "projects/demo-project/messages/1", None)
    assert fcm.paths == ["/v1/projects/demo-project/messages:send"]
    (sent,) = fcm.messages
    ttl = sent["android"].pop("ttl")
    assert 3590 <= int(ttl.removesuffix("s")) <= 3600
    assert sent == {
        "token": ANDROID_TOKEN,
        "data": {"alert_id": "4711", "event": "OPEN", "severity": "4", "job_id": "12", **details},
        "notification": {
            "title": "Critical: smoke detected at cam-3, berlin",
            "body": "Smoke in the hall",
            "image": "https://example.org/1.jpg",
        },
        "android": {
            "collapse_key": it.thread,
            "priority": "high",
            "notification": {
                "tag": it.thread,
                "channel_id": "critical_alerts",
                "notification_priority": "PRIORITY_MAX",
                "default_sound": True,
            },
        },
    }


@pytest.mark.parametrize(
    ("severity", "priority", "shown"), [(0, "normal", "PRIORITY_DEFAULT"), (2, "high", "PRIORITY_HIGH")]
)
def test_what_is_less_than_critical_is_quieter(severity: int, priority: str, shown: str) -> None:
    it = android(severity=severity)
    sent = json.loads(message(it, "t", "b", {}, now=datetime.now(UTC)))["message"]["android"]
    assert sent["priority"] == priority
    assert sent["notification"]["notification_priority"] == shown
    assert "channel_id" not in sent["notification"]


@given(seconds=st.integers(-(10**8), 10**8))
def test_the_ttl_ends_with_the_notification(seconds: int) -> None:
    now = datetime(2026, 11, 3, tzinfo=UTC)
    it = android(expires_at=now + timedelta(seconds=seconds))
    ttl = json.loads(message(it, "t", "b", {}, now=now))["message"]["android"]["ttl"]
    assert ttl == f"{min(max(seconds, 0), MAX_TTL)}s"


@given(
    text=st.text(max_size=6000) | st.text('🔥\\"\x00é', min_size=1000, max_size=3000),
    links=st.tuples(LINKS, LINKS),
)
def test_the_message_fits_whatever_the_alert_says(text: str, links: tuple[str, str]) -> None:
    details = dict(zip(("url", "image_url"), links, strict=True))
    it = android(
        alert={"message": text, "device_id": text[:300], "alert_id": text[:3000], "details": details}
    )
    now = datetime.now(UTC)
    body, _ = well_fitted(it, lambda *parts: message(it, *parts, now=now), MAX_MESSAGE)
    assert all(isinstance(value, str) for value in json.loads(body)["message"].get("data", {}).values())


@pytest.mark.parametrize("token", ["", "with space " * 3, "tab\t" * 5, "ü" * 20, "a" * 4097])
async def test_a_token_that_cannot_be_one(tmp_path: Path, token: str) -> None:
    async with local_fcm() as fcm, sending(fcm, tmp_path) as sender:
        with pytest.raises(TargetGone, match="bad registration token"):
            await sender.send(push(Device(1, "u", "android", token)))
    assert fcm.messages == []


# Tokens of Google's.


async def test_a_hundred_sends_share_one_token(tmp_path: Path) -> None:
    async with local_fcm(delay=0.05) as fcm, sending(fcm, tmp_path) as sender:
        await asyncio.gather(*(sender.send(android()) for _ in range(100)))
    assert fcm.tokens == ["token-0"]
    assert len(fcm.messages) == 100


async def test_a_refused_token_is_replaced_once_for_all(tmp_path: Path) -> None:
    async with local_fcm() as fcm, sending(fcm, tmp_path) as sender:
        await sender.send(android())
        fcm.refused_tokens = {"token-0"}
        receipts = await asyncio.gather(*(sender.send(android()) for _ in range(20)))
        assert {receipt.code for receipt in receipts} == {"200 OK"}
        assert fcm.tokens == ["token-0", "token-1"]
        # When the new one is refused as well, the account is at fault, and no more tokens are fetched
        fcm.refused_tokens = {"token-0", "token-1"}
        outcomes = [await outcome(sender, android()) for _ in range(5)]
    assert set(map(type, outcomes)) == {Misconfigured}
    assert len(fcm.tokens) == 2


async def test_a_token_is_replaced_before_it_ends_without_delay(tmp_path: Path) -> None:
    # Given tokens of four minutes, one less than at which a new one is fetched
    async with local_fcm(lifetime=240) as fcm, sending(fcm, tmp_path) as sender:
        await sender.send(android())
        # When FCM's token endpoint is slow
        fcm.delay = 0.3
        # Then the next send does not wait for it
        await asyncio.wait_for(sender.send(android()), 0.25)
        assert fcm.tokens == ["token-0"]
        await until(lambda: len(fcm.tokens) == 2)


class Credentials:
    """google-auth's, of an account whose tokens are good for an hour."""

    def __init__(self, token_uri: str) -> None:
        self.token_uri, self.tokens = token_uri, 0

    def refresh(self, request: Any) -> None:
        request(url=self.token_uri, method="POST", body=b"", headers={})
        self.tokens += 1
        self.token = f"token-{self.tokens}"
        self.expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)


class TokenEndpoints:
    """An HTTP client to endpoints of which some never answer."""

    async def post(self, url: str, **_: Any) -> Answer:
        if "silent" in url:
            await asyncio.Event().wait()
        return Answer(200, httpx.Headers(), b"{}")


async def test_a_wall_clock_that_is_set_back_keeps_no_token_longer() -> None:
    clock = 0.0
    with ThreadPoolExecutor(1) as threads:
        account = ServiceAccount(
            "demo", Credentials("prompt"), TokenEndpoints(), threads, 1, clock=lambda: clock  # type: ignore[arg-type]  # for the test
        )  # fmt: skip
        assert await account.header() == "Bearer token-1"
        clock += 3600 - account.EARLY - 1
        assert await account.header() == "Bearer token-1"
        # When it is over by the clock that nobody sets, while not a second has passed by the other
        clock = 3600
        assert await account.header() == "Bearer token-2"
        assert await account.renew("Bearer token-2")
        assert not await account.renew("Bearer token-3")
        clock += account.MIN_INTERVAL
        assert await account.renew("Bearer token-3")


async def test_token_endpoints_that_say_nothing_hold_no_thread() -> None:
    with ThreadPoolExecutor(2) as threads:
        accounts = [
            ServiceAccount("demo", Credentials(uri), TokenEndpoints(), threads, 1)  # type: ignore[arg-type]  # for the test
            for uri in ["silent"] * 3 + ["prompt"]
        ]
        waiting = [asyncio.create_task(account.header()) for account in accounts[:3]]
        await asyncio.sleep(0.02)
        assert await asyncio.wait_for(accounts[3].header(), 0.5) == "Bearer token-1"
        for account in accounts:
            await account.aclose()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_cancelled_send_does_not_take_the_token_from_the_others(tmp_path: Path) -> None:
    async with local_fcm(delay=0.1) as fcm, sending(fcm, tmp_path) as sender:
        await sender.send(android())
        fcm.refused_tokens = {"token-0"}
        sends = [asyncio.create_task(sender.send(android())) for _ in range(3)]
        await asyncio.sleep(0.05)
        sends[0].cancel()
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [each.code for each in outcomes[1:] if isinstance(each, Receipt)] == ["200 OK"] * 2


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, {}, Transient),
        (429, {}, Transient),
        (400, {"error": "server_error"}, Transient),
        (400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}, Misconfigured),
        (401, "denied", Misconfigured),
    ],
)
async def test_the_token_endpoint_refuses(
    tmp_path: Path, status: int, body: Any, kind: type[SendError]
) -> None:
    async with local_fcm(token_status=status, token_body=body) as fcm, sending(fcm, tmp_path) as sender:
        got = await asyncio.wait_for(outcome(sender, android()), 0.9)
        # When it works again
        fcm.token_status = 200
        assert (await sender.send(android())).code == "200 OK"
    assert type(got) is kind
    assert len(fcm.messages) == 1


async def test_a_slow_token_endpoint_ends_at_the_deadline(tmp_path: Path) -> None:
    async with local_fcm(delay=0.8) as fcm, sending(fcm, tmp_path, send_deadline=0.3) as sender:
        # The first send may use up its deadline by loading firebase-admin.
        for _ in range(2):
            with pytest.raises(Transient, match="timeout"):
                await sender.send(android())


async def test_thirty_503_and_then_success_lose_nothing_and_delay_nobody(tmp_path: Path) -> None:
    async with local_fcm(status=503, body={}) as fcm, sending(fcm, tmp_path) as sender:
        outcomes = await asyncio.gather(*(outcome(sender, android()) for _ in range(30)))
        assert set(map(type, outcomes)) == {Transient}
        fcm.status, fcm.body = 200, None
        receipts = await asyncio.wait_for(asyncio.gather(*(sender.send(android()) for _ in range(30))), 2)
    assert {receipt.code for receipt in receipts} == {"200 OK"}


# Credentials.


async def test_without_credentials(tmp_path: Path) -> None:
    async with local_fcm() as fcm, sending(fcm, tmp_path, fcm_credentials_file=None) as sender:
        with pytest.raises(NotConfigured, match="TOCSIN_FCM_CREDENTIALS_FILE"):
            await sender.send(android())


def with_account(document: str) -> PushConfig:
    return PushConfig(all_users=True, fcm=FcmCredentials(service_account=document))  # type: ignore[arg-type]  # becomes SecretStr


async def test_a_channel_may_bring_its_own_project(tmp_path: Path) -> None:
    async with local_fcm() as fcm, sending(fcm, tmp_path) as sender:
        await sender.send(android(config=with_account(fcm.document(project_id="tenants-own"))))
        await sender.send(android())
    assert fcm.paths == ["/v1/projects/tenants-own/messages:send", "/v1/projects/demo-project/messages:send"]
    assert len(fcm.tokens) == 2


@pytest.mark.parametrize(
    "document",
    [
        "canary",
        "[]",
        "{}",
        '{"type": "service_account", "private_key": "canary"}',
        {"project_id": "../x"},
        {"project_id": ""},
        {"private_key": "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n"},
        {"token_uri": "https://evil.example/token"},
        {"token_uri": "http://169.254.169.254/token"},
    ],
)
async def test_a_bad_account_is_the_channels_fault_and_not_quoted(
    tmp_path: Path, document: str | dict[str, Any]
) -> None:
    async with local_fcm() as fcm, sending(fcm, tmp_path) as sender:
        config = with_account(document if isinstance(document, str) else fcm.document(**document))
        got = await outcome(sender, android(config=config))
        assert (await sender.send(android())).code == "200 OK"
    assert type(got) is Misconfigured
    assert got.code == "bad credentials"
    assert "canary" not in repr(got) + str(got) + repr(got.__cause__) + repr(config)


def test_which_token_endpoints_a_tenant_may_name() -> None:
    networks = [ip_network("127.0.0.0/8")]
    check_token_uri("https://oauth2.googleapis.com/token", [])
    check_token_uri("http://127.0.0.1:8000/token", networks)
    for uri in (
        "http://127.0.0.1:8000/token",
        "https://1.1.1.1/token",
        "https://oauth2.googleapis.com.evil.example/token",
    ):
        with pytest.raises(Misconfigured, match="token_uri"):
            check_token_uri(uri, [])


async def test_many_tokens_of_another_project_are_the_projects_fault(tmp_path: Path) -> None:
    async with (
        local_fcm(status=403, body=fcm_error(403, "SENDER_ID_MISMATCH")) as fcm,
        sending(fcm, tmp_path) as sender,
    ):
        outcomes = [await outcome(sender, android()) for _ in range(7)]
    assert list(map(type, outcomes)) == [TargetGone] * 5 + [Misconfigured] * 2


def test_the_margins_are_in_order() -> None:
    assert ServiceAccount.MARGIN < ServiceAccount.EARLY < 3600
