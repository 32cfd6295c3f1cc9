"""This browser as a device, up to where a push service would be reached; and what the worker does with a push."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from websocket import create_connection

from receivers.keys import unb64url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Console, Window

#: Puts the local push service, with a subscription that it gave, in the place of the browser's own.
REACHABLE = """
    const given = arguments[0];
    const unsubscribe = async () => { window.made = null; return true; };
    const made = {endpoint: given.endpoint, toJSON: () => given, unsubscribe};
    window.made = null;
    PushManager.prototype.getSubscription = async () => window.made;
    PushManager.prototype.subscribe = async (options) => {
        window.asked = [...options.applicationServerKey];
        window.made = made;
        return made;
    };
    Notification.requestPermission = async () => "granted";
"""


@pytest.fixture
def permission(window: Window, console: Console) -> Iterator[Any]:
    """Decides about notifications as the user would."""

    def decide(setting: str) -> None:
        window.command(
            "Browser.setPermission", permission={"name": "notifications"}, setting=setting, origin=console.url
        )

    yield decide
    window.command("Browser.resetPermissions")


def _push(window: Window, data: str) -> None:
    """Hand the page's service worker a message, as a push service's would arrive.

    ServiceWorker.deliverPushMessage wants the registration's number, which only the domain's events tell; so this
    speaks to the page's own DevTools socket (https://chromedevtools.github.io/devtools-protocol/tot/ServiceWorker/).
    """
    address = window.driver.capabilities["goog:chromeOptions"]["debuggerAddress"]
    target = window.driver.current_window_handle
    # Without suppression the browser refuses a page that names itself as the origin of the request.
    socket = create_connection(f"ws://{address}/devtools/page/{target}", timeout=10, suppress_origin=True)
    try:
        socket.send(orjson.dumps({"id": 1, "method": "ServiceWorker.enable"}).decode())
        registration = None
        while registration is None:
            event = orjson.loads(socket.recv())
            if event.get("method") == "ServiceWorker.workerRegistrationUpdated":
                found = event["params"]["registrations"]
                registration = next(
                    (each["registrationId"] for each in found if window.console.url in each["scopeURL"]), None
                )
        command = {
            "id": 2,
            "method": "ServiceWorker.deliverPushMessage",
            "params": {"origin": f"{window.console.url}/", "registrationId": registration, "data": data},
        }
        socket.send(orjson.dumps(command).decode())
        while (answer := orjson.loads(socket.recv())).get("id") != 2:
            pass
        assert "error" not in answer, answer
    finally:
        socket.close()


def _shown(window: Window) -> list[dict[str, Any]]:
    """The notifications that the browser shows."""
    found: list[dict[str, Any]] = window.driver.execute_async_script(
        "const done = arguments[0];"
        "navigator.serviceWorker.ready.then((each) => each.getNotifications()).then((all) =>"
        "  done(all.map(({title, body, tag, data}) => ({title, body, tag, data}))));"
    )
    return found


def test_a_push_is_shown_and_listed(window: Window, permission: Any) -> None:
    permission("granted")
    window.sign_in()
    window.open("/device")
    window.wait_text("not subscribed", "#device-state")

    # When a message comes as senders/webpush.py sends it.
    message = {
        "title": "Error: smoke",
        "body": "Smoke in the server room",
        "tag": "thread-1",
        "url": "https://cams.example.org/17",
        "data": {"alert_id": 1001, "event": "OPEN", "severity": 3, "job_id": 1},
    }
    _push(window, orjson.dumps(message).decode())

    # Then it is shown, and a press would open its link. (Asked for too early, the browser forgets it.)
    window.wait_text("Smoke in the server room", "#received")
    assert _shown(window) == [
        {
            "title": "Error: smoke",
            "body": "Smoke in the server room",
            "tag": "thread-1",
            "data": {"url": "https://cams.example.org/17", "job_id": 1},
        }
    ]

    # What is no JSON of ours is shown too: a browser ends the subscription of a worker that shows nothing.
    _push(window, "<b>not JSON</b>")
    window.wait_text("<b>not JSON</b>", "#received")
    assert window.run("return document.querySelectorAll('#received b').length") == 0


def test_a_push_service_out_of_reach_is_said_in_plain_words(
    window: Window, console: Console, permission: Any
) -> None:
    permission("granted")
    window.sign_in()
    window.open("/device")
    window.wait_text("not subscribed", "#device-state")
    # The key that the page offers is the point that belongs to the installation's private key.
    offered = window.run("return document.getElementById('device-key').value")
    assert len(unb64url(offered)) == 65
    window.one("#device-user").send_keys("alice")
    before = console.api("GET", "/v1/users/alice/devices")
    window.click("#device-subscribe")
    window.wait_text("push service is out of reach", "#device-state", 40)
    assert console.api("GET", "/v1/users/alice/devices") == before


def test_permission_that_is_denied_is_said(window: Window, permission: Any) -> None:
    permission("denied")
    window.sign_in()
    window.open("/device")
    window.wait_text("Permission for notifications was denied", "#device-state")


def test_a_subscription_is_stored_known_and_forgotten(window: Window, console: Console) -> None:
    # Given a browser whose push service can be reached.
    subscription = console.far.webpush.subscribe("this-browser")
    window.sign_in()
    window.open("/device")
    window.wait_text("not subscribed", "#device-state")
    window.run(REACHABLE, dict(subscription))

    # When it subscribes for a user.
    window.one("#device-user").send_keys("ivan")
    name = window.one("#device-name")
    name.clear()
    name.send_keys("Ivan's laptop")
    window.click("#device-subscribe")
    window.wait_text("This browser is ivan's device “Ivan's laptop”", "#device-state")

    # Then it is a device like any other, of the key that sends, and a message reaches it.
    device = console.api("GET", "/v1/users/ivan/devices")["items"][0]
    assert (device["platform"], device["name"]) == ("web", "Ivan's laptop")
    answer = console.api("POST", "/v1/users/ivan/notify?wait=15", {"message": "Hello, browser"})
    assert answer["all_succeeded"], answer
    received = console.far.webpush.wait_for(1, target="this-browser")[-1]
    assert received.valid
    assert received.content["body"] == "Hello, browser"
    assert bytes(window.run("return window.asked"))[:1] == b"\x04"

    # And once it unsubscribes, it is none.
    window.click("#device-unsubscribe")
    window.wait_text("not subscribed", "#device-state")
    assert console.api("GET", "/v1/users/ivan/devices")["items"] == []


def test_space_at_an_end_of_a_user_is_kept_where_such_a_user_is_known(
    window: Window, console: Console
) -> None:
    console.api("PUT", "/v1/users/%20peggy/preferences", {})
    subscription = console.far.webpush.subscribe("of-peggy")
    for given, path in ((" peggy", "%20peggy"), (" trudy ", "trudy")):
        window.sign_in()
        window.open("/device")
        window.wait_text("not subscribed", "#device-state")
        window.run(REACHABLE, dict(subscription))
        window.one("#device-user").send_keys(given)
        window.click("#device-subscribe")
        window.wait_text(f"This browser is {given.strip()}'s device", "#device-state")
        [device] = console.api("GET", f"/v1/users/{path}/devices")["items"]
        console.api("DELETE", f"/v1/users/{path}/devices/{device['id']}")


def test_a_browser_that_cannot_be_looked_at_is_said(window: Window) -> None:
    window.sign_in()
    window.open("/device")
    window.wait_text("not subscribed", "#device-state")
    # Given a browser whose record of its subscriptions is broken.
    failing = "async () => { throw new DOMException('no storage', 'UnknownError'); }"
    broken = f"PushManager.prototype.getSubscription = {failing}"
    script = window.command("Page.addScriptToEvaluateOnNewDocument", source=broken)["identifier"]
    try:
        window.open("/device")
        window.wait_text("It did not work: no storage", "#device-state")
    finally:
        window.command("Page.removeScriptToEvaluateOnNewDocument", identifier=script)


def test_a_reader_may_look_but_not_subscribe(window: Window) -> None:
    window.sign_in("read")
    window.open("/device")
    window.wait_text("this key may not change that", "#device-state")
    assert not window.one("#device-form").is_displayed()
