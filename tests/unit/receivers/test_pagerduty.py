from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receivers import Answer
from receivers.pagerduty import event_problems

if TYPE_CHECKING:
    import httpx

    from receivers import FarSide

KEY = "0123456789abcdef0123456789ABCDEF"


def event(action: str = "trigger", **changed: Any) -> dict[str, Any]:
    right: dict[str, Any] = {"routing_key": KEY, "event_action": action, "dedup_key": "door"}
    if action == "trigger":
        right["payload"] = {"summary": "Door open", "source": "door-1", "severity": "critical"}
    return {name: value for name, value in {**right, **changed}.items() if value is not None}


def payload(**changed: Any) -> dict[str, Any]:
    return event(payload={**event()["payload"], **changed})


def test_an_incident_goes_its_way(far: FarSide, http: httpx.Client) -> None:
    # Given a trigger, its repeat, an acknowledgement and another repeat
    for action in ("trigger", "trigger", "acknowledge", "trigger"):
        response = http.post(far.pagerduty.url, json=event(action))
        assert response.status_code == 202
        assert response.json() == {"status": "success", "message": "Event processed", "dedup_key": "door"}
    # Then it is one incident, and the repeat has not undone the acknowledgement
    incident = far.pagerduty.incident(KEY, "door")
    assert incident
    assert (incident.number, incident.state, incident.summary) == (1, "acknowledged", "Door open")
    # When it is resolved, late events for it have no effect, and a trigger opens another
    for action in ("resolve", "acknowledge", "resolve"):
        http.post(far.pagerduty.url, json=event(action))
    assert (incident.state, incident.history[-1]) == ("resolved", "resolve")
    http.post(far.pagerduty.url, json=event())
    assert [(each.number, each.state) for each in far.pagerduty.incidents] == [
        (1, "resolved"),
        (2, "triggered"),
    ]
    assert {each.id for each in far.pagerduty.received_for(KEY)} == {"door"}


def test_a_trigger_without_dedup_key_is_given_one(far: FarSide, http: httpx.Client) -> None:
    dedup_key = http.post(far.pagerduty.url, json=event(dedup_key=None)).json()["dedup_key"]
    assert far.pagerduty.incident(KEY, dedup_key)
    assert far.pagerduty.received[0].provider_id == dedup_key


def test_what_is_not_taken_changes_no_incident(far: FarSide, http: httpx.Client) -> None:
    far.pagerduty.script(KEY, [Answer(503), Answer(429)])
    assert http.post(far.pagerduty.url, json=event()).status_code == 503
    throttled = http.post(far.pagerduty.url, json=event())
    assert (throttled.status_code, throttled.json()["status"]) == (429, "throttle exceeded")
    assert far.pagerduty.incidents == []


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (event(routing_key=None), "routing_key"),
        (event(routing_key="short"), "routing_key"),
        (event("trigger", event_action="open"), "event_action"),
        (event(payload=None), "payload"),
        (payload(summary=""), "payload.summary"),
        (payload(summary="x" * 1025), "payload.summary"),
        (payload(source=None), "payload.source"),
        (payload(severity="fatal"), "payload.severity"),
        (payload(timestamp="yesterday"), "payload.timestamp"),
        (payload(timestamp="2026-11-21T10:00:00"), "payload.timestamp"),
        (payload(custom_details="x"), "payload.custom_details"),
        (payload(details={}), "payload.details"),
        (payload(component=5), "payload.component"),
        (event(dedup_key="x" * 256), "dedup_key"),
        (event("resolve", dedup_key=None), "dedup_key"),
        (event("acknowledge", dedup_key=""), "dedup_key"),
        (event(dedupkey="x"), "event.dedupkey"),
        (event(links=[{"text": "x"}]), "links[0].href"),
        (event(images=[{"href": "x"}]), "images[0].src"),
        (event(links="x"), "links"),
    ],
)
def test_what_pagerduty_refuses_is_named(
    far: FarSide, http: httpx.Client, wrong: dict[str, Any], problem: str
) -> None:
    response = http.post(far.pagerduty.url, json=wrong)
    assert (response.status_code, response.json()["status"]) == (400, "invalid event")
    assert any(each.startswith(f"{problem}:") for each in response.json()["errors"])
    assert far.pagerduty.received[0].problems == response.json()["errors"]


def test_a_whole_event_is_taken_and_512000_bytes_are_the_most(far: FarSide, http: httpx.Client) -> None:
    def whole(padding: int) -> dict[str, Any]:
        right = payload(
            summary="x" * 1024,
            timestamp="2026-11-21T10:00:00.5+01:00",
            component="door",
            group="site",
            custom_details={"pad": "x" * padding},
        )
        links = [{"href": "https://example.org", "text": "Open"}]
        return {**right, "client": "Tocsin", "client_url": "https://example.org", "links": links}

    empty = len(http.build_request("POST", far.pagerduty.url, json=whole(0)).content)
    assert http.post(far.pagerduty.url, json=whole(512_000 - empty)).status_code == 202
    assert http.post(far.pagerduty.url, json=whole(512_001 - empty)).status_code == 413


def test_a_body_that_is_no_event_is_refused(far: FarSide, http: httpx.Client) -> None:
    for content in (b"", b"[]", b"{"):
        headers = {"Content-Type": "application/json"}
        assert http.post(far.pagerduty.url, content=content, headers=headers).status_code == 400
    assert http.post(far.pagerduty.url, content=b"{}").status_code == 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.sampled_from(["trigger", "acknowledge", "resolve"]),
    st.dictionaries(
        st.sampled_from(["payload", "links", "images", "client", "dedup_key"]),
        json_values
        | st.dictionaries(st.sampled_from(["summary", "source", "severity", "timestamp"]), json_values),
    ),
)
def test_no_event_upsets_the_checks(action: str, changed: dict[str, Any]) -> None:
    assert all(isinstance(each, str) for each in event_problems({**event(action), **changed}))


@given(st.text(min_size=1, max_size=1024), st.text(min_size=1, max_size=255))
def test_every_lawful_event_is_right(summary: str, dedup_key: str) -> None:
    assert event_problems({**payload(summary=summary), "dedup_key": dedup_key}) == []
