"""Metrics over all worker processes: Dramatiq's own and ours from the shared files, and the backlog from the database.

Served by a process of its own beside the workers (a Dramatiq "fork") on TOCSIN_METRICS_HOST:TOCSIN_METRICS_PORT.
"""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from dramatiq.errors import BrokerError
from dramatiq.middleware import Middleware, prometheus
from dramatiq.middleware.prometheus import Prometheus

from actors.declare import declare
from actors.metrics_files import shared_directory
from actors.rabbitmq import ConfirmingRabbitmqBroker
from config import get_settings
from config.logging import configure_logging, get_logger
from model.database import DATABASE_AWAY, connection, open_database
from model.status import backlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dramatiq import Broker
    from prometheus_client import CollectorRegistry, Metric
    from prometheus_client.core import GaugeMetricFamily, Sample

    from config import Settings

#: Seconds that a client has for each step of its request: one that says nothing keeps its thread no longer.
PATIENCE = 10.0

#: What to do where the metrics cannot be served, by the system's error. In use: another group of workers serves there.
REMEDIES = {
    errno.EADDRINUSE: "TOCSIN_METRICS_PORT, or dramatiq_prom_db to share files with the other group",
    errno.EACCES: "TOCSIN_METRICS_PORT must be one that this user may listen on, such as 9191",
}
WRONG_HOST = "TOCSIN_METRICS_HOST must be an address of this machine"

log = get_logger(__name__)


class SharedMetrics(Middleware):
    """Adds Dramatiq's metrics in a worker process of its CLI, and only there. Must be the first middleware.

    Anything else that holds a broker (a producer, `tocsin send`) never emits `process_boot` and keeps its metrics, if
    it has any, in memory.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def after_process_boot(self, broker: Broker) -> None:
        """Point prometheus_client at the shared directory, before anybody imports it."""
        metrics = _Prometheus(self._settings)
        metrics.after_process_boot(broker)
        broker.middleware.insert(0, metrics)


class _Prometheus(Prometheus):
    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def after_process_boot(self, broker: Broker) -> None:
        """As Dramatiq's, in the group's own directory."""
        # All that it does with files goes by this name, and nothing before this.
        prometheus.DB_PATH = shared_directory()
        super().after_process_boot(broker)  # type: ignore[no-untyped-call]  # Dramatiq's

    @property
    def forks(self) -> list[Callable[[], int]]:
        """Ours in place of Dramatiq's own, which listens on every address."""
        return [serve_metrics] if self._settings.metrics_port else []


class DeadLetterCollector:
    """What lies in the broker's dead-letter queues. Nothing while it is away, or where it is the process's own."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge, a label for the queue."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  # see config.metrics

        from actors.broker import broker  # noqa: PLC0415  # which imports this module for its middleware

        number = GaugeMetricFamily(
            "tocsin_dead_letters", "Messages that nobody could work on.", labels=["queue"]
        )
        if isinstance(broker, ConfirmingRabbitmqBroker):
            try:
                with contextlib.suppress(BrokerError, OSError):
                    for queue in sorted(broker.get_declared_queues()):
                        number.add_metric([queue], broker.dead_letters(queue))
            finally:
                # It is this thread's, and the thread ends with the answer.
                del broker.connection
        yield number


class BacklogCollector:
    """What the database knows better than any process: work in progress, and how old the oldest of it is.

    Nothing while it is away: its absence must not hide the rest.
    """

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge for the number, one for the age in seconds; a label for the stage."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  # see config.metrics

        number = GaugeMetricFamily("tocsin_in_progress", "Work in progress.", labels=["stage"])
        age = GaugeMetricFamily(
            "tocsin_oldest_pending_seconds", "Age of the oldest work in progress.", labels=["stage"]
        )
        try:
            with connection():
                stages = backlog()
        except DATABASE_AWAY as error:
            log.warning("database_away", why=str(error).strip() or type(error).__name__)
            return
        for stage in stages:
            number.add_metric([stage.name], stage.count)
            age.add_metric([stage.name], stage.oldest_seconds)
        yield number
        yield age


class SharedFiles:
    """What processes count in the files of a directory, in sum, and all that they might count."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)

    def collect(self) -> Iterator[Metric]:
        """All of it, and zeros for what nobody has counted yet."""
        counted = {family.name: family for family in self._counted()}
        for family in declare().collect():
            found = counted.setdefault(family.name, family)
            if found is not family:
                there = {_series(sample) for sample in found.samples}
                found.samples += [sample for sample in family.samples if _series(sample) not in there]
            # A sum over processes has no moment of its creation.
            found.samples = [each for each in found.samples if not each.name.endswith("_created")]
        yield from counted.values()

    def _counted(self) -> Iterable[Metric]:
        """What the files hold, but for empty ones: with those prometheus_client's own collector answers nothing at all.

        Such a file is of a process that has just made it, or was killed before it wrote into it.
        """
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415  # see config.metrics

        files = [str(file) for file in self._directory.glob("*.db") if _size(file)]
        merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return merged


def _series(sample: Sample) -> tuple[object, ...]:
    """By what Prometheus tells it from others."""
    return (sample.name, *sorted(sample.labels.items()))


def _size(file: Path) -> int:
    """Bytes of a file; of one that a process took away as it ended, none."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def registry() -> CollectorRegistry:
    """All metrics of all processes of this worker group."""
    from prometheus_client import CollectorRegistry  # noqa: PLC0415  # see config.metrics

    collected = CollectorRegistry()
    collected.register(SharedFiles(shared_directory()))
    collected.register(BacklogCollector())
    collected.register(DeadLetterCollector())
    return collected


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection: one that stays open and silent holds up nobody else's."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def handle(self) -> None:
        """As wsgiref's, but who says nothing, or goes away, leaves no traceback."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            super().handle()


def make_metrics_server(settings: Settings) -> WSGIServer:
    """What listens where the settings say.

    Raises:
        OSError: it cannot, since somebody else does, or this machine has no such address.
        UnicodeError: the host is a name that cannot be one.
    """
    from prometheus_client import make_wsgi_app  # noqa: PLC0415  # see config.metrics

    app = make_wsgi_app(registry())
    return make_server(settings.metrics_host, settings.metrics_port, app, _Server, _Handler)


def serve_metrics() -> int:
    """Serve until the signal to stop; the exit status."""
    settings = get_settings()
    configure_logging(settings)
    open_database(settings)
    try:
        server = make_metrics_server(settings)
    except (OSError, UnicodeError) as error:
        # The workers must not end for this.
        log.warning(
            "metrics_not_served",
            host=settings.metrics_host,
            port=settings.metrics_port,
            why=str(error),
            remedy=REMEDIES.get(getattr(error, "errno", 0), WRONG_HOST),
        )
        signal.pause()
        return 0
    server.serve_forever()
    return 0
