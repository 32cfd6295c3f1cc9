"""`notify?wait=`: how it ends when the database does, and what it may cost others."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from actors import wait_for_result
from api import waiting
from model.database import connection, utcnow
from model.states import JobState
from model.tables import Job
from tests.integration.api.conftest import serving
from tests.servers.programs import wait_until

if TYPE_CHECKING:
    import httpx

    from tests.integration.api.conftest import Api
    from tests.servers import PostgresServer

SECONDS = 10.0


def notify(api: Api, wait: float, *, tenant: str = "acme") -> httpx.Response:
    path = f"/v1/users/alice/notify?wait={wait}"
    return api.call("POST", path, role="ingest", tenant=tenant, json={"message": "hello"})


def looks(monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], set[str]]:
    """The looks that are made from now on, and the names of the threads that made them."""
    made: list[int] = []
    threads: set[str] = set()

    def look(job_id: int, *, timeout: float) -> object:
        made.append(job_id)
        threads.add(threading.current_thread().name)
        return wait_for_result(job_id, timeout=timeout)

    monkeypatch.setattr(waiting, "wait_for_result", look)
    return made, threads


def test_that_the_database_goes_away_is_waited_through(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = looks(monkeypatch)
    for api in serving(postgres_url):
        with ThreadPoolExecutor(2) as callers:
            # Given two who wait
            short, long = callers.submit(notify, api, 4), callers.submit(notify, api, 25)
            wait_until(lambda: len(set(made)) == 2, SECONDS, "both to look")
            # When the database restarts, then the first hears in the end that its job goes on
            postgres.restart("immediate")
            assert (short.result().status_code, set(short.result().json())) == (202, {"job_id"})
            # And the other what came of its own, once that has ended
            (job_id,) = set(made) - {short.result().json()["job_id"]}
            with connection():
                Job.update(state=JobState.COMPLETED, finished_at=utcnow()).where(Job.id == job_id).execute()
            assert (long.result().status_code, long.result().json()["job_id"]) == (200, job_id)


@pytest.mark.alone("calls while others wait, which is three seconds")
def test_so_many_of_a_key_wait_and_so_many_in_all(sqlite_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "OF_KEY", 2)
    monkeypatch.setattr(waiting, "WAITERS", 3)
    made, threads = looks(monkeypatch)
    with ThreadPoolExecutor(3) as callers:
        # Given as many of a key who wait as may
        waiters = [callers.submit(notify, sqlite_api, 4) for _ in range(2)]
        wait_until(lambda: len(set(made)) == 2, SECONDS, "both to look")
        # Then a third is not kept, another tenant's is, and then nobody else
        began = time.monotonic()
        assert notify(sqlite_api, 50).status_code == 202
        waiters.append(callers.submit(notify, sqlite_api, 3, tenant="other"))
        wait_until(lambda: len(set(made)) == 3, SECONDS, "the other to look")
        assert notify(sqlite_api, 50, tenant="other").status_code == 202
        assert time.monotonic() - began < 3
        assert {each.result().status_code for each in waiters} == {202}
    # And intake had none of it to do
    assert all(name.startswith("tocsin-read") for name in threads)
    # And who comes later may wait again
    assert notify(sqlite_api, 0.2).status_code == 202
    assert len(set(made)) == 4


def test_for_a_caller_who_has_gone_nobody_looks(sqlite_api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = looks(monkeypatch)
    base = sqlite_api.client.base_url
    with socket.create_connection((base.host, base.port)) as caller:
        caller.sendall(
            b"POST /v1/users/alice/notify?wait=55 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer " + sqlite_api.keys["acme", "ingest"].encode() + b"\r\n"
            b"Content-Length: 15\r\n\r\n" + b'{"message":"x"}'
        )
        wait_until(lambda: bool(made), SECONDS, "a look")
    time.sleep(2 * waiting.LAST_LOOK)
    before = len(made)
    time.sleep(3 * waiting.LAST_LOOK)
    assert len(made) == before
