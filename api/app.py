"""The app: routes, limits and errors put together. `tocsin serve` runs it; nothing is made when this is imported."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from fastapi import FastAPI

from actors.accepting import accept_all
from actors.runtime import Runtime
from api import openapi, problems, reference
from api.auth import look_up
from api.console import mount as console
from api.gather import Gather
from api.limits import Buckets, Limits
from api.middleware import RequestContext
from api.responses import Json
from api.routes import alerts, channels, health, ingest, jobs, rules, users
from api.testing import Tests
from api.waiting import Waiting
from api.work import FEWEST, INTAKE, PROBES, PUBLISHERS, Workshop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dramatiq import Worker

    from config import Settings

#: Database connections that are left to an embedded worker and its sweep.
WORKERS_SHARE = 6


def create_app(settings: Settings, *, limits: Limits | None = None, worker: Worker | None = None) -> FastAPI:
    """The HTTP API. The database must be open (`model.database.open_database`) before the first request.

    Args:
        settings: this process's.
        limits: of bodies and rates.
        worker: the one that runs in this process, which readiness then speaks of.
    """
    limits = limits or Limits()
    app = FastAPI(
        title="Tocsin",
        version=_version(),
        openapi_url="/openapi.json",
        docs_url=None,  # FastAPI's page loads its script from the internet; ours is at /docs
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=Json,
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.limits = limits
    app.state.worker = worker
    app.state.buckets = Buckets(limits.rate, limits.burst)
    app.state.failures = Buckets(limits.failures, limits.failure_burst)
    app.state.tests = Tests()
    app.state.waiting = Waiting()
    # Whoever runs the server puts here what knows that it is about to end, which must not wait for streams and waiters.
    app.state.is_stopping = lambda: False
    app.state.broker_probe = health.BrokerProbe(settings)
    problems.add_handlers(app)
    app.add_middleware(RequestContext)
    for module in (alerts, ingest, channels, rules, users, jobs, health):
        app.include_router(module.router)
    reference.add_to(app)
    console.add_to(app)

    def describe() -> dict[str, Any]:
        return openapi.document(app)

    app.openapi = describe  # type: ignore[method-assign]  # the way that FastAPI documents
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """What lives as long as the app: its threads, and the senders for channel tests on a loop of their own."""
    settings = app.state.settings
    # A thread asks for a connection at some time or other. Fewer threads than connections: none waits for one. Beside
    # an embedded worker the default pool has fewer, but six that nobody keeps from intake for longer than a moment.
    taken = INTAKE + PUBLISHERS + PROBES + (WORKERS_SHARE if app.state.worker is not None else 0)
    spare = settings.database_pool - taken
    console = max(FEWEST, spare // 2)
    anyio.to_thread.current_default_thread_limiter().total_tokens = console
    readers = max(FEWEST, spare - console)
    workshop = Workshop(readers)
    app.state.workshop = workshop
    # Alerts do not take all of intake's threads: whoever brings the next ones is to be known meanwhile.
    app.state.intake = Gather(workshop.intake, accept_all, at_once=INTAKE - FEWEST)
    app.state.intake_keys = Gather(workshop.intake, look_up, at_once=INTAKE - FEWEST)
    app.state.keys = Gather(workshop.readers, look_up, at_once=readers)
    app.state.runtime = Runtime(settings)
    app.state.runtime.start()
    try:
        yield
    finally:
        await anyio.to_thread.run_sync(app.state.workshop.close)
        await anyio.to_thread.run_sync(app.state.runtime.stop)


def _version() -> str:
    try:
        return version("tocsin")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
