"""What every test may ask for: servers, and a run that is green only if something ran.

A test that asks for `postgres`, `rabbitmq` or one of their URLs is marked `servers`. The servers start when
the first such test does, both at once if both will be needed. Where they cannot be had the tests are skipped
with the reason; in CI (CI=true) they fail, and say what to install.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.servers import PostgresServer, RabbitServer, ServersMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_POSTGRES: Final = {"postgres", "postgres_url"}
_RABBITMQ: Final = {"rabbitmq", "rabbitmq_url"}


def _needs(item: pytest.Item) -> set[str]:
    """Which servers a test asks for: "postgres", "rabbitmq"."""
    names = set(getattr(item, "fixturenames", ()))
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    needs = set()
    if names & _POSTGRES or parameters.get("database_url") == "postgres":
        needs.add("postgres")
    if names & _RABBITMQ:
        needs.add("rabbitmq")
    return needs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _needs(item):
            item.add_marker("servers")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Let no run be green in which nothing but skipping happened."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == pytest.ExitCode.OK and reporter and not session.config.option.collectonly:
        ran = sum(len(reporter.stats.get(outcome, ())) for outcome in ("passed", "xfailed"))
        if not ran:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


class _Servers:
    """The session's servers, started in the background."""

    def __init__(self, needed: set[str]) -> None:
        self._threads = ThreadPoolExecutor(2)
        # The objects are made here and now, so that they are closed even if starting them fails.
        makers: dict[str, type[PostgresServer | RabbitServer]] = {
            "postgres": PostgresServer,
            "rabbitmq": RabbitServer,
        }
        self._servers: dict[str, Any] = {}
        self._started: dict[str, Future[None]] = {}
        for name in needed:
            try:
                self._servers[name] = makers[name]()
            except ServersMissingError as error:
                self._servers[name] = error
            else:
                self._started[name] = self._threads.submit(self._servers[name].start)

    def get(self, name: str) -> Any:
        server = self._servers[name]
        if isinstance(server, ServersMissingError):
            if os.environ.get("CI", "").lower() in {"1", "true"}:
                pytest.fail(str(server), pytrace=False)
            pytest.skip(str(server))
        self._started[name].result()
        return server

    def close(self) -> None:
        self._threads.shutdown()
        for name in self._started:
            self._servers[name].close()


@pytest.fixture(scope="session")
def _servers(request: pytest.FixtureRequest) -> Iterator[_Servers]:
    servers = _Servers(set().union(*map(_needs, request.session.items)))
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def postgres(_servers: _Servers) -> PostgresServer:
    """The session's PostgreSQL, durable as in production. A test that hurts it leaves it running."""
    server: PostgresServer = _servers.get("postgres")
    return server


@pytest.fixture(scope="session")
def rabbitmq(_servers: _Servers) -> RabbitServer:
    """The session's RabbitMQ. A test that hurts it leaves it running."""
    server: RabbitServer = _servers.get("rabbitmq")
    return server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def rabbitmq_url(rabbitmq: RabbitServer) -> Iterator[str]:
    """The URL of an empty RabbitMQ virtual host."""
    url = rabbitmq.create_vhost()
    yield url
    rabbitmq.drop_vhost(url)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once of each kind that Tocsin runs on."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url
