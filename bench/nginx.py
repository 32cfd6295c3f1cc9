"""The receiver of plain HTTP: nginx answering 204, with a count and a log of what arrived.

`requests` of the stub_status module counts every request, those for the count included:
https://nginx.org/en/docs/http/ngx_http_stub_status_module.html
"""

from __future__ import annotations

import http.client
import shutil
from typing import TYPE_CHECKING, Self

from bench.processes import Program
from tests.servers.programs import free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path

_CONFIG = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections 8192; }}
http {{
    log_format arrivals '$msec $http_webhook_id';
    access_log {directory}/arrivals.log arrivals buffer=64k flush=200ms;
    keepalive_requests 100000000;
    keepalive_timeout 300;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /status {{ stub_status; access_log off; }}
        location / {{ return 204; }}
    }}
}}
"""


class NginxMissingError(Exception):
    """The program is not installed."""


class Nginx:
    """One nginx worker process on a free port. A context manager."""

    def __init__(self, directory: Path) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        if program is None:
            raise NginxMissingError("nginx is missing: apt-get install nginx-light")
        self._directory = directory / "nginx"
        self._directory.mkdir()
        self._directory.chmod(0o755)  # its worker gives up root
        self._port = free_port()
        self._asked = 0
        self._started = 0
        self._log = 0
        config = self._directory / "nginx.conf"
        config.write_text(_CONFIG.format(directory=self._directory, port=self._port))
        self._program = Program(
            "receiver",
            [program, "-c", str(config), "-p", str(self._directory)],
            {},
            self._directory / "output.log",
        )
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)

    @property
    def url(self) -> str:
        """Where messages go."""
        return f"http://127.0.0.1:{self._port}/in"

    def count(self) -> int:
        """Requests that arrived since `restart_count`."""
        self._connection.request("GET", "/status")
        numbers = self._connection.getresponse().read().split(b"\n")[2].split()
        self._asked += 1
        return int(numbers[2]) - self._asked - self._started

    def restart_count(self) -> None:
        """Count from here."""
        # nginx closes a connection over which nothing was asked for a minute.
        self._connection.close()
        self._started += self.count()
        self._log = self._log_size()

    def arrivals(self, expected: int) -> list[tuple[float, str]]:
        """(Unix time, webhook-id) of each request since `restart_count`, once as many are logged."""
        path = self._directory / "arrivals.log"
        found: list[tuple[float, str]] = []

        def complete() -> bool:
            with path.open() as file:
                file.seek(self._log)
                pairs = [line.split() for line in file if line.endswith("\n")]
            found[:] = [(float(moment), name) for moment, name in pairs]
            return len(found) >= expected

        wait_until(complete, 10, f"{expected} lines in nginx's log")
        return found

    def _log_size(self) -> int:
        # What is buffered is written within the flush time.
        wait_until(self._settled, 10, "nginx to write its log")
        return (self._directory / "arrivals.log").stat().st_size

    def _settled(self) -> bool:
        with (self._directory / "arrivals.log").open() as file:
            return sum(1 for _ in file) >= self._started

    def __enter__(self) -> Self:
        def answers() -> bool:
            try:
                self.restart_count()
            except OSError:
                self._connection.close()
                return not self._program.is_running()
            return True

        wait_until(answers, 10, "nginx", describe=self._program.tail)
        if not self._program.is_running():
            raise RuntimeError(f"nginx ended at once\n{self._program.tail()}")
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._program.stop()
