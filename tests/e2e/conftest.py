"""A console with a day's alerts behind it, and a browser before it. One of each for the session.

What is missing skips the tests that need it; in CI it fails them, and says how to install it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service

from admin.apply import apply
from admin.keys import create_key
from config import load_settings
from demo.scenario import STEPS, TENANT, configuration
from receivers import FarSide
from tests.servers.programs import free_port
from tests.support.database import KEY, open_test_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver import Chrome

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
AXE = HERE / "node_modules/axe-core/axe.min.js"

#: Seconds until what must happen must have happened, and a server must have started or ended: on a slow machine, beside
#: other tests.
PATIENCE, SLOWLY = 30, 60


def lacking(what: str, remedy: str) -> None:
    """Skip the test, or fail it in CI."""
    text = f"{what} is missing: {remedy}"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """What a condition gives once it is true."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {patience} s")
        time.sleep(0.05)
    return found


@dataclass
class Console:
    """A server that runs.

    Attributes:
        keys: API keys of the tenant by role, and `other`, an admin's of another tenant.
    """

    url: str
    keys: dict[str, str]
    far: FarSide
    database: str

    def api(self, method: str, path: str, body: Any = None, *, key: str = "admin") -> Any:
        """A call of the HTTP API; its answer."""
        headers = {"Authorization": f"Bearer {self.keys[key]}"}
        answer = httpx.request(method, self.url + path, json=body, headers=headers, timeout=PATIENCE)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def alert(self, alert_id: str, **fields: Any) -> None:
        """Hand an alert in."""
        self.api("POST", "/v1/alerts", {"alert_id": alert_id, **fields}, key="ingest")

    def jobs(self, alert_id: str) -> list[dict[str, Any]]:
        """An alert's jobs."""
        found: list[dict[str, Any]] = self.api("GET", f"/v1/jobs?alert_id={alert_id}")["items"]
        return found

    @contextmanager
    def visitor(self, key: str | None = "admin") -> Iterator[httpx.Client]:
        """A client without script that has signed in."""
        with httpx.Client(base_url=self.url, headers={"Accept": "text/html"}) as client:
            if key is not None:
                token = token_of(client.get("/sign-in").text)
                answer = client.post("/sign-in", data={"csrf": token, "key": self.keys[key]})
                assert answer.status_code == 303, answer.text
            yield client


def token_of(page: str) -> str:
    """The CSRF token of a page's first form."""
    found = re.search(r'name="csrf" value="([^"]+)"', page)
    assert found, page
    return found[1]


@contextmanager
def serving(
    directory: Path, environment: dict[str, str]
) -> Iterator[tuple[str, subprocess.Popen[bytes], Path]]:
    """`tocsin serve` in a process of its own: its URL, the process, and its log."""
    port, log = free_port(), directory / "serve.log"
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "serve", "--port", str(port), "--rate", "1000", "--burst", "1000"],
            env=clean | environment,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"

    # One for all looks: to make one takes a while of the processors that the server starts with.
    with httpx.Client() as client:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return client.get(f"{url}/healthz").is_success
            except httpx.TransportError:
                return False

        try:
            until(answers, "the server answers", SLOWLY)
        except BaseException:
            process.kill()
            raise
    try:
        yield url, process, log
    finally:
        process.terminate()
        try:
            process.wait(SLOWLY)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The demo's tenant on the embedded default, its alerts handed in and settled."""
    directory = tmp_path_factory.mktemp("console")
    url = f"sqlite:///{directory / 'console.db'}"
    with FarSide() as far:
        environment = far.environment() | {
            "TOCSIN_DATABASE_URL": url,
            "TOCSIN_SECRET_KEYS": KEY,
            "TOCSIN_RETRY_MIN_BACKOFF": "0.2",
            "TOCSIN_LOG_LEVEL": "info",
        }
        with open_test_database(url):
            networks = load_settings(allowed_networks="127.0.0.0/8").allowed_networks
            apply(configuration(far, now=datetime.now(UTC)), allowed_networks=networks)
            keys = {
                role: create_key(TENANT, role, name=f"e2e {role}")[1] for role in ("ingest", "read", "admin")
            }
            keys["other"] = create_key("other", "admin")[1]
        with serving(directory, environment) as (address, _, log):
            found = Console(address, keys, far, url)
            for step in STEPS:
                step.prepare(far)
                found.api("POST", "/v1/alerts", list(step.alerts), key="ingest")
            until(lambda: not _unsettled(found), "the demo's alerts are settled", SLOWLY)
            yield found
            failed = [line for line in log.read_text().splitlines() if "request_failed" in line]
            assert failed == []


