"""The app on a real database: two tenants, a key of each role, and something of everything."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog
import uvicorn

import actors
from actors.broker import runtime
from admin.keys import create_key
from api.app import create_app
from api.console.session import COOKIE, cookie_of
from api.limits import Limits
from config import load_settings
from model.database import connection, utcnow
from model.tables import TABLES, Alert, ApiKey, Device, LogEntry, PreferenceRow
from tests.support.database import KEY, make_channel, make_deliveries, make_job, open_test_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastapi import FastAPI

#: Tests ask faster than anybody is allowed to.
UNLIMITED = Limits(rate=1e6, burst=1_000_000, failures=1e6, failure_burst=1_000_000)


#: What the forms of `session_cookie` carry.
TOKEN = "the-token"


def session_cookie(role: str = "read", *, tenant: str = "acme", age: float = 0.0) -> dict[str, str]:
    """The header of a browser that signed in to the console so many seconds ago."""
    with connection():
        row = ApiKey.get((ApiKey.tenant == tenant) & (ApiKey.role == role))
    return {"Cookie": f"{COOKIE}={cookie_of(row, TOKEN, time.time() - age)}"}


@dataclass
class Api:
    """The app and its callers. Ids are acme's; `other` is another tenant with nothing but keys."""

    client: httpx.Client
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    logs: list[Any] = field(default_factory=list)

    def call(
        self, method: str, path: str, *, role: str = "admin", tenant: str = "acme", **options: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.keys[tenant, role]}"} | options.pop("headers", {})
        return self.client.request(method, path.format(**self.ids), headers=headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        answer = self.call("GET", path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that the database holds."""
        with connection():
            return {
                table._meta.table_name: sorted(table.select().dicts(), key=repr)  # type: ignore[arg-type]  # they are dicts
                for table in TABLES
                if table._meta.table_name != "sweep_leases"
            }


def fill(api: Api) -> None:
    """Something of everything for acme."""
    now = utcnow()
    with connection():
        for tenant in ("acme", "other"):
            for role in ("ingest", "read", "admin"):
                api.keys[tenant, role] = create_key(tenant, role)[1]
        api.ids["channel"] = make_channel(config={"url": "https://ops.example.org/in?token=canary-4711"})
        api.ids["phones"] = make_channel(name="phones", channel_type="push", config={"all_users": True})
        sequence = Alert.create(
            tenant="acme",
            alert_id="door/7",
            event_type="OPEN",
            payload={"alert_id": "door/7", "severity": 2},
            matched_at=now,
        ).id
        job: dict[str, Any] = {
            "alert_id": "door/7",
            "payload": {"alert_id": "door/7", "severity": 2},
            "channel_id": api.ids["channel"],
        }
        api.ids["job"] = make_job(
            sequence=sequence, **job, state="FAILED", failed=1, finished_at=now, accepted_at=now,
            expires_at=now + timedelta(hours=1),
        )  # fmt: skip
        api.ids["delivery"] = make_deliveries(
            api.ids["job"], channel_id=api.ids["channel"], state="FAILED", reason="exhausted", finished_at=now,
            sweep_at=None, device_id=0, attempts=4, expires_at=now + timedelta(hours=1),
        )[0]  # fmt: skip
        LogEntry.create(
            tenant_id="acme", job_id=api.ids["job"], delivery_id=api.ids["delivery"], channel_id=api.ids["channel"],
            sender="webhook", attempt=1, outcome="transient", code="503", latency_ms=1.5,
        )  # fmt: skip
        api.ids["device"] = Device.create(
            tenant="acme", user_id="alice", platform="ios", token="0f" * 32, address_hash="h", name="phone"
        ).id
        PreferenceRow.create(tenant="acme", user_id="alice", preferences={"quiet_hours_enabled": True})
    api.ids["rule"] = api.call("POST", "/v1/rules", json={"name": "all", "channel": "ops"}).json()["id"]


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """A real server for the length of the block; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        assert not thread.is_alive()


def serving(url: str, limits: Limits = UNLIMITED) -> Iterator[Api]:
    """The app on the database of a URL, without a worker: what is accepted stays where it is."""
    settings = load_settings(database_url=url, secret_keys=KEY)
    before = runtime.settings
    runtime.settings = settings
    try:
        with (
            structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs,
            open_test_database(url),
            running(create_app(settings, limits=limits)) as address,
        ):
            api = Api(httpx.Client(base_url=address, trust_env=False, timeout=30), logs=logs)
            fill(api)
            yield api
            api.client.close()
    finally:
        actors.broker.flush_all()
        runtime.settings = before


@pytest.fixture
def api(database_url: str) -> Iterator[Api]:
    """The app on each kind of database."""
    yield from serving(database_url)


@pytest.fixture
def sqlite_api(tmp_path: Path) -> Iterator[Api]:
    """The app on SQLite alone, for what has nothing to do with the database."""
    yield from serving(f"sqlite:///{tmp_path / 'test.db'}")
