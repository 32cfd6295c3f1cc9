"""Run faults, and write down what came of them: `python -m tests.faults --cycles 10 --report docs/reliability.md`."""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults import cycle, embedded, report
from tests.faults.cycle import Size
from tests.faults.embedded import EMBEDDED_FAULTS, Embedded
from tests.faults.faults import FAULTS
from tests.faults.stack import Stack
from tests.servers import PostgresServer, RabbitServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.account import Account

LONG = Size(alerts=1000, pairs=100, seconds=12, hold=30)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these faults")
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument(
        "--alerts", type=int, default=LONG.alerts, help="of a cycle; each makes three deliveries"
    )
    parser.add_argument("--pairs", type=int, default=LONG.pairs)
    parser.add_argument("--seconds", type=float, default=LONG.seconds, help="how long the producer takes")
    parser.add_argument("--hold", type=float, default=LONG.hold, help="how long an outage lasts")
    parser.add_argument(
        "--results", type=Path, default=Path("build/faults.jsonl"), help="appended, a line a cycle"
    )
    parser.add_argument("--report", type=Path, help="write the table of all results here")
    parser.add_argument("--logs", type=Path, help="keep the logs here")
    return parser.parse_args()


def cycles(
    options: argparse.Namespace, size: Size, logs: Path
) -> Iterator[tuple[str, Callable[[int], Account]]]:
    """Each fault that was asked for, and what runs one cycle of it. Its cycles share a stack."""
    wanted = set(options.names)
    with ExitStack() as servers:
        running: tuple[PostgresServer, RabbitServer] | None = None
        for fault in FAULTS:
            if wanted and fault.name not in wanted:
                continue
            if not fault.possible():
                sys.stdout.write(f"{fault.name}: this machine cannot make it\n")
                continue
            running = running or (
                servers.enter_context(PostgresServer()),
                servers.enter_context(RabbitServer()),
            )
            directory = Path(tempfile.mkdtemp(prefix=f"{fault.name}-", dir=logs))
            with Stack(
                *running,
                directory,
                settings=fault.settings,
                cuttable=fault.cuttable,
                group_environment=fault.group_environment,
            ) as stack:
                yield fault.name, partial(cycle.run, stack, fault, size)
    for each in EMBEDDED_FAULTS:
        if wanted and each.name not in wanted:
            continue
        with Embedded(Path(tempfile.mkdtemp(prefix=f"{each.name}-", dir=logs))) as embedded_stack:
            yield each.name, partial(embedded.run, embedded_stack, each, size)


def main() -> int:
    """Run; the status is 1 if a promise was broken in any cycle."""
    options = arguments()
    size = Size(options.alerts, options.pairs, options.seconds, options.hold)
    # The runner's own queries fail while the database is away, and the workers write logs of their own.
    logging.disable(logging.CRITICAL)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    broken = 0
    with tempfile.TemporaryDirectory() as kept:
        logs = options.logs or Path(kept)
        logs.mkdir(parents=True, exist_ok=True)
        for name, run in cycles(options, size, logs):
            for number in range(options.cycles):
                began = time.monotonic()
                try:
                    account = run(number)
                except (TimeoutError, AssertionError, subprocess.TimeoutExpired) as error:
                    line = {"fault": name, "hold": size.hold, "error": str(error)[:2000]}
                    problems = [str(error)]
                else:
                    problems = account.faults()
                    line = {"fault": name, "hold": size.hold, **account.document(), "problems": problems}
                broken += bool(problems)
                with options.results.open("a") as results:
                    results.write(json.dumps(line) + "\n")
                sys.stdout.write(f"{time.monotonic() - began:.0f} s  {line}  {problems}\n")
                sys.stdout.flush()
                if "error" in line:
                    break
    if options.report:
        options.report.write_text(report.render(report.read(options.results)), encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
