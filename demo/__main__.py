"""`make demo`: no server, no account, no question asked. Exit status 0 only if all came out as it should."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cli.main import mend_streams
from demo.scenario import STEPS, TENANT, configuration
from receivers import FarSide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.report import Line

#: Seconds until a step must have settled. The slowest waits out two retries.
PATIENCE = 30

COLOURS = {"DELIVERED": "green", "FAILED": "red", "SUPPRESSED": "yellow", "DEFERRED": "cyan"}


def main() -> int:
    """Run the day; the exit status."""
    mend_streams()
    console = Console(width=None if sys.stdout.isatty() else 140)
    began = time.monotonic()
    with FarSide() as far, tempfile.TemporaryDirectory(prefix="tocsin-demo-") as directory:
        for name in [name for name in os.environ if name.startswith("TOCSIN_")]:
            del os.environ[name]  # the demo is the same for everybody
        os.environ |= far.environment() | {
            "TOCSIN_DATABASE_URL": f"sqlite:///{Path(directory, 'demo.db')}",
            "TOCSIN_RETRY_MIN_BACKOFF": "0.5",
            "TOCSIN_LOG_LEVEL": "error",
        }
        problems = _run(console, far)
    seconds = time.monotonic() - began
    for problem in problems:
        console.print(f"[red]not as it should be:[/] {problem}")
    if problems:
        return 1
    console.print(
        f"\n[green]All as it should be[/], in {seconds:.0f} seconds. What next: README.md, `make serve`."
    )
    return 0


def _run(console: Console, far: FarSide) -> list[str]:
    # Imported here: the actors read the settings, which are only now what they should be.
    from dramatiq import Worker  # noqa: PLC0415

    import actors  # noqa: PLC0415
    from actors.boot import prepare  # noqa: PLC0415
    from admin.apply import apply  # noqa: PLC0415
    from config.logging import configure_logging  # noqa: PLC0415
    from demo import report  # noqa: PLC0415

    console.print("[bold]Tocsin[/] on its embedded default: SQLite, an in-process queue, local receivers.\n")
    configure_logging(actors.runtime.settings)
    prepare()
    diff = apply(
        configuration(far, now=datetime.now(UTC)), allowed_networks=actors.runtime.settings.allowed_networks
    )
    console.print(f"Configuration applied: {len(diff.changes)} things added for tenant {diff.tenant_id}.\n")
    worker = Worker(actors.broker, worker_threads=4, worker_timeout=50)
    worker.start()
    problems: list[str] = []
    try:
        for number, step in enumerate(STEPS, 1):
            with console.status(f"{number}/{len(STEPS)} {step.title}"):
                step.prepare(far)
                accepted = actors.dispatch_alerts(step.alerts, tenant_id=TENANT)
                if accepted.duplicates != step.duplicates:
                    problems.append(f"{step.title}: {accepted.duplicates} duplicates, not {step.duplicates}")
                _wait_until_settled()
            console.print(f"[green]✓[/] {number}/{len(STEPS)} {step.title}")
    finally:
        worker.stop()
    found = report.lines()
    console.print(_table(found))
    equation = report.equation()
    parts = (f"{number} {name.replace('_', ' ')}" for name, number in equation.items() if name != "targets")
    console.print(f"{equation['targets']} targets = {' + '.join(parts)} (for the morning)")
    problems += report.differences(found, [each for step in STEPS for each in step.expected])
    return problems + report.far_side_differences(far, found)


def _wait_until_settled() -> None:
    from demo import report  # noqa: PLC0415  # as above

    deadline = time.monotonic() + PATIENCE
    while not report.is_settled() and time.monotonic() < deadline:
        time.sleep(0.05)


def _table(found: Sequence[Line]) -> Table:
    table = Table(title="Every delivery, and what became of it")
    for column in ("Alert", "Event", "Channel", "Target", "Outcome", "Why", "Attempts", "Answer"):
        table.add_column(
            column, no_wrap=column != "Answer", justify="right" if column == "Attempts" else "left"
        )
    for line in found:
        colour = COLOURS.get(line.state, "white")
        table.add_row(
            str(line.alert_id), line.event, line.channel, line.target or "·", f"[{colour}]{line.state}[/]",
            line.reason or "", str(line.attempts), line.code or "",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(main())
