from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import google.auth.transport.requests
import httpx
import jwt
import pytest
import requests
from firebase_admin import credentials, messaging
from hypothesis import given
from hypothesis import strategies as st

from receivers import Answer, FarSide
from receivers.fcm_message import message_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from receivers.fcm import ServiceAccount

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"


def assertion(far: FarSide, account: ServiceAccount | None = None, **changed: Any) -> dict[str, str]:
    """The form of a token request, signed with the account's key; arguments replace claims."""
    document = json.loads((account or far.fcm.account).credentials_file.read_text())
    now = int(time.time())
    claims = {
        "iss": document["client_email"],
        "scope": SCOPE,
        "aud": document["token_uri"],
        "iat": now,
        "exp": now + 3600,
    }
    key = changed.pop("key", document["private_key"])
    kid = changed.pop("kid", document["private_key_id"])
    token = jwt.encode({**claims, **changed}, key, algorithm="RS256", headers={"kid": kid})
    return {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": token}


@pytest.fixture
def access_token(far: FarSide, http: httpx.Client) -> str:
    token: str = http.post(far.fcm.token_url, data=assertion(far)).json()["access_token"]
    return token


@pytest.fixture
def send(far: FarSide, http: httpx.Client, access_token: str) -> Callable[..., httpx.Response]:
    def send(
        message: Any = None, *, bearer: str = access_token, project: str = "tocsin-local", **body: Any
    ) -> httpx.Response:
        return http.post(
            f"{far.url}/v1/projects/{project}/messages:send",
            json={"message": {"token": far.fcm.registration_token("phone"), **(message or {})}, **body},
            headers={"Authorization": f"Bearer {bearer}"},
        )

    return send


def test_a_right_message_is_taken(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    message = {
        "notification": {"title": "Door", "body": "Somebody is there"},
        "data": {"alert_id": "17"},
        "android": {"priority": "HIGH", "ttl": "3.5s", "notification": {"tag": "door", "color": "#ff0000"}},
    }
    response = send(message)
    assert response.status_code == 200
    assert response.json()["name"].startswith("projects/tocsin-local/messages/")
    (received,) = far.fcm.received_for(far.fcm.registration_token("phone"))
    assert received.valid
    assert received.id == "door"
    assert received.provider_id == response.json()["name"]
    assert received.content["message"]["data"] == {"alert_id": "17"}


def test_the_vendors_library_authenticates_and_its_messages_are_right(
    far: FarSide, http: httpx.Client
) -> None:
    # Given credentials and a message made by firebase-admin
    certificate = credentials.Certificate(str(far.fcm.account.credentials_file))
    google_credential = certificate.get_credential()
    with requests.Session() as session:
        google_credential.refresh(google.auth.transport.requests.Request(session))
    message = messaging.Message(
        fid=far.fcm.installation_id("phone"),
        notification=messaging.Notification(title="Door", body="Open"),
        data={"a": "b"},
        android=messaging.AndroidConfig(
            priority="high",
            ttl=600,
            collapse_key="door",
            notification=messaging.AndroidNotification(
                channel_id="alerts", priority="max", visibility="public"
            ),
        ),
        apns=messaging.APNSConfig(payload=messaging.APNSPayload(messaging.Aps(sound="default"))),
    )
    # When it is sent
    response = http.post(
        f"{far.url}/v1/projects/{certificate.project_id}/messages:send",
        json={"message": json.loads(str(message))},
        headers={"Authorization": f"Bearer {google_credential.token}"},
    )
    # Then nothing is wrong with it
    assert response.status_code == 200, response.text
    assert far.fcm.received_for(far.fcm.installation_id("phone"))[0].problems == []


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"data": {"n": 5}}, "message.data[n].value"),
        ({"data": ["n"]}, "message.data"),
        ({"data": {"from": "x"}}, "message.data"),
        ({"data": {"google.x": "x"}}, "message.data"),
        ({"data": {"gcm": "x"}}, "message.data"),
        ({"topic": "all"}, "message"),
        ({"titel": "x"}, "message"),
        ({"notification": {"titel": "x"}}, "message.notification"),
        ({"notification": {"title": 5}}, "message.notification.title"),
        ({"notification": "x"}, "message.notification"),
        ({"android": {"ttl": 60}}, "message.android.ttl"),
        ({"android": {"ttl": "60"}}, "message.android.ttl"),
        ({"android": {"ttl": "2419201s"}}, "message.android.ttl"),
        ({"android": {"priority": "urgent"}}, "message.android.priority"),
        ({"android": {"notification": {"color": "red"}}}, "message.android.notification.color"),
        ({"android": {"notification": {"tag": 5}}}, "message.android.notification.tag"),
        (
            {"android": {"notification": {"notification_priority": "MAX"}}},
            "message.android.notification.notification_priority",
        ),
        ({"android": {"notification": {"visibility": "all"}}}, "message.android.notification.visibility"),
        ({"android": {"data": {"n": 5}}}, "message.android.data[n].value"),
        ({"apns": {"headers": {"apns-priority": 10}}}, "message.apns.headers[apns-priority].value"),
        ({"webpush": {"header": {}}}, "message.webpush"),
    ],
)
def test_what_the_schema_refuses_is_named(
    far: FarSide, send: Callable[..., httpx.Response], message: dict[str, Any], field: str
) -> None:
    response = send(message)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["status"]) == (400, 400, "INVALID_ARGUMENT")
    (detail,) = error["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert field in [each["field"] for each in detail["fieldViolations"]]
    assert not far.fcm.received[0].valid


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"token": "no token"}, "message.token"),
        ({"token": 5}, "message.token"),
        ({"data": {"text": "x" * 4096}}, "message"),
    ],
)
def test_what_fcm_itself_refuses_carries_its_error(
    send: Callable[..., httpx.Response], message: dict[str, Any], field: str
) -> None:
    fcm_error, bad_request = send(message).json()["error"]["details"]
    assert fcm_error["errorCode"] == "INVALID_ARGUMENT"
    assert bad_request["fieldViolations"][0]["field"] == field


