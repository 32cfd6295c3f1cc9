"""The stack under test: PostgreSQL, RabbitMQ, the far side, and groups of workers, each kept up by a supervisor."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from signal import Signals
from typing import TYPE_CHECKING, Any, Self

import httpx
import pika
import pika.exceptions
from cryptography.fernet import Fernet

from config import load_settings
from model.channels import forget as forget_channels
from model.database import open_database
from model.migrate import migrate
from model.rulebook import forget as forget_rules
from tests.faults.network import Links, NoLinks
from tests.servers.programs import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.faults.network import Network
    from tests.servers import PostgresServer, RabbitServer

#: Everything shorter than in production, in the same order of lengths: so that a lease ends while one waits for it.
PACE: dict[str, str] = {
    "TOCSIN_SEND_DEADLINE": "3",
    "TOCSIN_TIME_LIMIT": "6",
    "TOCSIN_LEASE": "8",
    "TOCSIN_MAX_RETRIES": "60",
    "TOCSIN_RETRY_MIN_BACKOFF": "0.5",
    "TOCSIN_RETRY_MAX_BACKOFF": "2",
    "TOCSIN_SWEEP_INTERVAL": "1",
    "TOCSIN_SWEEP_GRACE": "20",
    "TOCSIN_SWEEP_GRACE_IDLE": "2",
    "TOCSIN_METRICS_PORT": "0",
    "TOCSIN_LOG_FORMAT": "json",
}

LEASE = float(PACE["TOCSIN_LEASE"])
DEADLINE = float(PACE["TOCSIN_SEND_DEADLINE"])

#: How long a supervisor waits before it starts what ended, as `RestartSec=1` does in the systemd unit.
RESTART_SECONDS = 1.0


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of Tocsin's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}


def children(pid: int) -> list[int]:
    """The processes that a process started, oldest first."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split() for line in listed.splitlines())
    return sorted(int(child) for child, parent in rows if int(parent) == pid)


