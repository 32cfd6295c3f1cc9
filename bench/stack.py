"""The servers of a run, and installations of Tocsin on them: a database, a virtual host and worker groups each."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import pika
import pika.exceptions
from cryptography.fernet import Fernet

from bench.far import Far
from bench.nginx import Nginx
from bench.processes import Program, cpu_by_role, difference, run_together
from bench.results import Rate
from config import load_settings
from model import bulk, ledger
from model.channels import forget as forget_channels
from model.database import connection, database, open_database, transaction
from model.migrate import migrate
from model.rulebook import forget as forget_rules
from model.tables import Channel, Device, RoutingRule, Tenant
from tests.servers import PostgresServer, RabbitServer
from tests.servers.programs import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.results import Kind

TENANT = "bench"

#: Seconds after which a scenario that does not end is given up.
PATIENCE = 900.0

#: How often the counts are looked at.
LOOK = 0.02


@dataclass(frozen=True, slots=True)
class Workers:
    """How many worker groups, processes of each, and threads of each process."""

    groups: int = 1
    processes: int = 2
    threads: int = 4

    def __str__(self) -> str:
        command = f"dramatiq actors --processes {self.processes} --threads {self.threads}"
        return command if self.groups == 1 else f"{self.groups} times `{command}`"


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of Tocsin's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}


class Stack:
    """PostgreSQL, RabbitMQ and the receivers, for all scenarios of a run. A context manager.

    Args:
        directory: for logs and books.
        workers: what each installation runs.
    """

    def __init__(self, directory: Path, workers: Workers) -> None:
        self.directory = directory
        self.workers = workers
        self._open = contextlib.ExitStack()
        self._programs = 0

    def __enter__(self) -> Self:
        try:
            self.postgres = self._open.enter_context(PostgresServer(durable=True))
            self.rabbitmq = RabbitServer()
            self._open.callback(self.rabbitmq.close)
            self.rabbitmq.start()
            self.nginx = self._open.enter_context(Nginx(self.directory))
            self.far = self._open.enter_context(Far(self.directory, clean_environment()))
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def program(
        self, role: str, *arguments: str, environment: Mapping[str, str] | None = None, talks: bool = True
    ) -> Program:
        """Start `python -m ...` beside the measured system."""
        self._programs += 1
        return Program(
            role,
            [sys.executable, "-m", *arguments],
            clean_environment() if environment is None else environment,
            self.directory / f"{self._programs:03}-{arguments[0]}.log",
            talks=talks,
        )

    def clients(
        self, what: str, kind: Kind, commands: Sequence[Sequence[str]], count: int, **extra: Any
    ) -> Rate:
        """Run programs that talk side by side, `count` notifications in all, and take their rate.

        Raises:
            RuntimeError: some were refused.
        """
        programs = [self.program("clients", *command, **extra) for command in commands]
        try:
            for program in programs:
                program.hear()
            before = cpu_by_role()
            found = run_together(programs)
            cpu = difference(cpu_by_role(), before)
        finally:
            for program in programs:
                program.stop()
        refused = sum(each.get("refused", 0) for each in found)
        if refused:
            raise RuntimeError(f"{what}: {refused} of {count} were refused")
        seconds = max(each["ended"] for each in found) - min(each["began"] for each in found)
        return Rate(what=what, kind=kind, count=count, seconds=seconds, cpu=cpu)


class Installation:
    """Tocsin on a database and a virtual host of its own, with its tables open in this process too. A context manager.

    Args:
        settings: beyond the defaults, by environment variable.
    """

    def __init__(self, stack: Stack, settings: Mapping[str, str] | None = None) -> None:
        self.stack = stack
        self.database_url = stack.postgres.create_database()
        self.broker_url = stack.rabbitmq.create_vhost()
        key = Fernet.generate_key().decode()
        self._metrics = stack.directory / f"metrics-{self.broker_url.rpartition('/')[2]}"
        self.environment = clean_environment() | {
            name: value for name, value in stack.far.environment.items() if name.startswith("TOCSIN_")
        }
        self.environment |= {
            "TOCSIN_DATABASE_URL": self.database_url,
            "TOCSIN_BROKER_URL": self.broker_url,
            "TOCSIN_SECRET_KEYS": key,
            "TOCSIN_METRICS_PORT": str(free_port()),
            "dramatiq_prom_db": str(self._metrics),
            **(settings or {}),
        }
        self._opened: Any = open_database(load_settings(database_url=self.database_url, secret_keys=key))
        forget_rules()
        forget_channels()
        self._groups: list[Program] = []

    def __enter__(self) -> Self:
        migrate()
        with transaction():
            Tenant.create(tenant_id=TENANT)
        return self

    def __exit__(self, *_: object) -> None:
        for group in self._groups:
            group.stop()
        self._opened.close_all()
        self.stack.postgres.drop_database(self.database_url)
        self.stack.rabbitmq.drop_vhost(self.broker_url)

    def hook(self, name: str, url: str, **rule: Any) -> None:
        """A webhook channel that hears of what a rule says; of everything without one."""
        self.channel(name, "webhook", {"url": url}, **rule)

    def channel(self, name: str, channel_type: str, config: dict[str, Any], **rule: Any) -> int:
        """A channel with one rule; its id."""
        with transaction():
            channel = Channel.create(tenant=TENANT, name=name, channel_type=channel_type, config=config)
            RoutingRule.create(tenant=TENANT, name=name, channel=channel, **rule)
        return int(channel.id)

    def devices(self, platform: str, count: int, *, users: int = 100) -> None:
        """Devices of users u0, u1, ..., written as the product writes them."""
        subscription = self.stack.far.subscribe() if platform == "web" else None
        rows = []
        for number in range(count):
            row: dict[str, Any] = {
                "tenant_id": TENANT,
                "user_id": f"u{number % users}",
                "platform": platform,
                "address_hash": f"{platform}-{number:050}",
                "token": f"{number:064x}" if platform == "ios" else f"bench:{number:0140}",
            }
            if subscription is not None:
                endpoint = f"{self.stack.far.url}/push/bench-{number}"
                row |= {"token": "", "subscription": {**subscription, "endpoint": endpoint}}
            rows.append(row)
        with transaction():
            for start in range(0, count, 5000):
                bulk.insert(Device, rows[start : start + 5000])

    def start_workers(self) -> list[Program]:
        """Start the worker groups, and wait until all of their processes consume, and the one with the metrics answers.

        That one is the last to begin, and would take its start's processor time from the first thing measured.
        """
        self._metrics.mkdir(exist_ok=True)
        workers = self.stack.workers
        for _ in range(workers.groups):
            command = ["dramatiq", "actors", "--processes", str(workers.processes)]
            command += ["--threads", str(workers.threads)]
            self._groups.append(
                self.stack.program("workers", *command, environment=self.environment, talks=False)
            )
        expected = workers.groups * workers.processes
        wait_until(lambda: self._consumers() >= expected, 60, "workers", describe=self._groups[-1].tail)
        wait_until(self._has_metrics, 60, "the workers' metrics", describe=self._groups[-1].tail)
        return self._groups

    def producer(self, *arguments: str) -> Program:
        """A producer that is ready to begin."""
        program = self.stack.program(
            "producer", "bench.producer", "--tenant", TENANT, *arguments, environment=self.environment
        )
        program.hear()
        return program

    def measure(self, what: str, count: int, arrived: Callable[[], int], producer: Program) -> Rate:
        """Have a producer begin, wait until `count` notifications arrived and every delivery is settled.

        Raises:
            RuntimeError: more arrived than were sent, or the record says otherwise.
        """
        before = cpu_by_role()
        producer.say("go")
        ended = self.wait(lambda: arrived() >= count, what)
        began = producer.hear()["began"]
        self.wait(lambda: self.unfinished() == 0, f"{what}: the record")
        cpu = difference(cpu_by_role(), before)
        producer.stop()
        if arrived() != count:
            raise RuntimeError(f"{what}: {arrived()} arrived of {count}")
        with connection():
            totals = ledger.conservation(TENANT)
        if totals["in_progress"] or totals["failed"] or totals["expired"]:
            raise RuntimeError(f"{what}: {totals}")
        return Rate(what=what, kind="tocsin", count=count, seconds=ended - began, cpu=cpu)

    def wait(self, done: Callable[[], bool], what: str, look: float = LOOK) -> float:
        """Wait; the Unix time at which it was done.

        Raises:
            TimeoutError: it was not, in time, or the workers ended.
        """
        deadline = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > deadline or not all(group.is_running() for group in self._groups):
                logs = "\n".join(group.tail() for group in self._groups)
                raise TimeoutError(f"gave up waiting for {what}\n{logs}")
            time.sleep(look)
        return time.time()

    def unfinished(self) -> int:
        """Alerts, jobs and deliveries that still have something to be done, from their partial indexes."""
        sql = " + ".join(
            f"(SELECT count(*) FROM {table} WHERE sweep_at IS NOT NULL)"  # noqa: S608  # names are ours
            for table in ("alerts", "notification_jobs", "deliveries")
        )
        return int(self.ask(f"SELECT {sql}"))

    def delivered(self) -> int:
        """Deliveries that the jobs count as delivered."""
        return int(self.ask("SELECT COALESCE(sum(delivered), 0) FROM notification_jobs"))

    def ask(self, sql: str) -> Any:
        """The first value of a query."""
        with connection():
            return database.execute_sql(sql).fetchone()[0]

    def _has_metrics(self) -> bool:
        url = f"http://127.0.0.1:{self.environment['TOCSIN_METRICS_PORT']}/metrics"
        try:
            return httpx.get(url).is_success
        except httpx.TransportError:
            return False

    def _consumers(self) -> int:
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.broker_url))) as asking:
            try:
                return int(
                    asking.channel().queue_declare("tocsin.deliver", passive=True).method.consumer_count
                )
            except pika.exceptions.ChannelClosedByBroker:  # nobody has declared it yet
                return 0


def private_directory() -> Path:
    """Where a run keeps its logs: below the system's temporary directory, readable for nginx's worker."""
    directory = Path(tempfile.mkdtemp(prefix="tocsin-bench-"))
    directory.chmod(0o755)
    return directory
