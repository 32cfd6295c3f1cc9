"""`python -m bench`: run the scenarios, print what they found, keep it, and write docs/performance.md from it."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import document, machine
from bench.results import Run, Scenario
from bench.scenarios import IN_SHORT, SCENARIOS
from bench.sizes import LONG, SHORT, TINY
from bench.stack import Stack, Workers, private_directory

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--full", action="store_true", help="the long form: all scenarios, in their full size")
    form.add_argument("--tiny", action="store_true", help="all scenarios, too small to mean anything")
    parser.add_argument("--only", help="some scenarios, by their letters: --only a,b")
    parser.add_argument("--groups", type=int, default=1, help="worker groups")
    parser.add_argument("--processes", type=int, default=2, help="processes of a group")
    parser.add_argument("--threads", type=int, default=4, help="threads of a process")
    parser.add_argument("--no-document", action="store_true", help="leave docs/performance.md as it is")
    parser.add_argument(
        "--document-only", action="store_true", help="write it from the results that are there"
    )
    parser.add_argument("--keep-logs", action="store_true", help="say where they are, and leave them there")
    return parser.parse_args()


def main() -> int:
    """Run, tell, keep."""
    options = arguments()
    # What was started must end, too, when this is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(highlight=False)
    if options.document_only:
        document.write(latest(), HERE.parent)
        return 0
    sizes = LONG if options.full else TINY if options.tiny else SHORT
    chosen = (
        tuple(options.only.split(",")) if options.only else IN_SHORT if sizes is SHORT else tuple(SCENARIOS)
    )
    unknown = set(chosen) - SCENARIOS.keys()
    if unknown:
        console.print(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
        return 2
    workers = Workers(options.groups, options.processes, options.threads)
    directory = private_directory()
    began = datetime.now(UTC)
    found: list[Scenario] = []
    failed = False
    try:
        with Stack(directory, workers) as stack:
            for key in chosen:
                console.print(f"({key}) {(SCENARIOS[key].__doc__ or '').strip()}")
                try:
                    found.append(SCENARIOS[key](stack, sizes))
                except Exception:  # noqa: BLE001  # shown whole; what the other scenarios find is not lost by it
                    failed = True
                    console.print_exception()
                else:
                    tell(console, found[-1])
    finally:
        if options.keep_logs or failed:
            console.print(f"logs: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    run = Run(
        form="long" if options.full else "short",
        began=began.isoformat(timespec="seconds"),
        machine=machine.describe(),
        workers=str(workers),
        scenarios=found,
    )
    if not options.tiny:
        keep(run)
        if not options.no_document:
            document.write(latest(), HERE.parent)
    return int(failed)


def keep(run: Run) -> None:
    """Write a run beside the ones before."""
    RESULTS.mkdir(exist_ok=True)
    name = f"{run.form}-{run.began.replace(':', '').replace('+0000', 'Z')}.json"
    (RESULTS / name).write_text(run.model_dump_json(indent=1) + "\n", encoding="utf-8")


def latest() -> list[Run]:
    """All runs that are kept, the latest first."""
    runs = [Run.model_validate_json(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")]
    return sorted(runs, key=lambda run: run.began, reverse=True)


def tell(console: Console, scenario: Scenario) -> None:
    """Print what a scenario found."""
    table = Table(title=scenario.title, title_justify="left", show_header=False)
    for rate in scenario.rates:
        cpu = sum(rate.cpu_per_thousand().values())
        table.add_row(rate.what, f"{rate.per_second:,.0f}/s", f"{cpu:.2f} CPU s per 1,000")
    for each in scenario.spreads:
        table.add_row(each.what, f"p50 {each.p50:,.1f} {each.unit}", f"p99 {each.p99:,.1f} {each.unit}")
    for check in scenario.checks:
        relation = "at most" if check.at_most else "at least"
        verdict = "[green]holds[/]" if check.holds else "[red]does not hold[/]"
        table.add_row(
            check.claim,
            f"{check.value:,.2f} {check.unit}",
            f"{relation} {check.limit:g} {check.unit}: {verdict}",
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
