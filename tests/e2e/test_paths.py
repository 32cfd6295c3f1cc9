"""The main paths of the console, as people go them: in a browser, on the real server, with the real far side."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import orjson
from selenium.webdriver.support.ui import Select

from receivers import Answer

if TYPE_CHECKING:
    from tests.e2e.conftest import Console, Window


def test_signing_in_and_out(window: Window, console: Console) -> None:
    # Given nobody is signed in, a page asks for a key and remembers where one wanted to go.
    window.expected = ["401", "403"]
    window.open("/jobs?state=FAILED")
    assert "/sign-in?next=%2Fjobs" in window.driver.current_url

    # When the key is wrong, or may not look, the form says so.
    for key, words in (("nonsense", "no such key"), (console.keys["ingest"], "the console needs read")):
        window.one("#key").send_keys(key)
        window.click("form button")
        window.wait_text(words)

    # When it is right, one is there; and no script can read the cookie.
    window.one("#key").send_keys(console.keys["read"])
    window.click("form button")
    window.wait_text("strict-hook")
    assert window.driver.current_url.endswith("/jobs?state=FAILED")
    assert window.run("return document.cookie") == ""
    cookie = window.driver.get_cookie("tocsin_session")
    assert cookie is not None
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")

    # After signing out one is outside again.
    window.click(".who button")
    window.wait(lambda: "/sign-in" in window.driver.current_url, "signed out")
    window.open("/jobs")
    assert "/sign-in" in window.driver.current_url


def test_an_alert_arrives_while_one_looks(window: Window, console: Console) -> None:
    # Given open pages that follow.
    window.sign_in("read")
    for path in ("/", "/alerts"):
        window.open(path)
        window.wait_text("Live", "#live-sign")
        window.run("window.untouched = true")

        # When an alert is accepted.
        said = f"Seen from {path} at {time.time()}"
        console.alert(f"live-{path}", alert_type="water_leak", severity=3, message=said)

        # Then it is there without a reload.
        window.wait_text(said)
        assert window.run("return window.untouched") is True


def test_a_job_is_followed_to_its_end(window: Window, console: Console) -> None:
    # Given a receiver that is down for two attempts.
    console.far.webhook.script("flaky-hook", [Answer(503), Answer(503)])
    console.alert("followed", alert_type="water_leak", severity=3, message="Follow me")
    job = window.wait(lambda: console.jobs("followed"), "the job")[0]["job_id"]
    window.sign_in("read")

    # When one looks at the job, it ends by itself, attempt by attempt.
    window.open(f"/jobs/{job}")
    window.wait_text("completed", "#head")
    window.wait(lambda: window.text("#deliveries").count("failed for now") == 2, "both failed attempts")
    window.wait_text("503 Service Unavailable", "#deliveries")

    # And its message is shown as the receiver got it, without what is secret.
    got = console.far.webhook.wait_for(3, target="flaky-hook")[-1]
    message = orjson.loads(window.text("#message pre"))
    assert message == got.content
    assert got.id in window.text("#message .headers")
    assert "What was sent is not kept" in window.text("#message")
    assert console.far.webhook.secret not in window.driver.page_source


def test_focus_and_open_parts_stay_where_they_are(window: Window, console: Console) -> None:
    window.sign_in("read")
    window.open("/")
    window.wait_text("Live", "#live-sign")
    # Given a reader in the middle of something.
    window.click("#d-alerts summary")
    link = window.one("#figures a[href^='/channels/']")
    window.run("arguments[0].focus()", link)
    address = link.get_attribute("href")

    # When the page changes under them.
    console.alert("focus", alert_type="door", device_id="lock-1", message="While somebody reads")
    window.wait_text("While somebody reads")

    # Then they are where they were.
    assert window.run("return document.activeElement.href") == address
    assert window.run("return document.getElementById('d-alerts').open") is True


def test_testing_a_channel(window: Window, console: Console) -> None:
    window.sign_in()
    window.open("/channels")
    before = len(console.far.webhook.received_for("hook"))

    # A channel that works says so, with the provider's own answer.
    window.click("button[aria-label='Test hook']")
    window.wait_text("The provider took it", "#test")
    assert "204 No Content" in window.text("#test")
    assert len(console.far.webhook.received_for("hook")) == before + 1

    # One that does not, too.
    console.far.webhook.script("rare-hook", [Answer(401, body=b"who are you?")])
    window.open("/channels")
    window.click("button[aria-label='Test rare-hook']")
    window.wait_text("It did not arrive", "#test")
    assert "401 Unauthorized" in window.text("#test")
    assert "who are you?" in window.text("#test")


def test_explaining_an_alert(window: Window, console: Console) -> None:
    # Given hours that are quiet for Grace, wherever the tests run.
    _grace(console)
    window.sign_in("read")
    window.open("/rules")
    assert window.text("table").index("smoke-to-slack") < window.text("table").index("intruders")

    # When one asks about an alert at half past two in the night, on her clock.
    alert = {"alert_id": "never-sent", "alert_type": "parcel", "severity": 1, "site_id": "home"}
    box = window.one("#alert")
    box.clear()
    box.send_keys(orjson.dumps(alert).decode())
    window.run("document.getElementById('at').value = '2026-03-29T02:30'")
    zone = window.one("#zone")
    zone.clear()
    zone.send_keys("Asia/Tokyo")
    window.click("#explain form button")

    # Then each rule says why not, each device what would become of it, and nothing was sent.
    window.wait_text("2 of", "#answer")
    answer = window.text("#answer")
    assert "alert_type" in answer
    assert "Grace's phone" in answer
    assert "quiet_hours" in answer
    assert console.api("GET", "/v1/alerts?alert_id=never-sent")["items"] == []

    # What is no alert is said in the page.
    window.expected = ["422"]
    box = window.one("#alert")
    box.clear()
    box.send_keys('{"alert_id": 1, "severity": "high"}')
    window.click("#explain form button")
    window.wait_text("severity", ".notice.bad")


def _grace(console: Console) -> None:
    token = console.far.apns.device_token("Grace's phone")
    device = {"platform": "ios", "token": token, "name": "Grace's phone"}
    console.api("POST", "/v1/users/grace/devices", device)
    quiet = {
        "quiet_hours_enabled": True,
        "quiet_hours_start": "22:00",
        "quiet_hours_end": "06:00",
        "quiet_hours_timezone": "Asia/Tokyo",
    }
    console.api("PUT", "/v1/users/grace/preferences", quiet)
    known = {each["name"] for each in console.api("GET", "/v1/channels?limit=500")["items"]}
    if "grace" not in known:
        channel = {"name": "grace", "channel_type": "push", "config": {"user_ids": ["grace"]}}
        console.api("POST", "/v1/channels", channel)
        console.api("POST", "/v1/rules", {"name": "to-grace", "channel": "grace", "alert_type": "parcel"})


def test_replaying_what_died(window: Window, console: Console) -> None:
    # Given a delivery that a receiver refused, which has been mended since.
    console.far.webhook.always("strict-hook", Answer(400))
    console.alert("refused", alert_type="door", device_id="lock-7", severity=2, message="Refused at first")
    window.wait(lambda: [job for job in console.jobs("refused") if job["state"] == "FAILED"], "it failed")
    console.far.webhook.normal("strict-hook")
    window.sign_in()
    window.open("/dead?reason=rejected")
    assert "the provider will never take this message" in window.text()
    window.wait_text("refused")

    # When it is replayed, with the others of the filter.
    window.click("form[action='/dead/replay'] button")
    window.wait_text("again", "[role=status]")

    # Then it arrives, and the list empties itself.
    window.wait(lambda: console.jobs("refused")[0]["state"] == "COMPLETED", "delivered")
    window.wait_text("No delivery that failed or expired fits these filters")

    # And a job's own page can do the same.
    console.far.webhook.always("strict-hook", Answer(400))
    console.alert("refused-too", alert_type="door", device_id="lock-7", severity=2, message="Refused too")
    job = window.wait(
        lambda: [job for job in console.jobs("refused-too") if job["state"] == "FAILED"], "it failed"
    )[0]["job_id"]
    console.far.webhook.normal("strict-hook")
    window.open(f"/jobs/{job}")
    window.click("form[action$='/replay'] button")
    window.wait_text("completed", "#head")


def test_editing_quiet_hours(window: Window, console: Console) -> None:
    _grace(console)
    window.sign_in()
    window.open("/users?q=grace")
    window.click("a[href='/user?id=grace']")
    window.one("#start")

    # When the hours, the zone, the days and a camera are changed.
    for selector, value in (("#start", "23:15"), ("#end", "06:45"), ("#timezone", "America/St_Johns")):
        field = window.one(selector)
        field.clear()
        field.send_keys(value)
    window.click("input[value=sun]")
    Select(window.one("#action")).select_by_value("defer")
    window.one("input[name=camera]").send_keys("garden")
    Select(window.one("select[name=camera_wants]")).select_by_value("some")
    window.one("input[name=camera_kinds]").send_keys("person, vehicle")
    window.click(".preferences > .main-button")

    # Then it is stored, and the week shows it on the user's clock.
    window.wait_text("Saved", "[role=status]")
    stored = console.api("GET", "/v1/users/grace/preferences")
    assert stored["quiet_hours_start"] == "23:15"
    assert stored["quiet_hours_timezone"] == "America/St_Johns"
    assert stored["quiet_hours_days"] == ["mon", "tue", "wed", "thu", "fri", "sat"]
    assert stored["quiet_hours_action"] == "defer"
    assert stored["cameras"] == {"garden": {"enabled": True, "smart_detection_types": ["person", "vehicle"]}}
    week = window.one("svg.week").get_attribute("aria-label")
    assert "Monday: 23:15 to 24:00;" in week
    assert "Sunday: 00:00 to 06:45" in week

    # What cannot be is said, and nothing is changed.
    window.expected = ["422"]
    field = window.one("#timezone")
    field.clear()
    field.send_keys("Mars/Olympus")
    window.click(".preferences > .main-button")
    window.wait_text("quiet_hours_timezone", ".notice.bad")
    assert console.api("GET", "/v1/users/grace/preferences") == stored


def test_saving_a_user_leaves_the_cameras_alone_that_nobody_touched(window: Window, console: Console) -> None:
    # Given cameras that a text field does not carry as they are.
    cameras = {
        "door": {"enabled": False, "smart_detection_types": ["person"]},
        " cam 9": {"enabled": False, "smart_detection_types": None},
        "two\r\nlines": {"enabled": True, "smart_detection_types": []},
        "gate": {"enabled": True, "smart_detection_types": ["person, masked", "vehicle "]},
    }
    console.api("PUT", "/v1/users/judy/preferences", {"cameras": cameras})
    window.sign_in()
    window.open("/user?id=judy")

    # When something else is changed.
    Select(window.one("#action")).select_by_value("defer")
    window.click(".preferences > .main-button")
    window.wait_text("Saved", "[role=status]")

    # Then they are what they were.
    stored = console.api("GET", "/v1/users/judy/preferences")
    assert (stored["quiet_hours_action"], stored["cameras"]) == ("defer", cameras)


def test_deleting_a_device_is_asked_for(window: Window, console: Console) -> None:
    device = {"platform": "ios", "token": console.far.apns.device_token("spare"), "name": "Spare phone"}
    for name in ("heidi", "heidi's tablet"):
        token = console.far.apns.device_token(name)
        console.api("POST", "/v1/users/heidi/devices", {**device, "token": token, "name": name})
    window.sign_in()
    window.open("/user?id=heidi")
    window.click("button[aria-label='Delete heidi']")
    window.driver.switch_to.alert.dismiss()
    assert len(console.api("GET", "/v1/users/heidi/devices")["items"]) == 2
    window.click("button[aria-label='Delete heidi']")
    window.driver.switch_to.alert.accept()
    window.wait(lambda: len(console.api("GET", "/v1/users/heidi/devices")["items"]) == 1, "it is gone")


def test_a_message_from_the_console_reaches_the_user(window: Window) -> None:
    window.sign_in()
    window.open("/user?id=alice")
    window.one("#message-text").send_keys("Dinner is ready")
    window.click("form[action^='/user/notify'] button")
    window.wait_text("Dinner is ready", "#head")
    window.wait_text("completed", "#head")
    assert "3 delivered" in window.text("#head")
