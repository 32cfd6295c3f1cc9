from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from py_vapid import Vapid
from pywebpush import WebPusher

from receivers import Answer, FarSide
from receivers.keys import b64url, new_p256, pem, raw_public_key

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

PLAINTEXT = {"title": "Door", "body": "Somebody is there", "emoji": "🔔"}


def vapid_header(pem_key: bytes, **claims: Any) -> str:
    header: str = Vapid.from_pem(pem_key).sign(claims)["Authorization"]
    return header


@pytest.fixture
def send(far: FarSide, http: httpx.Client) -> Callable[..., httpx.Response]:
    """Sends by independent libraries; arguments replace headers (None: left out), claims and the body."""

    def send(
        subscription: dict[str, Any],
        headers: dict[str, str | None] | None = None,
        claims: dict[str, Any] | None = None,
        *,
        key: bytes | None = None,
        body: bytes | None = None,
        plaintext: bytes = json.dumps(PLAINTEXT).encode(),
    ) -> httpx.Response:
        right = {"aud": far.url, "exp": int(time.time()) + 3600, "sub": "mailto:ops@example.org"}
        merged: dict[str, str | None] = {
            "TTL": "60",
            "Content-Encoding": "aes128gcm",
            "Authorization": vapid_header(
                key or far.webpush.vapid_key_file.read_bytes(), **{**right, **(claims or {})}
            ),
            **(headers or {}),
        }
        if body is None:
            body = WebPusher(subscription).encode(plaintext)["body"]
        return http.post(
            subscription["endpoint"],
            content=body,
            headers={name: value for name, value in merged.items() if value is not None},
        )

    return send


def test_a_right_message_is_decrypted_and_taken(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    subscription = far.webpush.subscribe("alice-laptop")
    response = send(subscription, {"Urgency": "high", "Topic": "door"})
    assert (response.status_code, response.content) == (201, b"")
    assert response.headers["Location"].startswith(f"{far.url}/message/")
    (received,) = far.webpush.received_for("alice-laptop")
    assert received.problems == []
    assert received.content == PLAINTEXT
    assert (received.id, received.provider_id) == ("door", response.headers["Location"])
    assert received.headers["urgency"] == "high"


def test_pywebpush_sends_by_itself(far: FarSide) -> None:
    subscription = far.webpush.subscribe()
    claims = {"aud": far.url, "exp": int(time.time()) + 60, "sub": "mailto:ops@example.org"}
    headers = Vapid.from_file(str(far.webpush.vapid_key_file)).sign(claims)
    response = WebPusher(subscription).send(json.dumps(PLAINTEXT), headers=headers, ttl=5)
    assert response.status_code == 201
    assert far.webpush.received[0].valid


@pytest.mark.parametrize(
    ("headers", "status", "errno"),
    [
        ({"TTL": None}, 400, 111),
        ({"TTL": "-1"}, 400, 112),
        ({"TTL": "1.5"}, 400, 112),
        ({"TTL": "99999999999"}, 400, 112),
        ({"Urgency": "urgent"}, 400, 111),
        ({"Topic": "x" * 33}, 400, 113),
        ({"Topic": "a b"}, 400, 113),
        ({"Content-Encoding": "aesgcm"}, 400, 110),
        ({"Authorization": None}, 401, 109),
        ({"Authorization": "WebPush abc"}, 401, 109),
        ({"Authorization": "vapid t=a.b.c, k=AAAA"}, 403, 109),
    ],
)
def test_wrong_headers_are_refused(
    far: FarSide, send: Callable[..., httpx.Response], headers: dict[str, Any], status: int, errno: int
) -> None:
    response = send(far.webpush.subscribe(), headers)
    assert (response.status_code, response.json()["errno"]) == (status, errno)
    assert not far.webpush.received[0].valid
    assert ("www-authenticate" in response.headers) == (status == 401)


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"aud": "https://push.example.org"}, "aud must be"),
        ({"exp": int(time.time()) - 60}, "exp has passed"),
        ({"exp": int(time.time()) + 90_000}, "more than 24 hours"),
    ],
)
def test_wrong_vapid_claims_are_refused(
    far: FarSide, send: Callable[..., httpx.Response], claims: dict[str, Any], problem: str
) -> None:
    # py_vapid corrects an exp in the past or too far ahead, so the header is made without it
    right = {"aud": far.url, "exp": int(time.time()) + 3600, "sub": "mailto:ops@example.org"}
    header = _signed(far.webpush.vapid_key_file.read_bytes(), {**right, **claims})
    response = send(far.webpush.subscribe(), {"Authorization": header})
    assert response.status_code == 403
    assert problem in far.webpush.received[0].problems[0]


