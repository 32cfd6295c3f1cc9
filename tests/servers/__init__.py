"""Real servers for tests: a private PostgreSQL and a private RabbitMQ, on free ports, to be hurt on demand.

Both run in the foreground, in a session of their own, with their data in a temporary directory; a reaper
process ends them and removes the directory however the test run dies. They come from the programs of this
machine (Debian and Homebrew packages), else from a container engine.
"""

from __future__ import annotations

from tests.servers.postgres import PostgresServer
from tests.servers.programs import ServersMissingError
from tests.servers.rabbitmq import RabbitServer

__all__ = ["PostgresServer", "RabbitServer", "ServersMissingError"]
