"""Who may do what: roles, tenants, sessions, forms from elsewhere. Without a browser, to say what no browser would."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from admin.keys import create_key, revoke_key
from api.console.session import cookie_of
from model.database import connection
from model.tables import ApiKey
from tests.e2e.conftest import serving, token_of, until
from tests.support.database import KEY, open_test_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Console

#: Pages that anybody of the tenant may look at; with an id of the tenant's own.
LOOKED_AT = [
    "/", "/alerts", "/alert?id=1001", "/jobs", "/jobs/1", "/dead", "/channels", "/channels/1", "/rules", "/users",
    "/user?id=alice", "/device",
]  # fmt: skip

#: What changes something: only an admin may.
CHANGES = [
    "/jobs/1/replay", "/dead/replay", "/channels/1/test", "/user/preferences?id=alice", "/user/notify?id=alice",
    "/user/devices/1/delete?id=alice",
]  # fmt: skip
SCRIPTED = ["/device/subscribe", "/device/forget"]


@pytest.fixture
def visitor(console: Console) -> Iterator[httpx.Client]:
    with console.visitor("admin") as client:
        yield client


@pytest.mark.parametrize("path", LOOKED_AT)
def test_a_page_needs_a_key_and_then_shows_itself(console: Console, path: str) -> None:
    with console.visitor(None) as stranger:
        answer = stranger.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in")
    with console.visitor("read") as reader:
        answer = reader.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        # A reader is offered nothing that would be refused.
        actions = set(re.findall(r'action="([^"?]+)', answer.text)) - {"/sign-out"}
        assert not {each for each in actions if each.endswith(("/replay", "/test", "/delete", "/notify"))}


@pytest.mark.parametrize(
    "path", ["/alert?id=1001", "/jobs/1", "/jobs/1?delivery=1", "/channels/1", "/user?id=alice"]
)
def test_another_tenants_ids_are_not_found(console: Console, path: str) -> None:
    with console.visitor("other") as other:
        answer = other.get(path)
    assert answer.status_code == 404
    assert "acme" not in answer.text
    assert "Smoke" not in answer.text


@pytest.mark.parametrize("path", LOOKED_AT)
def test_another_tenants_lists_hold_nothing_of_ours(console: Console, path: str) -> None:
    with console.visitor("other") as other:
        text = other.get(path).text
    assert not re.search(r"Smoke in the server room|slack-ops|smoke-to-slack|Alice", text)


@pytest.mark.parametrize("path", CHANGES)
def test_another_tenants_things_cannot_be_changed(console: Console, path: str) -> None:
    devices = console.api("GET", "/v1/users/alice/devices")
    preferences = console.api("GET", "/v1/users/alice/preferences")
    with console.visitor("other") as other:
        token = token_of(other.get("/").text)
        answer = other.post(path, data={"csrf": token})
    assert answer.status_code == (303 if path == "/dead/replay" else 404), answer.text
    assert console.api("GET", "/v1/users/alice/devices") == devices
    assert console.api("GET", "/v1/users/alice/preferences") == preferences
    assert console.api("GET", "/v1/jobs/1")["state"] == "COMPLETED"


@pytest.mark.parametrize("path", CHANGES)
def test_a_reader_changes_nothing(console: Console, path: str) -> None:
    with console.visitor("read") as reader:
        answer = reader.post(path, data={"csrf": token_of(reader.get("/").text)})
    assert answer.status_code == 403
    assert "role admin" in answer.text


@pytest.mark.parametrize("path", SCRIPTED)
def test_nor_by_script(console: Console, path: str) -> None:
    with console.visitor("read") as reader:
        token = token_of(reader.get("/").text)
        answer = reader.post(
            path, json={"endpoint": "https://push.example.org/1"}, headers={"X-CSRF-Token": token}
        )
    assert answer.status_code == 403


@pytest.mark.parametrize("path", [*CHANGES, "/rules", "/sign-out"])
def test_a_form_needs_its_token(visitor: httpx.Client, path: str) -> None:
    token = token_of(visitor.get("/").text)
    for data in ({"id": "1"}, {"csrf": ""}, {"csrf": token[:-1]}, {"csrf": "é" * 32}):
        assert visitor.post(path, data=data).status_code == 403, data
    cross = visitor.post(path, data={"csrf": token}, headers={"Sec-Fetch-Site": "cross-site"})
    assert cross.status_code == 403


@pytest.mark.parametrize("path", [*SCRIPTED, "/device/known"])
def test_a_script_needs_it_too(visitor: httpx.Client, path: str) -> None:
    assert visitor.post(path, json={"endpoint": "x"}).status_code == 403
    assert visitor.post(path, json={"endpoint": "x"}, headers={"X-CSRF-Token": "x"}).status_code == 403


def test_the_sign_in_form_needs_its_own(console: Console) -> None:
    with httpx.Client(base_url=console.url) as client:
        answer = client.post("/sign-in", data={"key": console.keys["admin"]})
        assert answer.status_code == 403
        assert "tocsin_session" not in answer.headers.get("set-cookie", "")


def test_a_cookie_that_was_touched_opens_nothing(console: Console) -> None:
    with console.visitor("admin") as client:
        cookie = client.cookies["tocsin_session"]
    for wrong in (cookie[:-2] + "AA", cookie[::-1], "é", "", "x" * 5000):
        header = {b"Cookie": f"tocsin_session={wrong}".encode()}
        assert httpx.get(f"{console.url}/jobs", headers=header).status_code == 303, wrong


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example",
        "//evil.example",
        "//[evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "evil",
    ],
)
def test_nobody_is_sent_elsewhere_after_signing_in(console: Console, elsewhere: str) -> None:
    with console.visitor(None) as client:
        token = token_of(client.get("/sign-in", params={"next": elsewhere}).text)
        answer = client.post("/sign-in", data={"csrf": token, "key": console.keys["read"], "next": elsewhere})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"


def _guess(client: httpx.Client) -> None:
    """Guess keys until the server has had enough of it."""
    with httpx.Client(base_url=client.base_url) as guesser:
        token = token_of(guesser.get("/sign-in").text)
        guess = {"csrf": token, "key": "tocsin_guess"}
        statuses = [guesser.post("/sign-in", data=guess).status_code for _ in range(100)]
    assert statuses[0] == 401
    assert statuses[-1] == 429


def test_a_link_from_a_chat_does_not_ask_for_the_key_again(console: Console) -> None:
    # A browser keeps a Strict cookie back when it comes from another site, and sends it with the next request.
    answer = httpx.get(f"{console.url}/jobs/1?delivery=1", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert 'http-equiv="refresh" content="0;url=/jobs/1?delivery=1"' in answer.text


def test_wrong_parameters_are_answered_as_pages(visitor: httpx.Client) -> None:
    for path in (
        "/jobs/x", "/jobs/0", "/jobs/99999999999999999999", "/jobs?cursor=nonsense", "/alerts?cursor=WzFd",
        "/channels/0", "/alert", "/alert?id=", "/user?id=%00", "/jobs?state=NONE&channel=x", "/?range=7y",
        "/dead?hours=7&reason=none&channel=-1", "/users?after=%00", "/alerts?q=%25%5C%22_%00%F0%9F%94%94",
        "/jobs/1?delivery=999999",
    ):  # fmt: skip
        answer = visitor.get(path)
        assert answer.status_code in {200, 404, 422}, (path, answer.status_code)
        assert answer.headers["content-type"].startswith("text/html"), path


def test_a_revoked_key_ends_its_session(console: Console) -> None:
    with open_test_database(console.database, migrated=False):
        row, console.keys["brief"] = create_key("acme", "read", name="brief")
    with console.visitor("brief") as client:
        assert client.get("/jobs").status_code == 200
        with open_test_database(console.database, migrated=False):
            revoke_key("acme", row.id)
        assert client.get("/jobs").headers["location"] == "/sign-in?next=%2Fjobs"
        assert client.get("/events", headers={"Accept": "text/event-stream"}).status_code == 401


def test_a_session_that_is_used_goes_on(console: Console) -> None:
    with console.visitor("read") as client:
        assert "set-cookie" not in client.get("/jobs").headers
        # Given a cookie that was written two hours ago.
        with open_test_database(console.database, migrated=False), connection():
            row = ApiKey.get(ApiKey.name == "e2e read")
            old = cookie_of(row, "the-token", time.time() - 2 * 3600)
        client.cookies.set("tocsin_session", old, domain="127.0.0.1", path="/")
        answer = client.get("/jobs")
        written = answer.headers["set-cookie"]
        assert written.startswith("tocsin_session=")
        assert "HttpOnly" in written
        assert "SameSite=strict" in written
        # Forms in other tabs stay valid.
        assert token_of(answer.text) == token_of(client.get("/jobs").text) == "the-token"


def test_a_server_ends_at_once_though_pages_follow_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'own.db'}"
    environment = {"TOCSIN_DATABASE_URL": url, "TOCSIN_SECRET_KEYS": KEY}
    # Given a server of its own, whose first start says the key.
    with serving(tmp_path, environment) as (address, process, log):
        key = re.search(r"tocsin_[\w-]{20,}", until(log.read_text, "the key"))
        assert key
        with httpx.Client(base_url=address, headers={"Accept": "text/html"}) as client:
            client.post("/sign-in", data={"csrf": token_of(client.get("/sign-in").text), "key": key[0]})
            assert client.get("/").status_code == 200
            assert "Web Push is not configured" in client.get("/device").text
            _guess(client)

            # When a page follows it, and it is told to end, it does not wait for the page.
            with client.stream("GET", "/events", headers={"Accept": "text/event-stream"}) as stream:
                lines = stream.iter_lines()
                assert next(lines) == "retry: 2000"
                began = time.monotonic()
                process.terminate()
                assert [line for line in lines if line.startswith("event: ")] == ["event: hello"]
                process.wait(10)
                assert time.monotonic() - began < 5