class Supervised:
    """A program that is started again whenever it ends, until `stop`.

    What its end leaves behind in its process group is killed first, as systemd does with a unit's control group: an
    orphaned worker would go on beside its successor.

    Args:
        command: the program, in a session of its own.
        log: takes its output, appended.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self.log = log
        self._stopping = threading.Event()
        self._restarts = 0
        self._process = self._spawn()
        self._keeper = threading.Thread(target=self._keep, name=f"supervisor {log.name}", daemon=True)
        self._keeper.start()

    @property
    def pid(self) -> int:
        """The main process of this moment."""
        return self._process.pid

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return self._restarts

    def tell(self, number: Signals) -> None:
        """Send a signal to the main process."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def tell_all(self, number: Signals) -> None:
        """Send a signal to the main process and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def ask_to_stop(self) -> None:
        """SIGTERM, and no start again; `stop` waits for the end."""
        self._stopping.set()
        self.tell(Signals.SIGTERM)

    def stop(self, timeout: float = 20) -> float:
        """SIGTERM, unless that was sent, and SIGKILL after `timeout` seconds; the seconds that its end took."""
        began = time.monotonic()
        if not self._stopping.is_set():
            self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        took = time.monotonic() - began
        self.tell_all(Signals.SIGKILL)
        self._process.wait(5)
        self._keeper.join(5)
        return took

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def _keep(self) -> None:
        while not self._stopping.is_set():
            self._process.wait()
            self.tell_all(Signals.SIGKILL)
            if self._stopping.wait(RESTART_SECONDS):
                return
            self._process = self._spawn()
            self._restarts += 1


class WorkerGroup(Supervised):
    """`dramatiq actors --processes 2 --threads 4`, as a user would start it."""

    def __init__(self, environment: Mapping[str, str], log: Path, prefix: Sequence[str] = ()) -> None:
        command = [*prefix, sys.executable, "-m", "dramatiq", "actors", "--processes", "2", "--threads", "4"]
        super().__init__(command, environment, log)

    def workers(self) -> list[int]:
        """The worker processes of this moment, without the master."""
        return children(self.pid)


class FarSide:
    """`python -m receivers` in a process of its own, with a log that outlives it. It can be stopped and started."""

    def __init__(self, directory: Path) -> None:
        self.record = directory / "received.jsonl"
        self._environment_file = directory / "far.env"
        self._port = free_port()
        self._log = directory / "receivers.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", trust_env=False, timeout=10)

    @property
    def port(self) -> int:
        """Where it listens for HTTP, always the same."""
        return self._port

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._environment_file.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", "receivers", "--quiet", "--no-verify", "--port", str(self._port)),
            *("--record", str(self.record), "--env-file", str(self._environment_file)),
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=clean_environment(), stdout=log, stderr=log)
        wait_until(self._environment_file.exists, 20, "the far side", describe=self._log.read_text)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def environment(self) -> dict[str, str]:
        """The settings by which workers reach it."""
        lines = self._environment_file.read_text().splitlines()
        pairs = (shlex.split(line)[1].partition("=") for line in lines)
        return {name: value for name, _, value in pairs if name.startswith("TOCSIN_")}

    def order(self, order: str, **document: Any) -> None:
        """`always`, `script` or `normal`, as receivers/control.py describes them; of one webhook, or of all and FCM."""
        for receiver in ("webhook",) if "target" in document else ("webhook", "fcm"):
            self._http.post(f"/control/{order}", json={"receiver": receiver, **document}).raise_for_status()

    def close(self) -> None:
        """End it."""
        self._http.close()
        self.kill()


@dataclass
class Stack:
    """Everything, started. A context manager.

    Args:
        directory: for logs and records.
        groups: how many worker groups of two processes.
        settings: wins over PACE.
        cuttable: whether workers reach the servers over links that can be cut.
    """

    postgres: PostgresServer
    rabbitmq: RabbitServer
    directory: Path
    groups: int = 2
    settings: Mapping[str, str] = field(default_factory=dict)
    cuttable: bool = False
    #: What one group needs besides: given the stack's directory, the group's index -> environment variables.
    group_environment: Callable[[Path], Mapping[int, Mapping[str, str]]] = field(
        default=lambda _directory: {}
    )

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._open = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _start(self) -> None:
        self.database_url = self.postgres.create_database()
        self._open.callback(self.postgres.drop_database, self.database_url)
        self.broker_url = self.rabbitmq.create_vhost()
        self._open.callback(self.rabbitmq.drop_vhost, self.broker_url)
        self.vhost = self.broker_url.rpartition("/")[2]
        self.far = FarSide(self.directory)
        self._open.callback(self.far.close)
        self.far.start()
        key = Fernet.generate_key().decode()
        self.environment = clean_environment() | self.far.environment() | PACE | dict(self.settings)
        self.environment |= {
            "TOCSIN_DATABASE_URL": self.database_url,
            "TOCSIN_BROKER_URL": self.broker_url,
            "TOCSIN_SECRET_KEYS": key,
            "TOCSIN_DATABASE_POOL": "20",
        }
        opened: Any = open_database(load_settings(database_url=self.database_url, secret_keys=key))
        self._open.callback(opened.close_all)
        forget_rules()
        forget_channels()
        migrate()
        self.network: Network = Links() if self.cuttable and Links.permitted() else NoLinks()
        if self.cuttable:
            self._open.enter_context(self.network)
        self.workers: list[WorkerGroup] = []
        self._group_environment = self.group_environment(self.directory)
        for index in range(self.groups):
            self.start_group(index)
        self._open.callback(self._ask_all_to_stop)
        wait_until(lambda: self.consumers() >= 2 * self.groups, 60, "workers to come up", describe=self.logs)

    def start_group(self, index: int) -> None:
        """Start a group of workers, and see to its end."""
        environment = self.environment | self._addresses() | dict(self._group_environment.get(index, {}))
        group = WorkerGroup(environment, self.directory / f"workers-{index}.log", self.network.prefix)
        self.workers.append(group)
        self._open.callback(group.stop)

    def _ask_all_to_stop(self) -> None:
        """All at once, and not one after another: a second SIGTERM would not be a request any more."""
        for group in self.workers:
            group.ask_to_stop()

    def consumers(self) -> int:
        """How many worker processes consume deliveries at this moment, by the broker's count."""
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.broker_url))) as asking:
            try:
                declared = asking.channel().queue_declare("tocsin.deliver", passive=True)
            except pika.exceptions.ChannelClosedByBroker:  # nobody has declared it yet
                return 0
            return int(declared.method.consumer_count)

    def hook_url(self, name: str) -> str:
        """The address of one webhook of the far side, as the workers see it."""
        host, port = (
            self.network.address("receiver", self.far.port) if self.cuttable else ("127.0.0.1", self.far.port)
        )
        return f"http://{host}:{port}/hooks/{name}"

    def _addresses(self) -> dict[str, str]:
        """Where the workers find the servers, if that is not where they listen."""
        if not self.cuttable:
            return {}
        database = self.network.address("database", self.postgres.port)
        broker = self.network.address("broker", self.rabbitmq.port)
        return {
            "TOCSIN_DATABASE_URL": _moved(self.database_url, *database),
            "TOCSIN_BROKER_URL": _moved(self.broker_url, *broker),
            "TOCSIN_ALLOWED_NETWORKS": f"127.0.0.0/8,{self.network.subnet}",
        }

    def logs(self) -> str:
        """The last lines of each group's log."""
        parts = []
        for log in sorted(self.directory.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            parts.append(f"--- {log.name}\n" + "\n".join(lines[-25:]))
        return "\n".join(parts)


def _moved(url: str, host: str, port: int) -> str:
    credentials, _, rest = url.rpartition("@")
    return f"{credentials}@{host}:{port}/{rest.partition('/')[2]}"
