"""What each stage of a notification costs in processor time: `python -m bench.stages`.

The steps are called one after the other in this process, on a real PostgreSQL and a real receiver, with nobody else in
the way: the intake; what a worker's thread does then, from matching to settling; and the sends, on the event loop
meanwhile. A hundred alerts at a time or as many as `--batch` says, one webhook each. `--profile STAGE` shows by
library and by function where the stage's thread spends its time, waiting for the database included.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import gc
import os
import pstats
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography.fernet import Fernet

from bench.load import alert
from bench.nginx import Nginx
from bench.processes import cpu_by_role
from tests.servers import PostgresServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from actors.runtime import Runtime

T = TypeVar("T")

#: File, line, name.
Function = tuple[str, int, str]
Spent = tuple[int, int, float, float, "dict[Function, tuple[int, int, float, float]]"]

ROOT = Path(__file__).parents[1]

STAGES = ("intake", "work", "sends")

#: Alerts of one message at most (actors.handing, which cannot be imported yet).
BATCH = 100

TENANT = "bench"


def main() -> None:
    """Print, for each stage, microseconds of this process and of PostgreSQL's for one notification."""
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description=__doc__.splitlines()[0])
    parser.add_argument("--alerts", type=int, default=4000, help="of one round")
    parser.add_argument(
        "--batch",
        type=int,
        default=BATCH,
        choices=range(1, BATCH + 1),
        metavar="1-100",
        help="alerts of one call and one message",
    )
    parser.add_argument("--rounds", type=int, default=4, help="the first one warms up")
    parser.add_argument("--profile", choices=STAGES, help="of the last round")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="tocsin-bench-") as name,
        PostgresServer(durable=True) as postgres,
    ):
        directory = Path(name)
        directory.chmod(0o755)
        with Nginx(directory) as nginx:
            metrics = directory / "metrics"
            metrics.mkdir()
            # As in a worker process: these are read when the chain is imported.
            os.environ |= {
                "TOCSIN_DATABASE_URL": postgres.create_database(),
                "TOCSIN_BROKER_URL": "memory://",
                "TOCSIN_SECRET_KEYS": Fernet.generate_key().decode(),
                "TOCSIN_ALLOWED_NETWORKS": "127.0.0.0/8",
                "TOCSIN_LOG_FORMAT": "json",
                "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            }
            with (directory / "log").open("w") as log:
                sys.stderr = log
                _rounds(nginx.url, options)
                sys.stderr = sys.__stderr__


def _rounds(url: str, options: argparse.Namespace) -> None:
    import actors  # noqa: PLC0415  # reads the settings
    from actors.runtime import calm_the_collector  # noqa: PLC0415
    from config.logging import configure_logging  # noqa: PLC0415
    from model.database import database, transaction  # noqa: PLC0415
    from model.migrate import migrate  # noqa: PLC0415
    from model.tables import Channel, RoutingRule, Tenant  # noqa: PLC0415

    configure_logging(actors.runtime.settings)
    migrate()
    with transaction():
        Tenant.create(tenant_id=TENANT)
        channel = Channel.create(tenant=TENANT, name="hook", channel_type="webhook", config={"url": url})
        RoutingRule.create(tenant=TENANT, name="all", channel=channel)
    actors.runtime.start()
    calm_the_collector()
    for number in range(options.rounds):
        cost = _round(number, options, options.profile if number == options.rounds - 1 else None)
        if number:
            parts = "  ".join(f"{stage} {own:.0f} + {theirs:.0f}" for stage, (own, theirs) in cost.items())
            own, theirs = (sum(each[which] for each in cost.values()) for which in (0, 1))
            print(
                f"us a notification, Python + PostgreSQL:  {parts}  in all {own:.0f} + {theirs:.0f}",
                flush=True,
            )
    actors.runtime.stop()
    opened: Any = database.obj
    opened.close_all()


def _round(number: int, options: argparse.Namespace, profile: str | None) -> dict[str, tuple[float, float]]:
    """All stages of so many alerts, one after the other; (this process's, PostgreSQL's) microseconds of each."""
    import actors  # noqa: PLC0415  # as above
    from model.database import connection  # noqa: PLC0415
    from model.tables import Delivery  # noqa: PLC0415

    accepted: list[int] = []

    def intake(alerts: list[Any]) -> None:
        accepted.extend(actors.dispatch_alerts(alerts, tenant_id=TENANT).ids)

    alerts = [alert(f"{number}-{n}", alert_type="any", severity=2) for n in range(options.alerts)]
    size = options.batch
    with _profiled(profile == "intake"):
        own, _, theirs = _measure(intake, alerts, size)
    cost = {"intake": (own, theirs)}
    with _profiled(profile == "work"), _profiled(profile == "sends", on=actors.runtime):
        own, loop, theirs = _measure(actors.match_rules.fn, accepted, size)
    cost |= {"work": (own - loop, theirs), "sends": (loop, 0.0)}
    with connection():
        undone = Delivery.select().where(Delivery.state != "DELIVERED").count()
    if undone:
        sys.exit(f"{undone} deliveries were not made at once, and would be missing in the cost")
    # Nobody took the messages, which the intake made besides.
    for queue in actors.broker.get_declared_queues():
        actors.broker.flush(queue)
    return cost


def _measure(step: Callable[[list[Any]], object], items: list[Any], size: int) -> tuple[float, float, float]:
    """Microseconds of processor time for one of the items: of this process, of its event loop, and of PostgreSQL's."""
    gc.collect()
    before = _clocks()
    for start in range(0, len(items), size):
        step(items[start : start + size])
    own, loop, theirs = (1e6 * (now - then) / len(items) for now, then in zip(_clocks(), before, strict=True))
    return own, loop, theirs


def _clocks() -> tuple[float, float, float]:
    import actors  # noqa: PLC0415  # as above

    return (
        time.process_time(),
        actors.runtime.run(_on_loop(time.thread_time)),
        cpu_by_role().get("PostgreSQL", 0.0),
    )


async def _on_loop(call: Callable[[], T]) -> T:
    return call()


@contextlib.contextmanager
def _profiled(wanted: bool, on: Runtime | None = None) -> Iterator[None]:  # noqa: FBT001  # reads as what it is
    """Show in the end where this thread, or a runtime's event loop, spent its time."""
    if not wanted:
        yield
        return
    profile = cProfile.Profile()

    def here(call: Callable[[], None]) -> None:
        call() if on is None else on.run(_on_loop(call))

    here(profile.enable)
    yield
    here(profile.disable)
    stats = pstats.Stats(profile)
    times = libraries(stats.stats)  # type: ignore[attr-defined]  # typeshed lacks it
    whole = sum(times.values())
    shares = sorted(((time / whole, name) for name, time in times.items()), reverse=True)
    print("by library:", ", ".join(f"{name} {share:.0%}" for share, name in shares[:12]))
    stats.sort_stats("tottime").print_stats(40)


def libraries(stats: Mapping[Function, Spent]) -> dict[str, float]:
    """Seconds by library, or by folder of ours. What a built-in function takes is its callers'.

    Args:
        stats: of a pstats.Stats, by function: calls, calls but for recursive ones, seconds in it, seconds in it and
            what it calls, and the same four for each caller.
    """
    times: defaultdict[str, float] = defaultdict(float)
    for function, (*_, own, _total, callers) in stats.items():
        if function[0] == "~" and callers:
            for caller, spent in callers.items():
                times[_library(caller[0])] += spent[2]
        else:
            times[_library(function[0])] += own
    return times


def _library(file: str) -> str:
    path = Path(file)
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1].removesuffix(".py")
    if path.is_relative_to(ROOT):
        return path.relative_to(ROOT).parts[0]
    return "Python"


if __name__ == "__main__":
    main()
