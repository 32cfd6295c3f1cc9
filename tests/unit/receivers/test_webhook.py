from __future__ import annotations

import base64
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from receivers.webhook import body_problems

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from receivers import FarSide

BODY: dict[str, Any] = {
    "type": "alert.open",
    "timestamp": "2026-11-21T10:00:00Z",
    "data": {"alert_id": 17, "event_type": "OPEN", "tenant_id": "acme", "job_id": 3, "message": "Door"},
}
OTHER_SECRET = f"whsec_{base64.b64encode(b'another secret of some length').decode()}"


def signed(secret: str, body: bytes, webhook_id: str = "msg_1", age: int = 0) -> dict[str, str]:
    at = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=age)
    return {
        "Content-Type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(webhook_id, at, body.decode()),
    }


@pytest.fixture
def send(far: FarSide, http: httpx.Client) -> Callable[..., httpx.Response]:
    def send(
        body: Any = BODY,
        headers: dict[str, str] | None = None,
        *,
        name: str = "ops",
        secret: str | None = None,
        method: str = "POST",
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        merged = {**signed(secret or far.webhook.secret, content), **(headers or {})}
        return http.request(method, far.webhook.url(name), content=content, headers=merged)

    return send


def test_a_signed_event_is_taken(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    assert send().status_code == 204
    (received,) = far.webhook.received_for("ops")
    assert (received.valid, received.id, received.content) == (True, "msg_1", BODY)
    assert [send(method=method).status_code for method in ("PUT", "PATCH", "GET")] == [204, 204, 405]


def test_a_wrong_signature_is_refused(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    content = json.dumps(BODY).encode()
    right = signed(far.webhook.secret, content)
    for wrong in (
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": "1"},
        {"webhook-timestamp": "now"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1,not base64"},
        {"webhook-signature": right["webhook-signature"].replace("v1,", "v2,")},
        signed(far.webhook.secret, content, age=3600),
        signed(far.webhook.secret, content, webhook_id="a.b"),
        signed(OTHER_SECRET, content),
    ):
        assert send(content, wrong).status_code == 401, wrong
    assert not any(each.valid for each in far.webhook.received)


def test_an_unsigned_event_is_refused_unless_the_hook_takes_it(far: FarSide, http: httpx.Client) -> None:
    assert http.post(far.webhook.url("ops"), json=BODY).status_code == 401
    far.webhook.use_secret("open", None)
    assert http.post(far.webhook.url("open"), json=BODY).status_code == 204


def test_a_hook_may_have_a_secret_of_its_own(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    far.webhook.use_secret("own", OTHER_SECRET)
    assert send(name="own").status_code == 401
    assert send(name="own", secret=OTHER_SECRET).status_code == 204


def test_one_of_several_signatures_is_enough(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    content = json.dumps(BODY).encode()
    both = " ".join(
        signed(secret, content)["webhook-signature"] for secret in (OTHER_SECRET, far.webhook.secret)
    )
    assert send(content, {"webhook-signature": both}).status_code == 204


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ([], "body"),
        ({**BODY, "type": "alert open"}, "type"),
        ({**BODY, "type": "alert.closed"}, "type"),
        ({**BODY, "timestamp": "2026-11-21"}, "timestamp"),
        ({**BODY, "timestamp": 17}, "timestamp"),
        ({**BODY, "data": []}, "data"),
        ({**BODY, "data": {**BODY["data"], "tenant_id": None}}, "data.tenant_id"),
        ({"type": "alert.open", "timestamp": BODY["timestamp"]}, "data"),
    ],
)
def test_a_body_that_is_not_as_documented_is_refused(
    far: FarSide, send: Callable[..., httpx.Response], body: Any, problem: str
) -> None:
    response = send(body)
    assert response.status_code == 400
    assert response.text.startswith(f"{problem}: ")
    assert not far.webhook.received[0].valid


def test_20_kilobytes_are_the_most(send: Callable[..., httpx.Response]) -> None:
    empty = len(json.dumps({**BODY, "pad": ""}))
    assert send({**BODY, "pad": "x" * (20_000 - empty)}).status_code == 204
    assert send({**BODY, "pad": "x" * (20_001 - empty)}).status_code == 413


def test_the_content_type_must_be_json(send: Callable[..., httpx.Response]) -> None:
    assert send(headers={"Content-Type": "text/plain"}).status_code == 400
    assert send(headers={"Content-Type": "application/json; charset=utf-8"}).status_code == 204


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(["type", "timestamp", "data", "x"]), json_values | st.just("alert.open"))
)
def test_no_body_upsets_the_checks(body: dict[str, Any]) -> None:
    assert body_problems(body)
