"""Preferences that cannot be read any more: written by hand, or by another version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.database import connection, database
from tests.integration.api.conftest import session_cookie

if TYPE_CHECKING:
    from tests.integration.api.conftest import Api

STORED = (
    ('{"quiet_hours_timezone": "Mars/Olympus"}', "quiet_hours_timezone", "must be an IANA time zone"),
    ('{"quiet_hours": true, "cameras": 5}', "quiet_hours", "no such field"),
    ("[1]", "", "must be an object"),
    ("off, please", "", "must be an object"),
)


def test_they_are_told_of_count_as_none_and_are_put_anew(sqlite_api: Api) -> None:
    assert sqlite_api.call("POST", "/v1/rules", json={"name": "p", "channel": "phones"}).status_code == 201
    for stored, field, rule in STORED:
        with connection():
            database.execute_sql("UPDATE notification_preferences SET preferences = ?", (stored,))
        # They are told of, with what is wrong and what mends it
        answer = sqlite_api.call("GET", "/v1/users/alice/preferences")
        problem = answer.json()
        assert answer.status_code == 409, problem
        assert "PUT" in problem["detail"]
        assert [rule in each["rule"] for each in problem["errors"] if each["field"] == field] == [True]
        page = sqlite_api.client.get("/user?id=alice", headers=session_cookie("admin"))
        assert (page.status_code, "cannot be read" in page.text) == (200, True)
        assert sqlite_api.client.get("/users", headers=session_cookie()).status_code == 200
        # They keep nobody's alarms
        explained = sqlite_api.call("POST", "/v1/explain", json={"alert_id": 1}).json()
        assert [each["verdict"] for each in explained["targets"] if each["user_id"]] == ["deliver"]
        # Replaced, they are whole
        given = {"quiet_hours_enabled": True}
        assert sqlite_api.call("PUT", "/v1/users/alice/preferences", json=given).status_code == 200
        assert sqlite_api.get("/v1/users/alice/preferences")["quiet_hours_enabled"] is True
