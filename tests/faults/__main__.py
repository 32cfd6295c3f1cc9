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
    from collections.abc import Callable, Iterator, Sequence

    from tests.faults.account import Account
    from tests.faults.cycle import Fault
    from tests.faults.embedded import EmbeddedFault

#: A cycle of the long form, but for the outage, whose length is the fault's own. Three thousand deliveries in eight
#: seconds are well below what two cores can do, so that a backlog is the fault's doing. A machine that cannot keep up
#: makes sends miss their deadline, and repeats that no fault excuses.
ALERTS, PAIRS, SECONDS = 1000, 100, 8.0


def shard(text: str) -> tuple[int, int]:
    """`2/3`: the second of three parts, as (1, 3).

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    part, _, parts = text.partition("/")
    if part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts):
        return int(part) - 1, int(parts)
    raise argparse.ArgumentTypeError("such as 1/2, the first of two parts")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these faults")
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--alerts", type=int, default=ALERTS, help="of a cycle; each makes three deliveries")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long the producer takes")
    parser.add_argument("--hold", type=float, help="how long an outage lasts; by default what the fault says")
    parser.add_argument(
        "--shard",
        type=shard,
        default=(0, 1),
        help="1/2 and 2/2: half of the faults each, side by side on four cores, or on two machines",
    )
    parser.add_argument(
        "--results", type=Path, default=Path("build/faults.jsonl"), help="appended, a line a cycle"
    )
    parser.add_argument("--report", type=Path, help="write the table of all results here")
    parser.add_argument("--logs", type=Path, help="keep the logs here")
    return parser.parse_args()


def chosen(names: Sequence[str], part: tuple[int, int]) -> list[str]:
    """The faults to run: those named, else all; of these, every n-th from its own on.

    Raises:
        SystemExit: there is no such fault.
    """
    known = [*(fault.name for fault in FAULTS), *(fault.name for fault in EMBEDDED_FAULTS)]
    if unknown := sorted(set(names) - set(known)):
        raise SystemExit(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    return [name for name in known if not names or name in names][part[0] :: part[1]]


def revision() -> str:
    """Which Tocsin this is."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        found = ""
    return found.strip() or "unknown"


def give_up(error: Exception, number: int) -> Account:
    """A cycle that cannot be."""
    raise TimeoutError(f"cycle {number}: {error}") from error


def cycles(options: argparse.Namespace, logs: Path) -> Iterator[tuple[str, Size, Callable[[int], Account]]]:
    """Each fault that was asked for, how big, and what runs one cycle of it. Its cycles share a stack."""
    wanted = chosen(options.names, options.shard)

    def size_of(fault: Fault | EmbeddedFault) -> Size:
        hold = fault.hold if options.hold is None else options.hold
        return Size(options.alerts, options.pairs, options.seconds, hold)

    with ExitStack() as servers:
        running: tuple[PostgresServer, RabbitServer] | None = None
        for fault in FAULTS:
            if fault.name not in wanted:
                continue
            if not fault.possible():
                sys.stdout.write(f"{fault.name}: this machine cannot make it\n")
                continue
            running = running or (
                servers.enter_context(PostgresServer()),
                servers.enter_context(RabbitServer()),
            )
            directory = Path(tempfile.mkdtemp(prefix=f"{fault.name}-", dir=logs))
            size = size_of(fault)
            with ExitStack() as opened:
                try:
                    stack = opened.enter_context(
                        Stack(
                            *running,
                            directory,
                            settings=fault.settings,
                            cuttable=fault.cuttable,
                            group_environment=fault.group_environment,
                        )
                    )
                except TimeoutError as error:
                    # What keeps one stack from coming up need not keep the others.
                    yield fault.name, size, partial(give_up, error)
                    continue
                # What an outage holds up comes after it, and so does the end
                yield fault.name, size, partial(cycle.run, stack, fault, size, patience=120 + size.hold)
    for each in EMBEDDED_FAULTS:
        if each.name not in wanted:
            continue
        with Embedded(Path(tempfile.mkdtemp(prefix=f"{each.name}-", dir=logs))) as embedded_stack:
            yield each.name, size_of(each), partial(embedded.run, embedded_stack, each, size_of(each))


def main() -> int:
    """Run; the status is 1 if a promise was broken in any cycle."""
    options = arguments()
    # The runner's own queries fail while the database is away, and the workers write logs of their own.
    logging.disable(logging.CRITICAL)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    broken, here = 0, revision()
    with tempfile.TemporaryDirectory() as kept:
        logs = options.logs or Path(kept)
        logs.mkdir(parents=True, exist_ok=True)
        for name, size, run in cycles(options, logs):
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
                line |= {"took": round(time.monotonic() - began, 1), "revision": here}
                with options.results.open("a") as results:
                    results.write(json.dumps(line) + "\n")
                sys.stdout.write(f"{line['took']:.0f} s  {line}  {problems}\n")
                sys.stdout.flush()
                if "error" in line:
                    break
    if options.report:
        options.report.write_text(report.render(report.read(options.results)), encoding="utf-8")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
