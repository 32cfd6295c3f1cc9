"""What one kind of call keeps busy is its own threads, and nobody else's."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from itertools import islice
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from admin import replay
from api import body, pages, work
from api.console import lists
from api.middleware import RequestContext
from api.routes.health import BrokerProbe
from receivers import FarSide
from tests.integration.api.conftest import TOKEN, serving, session_cookie

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from tests.integration.api.conftest import Api

#: Calls at the same time: more than any kind has threads.
MANY = 30
#: Seconds that a call may take beside them.
SOON = 5.0


def test_whatever_is_slow_keeps_no_other_kind_of_call_waiting(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_in = session_cookie()

    def reader(path: str) -> Callable[[], httpx.Response]:
        return lambda: sqlite_api.call("GET", path, role="read", timeout=30)

    def anybody(path: str, headers: dict[str, str] | None = None) -> Callable[[], httpx.Response]:
        return lambda: sqlite_api.client.get(path, headers=headers, timeout=30)

    slow: dict[str, tuple[Any, str, Callable[[], httpx.Response]]] = {
        "search": (lists, "alerts", anybody("/alerts?q=x", signed_in)),
        "list": (pages, "jobs", reader("/v1/jobs")),
        "probe": (BrokerProbe, "look", anybody("/readyz")),
    }
    beside = {
        "search": anybody("/users", signed_in),
        "list": reader("/v1/rules"),
        "probe": anybody("/metrics"),
    }
    for kind, (place, name, call) in slow.items():
        released = threading.Event()
        begun = threading.Semaphore(0)
        real = getattr(place, name)

        def held(
            *args: Any, real: Any = real, begun: Any = begun, released: Any = released, **kw: Any
        ) -> Any:
            begun.release()
            released.wait(30)
            return real(*args, **kw)

        with monkeypatch.context() as patch, ThreadPoolExecutor(MANY) as callers:
            # Given all threads of a kind at work on what does not end
            patch.setattr(place, name, held)
            under_way = [callers.submit(call) for _ in range(MANY)]
            try:
                assert begun.acquire(timeout=SOON)
                assert begun.acquire(timeout=SOON)
                while begun.acquire(timeout=0.2):
                    pass
                # When alerts come, in our format and in others', then they are accepted at once
                for path, content in (
                    ("/v1/alerts", {"alert_id": f"beside-{kind}"}),
                    (
                        "/v1/ingest/cloudevents",
                        {"specversion": "1.0", "id": kind, "source": "/x", "type": "t"},
                    ),
                ):
                    answer = sqlite_api.call("POST", path, role="ingest", json=content, timeout=SOON)
                    assert answer.status_code == 202, (kind, answer.text)
                # And so is every other kind of call answered
                for other, ask in beside.items():
                    if other != kind:
                        began = time.monotonic()
                        assert ask().status_code == 200, (kind, other)
                        assert time.monotonic() - began < SOON, (kind, other)
            finally:
                released.set()
            assert {each.result().status_code for each in under_way} == {200}, kind


def test_one_tenant_s_long_replays_let_others_have_their_turn(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given as many replays as there are threads, of a tenant with more failed deliveries than anybody has time for
    select, over = replay._select, threading.Event()
    begun, deadline = threading.Semaphore(0), time.monotonic() + SOON

    def endless(tenant_id: str, wanted: replay.Filter, *, after: int) -> Any:
        if tenant_id == "other" or over.is_set() or time.monotonic() > deadline:
            return select(tenant_id, wanted, after=after)
        begun.release()
        return [], after

    monkeypatch.setattr(replay, "_select", endless)

    def ask(tenant: str) -> httpx.Response:
        return sqlite_api.call("POST", "/v1/replay", tenant=tenant, json={"reason": "exhausted"})

    with ThreadPoolExecutor(work.PUBLISHERS) as callers:
        under_way = [callers.submit(ask, "acme") for _ in range(work.PUBLISHERS)]
        for _ in under_way:
            assert begun.acquire(timeout=SOON)
        # When another one replays, then it is answered while they go on
        answer = ask("other")
        assert time.monotonic() < deadline
        over.set()
    assert answer.json() == {"deliveries": 0, "jobs": 0, "skipped": {}, "more": False}
    # And theirs send each delivery once
    assert sum(each.result().json()["deliveries"] for each in under_way) == 1


@pytest.mark.alone("an answer within two seconds, beside thirty calls")
def test_one_tenant_s_channel_tests_keep_no_other_s_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FarSide() as far, socket.create_server(("127.0.0.1", 0)) as silent:
        for name, value in (far.environment() | {"TOCSIN_SEND_DEADLINE": "4"}).items():
            monkeypatch.setenv(name, value)
        for api in serving(f"sqlite:///{tmp_path / 'test.db'}"):
            # Given a channel to a far side that says nothing, and another tenant's to one that answers
            urls = {"acme": f"http://127.0.0.1:{silent.getsockname()[1]}/", "other": far.webhook.url("ops")}
            tests = {}
            for tenant, url in urls.items():
                config = {"url": url, "secret": far.webhook.secret}
                channel = {"name": "hook", "channel_type": "webhook", "config": config}
                made = api.call("POST", "/v1/channels", tenant=tenant, json=channel)
                tests[tenant] = f"/v1/channels/{made.json()['id']}/test"
            with ThreadPoolExecutor(MANY) as callers:
                # When the one is tested again and again, then two tests wait, and the others are refused
                under_way = [
                    callers.submit(api.call, "POST", tests["acme"], role="admin") for _ in range(MANY)
                ]
                refused = [each.result() for each in islice(as_completed(under_way, timeout=SOON), MANY - 2)]
                assert {each.status_code for each in refused} == {429}
                assert {each.headers["retry-after"] for each in refused} == {"4"}
                # And the other tenant's is made at once, as any of the console's is
                began = time.monotonic()
                answer = api.call("POST", tests["other"], tenant="other")
                assert (answer.status_code, answer.json()["status"]) == (200, "ok")
                page = api.client.post(
                    tests["other"].removeprefix("/v1"),
                    data={"csrf": TOKEN},
                    headers=session_cookie("admin", tenant="other"),
                )
                assert page.status_code == 200, page.text
                assert time.monotonic() - began < 2
            assert sorted(each.result().status_code for each in under_way)[-2:] == [502, 502]
            # And once they have ended there is another
            assert api.call("POST", tests["acme"]).status_code == 502


def test_two_large_bodies_are_decoded_at_a_time_and_small_ones_do_not_wait(
    sqlite_api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, begun, real = threading.Event(), threading.Semaphore(0), body.strict_json

    def held(content: bytes) -> Any:
        if len(content) > work.LARGE:
            begun.release()
            released.wait(30)
        return real(content)

    monkeypatch.setattr(body, "strict_json", held)
    large = b'{"alert_id": 1}' + b" " * work.LARGE
    headers = {"Content-Type": "application/json"}

    def post(path: str) -> int:
        return sqlite_api.call("POST", path, content=large, headers=headers).status_code

    with ThreadPoolExecutor(MANY) as callers:
        # Given many large bodies for calls of several kinds
        under_way = [callers.submit(post, path) for path in ("/v1/alerts", "/v1/explain") for _ in range(10)]
        try:
            # When two of them are being decoded, then the others wait
            assert begun.acquire(timeout=SOON)
            assert begun.acquire(timeout=SOON)
            assert not begun.acquire(timeout=0.5)
            # And small ones do not
            for path, status in (("/v1/alerts", 202), ("/v1/explain", 200)):
                answer = sqlite_api.call("POST", path, json={"alert_id": 2}, timeout=SOON)
                assert answer.status_code == status
        finally:
            released.set()
        # And all have their turn
        assert sorted(each.result() for each in under_way) == [200] * 10 + [202] * 10


async def test_the_next_request_of_a_connection_does_not_inherit_the_turns_of_a_large_one() -> None:
    # Given a request in the context of another whose body was large, as uvicorn makes one that was pipelined
    found: list[bool] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        found.append(isinstance(work._turn.get(), nullcontext))

    work._turn.set(asyncio.Semaphore(work.LARGE_ONES))
    # When it begins, then it waits for no turn
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(RequestContext(app)), base_url="http://x"
    ) as client:
        with pytest.raises(AssertionError):  # httpx's: nothing was answered
            await client.get("/")
    assert found == [True]
