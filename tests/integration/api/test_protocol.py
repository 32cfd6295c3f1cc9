"""What holds for every call: problem documents, request ids, limits, media types, pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from api.limits import Limits
from model.database import JsonField, connection
from model.tables import Alert, Delivery
from tests.integration.api.conftest import serving
from tests.support.database import make_channel, make_deliveries, make_job

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.integration.api.conftest import Api


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document["status"] == status
    assert document["type"] == "about:blank"
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/v1/jobs/", "/v2/alerts"])
def test_an_unknown_path(sqlite_api: Api, path: str) -> None:
    assert_problem(sqlite_api.call("GET", path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/alerts", "GET, POST"),
        ("PUT", "/v1/channels", "GET, POST"),
        ("POST", "/v1/channels/1", "DELETE, GET, PATCH, PUT"),
        ("DELETE", "/v1/users/alice/preferences", "GET, PUT"),
        ("POST", "/v1/alerts/door/7", "GET"),
        ("GET", "/v1/explain", "POST"),
        ("POST", "/readyz", "GET"),
        ("DELETE", "/rules", "GET, POST"),
        ("POST", "/docs", "GET"),
    ],
)
def test_a_method_that_the_path_lacks(sqlite_api: Api, method: str, path: str, allowed: str) -> None:
    answer = sqlite_api.call(method, path)
    assert_problem(answer, 405)
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/json; profile=x; charset=latin-1",
        "application/json; charset=utf-8; charset=latin-1",
        "application/jsonp",
    ],
)
def test_a_media_type_that_is_not_taken(sqlite_api: Api, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    answer = sqlite_api.call("POST", "/v1/alerts", content=b'{"alert_id": 1}', headers=headers)
    assert_problem(answer, 415)
    assert answer.headers["accept"] == "application/json"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/json; charset=utf-8; profile=x",
        'application/json; profile="a; charset=latin-1"; Charset=utf-8',
    ],
)
def test_a_media_type_that_is(sqlite_api: Api, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    assert (
        sqlite_api.call("POST", "/v1/alerts", content=b'{"alert_id": 1}', headers=headers).status_code == 202
    )


def test_a_compressed_body_is_not_taken(sqlite_api: Api) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert_problem(sqlite_api.call("POST", "/v1/alerts", content=b"x", headers=headers), 415)


@pytest.mark.parametrize("known_length", [True, False])
def test_a_body_that_is_too_large(tmp_path: Path, *, known_length: bool) -> None:
    for api in serving(f"sqlite:///{tmp_path / 'test.db'}", Limits(body_bytes=2000)):
        body = b'{"alert_id": 1, "message": "' + b"x" * 2000 + b'"}'
        content: Any = body if known_length else iter([body[:1000], body[1000:]])
        answer = api.call("POST", "/v1/alerts", content=content, headers={"Content-Type": "application/json"})
        assert_problem(answer, 413)
        assert [row["alert_id"] for row in api.rows()["alerts"]] == ["door/7"]


def test_a_key_that_asks_too_often_and_another_that_does_not(tmp_path: Path) -> None:
    for api in serving(f"sqlite:///{tmp_path / 'test.db'}", Limits(rate=0.001, burst=5)):
        statuses = [api.call("GET", "/v1/jobs", role="read").status_code for _ in range(7)]
        assert statuses == [200] * 5 + [429] * 2
        answer = api.call("GET", "/v1/jobs", role="read")
        assert_problem(answer, 429)
        assert int(answer.headers["retry-after"]) > 100
        assert api.call("GET", "/v1/jobs", tenant="other").status_code == 200


def test_wrong_keys_are_slowed_down_and_right_ones_are_not(tmp_path: Path) -> None:
    for api in serving(f"sqlite:///{tmp_path / 'test.db'}", Limits(failures=0.001, failure_burst=3)):
        wrong = {"Authorization": "Bearer tocsin_wrong"}
        statuses = [api.client.get("/v1/jobs", headers=wrong).status_code for _ in range(5)]
        assert statuses == [401] * 3 + [429] * 2
        assert api.call("GET", "/v1/jobs").status_code == 200


def api_logs(api: Api, event: str) -> list[Any]:
    return [line for line in api.logs if line["event"] == event]


def test_each_request_has_a_line_in_the_log(sqlite_api: Api) -> None:
    sqlite_api.call("GET", "/v1/jobs?limit=1", headers={"X-Request-Id": "r-1"})
    [line] = [line for line in api_logs(sqlite_api, "request") if line["request_id"] == "r-1"]
    assert (line["method"], line["path"], line["status"], line["tenant"]) == ("GET", "/v1/jobs", 200, "acme")
    assert sqlite_api.keys["acme", "admin"] not in repr(sqlite_api.logs)


def test_a_request_s_id_is_the_caller_s_or_ours(sqlite_api: Api) -> None:
    assert (
        sqlite_api.call("GET", "/v1/jobs", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"]
        == "abc-1"
    )
    ours = sqlite_api.call("GET", "/v1/jobs", headers={"X-Request-Id": "a b\tc"}).headers["x-request-id"]
    assert len(ours) == 32
    assert ours != sqlite_api.call("GET", "/v1/jobs").headers["x-request-id"]


def test_an_error_of_ours_is_a_problem_without_a_trace(sqlite_api: Api) -> None:
    # Given a row that no version of ours wrote
    from model.database import connection, database  # noqa: PLC0415  # only this test breaks a row

    with connection():
        database.execute_sql("UPDATE alerts SET payload = '{broken secret-4711'")
    # When it is read
    answer = sqlite_api.call("GET", "/v1/jobs/{job}", headers={"X-Request-Id": "r-500"})
    # Then the answer says where to look, and nothing else
    document = assert_problem(answer, 500)
    assert document["request_id"] == "r-500"
    assert "4711" not in answer.text
    assert "Error" not in document["detail"]
    [line] = [line for line in api_logs(sqlite_api, "request_failed") if line["request_id"] == "r-500"]
    assert line["exc_info"]


WRONG = (
    "/v1/jobs?limit=0", "/v1/jobs?limit=501", "/v1/jobs?limit=x", "/v1/jobs?cursor=x", "/v1/jobs?state=NONE",
    "/v1/jobs/0", "/v1/jobs/x", f"/v1/jobs/{'9' * 5000}", "/v1/jobs/9223372036854775808", "/v1/alerts/%00",
    "/v1/alerts?alert_id=%00", "/v1/alerts/" + "x" * 256, "/v1/channels/2147483648", "/v1/channels/-1",
    "/v1/users/%00/devices", "/v1/log?outcome=%00", "/v1/alerts?event_type=",
)  # fmt: skip


def test_parameters_that_are_wrong_are_named(api: Api) -> None:
    for path in WRONG:
        document = assert_problem(api.call("GET", path), 422)
        assert document["errors"], path


#: Moments that no zone but their own can show, or from which a week cannot be looked ahead.
ENDS_OF_TIME = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59Z")


@pytest.mark.parametrize("moment", ENDS_OF_TIME)
def test_a_moment_at_an_end_of_the_calendar_is_refused_by_name(api: Api, moment: str) -> None:
    rule = "must be in the years 2 to 9998"
    answer = api.call("POST", "/v1/explain", params={"at": moment}, json={"alert_id": 1})
    assert assert_problem(answer, 422)["errors"] == [{"field": "at", "rule": rule}]
    for field in ("since", "until"):
        answer = api.call("POST", "/v1/replay", json={field: moment})
        assert assert_problem(answer, 422)["errors"] == [{"field": field, "rule": rule}]


@pytest.mark.parametrize("moment", [1, "1", "1774747800", "2026-03-29", True])
def test_a_moment_that_is_no_rfc_3339_time_is_refused_by_name(sqlite_api: Api, moment: Any) -> None:
    rule = "must be an RFC 3339 time such as 2026-03-29T01:30:00Z"
    answer = sqlite_api.call("POST", "/v1/explain", params={"at": moment}, json={"alert_id": 1})
    assert assert_problem(answer, 422)["errors"] == [{"field": "at", "rule": rule}]
    for field in ("since", "until"):
        answer = sqlite_api.call("POST", "/v1/replay", json={field: moment})
        assert assert_problem(answer, 422)["errors"] == [{"field": field, "rule": rule}]


@pytest.mark.parametrize("given", ["a\nb", "a\n", "\n", "a/b\r\n/c", "a\u2028b"])
def test_an_id_with_a_line_break_is_found_by_its_own_path_and_by_no_other(
    sqlite_api: Api, given: str
) -> None:
    assert sqlite_api.call("POST", "/v1/alerts", json=[{"alert_id": given}, {"alert_id": "a"}]).is_success
    for alert_id in (given, "a"):
        (event,) = sqlite_api.get(f"/v1/alerts/{quote(alert_id, safe='')}")["events"]
        assert event["alert_id"] == alert_id
    user = f"/v1/users/{quote(given, safe='')}"
    wanted = {"quiet_hours_enabled": True, "quiet_hours_start": "22:00", "quiet_hours_end": "07:00"}
    assert sqlite_api.call("PUT", f"{user}/preferences", json=wanted).is_success
    assert sqlite_api.get(f"{user}/preferences")["quiet_hours_enabled"]


@pytest.mark.parametrize("name", ["alert_id", "event_type"])
def test_what_a_notification_has_not_is_refused_as_openapi_says(sqlite_api: Api, name: str) -> None:
    schema = sqlite_api.client.get("/openapi.json").json()["components"]["schemas"]["NotificationInput"]
    assert name not in schema["properties"]
    for given in ("CLOSED", None):
        answer = sqlite_api.call("POST", "/v1/users/alice/notify", json={"message": "over", name: given})
        assert [each["field"] for each in assert_problem(answer, 422)["errors"]] == [name]


@pytest.mark.parametrize("moment", ["0002-01-01T00:00:00+14:00", "9998-12-31T23:59:59-12:00"])
def test_a_moment_just_within_it_is_taken(api: Api, moment: str) -> None:
    # Given a user who is hardly ever to be disturbed, so that the end of quiet hours is looked for, up to a week ahead
    zone = {"quiet_hours_timezone": "Pacific/Kiritimati", "quiet_hours_action": "defer"}
    always = {"quiet_hours_enabled": True, "quiet_hours_start": "12:00", "quiet_hours_end": "11:59"} | zone
    assert api.call("PUT", "/v1/users/alice/preferences", json=always).status_code == 200
    api.call("POST", "/v1/rules", json={"name": "push", "channel": "phones"})
    # When an alert is explained, and replay is asked for
    answer = api.call("POST", "/v1/explain", params={"at": moment}, json={"alert_id": 1})
    # Then both are answered
    assert answer.status_code == 200, answer.text
    assert [target["verdict"] for target in answer.json()["targets"] if target["user_id"]] == ["defer"]
    assert api.call("POST", "/v1/replay", json={"since": moment, "until": moment}).status_code == 200


@pytest.mark.parametrize("channel", [True, 0, -1, 1.5, "", "x" * 256, [], {}, "\0"])
def test_a_channel_that_is_neither_name_nor_id_is_one_problem_of_one_field(
    sqlite_api: Api, channel: object
) -> None:
    answer = sqlite_api.call("POST", "/v1/replay", json={"channel": channel})
    assert [each["field"] for each in assert_problem(answer, 422)["errors"]] == ["channel"]


def test_what_no_database_can_hold_is_one_problem_of_one_field(api: Api) -> None:
    push = {"name": "team", "channel_type": "push", "config": {"user_ids": ["alice", "bob\0"]}}
    for method, path, given, field in (
        ("POST", "/v1/rules", {"name": "x", "channel": "a\0b"}, "channel"),
        ("PATCH", "/v1/rules/{rule}", {"channel": "a\0b"}, "channel"),
        ("POST", "/v1/channels", push, "config.user_ids[1]"),
    ):
        (problem,) = assert_problem(api.call(method, path, json=given), 422)["errors"]
        assert problem == {"field": field, "rule": "must not contain NUL characters"}


def test_a_push_channel_that_was_saved_with_a_user_that_cannot_be_is_the_others(api: Api) -> None:
    # Given a channel of an earlier version's saving, for one user with a phone and one that nobody can look for
    with connection():
        api.ids["team"] = make_channel(
            name="team", channel_type="push", config={"user_ids": ["bob\0", "alice"]}
        )
    assert api.call("POST", "/v1/rules", json={"name": "team", "channel": "team"}).status_code == 201
    # When an alert is explained, and the channel is tried
    explained = api.call("POST", "/v1/explain", json={"alert_id": 1})
    tried = api.call("POST", "/v1/channels/{team}/test").json()
    # Then both know of the phone (for which there is no APNs here)
    assert explained.status_code == 200, explained.text
    assert [target["user_id"] for target in explained.json()["targets"] if target["user_id"]] == ["alice"]
    assert [device["user_id"] for device in tried["devices"]] == ["alice"]


def test_a_channel_is_replayed_by_its_name_or_its_id(sqlite_api: Api) -> None:
    for channel in ("ops", sqlite_api.ids["channel"]):
        answer = sqlite_api.call("POST", "/v1/replay", json={"channel": channel, "reason": "rejected"})
        assert answer.status_code == 200, answer.text


def pages(api: Api, path: str, limit: int) -> list[list[Any]]:
    found, cursor = [], ""
    while True:
        page = api.get(f"{path}?limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
        found.append(page["items"])
        cursor = page["next"]
        if cursor is None:
            return found


def test_lists_page_and_rows_that_come_meanwhile_neither_hide_nor_repeat_others(api: Api) -> None:
    # Given 25 alerts
    api.call("POST", "/v1/alerts", json=[{"alert_id": number} for number in range(25)])
    whole = [alert["alert_id"] for alert in api.get("/v1/alerts?limit=500")["items"]]
    # When they are read in pages
    assert [[alert["alert_id"] for alert in page] for page in pages(api, "/v1/alerts", 10)] == [
        whole[:10], whole[10:20], whole[20:],
    ]  # fmt: skip
    # And new ones come between two pages
    first = api.get("/v1/alerts?limit=10")
    api.call("POST", "/v1/alerts", json=[{"alert_id": f"new-{number}"} for number in range(7)])
    second = api.get(f"/v1/alerts?limit=10&cursor={first['next']}")
    # Then the second page goes on where the first one ended
    assert [alert["alert_id"] for alert in second["items"]] == whole[10:20]


def test_a_page_of_alerts_ends_after_so_many_bytes_of_them(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.pages.PAGE_BYTES", 5000)
    # Given alerts of all sizes, one of them beyond what a page has room for
    sizes = [1, 2000, 2000, 9000, 1, 1, 4900, 1]
    for number, size in enumerate(sizes):
        api.call("POST", "/v1/alerts", json={"alert_id": number, "message": "x" * size})
    # When they are read, then each page has what fits, and at least one
    found = [[alert["alert_id"] for alert in page] for page in pages(api, "/v1/alerts", 4)]
    assert found == [[7, 6, 5], [4], [3], [2, 1, 0, "door/7"]]
    assert [alert["alert_id"] for alert in api.get("/v1/alerts?event_type=OPEN")["items"]] == [7, 6, 5]


def test_jobs_are_listed_without_reading_their_alerts(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given jobs of alerts whose ids were given as numbers and as texts, the id not first
    given = [7, "8", -9, "ten", "11a"]
    for each in given:
        api.call("POST", "/v1/alerts", json={"severity": 2, "alert_id": each})
    with connection():
        for row in list(Alert.select().where(Alert.alert_id != "door/7").order_by(Alert.id)):
            make_job(sequence=row.id, alert_id=row.alert_id, payload=row.payload)
    read: list[str] = []
    real = JsonField.python_value

    def reading(field: JsonField, value: str | None) -> Any:
        if field is Alert.payload and value is not None:
            read.append(value)
        return real(field, value)

    monkeypatch.setattr(JsonField, "python_value", reading)
    # When they are listed, without their alerts or with them, then the ids are as they were given
    assert [job["alert_id"] for job in api.get("/v1/jobs")["items"]] == [*given[::-1], "door/7"]
    assert read == []
    listed = [job["alert_id"] for alert in api.get("/v1/alerts")["items"] for job in alert["jobs"]]
    assert listed == [*given[::-1], "door/7"]
    assert [job["alert_id"] for job in api.get("/v1/alerts/-9")["jobs"]] == [-9]
    # And alerts were read once each, whatever their jobs
    assert len(read) == len(given) + 2


def test_a_job_lists_so_many_targets_counts_all_and_pages_through_them(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.results.LISTED", 4)
    # Given a job of seven targets, more than are listed, of which the last two did not arrive
    with connection():
        counts: dict[str, Any] = {"targets": 7, "delivered": 5, "failed": 1, "expired": 1}
        job = make_job(sequence=9, alert_id="big", state="PARTIAL", channel_type="push", **counts)
        ids = make_deliveries(job, 7, state="DELIVERED", user_id="alice")
        for place, state in ((-2, "EXPIRED"), (-1, "FAILED")):
            Delivery.update(state=state).where(Delivery.id == ids[place]).execute()
    # When it is read, then all are counted, and what did not arrive is listed first
    result = api.get(f"/v1/jobs/{job}")["result"]
    assert [each["delivery_id"] for each in result["results"]] == [*ids[-2:], *ids[:2]]
    assert (result["total_devices"], result["results_left_out"], result["all_succeeded"]) == (7, 3, False)
    assert (result["success_count"], result["failure_count"], result["user_id"]) == (5, 2, "alice")
    # And all can be had, or those of a state
    path = f"/v1/jobs/{job}/deliveries"
    assert [[each["delivery_id"] for each in page] for page in pages(api, path, 3)] == [
        ids[:3], ids[3:6], ids[6:],
    ]  # fmt: skip
    assert [each["delivery_id"] for each in api.get(f"{path}?state=FAILED&state=EXPIRED")["items"]] == ids[
        -2:
    ]
    assert_problem(api.call("GET", path, tenant="other"), 404)
    # And one that is somebody else's among those left out is not forgotten
    with connection():
        Delivery.update(user_id="bob").where(Delivery.id == ids[3]).execute()
    assert api.get(f"/v1/jobs/{job}")["result"]["user_id"] is None


def test_rules_page_in_the_order_in_which_they_are_asked(api: Api) -> None:
    for number, priority in enumerate([5, 1, 5, 3, 5, 1]):
        fields = {"name": f"r{number}", "channel": "ops", "priority": priority}
        assert api.call("POST", "/v1/rules", json=fields).status_code == 201
    names = [rule["name"] for page in pages(api, "/v1/rules", 2) for rule in page]
    assert names == ["r1", "r5", "r3", "r0", "r2", "r4", "all"]


@pytest.mark.parametrize("path", ["/v1/channels", "/v1/jobs", "/v1/log", "/v1/alerts"])
def test_the_last_page_says_so(sqlite_api: Api, path: str) -> None:
    assert sum(len(page) for page in pages(sqlite_api, path, 1)) == len(sqlite_api.get(path)["items"])


def test_another_list_s_cursor_is_refused(sqlite_api: Api) -> None:
    cursor = sqlite_api.get("/v1/channels?limit=1")["next"]
    assert_problem(sqlite_api.call("GET", f"/v1/jobs?cursor={cursor}"), 422)
