"""`serve`: the HTTP API and, on the embedded default, the chain in the same process."""

from __future__ import annotations

import signal
import socket
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from cli import show  # noqa: TC001  # Typer reads the annotations
from cli.chain import STOP, is_embedded
from cli.errors import OK, CommandError
from cli.session import log_as_json, open_to_work

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dramatiq import Worker

    from config import Settings

#: Threads of the worker in this process.
THREADS = 4
#: Seconds that requests in hand have to end when the server does.
GRACE = 10
#: Connections that wait to be accepted.
BACKLOG = 1024


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(serve)


def serve(
    *,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")] = 8000,
    with_worker: Annotated[
        bool, typer.Option("--with-worker", help="Also work here; always so with memory://.")
    ] = False,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of the worker.")] = THREADS,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.1, help="Requests a second for each key; by default 200.")
    ] = None,
    burst: Annotated[
        int | None, typer.Option("--burst", min=1, help="Requests at once for each key; by default 400.")
    ] = None,
    max_body: Annotated[
        int | None, typer.Option("--max-body", min=1024, help="Bytes of a request; by default 8 MiB.")
    ] = None,
    json: show.JsonLog = False,
) -> int:
    """Serve the API and the console. On the embedded default the chain runs here too: nothing else is to start."""
    if json:
        log_as_json()
    settings = open_to_work()
    import uvicorn  # noqa: PLC0415  # `--help` need not wait for it

    from api.app import create_app  # noqa: PLC0415
    from api.limits import Limits  # noqa: PLC0415
    from cli.heads import HeadInTime  # noqa: PLC0415
    from config.logging import configure_logging  # noqa: PLC0415

    # A server's log is what it does, and not only what went wrong.
    configure_logging(settings)
    given = {"rate": rate, "burst": burst, "body_bytes": max_body}
    limits = Limits(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]  # by name
    listener = _listen(host, port)
    with _worker(threads) if with_worker or is_embedded(settings) else nullcontext() as worker:
        app = create_app(settings, limits=limits, worker=worker)
        _greet(settings, listener, as_json=json)
        config = uvicorn.Config(
            app,
            http=HeadInTime,
            log_config=None,
            access_log=False,  # api.middleware writes that line
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            # The server has handlers of its own while it runs, and raises the signal again when it has stopped: that
            # must not end the process before the worker has.
            signal.signal(number, lambda *_: None)
        server = uvicorn.Server(config)
        # Streams of live pages and waits for results end with the server, which else waits for them as long as it may.
        app.state.is_stopping = lambda: server.should_exit
        server.run(sockets=[listener])
    return OK


def _listen(host: str, port: int) -> socket.socket:
    """Bind before anything else is started, so that a port in use is one line and not half a server."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CommandError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None


@contextmanager
def _worker(threads: int) -> Iterator[Worker]:
    from dramatiq import Worker  # noqa: PLC0415  # as above

    from actors import broker  # noqa: PLC0415
    from cli.worker_metrics import WorkerMetrics  # noqa: PLC0415

    WorkerMetrics().add_to(broker)
    worker = Worker(broker, worker_timeout=100, worker_threads=threads)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(timeout=STOP)


def _greet(settings: Settings, listener: socket.socket, *, as_json: bool) -> None:
    """Say where it listens and, once in an installation's life, with which key."""
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    made = first_key(settings)
    if as_json:
        import orjson  # noqa: PLC0415  # as above

        key_made = {"tenant": made[0], "key": made[1]} if made is not None else None
        # One line, as those of the log are.
        print(orjson.dumps({"listens_on": address, "first_key": key_made}).decode(), flush=True)
        return
    print(f"Tocsin listens on {address} with the console at /, the calls described at /docs", flush=True)
    if made is not None:
        tenant_id, key = made
        print(
            f'\nFirst start: made an admin key of tenant "{tenant_id}". It is not shown again; '
            f"`tocsin key create` makes others.\n\n  {key}\n",
            flush=True,
        )


def first_key(settings: Settings) -> tuple[str, str] | None:
    """On an SQLite database that never had a key: the only tenant, or `default`, and an admin key of it.

    Elsewhere None: with PostgreSQL keys are a deployment's, and of several tenants none is the one to choose.
    """
    from admin.keys import create_key  # noqa: PLC0415  # as above
    from admin.tenants import resolve  # noqa: PLC0415
    from model.database import transaction  # noqa: PLC0415
    from model.tables import ApiKey  # noqa: PLC0415

    if not settings.is_sqlite:
        return None
    with transaction():  # of two that start at once the second finds the first one's key
        if ApiKey.select().exists():
            return None
        try:
            tenant_id = resolve(None)
        except LookupError:
            return None
        _, key = create_key(tenant_id, "admin", name="first start")
    return tenant_id, key
