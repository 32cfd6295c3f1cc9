"""`worker`, `doctor`, `prune`, `replay`: keeping an installation at work."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cli import show
from cli.chain import STOP, is_embedded, show_summary, summary_document, wait, working
from cli.configure import moment_of
from cli.errors import ERROR, OK, UNDELIVERED, CommandError
from cli.session import log_as_json, open_all, open_to_work

if TYPE_CHECKING:
    from config import Settings

#: Threads of a worker process. They wait for the database and for the batch that the event loop sends, not
#: for each target, so that a few keep a processor busy.
THREADS = 8

#: Days: a hundred years. What is older no calendar needs to hold.
OLDEST = 36_500

#: Seconds between two looks whether a worker is to end.
LOOK = 0.1


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(worker)
    app.command()(replay)
    app.command()(doctor)
    app.command()(prune)


def worker(
    *,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes", "-p", min=1, help="By default one a processor; always one with memory://."
        ),
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of each process.")] = THREADS,
    json: show.JsonLog = False,
) -> int:
    """Work: match, fan out and deliver until told to stop. `dramatiq actors` does the same."""
    if json:
        log_as_json()
    settings = open_to_work()
    if not is_embedded(settings):
        return _become_workers(processes or os.cpu_count() or 1, threads)
    if processes not in (None, 1):
        raise CommandError(
            "--processes: memory:// is the queue of one process; set TOCSIN_BROKER_URL to have more"
        )
    return _work_here(settings, threads)


def _become_workers(processes: int, threads: int) -> NoReturn:
    """Dramatiq's own command takes this process's place, and its signals."""
    command = [
        sys.executable, "-m", "dramatiq", "actors", "--processes", str(processes), "--threads", str(threads),
        "--skip-logging",
    ]  # fmt: skip
    os.execv(sys.executable, command)  # noqa: S606  # see above


def _work_here(settings: Settings, threads: int) -> int:
    """The whole chain in this process, until SIGTERM or SIGINT, on what others put into the database."""
    from dramatiq import Worker  # noqa: PLC0415  # `--help` need not wait for it

    from actors import broker  # noqa: PLC0415
    from config.logging import configure_logging, get_logger  # noqa: PLC0415

    # Dramatiq's command would have it set up at the boot of each process, of which there is none here.
    configure_logging(settings)
    # Neither an Event nor a queue: their locks are no place for a handler, which runs in the thread that waits.
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    working_here = Worker(broker, worker_timeout=100, worker_threads=threads)
    working_here.start()
    log = get_logger("tocsin.worker")
    log.info(
        "worker_started",
        threads=threads,
        database=str(settings.sqlite_path) if settings.is_sqlite else "postgresql",
    )
    while not told:
        time.sleep(LOOK)
    working_here.stop(timeout=STOP)
    log.info("worker_stopped")
    return OK


def replay(
    reference: Annotated[
        str | None,
        typer.Argument(
            help="One job, by its id or its alert's; by default all that the options choose.", metavar="JOB"
        ),
    ] = None,
    *,
    tenant: show.TenantOption = None,
    channel: Annotated[
        str | None, typer.Option("--channel", help="Only this channel, by name or id.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Only this reason, such as exhausted.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="What ended from this time on (RFC 3339).")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="What ended before this time (RFC 3339).")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="How many deliveries to send at most.")
    ] = 10_000,
    everything: Annotated[
        bool, typer.Option("--all", help="All that failed, where nothing else is chosen.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Wait at most so many seconds.")] = 600,
    json: show.Json = False,
) -> int:
    """Deliver again what failed or expired. On the embedded default it is done here."""
    chosen = (reference, channel, reason, since, until)
    if not everything and all(each is None for each in chosen):
        raise CommandError("say what to replay: a job, --channel, --reason, --since, --until, or --all")
    settings = open_all()
    from admin.jobs import find_job  # noqa: PLC0415  # `--help` need not wait for it
    from admin.progress import groups, summary  # noqa: PLC0415
    from admin.replay import Filter  # noqa: PLC0415
    from admin.replay import replay as run  # noqa: PLC0415
    from admin.tenants import resolve  # noqa: PLC0415
    from model.database import connection  # noqa: PLC0415

    with connection():
        tenant_id = resolve(tenant)
        job_id = find_job(tenant_id, reference).id if reference is not None else None
    wanted = Filter(
        job_id=job_id,
        channel=channel,
        reason=reason,
        since=moment_of(since, "--since") if since is not None else None,
        until=moment_of(until, "--until") if until is not None else None,
    )
    with working(settings):
        done = run(tenant_id, wanted, settings=settings, limit=limit)
        watched = groups(sorted(done.jobs), are_alerts=False) if is_embedded(settings) else []
        waited = wait(watched, timeout=timeout)
    with connection():
        found = summary(watched)
    if json:
        show.document(done.document() | (summary_document(found, waited) if watched else {}))
    else:
        show.note(f"tenant {tenant_id}: {done.deliveries} deliveries of {len(done.jobs)} jobs go out again")
        for why, number in sorted(done.skipped.items()):
            show.note(f"skipped: {number}, {why}")
        if done.more:
            show.note(f"more could go: the limit is {limit}; run it again")
        if watched:
            show_summary(found)
        for line in waited.lines():
            show.note(line)
    return UNDELIVERED if found.undelivered else OK


def doctor(*, json: show.Json = False) -> int:
    """Check every part, and say what to do. Ends with 1 if a part cannot work."""
    from admin.doctor import examine  # noqa: PLC0415  # `--help` need not wait for it
    from config import get_settings  # noqa: PLC0415
    from config.logging import configure_logging  # noqa: PLC0415
    from model.database import open_database  # noqa: PLC0415

    settings = get_settings()
    configure_logging(settings)
    open_database(settings)

    def queues() -> dict[str, tuple[int, int, int]]:
        from actors.broker import broker  # noqa: PLC0415  # as above
        from actors.roads import ACCEPT, QUEUES  # noqa: PLC0415  # only where there is a broker

        counts: Any = broker  # Dramatiq's interface of all brokers lacks what this one has
        return {name: counts.get_queue_message_counts(name) for name in (*QUEUES, ACCEPT)}

    found = examine(settings, queues)
    if json:
        show.document([each.document() for each in found])
    else:
        show.table(
            ("part", "status", "found", "what to do"), [(c.part, c.status, c.found, c.remedy) for c in found]
        )
    return ERROR if any(each.status == "fail" for each in found) else OK


def prune(
    *,
    tenant: show.TenantOption = None,
    days: Annotated[float, typer.Option("--days", help="Delete what ended so many days ago.")] = 90,
    device_days: Annotated[
        float | None, typer.Option("--device-days", help="Also devices disabled so many days ago.")
    ] = None,
    json: show.Json = False,
) -> int:
    """Delete jobs that ended long ago, with their deliveries, log and alerts; of all tenants by default."""
    for option, age in (("--days", days), ("--device-days", device_days)):
        if age is not None and not 0 <= age <= OLDEST:  # which NaN is not either
            raise CommandError(f"{option}: must be from 0 to {OLDEST}")
    open_all()
    from admin.prune import prune as run  # noqa: PLC0415  # `--help` need not wait for it
    from admin.tenants import resolve  # noqa: PLC0415
    from model.database import connection  # noqa: PLC0415

    with connection():
        tenant_id = resolve(tenant) if tenant is not None else None
    done = run(days=days, device_days=device_days, tenant_id=tenant_id)
    if json:
        show.document(done)
    else:
        show.table(("what", "deleted"), list(done.items()))
    return OK
