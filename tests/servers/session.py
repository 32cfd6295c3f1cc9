"""The servers of one test session: started when first asked for, side by side, and closed together."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Literal, Protocol

import pytest

from tests.servers.postgres import PostgresServer
from tests.servers.programs import ServersMissingError
from tests.servers.rabbitmq import RabbitServer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

ServerName = Literal["postgres", "rabbitmq"]

_FIXTURES: Final[dict[str, ServerName]] = {
    "postgres": "postgres",
    "postgres_url": "postgres",
    "rabbitmq": "rabbitmq",
    "rabbitmq_url": "rabbitmq",
}


class Server(Protocol):
    """What a session does with a server."""

    def start(self) -> None:
        """Start it and wait until it is ready."""

    def close(self) -> None:
        """End it and remove its data."""


SERVERS: Final[dict[ServerName, Callable[[], Server]]] = {
    "postgres": PostgresServer,
    "rabbitmq": RabbitServer,
}


def servers_needed(item: pytest.Item) -> set[ServerName]:
    """Which servers a test will ask for."""
    needed = {_FIXTURES[name] for name in getattr(item, "fixturenames", ()) if name in _FIXTURES}
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if parameters.get("database_url") == "postgres":
        needed.add("postgres")
    return needed


class SessionServers:
    """Starts what the session needs in the background; `get` waits for the one that is asked for.

    Args:
        needed: the servers to start.
        strict: whether a server that cannot be had fails the test, as in CI, or skips it.
        makers: makes each server, or raises ServersMissingError.
    """

    def __init__(
        self,
        needed: Collection[ServerName],
        *,
        strict: bool,
        makers: Mapping[ServerName, Callable[[], Server]] = SERVERS,
    ) -> None:
        self._strict = strict
        self._threads = ThreadPoolExecutor(len(SERVERS))
        self._servers: dict[ServerName, Server] = {}
        self._missing: dict[ServerName, str] = {}
        self._started: dict[ServerName, Future[None]] = {}
        for name in needed:
            try:
                self._servers[name] = makers[name]()
            except ServersMissingError as error:
                self._missing[name] = str(error)
            else:
                self._started[name] = self._threads.submit(self._servers[name].start)

    def get(self, name: ServerName) -> Server:
        """The running server; else the test is skipped or failed, with the reason.

        Raises:
            TimeoutError: it is there and did not start.
        """
        if name in self._missing:
            if self._strict:
                pytest.fail(self._missing[name], pytrace=False)
            pytest.skip(self._missing[name])
        self._started[name].result()
        return self._servers[name]

    def close(self) -> None:
        """Close them all, also those that did not come up."""
        self._threads.shutdown()
        for server in self._servers.values():
            server.close()
