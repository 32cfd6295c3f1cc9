"""The console's answers that need no browser and no demo to be looked at."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from admin.replay import replaying
from api.console import figures, lists
from api.console.session import COOKIE
from model.database import connection, utcnow
from model.tables import Alert, Channel, Delivery, LogEntry
from tests.integration.api.conftest import TOKEN, session_cookie
from tests.support.database import lose_key, make_deliveries, make_job

if TYPE_CHECKING:
    import pytest

    from tests.integration.api.conftest import Api


def test_signing_out_deletes_a_cookie_however_old_it_is(sqlite_api: Api) -> None:
    for hours in (0, 2):
        headers = session_cookie(age=hours * 3600)
        answer = sqlite_api.client.post("/sign-out", data={"csrf": TOKEN}, headers=headers)
        assert answer.status_code == 303
        [written] = answer.headers.get_list("set-cookie")
        assert written.startswith(f'{COOKIE}="";'), hours
        assert "Max-Age=0" in written


def test_replaying_a_job_of_which_nothing_can_go_says_what_stays_and_why(sqlite_api: Api) -> None:
    # Given a job that failed, and whose channel was switched off since
    with connection():
        Channel.update(is_enabled=False).where(Channel.id == sqlite_api.ids["channel"]).execute()
    # When it is replayed
    headers = session_cookie("admin")
    path = f"/jobs/{sqlite_api.ids['job']}"
    answer = sqlite_api.client.post(f"{path}/replay", data={"csrf": TOKEN}, headers=headers)
    assert answer.status_code == 303
    # Then its page says so
    page = sqlite_api.client.get(answer.headers["location"], headers=headers)
    assert page.status_code == 200
    assert (
        "No delivery goes out again. 1 cannot go and stays: channel_disabled, the channel was switched off after"
        " the job was made." in page.text
    )
    # And when it can go again it goes
    with connection():
        Channel.update(is_enabled=True).where(Channel.id == sqlite_api.ids["channel"]).execute()
    answer = sqlite_api.client.post(f"{path}/replay", data={"csrf": TOKEN}, headers=headers)
    page = sqlite_api.client.get(answer.headers["location"], headers=headers)
    assert "1 delivery goes out again.</p>" in page.text
    # And once more there is nothing to replay; and what is put into the address by hand is not believed
    page = sqlite_api.client.get(f"{path}?replayed=0&skipped=nothing:3&skipped=rejected:x", headers=headers)
    assert "No delivery goes out again. None has failed or expired.</p>" in page.text


def test_a_replay_that_its_limit_ended_says_that_there_is_more(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given three jobs that failed, and replays that send one delivery at a time
    for module in ("api.console.routes.dead", "api.routes.jobs"):
        monkeypatch.setattr(f"{module}.replaying", partial(replaying, limit=1))
    channel = sqlite_api.ids["channel"]
    ended: dict[str, Any] = {"state": "FAILED", "finished_at": utcnow()}
    with connection():
        for sequence in (8, 9):
            job = make_job(alert_id=str(sequence), sequence=sequence, channel_id=channel, failed=1, **ended)
            make_deliveries(job, channel_id=channel, device_id=0, reason="exhausted", sweep_at=None, **ended)
    headers = session_cookie("admin")
    # When a program replays them, or a person, then each is told so, until the last
    assert sqlite_api.call("POST", "/v1/replay", json={"reason": "exhausted"}).json()["more"] is True
    for is_last in (False, True):
        answer = sqlite_api.client.post("/dead/replay", data={"csrf": TOKEN}, headers=headers)
        page = sqlite_api.client.get(answer.headers["location"], headers=headers)
        assert "1 delivery goes out again." in page.text
        assert ("Others could go as well: replay once more." in page.text) is not is_last
    page = sqlite_api.client.get(f"/jobs/{sqlite_api.ids['job']}?replayed=1&more=True", headers=headers)
    assert "Others could go as well: replay once more." in page.text
    assert sqlite_api.call("POST", "/v1/replay", json={"reason": "exhausted"}).json()["more"] is False


def test_explaining_for_a_moment_at_an_end_of_the_calendar_says_what_is_wrong(sqlite_api: Api) -> None:
    for at in ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00"):
        form = {"csrf": TOKEN, "alert": '{"alert_id": 1}', "at": at, "zone": "Asia/Tokyo"}
        answer = sqlite_api.client.post("/rules", data=form, headers=session_cookie())
        assert answer.status_code == 422
        assert "must be in the years 2 to 9998" in answer.text


def test_a_search_reads_the_newest_rows_of_the_tenant_s_own(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a search that reads three rows, and a tenant with four, of which the last is long before another's
    monkeypatch.setattr(lists, "SEARCHED", 3)
    for tenant, numbers in (("other", range(4)), ("acme", range(10))):
        alerts = [{"alert_id": f"{tenant}-{number}", "message": "smoke"} for number in numbers]
        assert api.call("POST", "/v1/alerts", tenant=tenant, json=alerts).status_code == 202
    with connection():
        for row in list(Alert.select().where(Alert.alert_id != "door/7").order_by(Alert.id)):
            make_job(row.tenant_id, alert_id=row.alert_id, sequence=row.id)
        # When the tenant searches, then its newest three are found
        wanted = ["other-3", "other-2", "other-1"]
        found = lists.alerts("other", text="smoke", event="", outcome="", cursor=None)
        assert [row.alert_id for row in found.items] == wanted
        jobs = lists.jobs("other", text="smoke", states=[], channel=None, cursor=None)
        assert [row.alert_id for row in jobs.items] == wanted
        # And all of them where they are not more than a search reads
        monkeypatch.setattr(lists, "SEARCHED", 5)
        found = lists.alerts("other", text="smoke", event="", outcome="", cursor=None)
        assert [row.alert_id for row in found.items] == [*wanted, "other-0"]


def test_the_overview_says_where_its_range_is_cut_off(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "SCANNED", 1)
    for chosen, advice in (("1h", False), ("24h", True)):
        page = sqlite_api.client.get(f"/?range={chosen}", headers=session_cookie()).text
        assert "what is older is in none of these numbers" in page
        assert ("Choose a shorter range" in page) is advice


def test_a_form_of_an_earlier_session_leads_to_its_page(sqlite_api: Api) -> None:
    # Given forms that were loaded before somebody signed in anew
    headers = session_cookie("admin")
    job, channel, device = (sqlite_api.ids[name] for name in ("job", "channel", "device"))
    for path, page in {
        "/user/preferences?id=alice": "/user?id=alice",
        "/user/notify?id=alice": "/user?id=alice",
        f"/user/devices/{device}/delete?id=alice": "/user?id=alice",
        f"/jobs/{job}/replay": f"/jobs/{job}",
        f"/channels/{channel}/test": f"/channels/{channel}",
        "/dead/replay": "/dead",
        "/rules": "/rules",
    }.items():
        # When one is sent, then the answer says so, and its link leads to where it can be sent anew
        answer = sqlite_api.client.post(path, data={"csrf": "another"}, headers=headers)
        assert (answer.status_code, "open its page again" in answer.text) == (403, True), path
        assert f'<a href="{page}">To the page of the form</a>' in answer.text, path
        assert sqlite_api.client.get(page, headers=headers).status_code == 200, page
        # And where the session is over, one comes back there after signing in
        answer = sqlite_api.client.post(path, data={"csrf": "another"})
        assert answer.headers["location"] == f"/sign-in?{urlencode({'next': page})}", path
    # And where there is no such page it names none
    answer = sqlite_api.client.post("/sign-out", data={"csrf": "another"}, headers=headers)
    assert (answer.status_code, "To the page of the form" in answer.text) == (403, False)


def test_a_wrong_address_is_a_page_for_people_and_a_document_for_programs(sqlite_api: Api) -> None:
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
    for method, path, status, is_page, link in (
        ("GET", "/nope", 404, True, None),
        ("GET", "/jobs/", 404, True, None),
        ("GET", "/jobs/1/replay", 405, True, "/jobs/1"),
        ("GET", "/user/preferences?id=a%26b", 405, True, "/user?id=a%26b"),
        ("GET", "/" + "x/" * 5000, 404, True, None),
        ("POST", "/alerts", 405, True, "/alerts"),
        ("GET", "/v1", 404, False, None),
        ("GET", "/v1/nope", 404, False, None),
        ("PATCH", "/v1/jobs", 405, False, None),
    ):
        # Given a browser, then it shows a page, but for what is below /v1
        answer = sqlite_api.client.request(method, path, headers={"Accept": browser})
        kind = answer.headers["content-type"]
        assert (answer.status_code, kind.startswith("text/html")) == (status, is_page), path
        if is_page:
            assert "default-src 'none'" in answer.headers["content-security-policy"], path
            assert re.findall('<a href="([^"]+)">To the page of the form</a>', answer.text) == (
                [link] if link else []
            )
        # And given anything else, a problem document
        for accept in (
            "*/*",
            "application/json",
            "text/html;q=0.5, application/json",
            "text/html, application/problem+json",
        ):
            document = sqlite_api.client.request(method, path, headers={"Accept": accept})
            assert document.headers["content-type"] == "application/problem+json", (path, accept)
            assert document.status_code == status
            assert document.headers.get("allow") == answer.headers.get("allow")
    for accept in (
        "text/html",
        "application/json;q=0.5,text/html",
        "application/json; q=0.1; v=1, TEXT/HTML ;q=0.2",
    ):
        answer = sqlite_api.client.get("/nope", headers={"Accept": accept})
        assert answer.headers["content-type"].startswith("text/html"), accept


def test_space_at_an_end_of_an_id_makes_it_another_one(sqlite_api: Api) -> None:
    # Given alerts and users whose ids differ in a space alone
    for alert_id in (" 7", "7"):
        alert = {"alert_id": alert_id, "message": f"alert {alert_id!r}"}
        assert sqlite_api.call("POST", "/v1/alerts", json=alert).status_code == 202
    for user, path in (("bob", "bob"), ("bob ", "bob%20")):
        device = {"platform": "android", "token": f"token-of-{path}", "name": f"of {user!r}"}
        assert sqlite_api.call("POST", f"/v1/users/{path}/devices", json=device).status_code == 200
    headers = session_cookie("admin")
    client = sqlite_api.client
    # When they are looked at, then each is itself
    page = client.get("/alert?id=%207", headers=headers)
    assert (page.status_code, "alert &#39; 7&#39;" in page.text) == (200, True)
    page = client.get("/user?id=bob%20", headers=headers)
    assert ("of &#39;bob &#39;" in page.text, "of &#39;bob&#39;" in page.text) == (True, False)
    # And what is done to one is done to it alone
    form = {"csrf": TOKEN, "message": "for one", "quiet_hours_enabled": "on"} | {
        "quiet_hours_start": "22:00", "quiet_hours_end": "07:00", "quiet_hours_timezone": "UTC",
        "quiet_hours_days": "mon", "quiet_hours_action": "skip",
    }  # fmt: skip
    answer = client.post("/user/preferences?id=bob%20", data=form, headers=headers)
    assert answer.headers["location"] == "/user?id=bob+&saved=1"
    quiet = [
        sqlite_api.get(f"/v1/users/{path}/preferences")["quiet_hours_enabled"] for path in ("bob", "bob%20")
    ]
    assert quiet == [False, True]
    answer = client.post("/user/notify?id=bob%20", data=form, headers=headers)
    assert "none: user <bdi>bob </bdi></dd>" in client.get(answer.headers["location"], headers=headers).text
    # And a search leaves out what is typed by the way
    assert client.get("/users?q=%20bob%20", headers=headers).text.count("/user?id=bob") == 2


def test_a_job_s_page_says_where_its_attempts_are_cut_off(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a job with three attempts, and a page that shows two
    ids = sqlite_api.ids
    with connection():
        for attempt in (2, 3):
            LogEntry.create(
                tenant_id="acme", job_id=ids["job"], delivery_id=ids["delivery"], channel_id=ids["channel"],
                sender="webhook", attempt=attempt, outcome="transient", detail=f"attempt no. {attempt}", latency_ms=1.5,
            )  # fmt: skip
    for shown, is_cut in ((3, False), (2, True)):
        monkeypatch.setattr(lists, "ATTEMPTS", shown)
        page = sqlite_api.client.get(f"/jobs/{ids['job']}", headers=session_cookie()).text
        # Then it shows the newest in their order, and says that there are more
        assert page.index("attempt no. 2") < page.index("attempt no. 3")
        assert (f"Only the newest 2 are here; <code>GET /v1/log?job_id={ids['job']}</code>" in page) is is_cut


def test_the_dead_of_any_time_are_found_and_replayed(sqlite_api: Api) -> None:
    # Given a delivery that failed sixty days ago
    long_ago = utcnow() - timedelta(days=60)
    with connection():
        Delivery.update(finished_at=long_ago).execute()
    headers = session_cookie("admin")

    def says(query: str) -> str:
        page = sqlite_api.client.get(f"/dead{query}", headers=headers).text
        found = re.search('class="empty">([^<]*)', page)
        return found[1] if found else ""

    # When a filter hides it, the time among them, then the page does not say that all arrived
    for query in ("", "?hours=720", "?hours=any&reason=rejected", "?hours=any&channel=999"):
        assert says(query) == "No delivery that failed or expired fits these filters."
    # And it is found and sent again
    assert says("?hours=any") == ""
    answer = sqlite_api.client.post("/dead/replay", data={"csrf": TOKEN, "hours": "any"}, headers=headers)
    assert answer.headers["location"] == "/dead?hours=any&replayed=1"
    assert says("?hours=any") == "Nothing here: what was to arrive arrived, or is on its way."


def test_a_channel_whose_key_is_lost_makes_no_page_and_no_call_an_error(sqlite_api: Api) -> None:
    # Given channels that no key decrypts, one of them for phones
    with connection():
        lose_key(sqlite_api.ids["channel"])
        lose_key(sqlite_api.ids["phones"])
    path = f"/channels/{sqlite_api.ids['channel']}"
    # When a person looks, then each page is there, and says what is wrong
    headers = session_cookie("admin")
    for page in ("/", "/channels", path, f"/jobs/{sqlite_api.ids['job']}", "/rules", "/device"):
        assert sqlite_api.client.get(page, headers=headers).status_code == 200, page
    for page in ("/channels", path, f"/jobs/{sqlite_api.ids['job']}"):
        assert (
            "none of TOCSIN_SECRET_KEYS decrypts it" in sqlite_api.client.get(page, headers=headers).text
        ), page
    for channel in ("channel", "phones"):
        tried = f"/channels/{sqlite_api.ids[channel]}/test"
        answer = sqlite_api.client.post(tried, data={"csrf": TOKEN}, headers=headers)
        assert answer.status_code == 200
        assert "It did not arrive" in answer.text
        assert "unreadable config" in answer.text
    # When a program does
    shown = sqlite_api.get("/v1" + path)
    assert (shown["config"], shown["health"]) == ({}, "misconfigured")
    assert len(sqlite_api.get("/v1/channels")["items"]) == 2
    assert sqlite_api.call("POST", "/v1/explain", json={"alert_id": 1}).json()["targets"] == []
    assert sqlite_api.call("POST", f"/v1{path}/test").status_code == 502
    assert sqlite_api.call("POST", "/v1/users/alice/notify", json={"message": "x"}).status_code == 202
    # Then it is mended by saving it anew, or deleted
    assert sqlite_api.call("PATCH", "/v1" + path, json={"is_enabled": False}).status_code == 422
    whole = {"name": "ops", "channel_type": "webhook", "config": {"url": "https://ops.example.org/in"}}
    assert sqlite_api.call("PUT", "/v1" + path, json=whole).json()["health"] == "unknown"
    assert sqlite_api.call("DELETE", "/v1/channels/{phones}").status_code == 204
