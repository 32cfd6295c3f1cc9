from __future__ import annotations

import json
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import http_ece
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from config import load_settings
from receivers.keys import b64url, new_p256, pem, raw_public_key, unb64url
from senders.base import Device
from senders.outcomes import Misconfigured, NotConfigured, Receipt, Rejected, SendError, TargetGone, Transient
from senders.push import PushConfig, WebPushCredentials
from senders.webpush import MAX_PLAINTEXT, Vapid, WebPushSender, payload
from tests.unit.senders.push_support import LINKS, Clock, push, trust, well_fitted
from tests.unit.senders.support import client, loopback_settings, receiving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from senders.base import Notification

KEY = new_p256()
SUBJECT = "mailto:ops@example.org"
CHANNEL = PushConfig(
    all_users=True,
    webpush=WebPushCredentials(private_key=pem(KEY).decode(), subject=SUBJECT),  # type: ignore[arg-type]  # becomes SecretStr
)


@dataclass
class Browser:
    """A user agent's keys, and what it does with a message."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=new_p256)
    auth: bytes = field(default_factory=lambda: os.urandom(16))

    def device(self, origin: str, **keys: str) -> Device:
        own = {"p256dh": b64url(raw_public_key(self.key.public_key())), "auth": b64url(self.auth)}
        subscription = {"endpoint": f"{origin}/push/canary-capability", "keys": {**own, **keys}}
        return Device(9, "alice", "web", subscription=subscription)

    def read(self, body: bytes) -> Any:
        plaintext = http_ece.decrypt(body, private_key=self.key, auth_secret=self.auth, version="aes128gcm")
        return json.loads(plaintext)


@asynccontextmanager
async def sending(**overrides: Any) -> AsyncIterator[WebPushSender]:
    async with sending_with(loopback_settings(**overrides)) as sender:
        yield sender


@asynccontextmanager
async def sending_with(settings: Any) -> AsyncIterator[WebPushSender]:
    async with client(settings, ssl_context=trust()) as http:
        sender = WebPushSender(settings, http)
        yield sender
        await sender.aclose()


def web(device: Device, **overrides: Any) -> Notification[PushConfig]:
    return push(device, **{"config": CHANNEL, **overrides})


ROWS: list[tuple[int, bytes, type[SendError]]] = [
    (301, b"", Misconfigured),
    (400, b'{"code": 400, "errno": 110}', TargetGone),
    (400, b'{"code": 400, "errno": 111}', Rejected),
    (400, b"[110]", Rejected),
    (400, b'{"reason": "VapidPkHashMismatch"}', Misconfigured),
    (400, b'{"reason": "BadWebPushTopic"}', Rejected),
    (401, b"", Misconfigured),
    (403, b"", Misconfigured),
    (404, b"", TargetGone),
    (406, b"", Transient),
    (408, b"", Transient),
    (410, b"", TargetGone),
    (413, b"", Rejected),
    (429, b"", Transient),
    (500, b"", Transient),
    (503, b"", Transient),
]


@pytest.mark.parametrize(("status", "body", "kind"), ROWS)
async def test_outcome_table(status: int, body: bytes, kind: type[SendError]) -> None:
    headers = {"Retry-After": "9"}
    async with receiving(status=status, body=body, headers=headers) as service, sending() as sender:
        with pytest.raises(SendError) as caught:
            await sender.send(web(Browser().device(service.url)))
    assert type(caught.value) is kind
    assert caught.value.code.startswith(str(status))
    if isinstance(caught.value, Transient):
        assert caught.value.retry_after == 9


async def test_edges_service_gives_its_reason_in_a_header() -> None:
    said = "Ttl value conflicts with X-WNS-Cache-Policy, /push/canary-capability"
    headers = {"X-WNS-Status": "dropped", "X-WNS-Error-Description": said}
    async with receiving(status=400, body=b"", headers=headers) as service, sending() as sender:
        with pytest.raises(Rejected, match="Ttl value conflicts with X-WNS-Cache-Policy") as caught:
            await sender.send(web(Browser().device(service.url)))
    assert "canary-capability" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_taken(status: int) -> None:
    headers = {"Location": "https://push.example.org/m/canary-capability"}
    async with receiving(status=status, headers=headers) as service, sending() as sender:
        receipt = await sender.send(web(Browser().device(service.url)))
    assert receipt.code.startswith(str(status))
    assert "canary" not in repr(receipt)


async def test_what_is_sent() -> None:
    browser = Browser()
    details = {"url": "https://example.org/alerts/1", "image_url": "https://example.org/1.jpg"}
    async with receiving(status=201) as service, sending() as sender:
        it = web(browser.device(service.url), alert={"details": details}, severity=4, is_critical=True)
        receipt = await sender.send(it)
    assert receipt == Receipt("201 Created")
    (request,) = service.requests
    headers = {name.lower(): value for name, value in request.headers.items()}
    # RFC 8030
    assert request.path == "/push/canary-capability"
    assert headers["content-encoding"] == "aes128gcm"
    assert headers["topic"] == it.thread
    assert headers["urgency"] == "high"
    assert 3590 <= int(headers["ttl"]) <= 3600
    # RFC 8292, verified by another library than the one that signed
    scheme, _, rest = headers["authorization"].partition(" ")
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    assert scheme == "vapid"
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unb64url(parts["k"]))
    claims = jwt.decode(parts["t"], public, algorithms=["ES256"], audience=service.url)
    assert raw_public_key(public) == raw_public_key(KEY.public_key())
    assert claims["sub"] == SUBJECT
    assert 0 < claims["exp"] - datetime.now(UTC).timestamp() <= 24 * 3600
    # RFC 8291, decrypted as a browser does
    assert browser.read(request.body) == {
        "title": "Critical: smoke detected at cam-3, berlin",
        "body": "Smoke in the hall",
        "tag": it.thread,
        "url": "https://example.org/alerts/1",
        "image": "https://example.org/1.jpg",
        "data": {"alert_id": 4711, "event": "OPEN", "severity": 4, "job_id": 12},
    }


@pytest.mark.parametrize(
    ("severity", "is_critical", "urgency"),
    [
        (0, False, "low"),
        (1, False, "low"),
        (2, False, "normal"),
        (3, False, "high"),
        (9, False, "high"),
        (0, True, "high"),
    ],
)
async def test_urgency_is_of_the_severity(*, severity: int, is_critical: bool, urgency: str) -> None:
    async with receiving(status=201) as service, sending() as sender:
        await sender.send(web(Browser().device(service.url), severity=severity, is_critical=is_critical))
    assert service.requests[0].headers["urgency"] == urgency


async def test_what_has_expired_is_not_kept_by_the_service() -> None:
    async with receiving(status=201) as service, sending() as sender:
        past = datetime.now(UTC) - timedelta(seconds=5)
        await sender.send(web(Browser().device(service.url), expires_at=past))
    assert service.requests[0].headers["ttl"] == "1"  # Edge's service refuses 0


@given(
    text=st.text(max_size=5000) | st.text('🔥\\"\x00é', min_size=700, max_size=2000),
    links=st.tuples(LINKS, LINKS),
)
def test_the_plaintext_fits_whatever_the_alert_says(text: str, links: tuple[str, str]) -> None:
    details = dict(zip(("url", "image_url"), links, strict=True))
    alert = {"message": text, "alert_id": text[:3000], "details": details}
    it = web(Browser().device("https://push.example.org"), alert=alert)
    plaintext, _ = well_fitted(it, lambda *parts: payload(it, *parts), MAX_PLAINTEXT)
    assert json.loads(plaintext)["title"]


@pytest.mark.parametrize(
    ("url", "image_url", "note"),
    [
        (600, 2000, "left out: image_url"),
        (900, 1500, "left out: image_url"),
        (900, 900, "clipped: message"),
        (600, 600, None),
    ],
)
def test_a_text_is_not_cut_for_data_that_are_left_out(url: int, image_url: int, note: str | None) -> None:
    sizes = {"url": url, "image_url": image_url}
    details = {name: "https://example.org/".ljust(size, "a") for name, size in sizes.items()}
    text = "Person at the front door. " * 40
    it = web(Browser().device("https://push.example.org"), alert={"message": text, "details": details})
    plaintext, got = well_fitted(it, lambda *parts: payload(it, *parts), MAX_PLAINTEXT)
    assert got == note
    assert (json.loads(plaintext)["body"] == text.strip()) == (note != "clipped: message")


async def test_a_shortened_body_is_said_in_the_receipt() -> None:
    browser = Browser()
    async with receiving(status=201) as service, sending() as sender:
        receipt = await sender.send(web(browser.device(service.url), alert={"message": "🔥" * 3000}))
    assert receipt.detail == "clipped: message"
    assert browser.read(service.requests[0].body)["body"].endswith("🔥…")


@pytest.mark.parametrize(
    "keys",
    [
        {"p256dh": "AAAA"},
        {"p256dh": b64url(b"\x04" + bytes(64))},
        {"p256dh": "!!!"},
        {"auth": "AAA"},
        {"auth": ""},
        {"auth": "ü"},
        {"p256dh": None},
        {"p256dh": 5},
    ],
)
async def test_keys_that_nothing_can_be_encrypted_to(keys: dict[str, Any]) -> None:
    async with receiving(status=201) as service, sending() as sender:
        with pytest.raises(TargetGone, match="bad subscription"):
            await sender.send(web(Browser().device(service.url, **keys)))
    assert service.requests == []


async def test_the_endpoint_is_guarded() -> None:
    async with receiving(status=201) as service, sending_with(load_settings()) as sender:
        with pytest.raises(Misconfigured, match="blocked address"):
            await sender.send(web(Browser().device(service.url)))
    assert service.requests == []


async def test_no_answer_quotes_the_endpoint() -> None:
    async with receiving(status=403, body=b"no /push/canary-capability") as service, sending() as sender:
        with pytest.raises(Misconfigured) as caught:
            await sender.send(web(Browser().device(service.url)))
    assert "canary-capability" not in str(caught.value) + repr(caught.value)


async def test_without_credentials() -> None:
    async with sending() as sender:
        with pytest.raises(NotConfigured, match="TOCSIN_VAPID_PRIVATE_KEY_FILE"):
            await sender.send(push(Browser().device("https://push.example.org")))


async def test_credentials_of_the_settings(tmp_path: Any) -> None:
    file = tmp_path / "vapid.pem"
    file.write_bytes(pem(KEY))
    async with (
        receiving(status=201) as service,
        sending(vapid_private_key_file=file, vapid_subject=SUBJECT) as sender,
    ):
        await sender.send(push(Browser().device(service.url)))
    assert b64url(raw_public_key(KEY.public_key())) in service.requests[0].headers["authorization"]


async def test_a_bad_key_is_the_channels_fault_and_not_quoted() -> None:
    credentials = WebPushCredentials(private_key="canary", subject=SUBJECT)  # type: ignore[arg-type]  # becomes SecretStr
    config = PushConfig(all_users=True, webpush=credentials)
    async with sending() as sender:
        with pytest.raises(Misconfigured, match="bad credentials") as caught:
            await sender.send(push(Browser().device("https://push.example.org"), config=config))
    assert "canary" not in repr(caught.value) + repr(caught.value.__cause__) + repr(config)


# VAPID.


def test_a_header_is_kept_per_origin_until_shortly_before_it_expires() -> None:
    clock = Clock()
    vapid = Vapid(pem(KEY).decode(), SUBJECT, clock)
    first = vapid.header("https://push.example.org/a")
    assert vapid.header("https://PUSH.example.org/b") == first
    assert vapid.header("https://push.example.org:8443/a") != first
    clock.pass_by(Vapid.LIFETIME - Vapid.MARGIN)
    assert vapid.header("https://push.example.org/a") == first
    clock.pass_by(1)
    assert vapid.header("https://push.example.org/a") != first


@pytest.mark.parametrize("seconds", [-86400, 86400])
def test_a_clock_that_is_set_makes_another_header(seconds: float) -> None:
    clock = Clock()
    vapid = Vapid(pem(KEY).decode(), SUBJECT, clock)
    first = vapid.header("https://push.example.org/a")
    clock.wall += seconds
    second = vapid.header("https://push.example.org/a")
    assert second != first
    claims = jwt.decode(second.partition("t=")[2].partition(",")[0], options={"verify_signature": False})
    assert claims["exp"] == Clock.BEGIN + seconds + Vapid.LIFETIME
    assert vapid.header("https://push.example.org/a") == second


def test_the_origins_that_are_kept_are_bounded() -> None:
    vapid = Vapid(pem(KEY).decode(), SUBJECT)
    for number in range(Vapid.MAX_ORIGINS + 10):
        vapid.header(f"https://p{number}.example.org/")
    assert len(vapid._headers) <= Vapid.MAX_ORIGINS


def test_a_key_as_other_tools_print_it() -> None:
    raw = b64url(KEY.private_numbers().private_value.to_bytes(32, "big"))
    header = Vapid(raw, "https://example.org/contact").header("https://push.example.org/a")
    assert b64url(raw_public_key(KEY.public_key())) in header


def test_an_ipv6_origin_cannot_be_signed_for() -> None:
    with pytest.raises(Rejected, match="bad endpoint"):
        Vapid(pem(KEY).decode(), SUBJECT).header("https://[2606:4700::1]/push")
