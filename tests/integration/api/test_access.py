"""Every route: with the owner's key, another tenant's, too low a role, and none. And that these are all routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from admin.keys import revoke_key
from api import examples

if TYPE_CHECKING:
    from tests.integration.api.conftest import Api

#: (method, path template, role, status for the owner, status for another tenant, body). An id is 404 to another tenant;
#: what has no id in it (lists, users, whom a tenant names as it likes) concerns that tenant's own things.
CALLS: list[tuple[str, str, str, int, int, Any]] = [
    ("POST", "/v1/alerts", "ingest", 202, 202, examples.ALERT),
    ("GET", "/v1/alerts", "read", 200, 200, None),
    ("GET", "/v1/alerts/{alert_id}", "read", 200, 404, None),
    ("POST", "/v1/explain", "read", 200, 200, examples.ALERT),
    ("POST", "/v1/ingest/alertmanager", "ingest", 202, 202, examples.ALERTMANAGER),
    ("POST", "/v1/ingest/grafana", "ingest", 202, 202, examples.GRAFANA),
    ("POST", "/v1/ingest/cloudevents", "ingest", 202, 202, examples.CLOUDEVENT),
    ("GET", "/v1/channels", "read", 200, 200, None),
    ("POST", "/v1/channels", "admin", 201, 201, examples.WEBHOOK),
    ("GET", "/v1/channels/{channel_id}", "read", 200, 404, None),
    ("PUT", "/v1/channels/{channel_id}", "admin", 200, 404, examples.WEBHOOK | {"name": "replaced"}),
    ("PATCH", "/v1/channels/{channel_id}", "admin", 200, 404, {"is_enabled": False}),
    ("POST", "/v1/channels/{channel_id}/test", "admin", 502, 404, None),
    ("GET", "/v1/rules", "read", 200, 200, None),
    ("POST", "/v1/rules", "admin", 201, 422, examples.RULE | {"channel": "phones"}),
    ("GET", "/v1/rules/{rule_id}", "read", 200, 404, None),
    (
        "PUT",
        "/v1/rules/{rule_id}",
        "admin",
        200,
        404,
        examples.RULE | {"channel": "phones", "name": "replaced"},
    ),
    ("PATCH", "/v1/rules/{rule_id}", "admin", 200, 404, {"throttle_minutes": 5}),
    ("GET", "/v1/users/{user_id}/devices", "read", 200, 200, None),
    ("POST", "/v1/users/{user_id}/devices", "admin", 200, 200, examples.IPHONE),
    ("GET", "/v1/users/{user_id}/preferences", "read", 200, 200, None),
    ("PUT", "/v1/users/{user_id}/preferences", "admin", 200, 200, examples.PREFERENCES),
    ("POST", "/v1/users/{user_id}/notify", "ingest", 202, 202, examples.NOTIFICATION),
    ("GET", "/v1/jobs", "read", 200, 200, None),
    ("GET", "/v1/jobs/{job_id}", "read", 200, 404, None),
    ("GET", "/v1/jobs/{job_id}/deliveries", "read", 200, 404, None),
    ("POST", "/v1/jobs/{job_id}/replay", "admin", 200, 404, None),
    ("POST", "/v1/replay", "admin", 200, 200, {"reason": "exhausted"}),
    ("GET", "/v1/log", "read", 200, 200, None),
    # Last, since the others need what they delete.
    ("DELETE", "/v1/users/{user_id}/devices/{device_id}", "admin", 204, 404, None),
    ("DELETE", "/v1/rules/{rule_id}", "admin", 204, 404, None),
    ("DELETE", "/v1/channels/{channel_id}", "admin", 204, 404, None),
]

OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")}

BELOW = {"ingest": [], "read": ["ingest"], "admin": ["ingest", "read"]}


def path_of(api: Api, template: str) -> str:
    ids = {name: api.ids[name] for name in ("channel", "rule", "job", "device")}
    return template.format(
        user_id="alice", alert_id="door/7", **{f"{name}_id": number for name, number in ids.items()}
    )


def test_the_table_has_every_route(sqlite_api: Api) -> None:
    paths = sqlite_api.client.get("/openapi.json").json()["paths"]
    documented = {(method.upper(), path) for path, item in paths.items() for method in item}
    assert {(method, path) for method, path, *_ in CALLS} | OPEN == documented


def test_every_call_needs_a_key(sqlite_api: Api) -> None:
    before = sqlite_api.rows()
    for method, template, *_, body in CALLS:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
            answer = sqlite_api.client.request(
                method, path_of(sqlite_api, template), json=body, headers=headers
            )
            assert answer.status_code == 401, (method, template)
            assert answer.headers["www-authenticate"].startswith("Bearer ")
            assert answer.headers["content-type"] == "application/problem+json"
    assert sqlite_api.rows() == before


def test_every_call_needs_its_role(sqlite_api: Api) -> None:
    before = sqlite_api.rows()
    for method, template, role, *_, body in CALLS:
        for lower in BELOW[role]:
            answer = sqlite_api.call(method, path_of(sqlite_api, template), role=lower, json=body)
            assert answer.status_code == 403, (method, template, lower)
            assert role in answer.json()["detail"]
    assert sqlite_api.rows() == before


def test_another_tenant_gets_404_and_changes_nothing(api: Api) -> None:
    def acme() -> dict[str, list[dict[str, Any]]]:
        return {
            table: [
                row for row in rows if "acme" in (row.get("tenant"), row.get("tenant_id"), row.get("job"))
            ]
            for table, rows in api.rows().items()
        }

    before = acme()
    assert before["notification_channels"]
    assert before["devices"]
    for method, template, _, _, status, body in CALLS:
        answer = api.call(method, path_of(api, template), tenant="other", json=body)
        assert answer.status_code == status, (method, template, answer.text)
        # Nothing of acme's is in any answer, lists included.
        assert "canary" not in answer.text
        if method == "GET" and status == 200:
            shown = answer.json()
            assert not [
                item for item in shown.get("items", []) if item.get("name") in {"ops", "phone", "all"}
            ], template
        assert acme() == before, (method, template)


def test_the_owner_gets_what_is_promised(api: Api) -> None:
    for method, template, role, status, _, body in CALLS:
        answer = api.call(method, path_of(api, template), role=role, json=body)
        assert answer.status_code == status, (method, template, answer.text)
        assert "canary" not in answer.text


def test_a_revoked_key_ends_at_once(sqlite_api: Api) -> None:
    assert sqlite_api.call("GET", "/v1/jobs").status_code == 200
    revoke_key("acme", sqlite_api.keys["acme", "admin"])
    assert sqlite_api.call("GET", "/v1/jobs").status_code == 401


def test_a_key_is_kept_hashed_and_is_in_no_answer(sqlite_api: Api) -> None:
    key = sqlite_api.keys["acme", "admin"]
    assert key not in repr(sqlite_api.rows())
    for path in ("/v1/jobs", "/v1/nothing", "/metrics", "/readyz"):
        assert key not in sqlite_api.call("GET", path).text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"])
def test_what_needs_no_key(sqlite_api: Api, path: str) -> None:
    assert sqlite_api.client.get(path).status_code == 200
