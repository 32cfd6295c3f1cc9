"""Pages that follow what happens, when something comes between: another key, a database or a server that is away."""

from __future__ import annotations

import signal
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import httpx
import pytest

from admin.keys import create_key
from api.console.live import STREAMS
from receivers import Answer
from tests.e2e.conftest import Console, Window, serving, until
from tests.support.database import KEY, open_test_database

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers import PostgresServer


class Own(NamedTuple):
    """A server that a test may do anything to."""

    console: Console
    process: subprocess.Popen[bytes]

    @contextmanager
    def signed_in(self, window: Window) -> Iterator[Window]:
        """The window, signed in on it."""
        own = Window(window.driver, self.console)
        own.sign_in()
        yield own
        own.open("/healthz")  # ends streams


@contextmanager
def _own_server(console: Console, database: str, directory: Path) -> Iterator[Own]:
    with open_test_database(database):
        keys = {"admin": create_key("acme", "admin")[1]}
    keys["ingest"] = keys["admin"]
    environment = {"TOCSIN_DATABASE_URL": database, "TOCSIN_SECRET_KEYS": KEY}
    with serving(directory, environment) as (address, process, _):
        yield Own(Console(address, keys, console.far, database), process)


@pytest.fixture(scope="module")
def own_server(console: Console, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """One on SQLite for several tests, which leave it running: to start it takes longer than they do."""
    directory = tmp_path_factory.mktemp("own")
    with _own_server(console, f"sqlite:///{directory / 'own.db'}", directory) as own:
        yield own


def test_a_page_never_takes_over_what_is_another_session_s(window: Window, console: Console) -> None:
    # Given a page that follows, and a second tab in which another tenant's key signs in.
    console.api("POST", "/v1/channels", _webhook("channel-of-other"), key="other")
    window.sign_in()
    window.open("/channels")
    window.wait_text("Live", "#live-sign")
    first = window.driver.current_window_handle
    window.driver.switch_to.new_window("tab")
    window.sign_in("other")
    window.driver.close()
    window.driver.switch_to.window(first)

    # When the first page looks again.
    console.api("POST", "/v1/channels", _webhook("second-of-other"), key="other")
    console.alert("for-acme")

    # Then whose channels it shows is what its header says.
    window.wait_text("second-of-other", "#rows")
    assert window.text(".tenant") == "other · admin"


def test_a_form_that_was_open_while_one_signed_in_anew_can_be_sent_from_its_page(
    window: Window, console: Console
) -> None:
    window.expected = ["403"]
    console.api("PUT", "/v1/users/mallory/preferences", {})
    window.sign_in()
    for again in ("by its link", "by loading it again"):
        # Given a form, and a second tab in which one signs in anew.
        window.open("/user?id=mallory")
        first = window.driver.current_window_handle
        window.driver.switch_to.new_window("tab")
        window.sign_in()
        window.driver.close()
        window.driver.switch_to.window(first)

        # When it is sent, it is refused.
        window.click(".preferences > .main-button")
        window.wait_text("open its page again")

        # Then its page is there again, and the form can be sent.
        if again == "by its link":
            window.click("main a[href^='/user?']")
        else:
            window.driver.refresh()
        window.click(".preferences > .main-button")
        window.wait_text("Saved", "[role=status]")


def _webhook(name: str) -> dict[str, object]:
    return {"name": name, "channel_type": "webhook", "config": {"url": "http://127.0.0.1:9/in"}}


def test_the_sign_says_that_a_page_does_not_live_while_the_database_is_away(
    window: Window, postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    window.expected = ["503"]
    # Given a page that lives.
    with _own_server(window.console, postgres_url, tmp_path) as server, server.signed_in(window) as own:
        own.open("/alerts")
        own.wait_text("Live", "#live-sign")
        own.run("window.untouched = true")
        try:
            # When the database goes away, then the page says so though its stream goes on.
            postgres.stop()
            own.wait(lambda: own.text("#live-sign") == "Not live", "the sign tells")
        finally:
            postgres.start()
        # When it is back, then the page lives again by itself.
        own.wait(lambda: own.text("#live-sign") == "Live", "the sign tells")
        own.console.alert("afterwards")
        own.wait_text("afterwards", "#rows")
        assert own.run("return window.untouched") is True


def test_a_look_that_gets_no_answer_ends_and_the_next_one_comes(window: Window, own_server: Own) -> None:
    # Given a page whose looks have half a second.
    with own_server.signed_in(window) as own:
        own.open("/alerts")
        own.wait_text("Live", "#live-sign")
        own.run("const whole = AbortSignal.timeout; AbortSignal.timeout = () => whole.call(AbortSignal, 500)")
        try:
            # When the server stands still as the page looks.
            own_server.process.send_signal(signal.SIGSTOP)
            own.run("refresh()")
            own.wait_text("No connection", "#live-sign")
        finally:
            own_server.process.send_signal(signal.SIGCONT)
        # Then it looks again by itself.
        own.wait(lambda: own.text("#live-sign") == "Live", "the sign tells")


def test_a_stream_that_was_refused_is_asked_for_again_within_seconds(window: Window, own_server: Own) -> None:
    window.expected = ["503"]
    with (
        own_server.signed_in(window) as own,
        own.console.visitor() as visitor,
        ExitStack() as streams,
    ):
        # Given as many streams as there may be.
        own.open("/healthz")
        client = streams.enter_context(
            httpx.Client(
                base_url=own.console.url,
                cookies=visitor.cookies,
                limits=httpx.Limits(max_connections=None),
                headers={"Accept": "text/event-stream"},
            )
        )
        for _ in range(STREAMS):
            until(lambda: streams.enter_context(client.stream("GET", "/events")).is_success, "a stream")
        own.open("/alerts")
        own.wait_text("Not live", "#live-sign")

        # When they end, then the page lives before long.
        streams.close()
        own.wait(lambda: own.text("#live-sign") == "Live", "the sign tells", 10)


def test_a_clock_of_today_gets_its_day_at_midnight(window: Window, console: Console) -> None:
    # Given a page of today.
    console.alert("before-midnight")
    window.sign_in("read")
    window.open("/alerts?q=before-midnight")
    window.wait_text("Live", "#live-sign")
    year = str(window.run("return new Date().getFullYear()"))
    window.wait(lambda: year not in window.text("#rows td.when"), "a clock alone")

    # When it is another day, and the page looks at the same rows again.
    window.run(
        "const Today = Date; window.Date = class extends Today {"
        "  constructor(...given) { super(...(given.length ? given : [Today.now() + 2 * 864e5])); }"
        "}; refresh()"
    )

    # Then the day is said.
    window.wait(lambda: year in window.text("#rows td.when"), "the day")


def test_a_second_press_while_the_first_waits_for_its_answer_sends_nothing(
    window: Window, console: Console
) -> None:
    # Given a receiver that takes a second.
    before = len(console.far.webhook.received_for("hook"))
    console.far.webhook.script("hook", [Answer(delay=1)])
    window.sign_in()
    window.open("/channels")

    # When the test is asked for twice.
    window.run(
        "const button = document.querySelector(\"button[aria-label='Test hook']\");"
        "button.click(); setTimeout(() => button.click(), 200)"
    )
    window.wait_text("The provider took it", "#test")

    # Then one went out.
    assert len(console.far.webhook.received_for("hook")) == before + 1
