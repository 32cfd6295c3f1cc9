"""Draws the pictures of docs/console.md anew: `python -m pytest tests/e2e/pictures.py`. No test, so not collected."""

from __future__ import annotations

import base64
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

from demo.scenario import STEPS
from model.database import transaction
from model.tables import Alert, Delivery, Job, LogEntry
from tests.e2e.conftest import ROOT
from tests.support.database import open_test_database

if TYPE_CHECKING:
    from tests.e2e.conftest import Console, Window

IMAGES = ROOT / "docs/images"

#: Bytes of one picture.
LARGEST = 200_000


def _busy_hour(console: Console, window: Window) -> None:
    """The demo's alerts again and again, then spread over the last hour."""
    chance = random.Random(7)
    for number in range(240):
        sample = chance.choice(STEPS[:7]).alerts[0]
        console.alert(**{**sample, "alert_id": f"{sample['alert_type']}-{number}"})
    window.wait(
        lambda: console.api("GET", "/v1/jobs?limit=1&state=PENDING")["items"] == [], "no job is pending", 60
    )
    busy = "/v1/jobs?limit=500&state=PROCESSING"
    window.wait(
        lambda: all(each["channel"] == "household" for each in console.api("GET", busy)["items"]),
        "deliveries",
        60,
    )
    with open_test_database(console.database, migrated=False), transaction():
        for alert in Alert.select().where(Alert.alert_id.contains("-")):
            _shift(alert.alert_id, timedelta(seconds=chance.triangular(20, 3500, 600)))


def _shift(alert_id: str, by: timedelta) -> None:
    def earlier(row: Any, *names: str) -> None:
        for name in names:
            if getattr(row, name) is not None:
                setattr(row, name, getattr(row, name) - by)
        row.save()

    for alert in Alert.select().where(Alert.alert_id == alert_id):
        earlier(alert, "accepted_at", "matched_at")
    for job in Job.select().where(Job.alert_id == alert_id):
        earlier(job, "accepted_at", "created_at", "finished_at")
        for delivery in Delivery.select().where(Delivery.job_id == job.id):
            earlier(delivery, "created_at", "finished_at")
        for entry in LogEntry.select().where(LogEntry.job_id == job.id):
            earlier(entry, "at")


def _take(window: Window, name: str, selector: str = "") -> None:
    """The window or, with a selector, the element on whatever part of the page."""
    frame: dict[str, Any] = {}
    if selector:
        script = "const {x, y, width, height} = document.querySelector(arguments[0]).getBoundingClientRect();"
        found = window.run(script + "return {x, y: y + scrollY, width, height}", selector)
        frame = {"clip": {**found, "scale": 1}, "captureBeyondViewport": True}
    shot = window.command("Page.captureScreenshot", format="png", **frame)
    content = base64.b64decode(shot["data"])
    assert len(content) < LARGEST, name
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / f"{name}.png").write_bytes(content)


def _size(window: Window, width: int, height: int, scheme: str) -> None:
    window.command(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=1,
        mobile=width < 500,
    )
    window.command("Emulation.setScrollbarsHidden", hidden=True)
    window.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def test_pictures(window: Window, console: Console) -> None:
    _busy_hour(console, window)
    _size(window, 1180, 1020, "light")
    window.sign_in()
    window.open("/")
    window.wait_text("Live", "#live-sign")
    _take(window, "overview")
    job = console.jobs("1003")[0]["job_id"]
    window.open(f"/jobs/{job}")
    window.wait_text("Live", "#live-sign")
    _take(window, "job")
    _size(window, 1180, 600, "dark")
    window.open("/channels")
    window.click("button[aria-label='Test strict-hook']")
    window.wait_text("arrive", "#test")
    window.wait_text("Live", "#live-sign")
    _take(window, "channel-test")
    window.open("/rules")
    window.run(
        "document.querySelector('#alert').value = arguments[0]", orjson.dumps(STEPS[2].alerts[0]).decode()
    )
    window.click("#explain form button")
    window.wait_text("rules match", "#answer")
    _take(window, "explain", "#explain")
    _size(window, 1180, 820, "light")
    window.open("/user?id=eve")
    _take(window, "user")
    _size(window, 390, 844, "dark")
    window.open("/jobs")
    window.wait_text("Live", "#live-sign")
    _take(window, "phone")
