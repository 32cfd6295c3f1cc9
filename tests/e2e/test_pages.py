"""What every page keeps: nobody is shut out of it, it fits a phone, and the browser's console is silent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from selenium.webdriver.common.keys import Keys

if TYPE_CHECKING:
    from tests.e2e.conftest import Console, Window

PAGES = [
    "/", "/?range=24h", "/alerts", "/alerts?q=nothing+like+this", "/alert?id=1001", "/jobs", "/jobs/1", "/jobs/7",
    "/dead", "/channels", "/channels/1", "/channels/9", "/rules", "/users", "/user?id=bob", "/user?id=carol", "/device",
]  # fmt: skip

#: What hostile alerts may try, in every field that a page shows.
HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>'\"{{ 7 * 7 }}"


def _look(window: Window, scheme: str) -> None:
    window.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])


def _serious(window: Window, axe: str) -> list[str]:
    """What axe-core finds serious or critical: rule, element, what to do."""
    window.run(axe)
    found: dict[str, Any] = window.driver.execute_async_script(
        "const done = arguments[0];"
        "axe.run(document, {resultTypes: ['violations']}).then(done, (error) => done({error: String(error)}));"
    )
    assert "error" not in found, found
    return [
        f"{each['id']}: {node['html'][:200]}: {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_every_page(window: Window, axe: str, scheme: str) -> None:
    _look(window, scheme)
    window.open("/sign-in")
    assert _serious(window, axe) == [], "/sign-in"
    window.sign_in()
    for path in PAGES:
        window.open(path)
        assert _serious(window, axe) == [], path
        assert window.run("return document.querySelectorAll('h1').length") == 1, path
        # Nothing inline: the policy would forbid it, and its absence is what makes the policy hold.
        assert window.run("return document.querySelectorAll('[style], script:not([src])').length") == 0, path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_answers_can_be_read_by_everybody_too(window: Window, axe: str, scheme: str) -> None:
    _look(window, scheme)
    window.sign_in()
    window.open("/rules")
    window.click("#explain form button")
    window.wait_text("rules match", "#answer")
    assert _serious(window, axe) == [], "explain"
    window.open("/channels/9")
    window.click("form[action$='/test'] button")
    window.wait_text("provider's answer", "#test")
    assert _serious(window, axe) == [], "test"
    window.expected = ["404"]
    for path in ("/jobs/999999", "/nope"):
        window.open(path)
        assert window.text("h1") == "Not Found"
        assert _serious(window, axe) == [], path


def test_every_page_fits_a_narrow_phone(window: Window, console: Console) -> None:
    # Given names and ids as long as they may be, and without a space
    wide = "W" * 255
    url, secret = console.far.webhook.url("wide"), console.far.webhook.secret
    channel = {"name": wide, "channel_type": "webhook", "config": {"url": url, "secret": secret}}
    number = console.api("POST", "/v1/channels", channel)["id"]
    console.api("POST", "/v1/rules", {"name": wide, "channel_id": number, "alert_type": "wide"})
    console.api("PUT", f"/v1/users/{wide}/preferences", {"cameras": {wide: {"enabled": False}}})
    console.alert(wide, alert_type="wide", message=wide, device_id=wide, site_id=wide, severity=1)
    job = window.wait(lambda: console.jobs(wide), "the job")[0]["job_id"]
    named = [f"/channels/{number}", f"/jobs/{job}", f"/alert?id={wide}", f"/user?id={wide}", "/rules"]
    missing = [f"/alert?id={wide[1:]}", f"/user?id={wide[1:]}"]
    window.expected = ["404"]

    # When one looks at them with a phone, then no page is wider than it
    window.command(
        "Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True
    )
    window.sign_in()
    for path in [*PAGES, *named, *missing]:
        window.open(path)
        assert window.run("return document.documentElement.scrollWidth") <= 360, path


def test_the_keyboard_reaches_the_content_at_once(window: Window) -> None:
    window.sign_in("read")
    window.open("/jobs")
    window.one("body").send_keys(Keys.TAB)
    assert window.run("return document.activeElement.textContent") == "Skip to the content"
    window.run("return document.activeElement").send_keys(Keys.ENTER)
    assert window.run("return document.activeElement.id") == "main"


def test_hostile_alerts_are_text(window: Window, console: Console) -> None:
    alert_id = f"../{HOSTILE}"
    console.alert(
        alert_id, alert_type=HOSTILE, message=HOSTILE, device_id=HOSTILE, site_id="home", severity=3,
        details={"title": HOSTILE, "device_tags": {"building": "north"}, HOSTILE: HOSTILE},
    )  # fmt: skip
    console.api("POST", "/v1/explain", {"alert_id": 1, "message": HOSTILE})
    window.sign_in()
    job = window.wait(
        lambda: [each for each in console.api("GET", "/v1/jobs")["items"] if each["alert_id"] == alert_id],
        "a job",
    )[0]["job_id"]
    window.open("/alerts")
    link = window.wait(
        lambda: [a for a in window.all("main a") if a.text.startswith("../<script>")], "its link"
    )[0]
    link.click()
    window.wait_text("As it was accepted")
    assert HOSTILE in window.text()
    window.open(f"/jobs/{job}")
    assert "49" not in window.text("#head")
    assert window.driver.title == f"Job {job} · Tocsin"
    assert window.run("return document.querySelectorAll('main img, main script').length") == 0
    window.open("/")
    assert window.driver.title == "Overview · Tocsin"


def test_what_turns_writing_round_turns_nothing_round_that_stands_beside_it(
    window: Window, console: Console
) -> None:
    # Given a channel, a rule and an alert whose names and ids begin with RIGHT-TO-LEFT OVERRIDE
    url, secret = console.far.webhook.url("turned"), console.far.webhook.secret
    channel = {"name": "\u202ekooh", "channel_type": "webhook", "config": {"url": url, "secret": secret}}
    number = console.api("POST", "/v1/channels", channel)["id"]
    for name, is_enabled in (("\u202eelur", True), ("\u202eelur-rehtona", False)):
        rule = {"name": name, "channel_id": number, "alert_type": "turned", "is_enabled": is_enabled}
        console.api("POST", "/v1/rules", rule)
    alert = {"alert_id": "\u202egnp.exe", "alert_type": "turned", "severity": 4}
    console.api(
        "POST", "/v1/alerts", {**alert, "message": "reads on", "device_id": "\u202eecived", "site_id": "home"}
    )
    job = window.wait(
        lambda: [each for each in console.api("GET", "/v1/jobs")["items"] if each["channel_id"] == number],
        "the job",
    )[0]["job_id"]
    window.sign_in()

    # When one reads what stands behind them in the same line, then it goes from left to right
    for path, words in {
        "/alerts?q=reads+on": ["reads on", "home"],
        f"/jobs?channel={number}": ["reads on", "webhook"],
        f"/jobs/{job}": ["webhook"],
        f"/channels/{number}": ["webhook", "reads on", "(disabled)"],
        "/rules": ["disabled"],
    }.items():
        window.open(path)
        for each in words:
            assert _reads_to_the_right(window, each), (path, each)

    # And the JSON shows the character as what it is
    window.open("/alert?id=%E2%80%AEgnp.exe")
    assert '"alert_id": "\\u202egnp.exe"' in window.text("pre")


def _reads_to_the_right(window: Window, words: str) -> bool:
    """Whether all that shows these words in the content draws the last character to the right of the first."""
    script = """
        const texts = document.createTreeWalker(document.getElementById("main"), NodeFilter.SHOW_TEXT);
        const found = [];
        const left = (node, at) => {
          const range = document.createRange();
          range.setStart(node, at);
          range.setEnd(node, at + 1);
          return range.getBoundingClientRect().left;
        };
        for (let node = texts.nextNode(); node; node = texts.nextNode()) {
          const at = node.data.indexOf(arguments[0]);
          if (at >= 0 && node.parentElement.checkVisibility() && !node.parentElement.closest("select, pre")) {
            found.push(left(node, at) < left(node, at + arguments[0].length - 1));
          }
        }
        return found;
    """
    found: list[bool] = window.run(script, words)
    assert found, words
    return all(found)
