"""A private PostgreSQL 15 or newer that tests may stop, kill and restart.

Signals of the server: https://www.postgresql.org/docs/current/server-shutdown.html
"""

from __future__ import annotations

import secrets
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from peewee import OperationalError, PostgresqlDatabase

from tests.servers.containers import Container
from tests.servers.programs import (
    INSTALL,
    LocalProgram,
    Program,
    ServersMissingError,
    free_port,
    unprivileged,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "tocsin"
OLDEST = 15
START_SECONDS = 60.0
STOP_SECONDS = 30.0

# Where Debian, Homebrew on ARM and Homebrew on Intel keep one directory a major version.
_VERSIONED = [
    "/usr/lib/postgresql/*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
]


def find_programs() -> Path | None:
    """The directory of the newest initdb and postgres on this machine, if there is one that is new enough."""
    versions: dict[int, Path] = {}
    for pattern in _VERSIONED:
        for found in Path("/").glob(pattern.removeprefix("/")):
            version = found.parent.name.rpartition("@")[2]
            if version.isdigit() and (found / "initdb").exists() and (found / "postgres").exists():
                versions[int(version)] = found
    if versions and max(versions) >= OLDEST:
        return versions[max(versions)]
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path and not versions else None


class PostgresServer:
    """One server with a superuser `tocsin` and a random password, listening on 127.0.0.1 alone.

    Args:
        durable: fsync and full page writes, as in production. False is faster, and as good for tests that
            only kill processes: what was written then is in the kernel's cache.

    Raises:
        ServersMissingError: neither programs nor a container engine.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self.port = free_port()
        self.password = secrets.token_hex(16)
        settings = [
            *("-c", "max_connections=300"),
            *("-c", f"fsync={'on' if durable else 'off'}"),
            *("-c", f"full_page_writes={'on' if durable else 'off'}"),
        ]
        programs = find_programs()
        # Where the programs of a client find the server, and may write: beside it, also in its container.
        self._beside, self._folder, self._port_beside = programs, "{dir}", self.port
        if programs:
            self.program: Program = self._local(programs, settings)
        elif Container.engine_runs():
            self._folder, self._port_beside = "/tmp", 5432  # noqa: S108  # the container's own
            self.program = Container(
                "postgres",
                "postgres:17",
                ports={self.port: 5432},
                environment={"POSTGRES_USER": USER, "POSTGRES_PASSWORD": self.password},
                arguments=settings,
            )
        else:
            raise ServersMissingError(f"PostgreSQL {OLDEST} or newer is missing: {INSTALL}")

    def start(self) -> None:
        """Start, and wait until it takes connections.

        Raises:
            TimeoutError: it did not come up; the text holds the server's last lines.
        """
        self.program.start()
        wait_until(self._answers_or_died, START_SECONDS, "PostgreSQL to start", describe=self.program.log)
        if not self.program.is_running():
            raise TimeoutError(f"PostgreSQL ended at once\n{self.program.log()}")

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """End it: `fast` rolls back and closes tidily, `immediate` is a crash that needs recovery."""
        if self.program.is_running():
            self.program.signal(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
            self.program.wait(STOP_SECONDS)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start on the same data and port."""
        self.stop(mode)
        self.start()

    def is_running(self) -> bool:
        """Whether the server's main process lives."""
        return self.program.is_running()

    def create_database(self) -> str:
        """Make an empty database.

        Returns:
            Its URL: postgresql://user:password@127.0.0.1:port/name
        """
        name = f"tocsin_{secrets.token_hex(6)}"
        with self._connection() as connection:
            connection.execute_sql(f'CREATE DATABASE "{name}"')
        return f"postgresql://{USER}:{self.password}@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Drop a database that `create_database` made, and end the connections to it."""
        name = url.rpartition("/")[2]
        with self._connection() as connection:
            connection.execute_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def dump(self, url: str) -> str:
        """Back a database up, as docs/operations.md does; what `restore` takes."""
        file = f"{self._folder}/{secrets.token_hex(6)}.dump"
        self._run_beside("pg_dump", "--format=custom", f"--file={file}", url=url)
        return file

    def restore(self, file: str) -> str:
        """Restore what was backed up into an empty database, as docs/operations.md does; its URL."""
        url = self.create_database()
        self._run_beside("pg_restore", "--no-owner", "--single-transaction", file, url=url)
        return url

    def close(self) -> None:
        """Stop for good and remove the data."""
        try:
            self.stop()
        finally:
            self.program.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _local(self, programs: Path, settings: list[str]) -> LocalProgram:
        def make_data(program: LocalProgram) -> None:
            program.write("password", self.password)
            program.run(
                [
                    *(str(programs / "initdb"), "--pgdata={dir}/data", f"--username={USER}"),
                    *("--auth=scram-sha-256", "--pwfile={dir}/password"),
                    # No sync at this point: nobody's data is in it yet.
                    *("--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"),
                ]
            )

        return LocalProgram(
            "postgres",
            [
                *(str(programs / "postgres"), "-D", "{dir}/data", "-p", str(self.port)),
                # No Unix socket: its path may be too long, and nobody needs it.
                *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                *settings,
            ],
            environment={},
            user=unprivileged("postgres"),
            ask=signal.SIGQUIT,
            prepare=make_data,
        )

    def _run_beside(self, name: str, *arguments: str, url: str) -> None:
        program = str(self._beside / name) if self._beside else name
        self.program.run(
            [program, *arguments, f"--dbname={url.replace(f':{self.port}/', f':{self._port_beside}/')}"]
        )

    @contextmanager
    def _connection(self) -> Iterator[PostgresqlDatabase]:
        database = PostgresqlDatabase(
            "postgres",
            user=USER,
            password=self.password,
            host="127.0.0.1",
            port=self.port,
            connect_timeout=5,
        )
        with database.connection_context():
            yield database

    def _answers_or_died(self) -> bool:
        if not self.program.is_running():
            return True
        try:
            with self._connection() as connection:
                connection.execute_sql("SELECT 1")
        except OperationalError:
            return False
        return True
