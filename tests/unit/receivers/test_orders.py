"""What all receivers share, orders and the list of what arrived: shown on the Slack receiver, over HTTP."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers import Answer, FarSide

if TYPE_CHECKING:
    from receivers import Received


def post(http: httpx.Client, far: FarSide, name: str = "ops") -> httpx.Response:
    return http.post(far.slack.url(name), json={"text": "hello"})


def test_a_script_is_followed_once_and_then_all_is_normal(far: FarSide, http: httpx.Client) -> None:
    # Given two orders for one target
    far.slack.script("ops", [Answer(503), Answer(429, headers={"Retry-After": "3"})])
    # When it and another are sent to
    other = post(http, far, "other")
    answers = [post(http, far) for _ in range(3)]
    # Then only the target's next two answers are as ordered
    assert other.status_code == 200
    assert [each.status_code for each in answers] == [503, 429, 200]
    assert answers[1].headers["Retry-After"] == "3"
    assert [each.status for each in far.slack.received_for("ops")] == [503, 429, 200]
    assert [each.accepted for each in far.slack.received_for("ops")] == [False, False, True]


def test_a_standing_order_holds_until_normal(far: FarSide, http: httpx.Client) -> None:
    far.slack.always("*", Answer(500, reason="fatal"))
    assert [post(http, far).text for _ in range(3)] == ["fatal"] * 3
    far.slack.normal("*")
    assert post(http, far).text == "ok"


def test_an_order_for_the_target_goes_before_one_for_all(far: FarSide, http: httpx.Client) -> None:
    far.slack.script("*", [Answer(500)])
    far.slack.always("ops", Answer(503))
    far.slack.script("ops", [Answer(404)])
    assert [post(http, far).status_code for _ in range(2)] == [404, 503]
    assert post(http, far, "other").status_code == 500


def test_an_ordered_body_replaces_the_providers(far: FarSide, http: httpx.Client) -> None:
    far.slack.script("ops", [Answer(502, body={"x": [1]}), Answer(500, body=b""), Answer(200, body="fine")])
    answers = [post(http, far) for _ in range(3)]
    assert answers[0].json() == {"x": [1]}
    assert answers[1].content == b""
    assert (answers[2].status_code, answers[2].text) == (200, "fine")


def test_an_ordered_success_takes_even_what_is_invalid(far: FarSide, http: httpx.Client) -> None:
    far.slack.script("ops", [Answer(200)])
    assert http.post(far.slack.url("ops"), json={}).text == "ok"
    (received,) = far.slack.received
    assert not received.valid
    assert received.accepted


def test_a_delay_is_kept_at_arrival_and_answered_late(far: FarSide, http: httpx.Client) -> None:
    far.slack.script("ops", [Answer(delay=0.3)])
    began = time.monotonic()
    answered: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answered.append(post(http, far)))
    thread.start()
    (received,) = far.slack.wait_for(1, timeout=5)
    assert not answered
    thread.join()
    assert answered[0].text == "ok"
    assert time.monotonic() - began >= 0.3
    assert began <= received.monotonic <= began + 0.3


def test_a_reset_is_seen_as_a_reset(far: FarSide) -> None:
    far.slack.script("ops", [Answer(reset=True)])
    with httpx.Client() as client:
        with pytest.raises(httpx.ReadError, match="reset"):
            post(client, far)
        assert post(client, far).text == "ok"
    assert far.slack.received[0].status is None


def test_a_stall_takes_the_request_and_never_answers(far: FarSide) -> None:
    far.slack.script("ops", [Answer(stall=True)])
    with httpx.Client(timeout=0.3) as client, pytest.raises(httpx.ReadTimeout):
        post(client, far)
    (received,) = far.slack.received
    assert received.status is None
    assert received.content == {"text": "hello"}


@pytest.mark.parametrize(
    ("name", "status"), [("slack", 404), ("teams", 404), ("webhook", 410), ("pagerduty", 400)]
)
def test_dead_is_the_providers_word_for_gone(
    far: FarSide, http: httpx.Client, name: str, status: int
) -> None:
    receiver = far.receivers[name]
    receiver.always("*", Answer(dead=True))
    url = far.pagerduty.url if name == "pagerduty" else getattr(far, name).url("ops")
    assert http.post(url, json={}).status_code == status


def test_waiting_in_vain_says_what_came(far: FarSide, http: httpx.Client) -> None:
    post(http, far)
    with pytest.raises(TimeoutError, match=r"slack: 1 of 2 arrived within 0\.05 s"):
        far.slack.wait_for(2, timeout=0.05)
    with pytest.raises(TimeoutError, match="0 of 1"):
        far.slack.wait_for(1, timeout=0.05, target="other")


def test_clear_forgets_what_arrived_and_keeps_orders(far: FarSide, http: httpx.Client) -> None:
    far.slack.always("ops", Answer(503))
    post(http, far)
    far.slack.clear()
    assert far.slack.received == []
    assert len(far.slack) == 0
    assert post(http, far).status_code == 503


def test_a_record_keeps_headers_but_no_credentials(far: FarSide, http: httpx.Client) -> None:
    http.post(
        far.slack.url("ops"), json={"text": "x"}, headers={"Authorization": "Bearer s3cret", "X-Mark": "1"}
    )
    (received,) = far.slack.received
    assert received.headers["x-mark"] == "1"
    assert "s3cret" not in str(received)
    assert abs(received.at - time.time()) < 10


def test_without_verification_anything_is_taken() -> None:
    with FarSide(verify=False) as far, httpx.Client() as client:
        urls = [
            far.slack.url("a"),
            far.teams.url("a").partition("?")[0],
            far.webhook.url("a"),
            far.pagerduty.url,
        ]
        urls += [f"{far.url}/push/unknown", f"{far.url}/v1/projects/x/messages:send"]
        assert [client.post(url, content=b"?").status_code for url in urls] == [200, 202, 204, 202, 201, 200]
        assert all(each.valid for receiver in far.receivers.values() for each in receiver.received)


def test_the_observer_sees_each_receipt_before_it_is_answered() -> None:
    seen: list[Received] = []
    with FarSide(on_received=seen.append) as far, httpx.Client() as client:
        post(client, far)
        assert [each.target for each in seen] == ["ops"]


def test_the_end_removes_files_and_frees_the_port_though_requests_stall() -> None:
    with FarSide() as far:
        far.slack.always("*", Answer(stall=True))
        with httpx.Client(timeout=0.1) as client, pytest.raises(httpx.ReadTimeout):
            post(client, far)
        port = int(far.url.rpartition(":")[2])
        thread = threading.Thread(target=lambda: _ignore_end(far))
        thread.start()
        far.slack.wait_for(2)
    thread.join(5)
    assert not thread.is_alive()
    assert not far.directory.exists()
    with FarSide(port=port) as again:
        assert again.url == far.url


def _ignore_end(far: FarSide) -> None:
    with httpx.Client(timeout=5) as client, pytest.raises(httpx.TransportError):
        post(client, far)


def test_a_port_that_is_taken_is_said_at_once(far: FarSide) -> None:
    with pytest.raises(OSError, match="in use"):
        FarSide(port=int(far.url.rpartition(":")[2]))
    with pytest.raises(OSError, match="in use"), FarSide(apns_port=far.apns.port):
        pass


def test_the_environment_names_files_that_exist(far: FarSide) -> None:
    environment = far.environment()
    files = [value for name, value in environment.items() if name.endswith("_FILE")]
    assert len(files) == 4
    for file in files:
        assert far.directory.joinpath(file).is_file()
    assert environment["TOCSIN_APNS_PORT"] == str(far.apns.port)
    assert environment["TOCSIN_FCM_URL"] == far.url


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "an answer is an object"),
        ({"state": 1}, "no such key: state; there are body, dead"),
        ({"status": 99}, "status must be from 200 to 599"),
        ({"status": "503"}, "not supported"),
        ({"delay": -1}, "delay must not be negative"),
        ({"reset": True, "stall": True}, "not both"),
    ],
)
def test_a_wrong_order_says_what_is_wrong(value: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Answer.from_json(value)


@given(
    status=st.none() | st.integers(200, 599),
    reason=st.none() | st.text(max_size=20),
    delay=st.floats(0, 60),
    dead=st.booleans(),
)
def test_orders_survive_json(status: int | None, reason: str | None, delay: float, *, dead: bool) -> None:
    value = {"status": status, "reason": reason, "delay": delay, "dead": dead}
    assert Answer.from_json(value) == Answer(status=status, reason=reason, delay=delay, dead=dead)
