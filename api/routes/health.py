"""Whether this process lives and can work, and its metrics. No key: probes and scrapers have none.

`/metrics` speaks of all tenants in sum. Where others than the operator reach this port, a proxy keeps them from it.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

import pika
from fastapi import APIRouter, Request
from starlette.responses import Response

from actors.declare import declare
from actors.exposition import BacklogCollector, SharedFiles
from actors.rabbitmq import UNREACHABLE
from api.describe import Responses, answer, problems
from api.responses import IndentedJson, Json
from api.work import Probe
from config.logging import get_logger
from model.database import DATABASE_AWAY, connection, database
from model.migrate import pending

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from config import Settings

router = APIRouter(tags=["operation"], route_class=Probe)

#: Seconds for which an answer about the broker holds: a connection a probe is enough.
BROKER_HOLDS = 5.0

_TEXT: Responses = {
    200: {
        "description": "Prometheus' text format.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}

log = get_logger(__name__)


@router.get("/healthz", summary="Liveness", responses=answer(200, "This process answers.", "Liveness"))
async def healthz() -> Json:
    """Says nothing about the database or the broker: a restart of this process would mend neither."""
    return Json({"status": "ok"})


@router.get(
    "/readyz",
    summary="Readiness",
    responses=answer(200, "It can accept alerts.", "Readiness") | answer(503, "It cannot.", "Readiness"),
)
def readyz(request: Request) -> IndentedJson:
    """A line a part. A broker that is away leaves this process ready: alerts are accepted without it."""
    state = request.app.state
    parts = {"database": _database()}
    if parts["database"] == "ok":
        parts["migrations"] = _migrations()
    must = list(parts.values())
    parts["broker"] = state.broker_probe.look()
    if state.worker is not None:
        dead = sum(not thread.is_alive() for thread in state.worker.workers)
        parts["worker"] = f"{dead} of its threads are dead" if dead else "ok"
        must.append(parts["worker"])
    ready = all(part == "ok" for part in must)
    return IndentedJson({"ready": ready, "parts": parts}, status_code=200 if ready else 503)


def _database() -> str:
    try:
        with connection():
            database.execute_sql("SELECT 1").fetchone()
    except DATABASE_AWAY as error:
        log.warning("database_away", why=str(error).strip() or type(error).__name__)
        return "away"
    return "ok"


def _migrations() -> str:
    try:
        lacking = pending()
    except DATABASE_AWAY:
        return "the database went away"
    return f"pending: {', '.join(lacking)}; run `tocsin migrate`" if lacking else "ok"


class BrokerProbe:
    """Looks whether the broker can be reached, on a connection of its own that it closes."""

    def __init__(self, settings: Settings) -> None:
        self._urls = settings.broker_url.get_secret_value().split(";")
        self._lock = threading.Lock()
        self._seen: tuple[float, str] | None = None

    def look(self) -> str:
        """`ok`, or that it is away; seen at most so many seconds ago."""
        if self._urls == ["memory://"]:
            return "ok"
        with self._lock:
            if self._seen is None or time.monotonic() - self._seen[0] > BROKER_HOLDS:
                found = (
                    "ok"
                    if any(map(_answers, self._urls))
                    else "away; alerts are accepted, and sent on when it is back"
                )
                self._seen = (time.monotonic(), found)
            return self._seen[1]


def _answers(url: str) -> bool:
    parameters = pika.URLParameters(url)
    parameters.connection_attempts = 1
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = 2
    try:
        pika.BlockingConnection(parameters).close()
    except UNREACHABLE:
        return False
    return True


@router.get(
    "/metrics",
    summary="Metrics",
    response_class=Response,
    responses=_TEXT | problems(500),
)
def metrics() -> Response:
    """This process's metrics, or those of all worker processes where they share files, and the backlog."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest  # noqa: PLC0415  # see config.metrics

    registry = CollectorRegistry()
    if shared := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry.register(SharedFiles(shared))
    else:
        registry.register(_ThisProcess())
    registry.register(BacklogCollector())
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _ThisProcess:
    """Whatever this process counts, and all that it might."""

    def collect(self) -> Iterator[Metric]:
        from prometheus_client import REGISTRY  # noqa: PLC0415  # as above

        declare()
        yield from REGISTRY.collect()
