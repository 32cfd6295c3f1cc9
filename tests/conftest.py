"""What every test may ask for: servers, and a run that is green only if something ran.

A test that asks for `postgres`, `rabbitmq` or one of their URLs is marked `servers`. The servers start when
the first such test does, both at once if both will be needed. Where they cannot be had the tests are skipped
with the reason; in CI (CI=true) they fail, and say what to install.

With `pytest -n 2`, as `make test` runs it, each test process has servers of its own. A test that is marked `alone` then
has the machine to itself: such tests come last in a process, and while they run the others wait.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import pytest
from hypothesis import HealthCheck, settings

from tests.servers.session import SessionServers, servers_needed
from tests.support.alone import Room

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.servers import PostgresServer, RabbitServer


CI = os.environ.get("CI", "").lower() in {"1", "true"}

# Speed belongs in bench/: a loaded machine must not fail a property. CI tries the same examples every time, so that a
# failure there is about the change; everybody else's runs look for new ones.
settings.register_profile(
    "tocsin", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=CI, print_blob=True
)
settings.load_profile("tocsin")

_ROOM: Final = pytest.StashKey[Room]()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # one of xdist's test processes, whose directories lie in the run's
        config.stash[_ROOM] = Room(Path(config.option.basetemp).parent)


def pytest_unconfigure(config: pytest.Config) -> None:
    if room := config.stash.get(_ROOM, None):
        room.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if servers_needed(item):
            item.add_marker("servers")
    if _ROOM in config.stash:
        items.sort(key=_is_alone)  # together, so that the others need not be waited for again and again


# Outermost, so that the wait is no part of the test's own time.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    room = item.config.stash.get(_ROOM, None)
    if room is None:
        return (yield)
    room.enter(alone=_is_alone(item))
    try:
        return (yield)
    finally:
        if not (_is_alone(item) and nextitem and _is_alone(nextitem)):
            room.leave()


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Let no run be green in which nothing but skipping happened."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == pytest.ExitCode.OK and reporter and not session.config.option.collectonly:
        ran = sum(len(reporter.stats.get(outcome, ())) for outcome in ("passed", "xfailed"))
        if not ran:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.fixture(scope="session")
def _servers(request: pytest.FixtureRequest) -> Iterator[SessionServers]:
    servers = SessionServers(set().union(*map(servers_needed, request.session.items)), strict=CI)
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def postgres(_servers: SessionServers) -> PostgresServer:
    """The session's PostgreSQL, durable as in production. A test that hurts it leaves it running."""
    return cast("PostgresServer", _servers.get("postgres"))


@pytest.fixture(scope="session")
def rabbitmq(_servers: SessionServers) -> RabbitServer:
    """The session's RabbitMQ. A test that hurts it leaves it running."""
    return cast("RabbitServer", _servers.get("rabbitmq"))


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