def test_a_body_without_message_is_refused(far: FarSide, http: httpx.Client, access_token: str) -> None:
    url = f"{far.url}/v1/projects/tocsin-local/messages:send"
    headers = {"Authorization": f"Bearer {access_token}"}
    for content in (b"", b"[]", b'{"message": 5}', b'{"message": NaN}'):
        assert http.post(url, content=content, headers=headers).status_code == 400
    assert not any(each.valid for each in far.fcm.received)


def test_the_bearer_token_is_checked(
    far: FarSide, http: httpx.Client, send: Callable[..., httpx.Response], access_token: str
) -> None:
    # A token that was never granted, one for another project, and one that was revoked.
    unknown = send(bearer="ya29.x")
    assert (unknown.status_code, unknown.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    foreign = send(project="another")
    assert (foreign.status_code, foreign.json()["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert "details" not in foreign.json()["error"]
    assert send().status_code == 200
    far.fcm.revoke_tokens()
    assert send(bearer=access_token).status_code == 401
    # A second project has its own account.
    second = far.fcm.issue("second")
    token = http.post(far.fcm.token_url, data=assertion(far, second)).json()["access_token"]
    assert send(bearer=token, project="second").json()["name"].startswith("projects/second/")


@pytest.fixture
def short_lifetime(far: FarSide) -> Iterator[None]:
    far.fcm.token_lifetime = 0
    yield
    far.fcm.token_lifetime = 3599


@pytest.mark.usefixtures("short_lifetime")
def test_an_access_token_ends(send: Callable[..., httpx.Response]) -> None:
    assert send().status_code == 401


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "other@example.org"},
        {"aud": "https://example.org/token"},
        {"exp": int(time.time()) + 7200},
        {"exp": int(time.time()) - 10},
        {"scope": "https://www.googleapis.com/auth/drive"},
        {"kid": "unknown"},
    ],
)
def test_a_wrong_assertion_is_no_grant(far: FarSide, http: httpx.Client, changed: dict[str, Any]) -> None:
    response = http.post(far.fcm.token_url, data=assertion(far, **changed))
    assert (response.status_code, response.json()["error"]) == (400, "invalid_grant")