def _signed(pem_key: bytes, claims: dict[str, Any]) -> str:
    key = load_pem_private_key(pem_key, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    token = jwt.encode(claims, pem_key, algorithm="ES256")
    return f"vapid t={token}, k={b64url(raw_public_key(key.public_key()))}"


@pytest.mark.parametrize("sub", [None, "ops@example.org", "mailto:", "http://example.org"])
def test_a_vapid_subject_must_be_a_contact(
    far: FarSide, send: Callable[..., httpx.Response], sub: str | None
) -> None:
    claims = {"aud": far.url, "exp": int(time.time()) + 3600}
    header = _signed(far.webpush.vapid_key_file.read_bytes(), {**claims, **({"sub": sub} if sub else {})})
    assert send(far.webpush.subscribe(), {"Authorization": header}).status_code == 403
    assert "sub must be" in far.webpush.received[0].problems[0]


def test_a_subscription_takes_only_its_own_application_server(
    far: FarSide, send: Callable[..., httpx.Response]
) -> None:
    other = new_p256()
    public = b64url(raw_public_key(other.public_key()))
    assert send(far.webpush.subscribe(), key=pem(other)).status_code == 403
    assert send(far.webpush.subscribe(application_server_key=public), key=pem(other)).status_code == 201
    assert send(far.webpush.subscribe(application_server_key=""), key=pem(other)).status_code == 201


def test_a_signature_must_be_of_the_key_that_is_shown(
    far: FarSide, send: Callable[..., httpx.Response]
) -> None:
    claims = {"aud": far.url, "exp": int(time.time()) + 3600, "sub": "mailto:ops@example.org"}
    forged = vapid_header(pem(new_p256()), **claims).partition(",k=")[0]
    header = f"{forged},k={far.webpush.vapid_public_key}"
    assert send(far.webpush.subscribe(), {"Authorization": header}).status_code == 403


def test_what_was_encrypted_for_another_browser_is_refused(
    far: FarSide, send: Callable[..., httpx.Response]
) -> None:
    subscription, other = far.webpush.subscribe(), far.webpush.subscribe()
    body = WebPusher(other).encode(b"{}")["body"]
    for wrong in (body, body[:-1], b"x" * 30, b"x"):
        response = send(subscription, body=wrong)
        assert (response.status_code, response.json()["errno"]) == (400, 110)
    assert not any(each.valid for each in far.webpush.received)


def test_a_plaintext_that_is_no_json_is_refused_and_kept(
    far: FarSide, send: Callable[..., httpx.Response]
) -> None:
    assert send(far.webpush.subscribe(), plaintext=b"hello").status_code == 400
    assert far.webpush.received[0].content == "hello"


def test_the_largest_body_is_4096_bytes(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    subscription = far.webpush.subscribe()
    overhead = len(WebPusher(subscription).encode(b"x")["body"]) - 1
    fits = json.dumps("x" * (4096 - overhead - 2)).encode()
    assert send(subscription, plaintext=fits).status_code == 201
    response = send(subscription, plaintext=json.dumps("x" * (4096 - overhead - 1)).encode())
    assert (response.status_code, response.json()["errno"]) == (413, 104)


def test_an_empty_push_needs_no_encoding(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    assert send(far.webpush.subscribe(), {"Content-Encoding": None}, body=b"").status_code == 201


def test_gone_and_unknown_subscriptions(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    subscription = far.webpush.subscribe("old")
    far.webpush.script("old", [Answer(dead=True), Answer(429, headers={"Retry-After": "9"})])
    gone, throttled = send(subscription), send(subscription)
    assert (gone.status_code, gone.json()["errno"]) == (410, 106)
    assert (throttled.status_code, throttled.headers["Retry-After"]) == (429, "9")
    far.webpush.unsubscribe("old")
    assert send(subscription).status_code == 404
