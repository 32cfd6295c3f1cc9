"""docs/reliability.md, from the results: nothing in its table is written by hand."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.faults.embedded import EMBEDDED_FAULTS
from tests.faults.faults import FAULTS
from tests.faults.stack import PACE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

TITLES = {fault.name: fault.title for fault in FAULTS} | {
    fault.name: fault.title for fault in EMBEDDED_FAULTS
}

HEAD = """\
# What happens when things die

<!-- Written by `make faults` (tests/faults/report.py). Do not edit: run it again. -->

Nothing that was accepted is lost, whatever dies. This page shows how often that was tried, and what came of it.

**One cycle** starts a load of alerts on a stack of its own (PostgreSQL with fsync, RabbitMQ, two groups of two
worker processes, a far side in a process of its own), strikes in the middle of it, heals, and waits until nothing
is in progress. Then every delivery is accounted for: the far side's own log and the producer's own book against the
database. Each alert makes three deliveries to webhooks, and a third of them two more to a user's devices (by FCM's
protocol; but where a network is cut, a clock stepped, or the receiver down); besides, alerts come in pairs of OPEN and
CLOSED on one channel that refuses every other request.

**Lost** is an acknowledged alert that the database does not have; a delivery that has not ended, or has ended
without arriving; or one that the database calls DELIVERED and the far side has never seen. **Repeated** is a
request beyond the first that the far side took for one delivery; *in flight* are those of them whose first request
was under way between the strike and the healing (which for a kill ends with the lease of the killed), give or take
the deadline of a send; *same id* are those that carry the id of the first, by which a receiver can drop them.
**Flows again** counts from the healing to the first arrival of what was accepted before it and still missing:
so long does nothing move at most. **Recovery** counts to the last such arrival: the backlog of the outage is worked
off, and each retry has waited for its own time. **Snapshots** are readings of
the equation targets = delivered + failed + suppressed + superseded + expired + in progress, taken four times a
second through the fault.

**What the numbers support**: no loss in *n* trials bounds the chance of a loss by 3/n at 95 % confidence (the rule
of three). Deliveries of one cycle share their fault, so the bound that counts is the one by strikes; the one by
deliveries is given for comparison.
"""

COLUMNS = (
    "fault", "strikes", "a while (s)", "deliveries", "lost", "repeated (in flight, same id)", "OPEN after CLOSED",
    "recovered", "flows again: median, worst (s)", "recovery: median, worst (s)", "slowest acceptance (s)",
    "snapshots (broken)",
)  # fmt: skip


def read(results: Path) -> list[dict[str, Any]]:
    """The results so far, a line a cycle."""
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def render(lines: Sequence[dict[str, Any]]) -> str:
    """The page."""
    by_fault: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        if "error" not in line:
            by_fault[line["fault"]].append(line)
    rows = [row(TITLES[name], by_fault[name]) for name in TITLES if name in by_fault]
    ok = [line for name in TITLES for line in by_fault.get(name, [])]
    results = [_table(COLUMNS, rows) + "\n", _bound(ok), _revisions(lines), _failures(lines)]
    parts = [HEAD, "## Results\n", *results, _settings()]
    return "\n".join(part for part in parts if part) + "\n"


def row(title: str, cycles: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """One fault's line of the table."""

    def total(name: str) -> int:
        return sum(int(each[name]) for each in cycles)

    def seconds(name: str) -> str:
        found = [each[name] for each in cycles if each[name] is not None]
        return f"{median(found):.1f}, {max(found):.1f}" if found else "nothing waited"

    return (
        title,
        str(len(cycles)),
        ", ".join(f"{hold:g}" for hold in sorted({each["hold"] for each in cycles})),
        f"{total('accepted'):,}",
        str(total("lost")),
        f"{total('duplicates')} ({total('in_flight')}, {total('same_id')})",
        str(total("disordered")),
        f"{total('recovered'):,}",
        seconds("flow_seconds"),
        seconds("recovery_seconds"),
        f"{max(each['slowest_call'] for each in cycles):.1f}",
        f"{total('samples'):,} ({total('broken_samples')})",
    )


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(columns)
    lines = [columns, ["---"] * len(columns), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _bound(lines: Sequence[dict[str, Any]]) -> str:
    strikes, deliveries = len(lines), sum(line["accepted"] for line in lines)
    lost = sum(line["lost"] for line in lines)
    if not strikes:
        return ""
    if lost:
        return f"**{lost} of {deliveries:,} deliveries were lost in {strikes} strikes.** The bound below does not hold."
    return (
        f"No delivery of {deliveries:,} was lost in {strikes} strikes. So, with 95 % confidence, fewer than "
        f"{3 / strikes:.2%} of such strikes lose anything (and, were deliveries independent, fewer than "
        f"{3 / deliveries:.5%} of the deliveries).\n"
    )


def _revisions(lines: Iterable[dict[str, Any]]) -> str:
    numbers = Counter(line.get("revision", "unknown") for line in lines)
    return f"Strikes by revision: {', '.join(f'{name} {number}' for name, number in numbers.items())}.\n"


def _failures(lines: Sequence[dict[str, Any]]) -> str:
    found = [f"- {_strike(line)}: {problem}" for line in lines for problem in line.get("problems", ())]
    found += [f"- {_strike(line)}: {line['error'].splitlines()[0]}" for line in lines if "error" in line]
    return "\n".join(["\n## What went wrong\n", *found, ""]) if found else ""


def _strike(line: dict[str, Any]) -> str:
    return f"{line['fault']} (of revision {line.get('revision', 'unknown')})"


def _settings() -> str:
    values = ", ".join(f"{name}={value}" for name, value in sorted(PACE.items()) if "LOG" not in name)
    return (
        f"\n## Settings\n\nEverything is shorter than by default, in the same order of lengths: {values}. "
        'What lasts "for a while" lasted as many seconds as the table says.\n'
    )