def _unsettled(console: Console) -> list[Any]:
    """Jobs that go on, but for those that wait for the morning."""
    jobs = console.api("GET", "/v1/jobs?limit=500")["items"]
    return [
        job
        for job in jobs
        if job["state"] in {"PENDING", "PROCESSING"}
        and not (job["channel"] == "household" and job["totals"]["in_progress"] == 1)
    ] or ([] if len(jobs) >= 12 else jobs or [None])


@dataclass
class Window:
    """A browser's window, signed in or not, that remembers which errors were to be expected."""

    driver: Chrome
    console: Console
    expected: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        """Open a page, and wait until it is there."""
        self.driver.get(self.console.url + path)

    def sign_in(self, key: str = "admin") -> None:
        """Sign in by the form."""
        self.open("/sign-in")
        self.one("#key").send_keys(self.console.keys[key])
        self.one("form button").click()
        self.wait(lambda: "/sign-in" not in self.driver.current_url, "signed in")

    def one(self, selector: str) -> Any:
        """The first element of a selector, once it is there."""
        return until(lambda: self.all(selector), f"{selector} on {self.driver.current_url}")[0]

    def all(self, selector: str) -> list[Any]:
        """All elements of a selector."""
        return self.driver.find_elements("css selector", selector)

    def click(self, selector: str) -> None:
        """Click the first element of a selector; again if it was replaced at that moment, as live parts are."""
        for _ in range(3):
            try:
                self.one(selector).click()
            except StaleElementReferenceException:
                continue
            return
        raise AssertionError(f"{selector} never stays")

    def text(self, selector: str = "main") -> str:
        """The text of an element, as it is seen."""
        # One call, so that an element which is replaced at this moment is no error.
        found = self.run(
            "const e = document.querySelector(arguments[0]); return e ? e.innerText : ''", selector
        )
        return str(found)

    def wait(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """As `until`; says what the page shows if it does not come."""
        try:
            return until(condition, what, patience)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.driver.current_url}\n{self.text('body')}") from None

    def wait_text(self, wanted: str, selector: str = "main", patience: float = PATIENCE) -> None:
        """Wait until an element shows a text."""
        self.wait(lambda: wanted in self.text(selector), f"{wanted!r} in {selector}", patience)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script."""
        return self.driver.execute_script(script, *arguments)

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def errors(self) -> list[str]:
        """What the browser's console complained of since the last look, but for what was to be expected."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]  # as above
        found = [entry["message"] for entry in entries if entry["level"] in {"SEVERE", "WARNING"}]
        return [message for message in found if not any(each in message for each in self.expected)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[None]:
    """A database without a server."""
    with open_test_database(f"sqlite:///{tmp_path / 'parts.db'}"):
        yield


@pytest.fixture(scope="session")
def _driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    program = shutil.which("chromedriver")
    if binary is None or program is None:
        lacking("chromium or chromedriver", "sh tools/e2e.sh")
    options = webdriver.ChromeOptions()
    options.binary_location = str(binary)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
        "--window-size=1280,900", f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):  # fmt: skip
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(str(program)))
    yield driver
    driver.quit()


@pytest.fixture
def window(_driver: Chrome, console: Console) -> Iterator[Window]:
    """A window that is not signed in. At the end its console must hold no complaint."""
    found = Window(_driver, console)
    found.open("/sign-in")
    _driver.delete_all_cookies()
    found.errors()
    yield found
    complaints = found.errors()
    found.command("Emulation.setEmulatedMedia", features=[])
    found.command("Emulation.clearDeviceMetricsOverride")
    found.open("/healthz")  # ends streams
    assert complaints == []


@pytest.fixture
def axe() -> str:
    """The source of axe-core."""
    if not AXE.exists():
        lacking("tests/e2e/node_modules", "sh tools/e2e.sh")
    return AXE.read_text(encoding="utf-8")


def shown(value: Any) -> str:
    """JSON that a failed assertion shows."""
    return json.dumps(value, indent=2)