def test_an_assertion_of_another_key_or_grant_type_is_no_grant(far: FarSide, http: httpx.Client) -> None:
    other = json.loads(far.fcm.issue("third").credentials_file.read_text())["private_key"]
    for form in (assertion(far, key=other), {**assertion(far), "grant_type": "password"}, {}):
        assert http.post(far.fcm.token_url, data=form).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (Answer(dead=True), 404, "UNREGISTERED"),
        (Answer(400), 400, "INVALID_ARGUMENT"),
        (Answer(403), 403, "SENDER_ID_MISMATCH"),
        (Answer(429), 429, "QUOTA_EXCEEDED"),
        (Answer(500), 500, "INTERNAL"),
        (Answer(503), 503, "UNAVAILABLE"),
        (Answer(401, reason="THIRD_PARTY_AUTH_ERROR"), 401, "THIRD_PARTY_AUTH_ERROR"),
    ],
)
def test_ordered_errors_have_googles_form(
    far: FarSide, send: Callable[..., httpx.Response], answer: Answer, status: int, code: str
) -> None:
    far.fcm.script(far.fcm.registration_token("phone"), [answer])
    response = send()
    assert response.status_code == response.json()["error"]["code"] == status
    assert response.json()["error"]["details"][0]["errorCode"] == code
    assert far.fcm.received[0].reason == code


def test_an_ordered_invalid_argument_is_of_the_token(
    far: FarSide, send: Callable[..., httpx.Response]
) -> None:
    far.fcm.script("*", [Answer(400)])
    _, bad_request = send().json()["error"]["details"]
    assert [each["field"] for each in bad_request["fieldViolations"]] == ["message.token"]


def test_googles_front_answers_without_fcm_error(far: FarSide, send: Callable[..., httpx.Response]) -> None:
    far.fcm.script("*", [Answer(401), Answer(502)])
    for status in (401, 502):
        response = send()
        assert response.status_code == status
        assert "details" not in response.json()["error"]


def test_the_token_endpoint_takes_orders_under_its_own_name(far: FarSide, http: httpx.Client) -> None:
    far.fcm.always("*", Answer(503))
    far.fcm.script("oauth", [Answer(503, headers={"Retry-After": "1"}), Answer(reset=True)])
    granted = far.fcm.tokens_granted
    assert http.post(far.fcm.token_url, data=assertion(far)).status_code == 503
    with pytest.raises(httpx.ReadError):
        http.post(far.fcm.token_url, data=assertion(far))
    assert http.post(far.fcm.token_url, data=assertion(far)).status_code == 200
    assert far.fcm.tokens_granted == granted + 1
    assert far.fcm.received == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
keys = st.sampled_from(
    [
        "token",
        "data",
        "notification",
        "android",
        "ttl",
        "priority",
        "visibility",
        "color",
        "notification_priority",
        "apns",
    ]
)
messages = st.recursive(json_values, lambda inner: st.dictionaries(keys, inner, max_size=4), max_leaves=20)


@given(st.dictionaries(st.sampled_from(["message", "validate_only", "x"]), messages))
def test_no_document_upsets_the_checks(document: dict[str, Any]) -> None:
    for where, what in message_problems(document):
        assert where.startswith("message") or where == ""
        assert what


@given(st.integers(0, 2_419_200))
def test_every_lawful_ttl_is_taken(seconds: int) -> None:
    message = {"token": "t", "android": {"ttl": f"{seconds}s"}}
    assert message_problems({"message": message}) == []
