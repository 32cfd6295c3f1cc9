"""docs/performance.md, written from the kept runs: of each scenario the latest long one, else the latest short one.

What people have to say about the figures is in bench/remarks.md, by scenario; the figures are the program's alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import plots

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bench.results import Check, Rate, Run, Scenario, Spread


@dataclass(frozen=True, slots=True)
class Chosen:
    """A scenario and the run that it is from."""

    run: Run
    scenario: Scenario


def choose(runs: Sequence[Run]) -> list[Chosen]:
    """For each letter the latest long form, else the latest short one.

    Args:
        runs: the latest first.
    """
    found: dict[str, Chosen] = {}
    for form in ("long", "short"):
        for run in runs:
            for scenario in run.scenarios if run.form == form else ():
                found.setdefault(scenario.key, Chosen(run, scenario))
    return [found[key] for key in sorted(found)]


def write(runs: Sequence[Run], root: Path) -> None:
    """Write the document and its plots.

    Args:
        runs: the latest first; none leaves everything as it is.
        root: of the repository.
    """
    chosen = choose(runs)
    if not chosen:
        return
    remarks = parse_remarks((root / "bench/remarks.md").read_text(encoding="utf-8"))
    for each in chosen:
        _draw(each.scenario, root / "docs/images")
    text = "\n".join(render(chosen, remarks)).rstrip() + "\n"
    (root / "docs/performance.md").write_text(text, encoding="utf-8")


def parse_remarks(text: str) -> dict[str, str]:
    """The paragraphs under each `## KEY` heading, by key; what stands before the first heading is for its writers."""
    found: dict[str, str] = {}
    for part in f"\n{text}".split("\n## ")[1:]:
        key, _, words = part.partition("\n")
        found[key.strip()] = words.strip()
    return found


def render(chosen: Sequence[Chosen], remarks: dict[str, str]) -> Iterator[str]:
    """The document's lines."""
    yield "# How fast it is"
    yield ""
    yield (
        "This page is written by `python -m bench`; run it to have the same for your machine. `make bench` is "
        "the short form (under five minutes), `make bench-full` the long one."
    )
    yield ""
    yield from _paragraphs(remarks, "summary")
    yield "## What must hold, and does it?"
    yield ""
    yield "| | claim | found | limit | holds |"
    yield "|---|---|---|---|---|"
    for each in chosen:
        for check in each.scenario.checks:
            yield _check_row(each.scenario.key, check)
    yield ""
    yield from _machine(chosen)
    for each in chosen:
        yield from _section(each, remarks)
    yield from _paragraphs(remarks, "limits")


def _check_row(key: str, check: Check) -> str:
    unit = f" {check.unit}" if check.unit else ""
    relation = "at most" if check.at_most else "at least"
    verdict = "yes" if check.holds else "**no**"
    return f"| {key} | {check.claim} | {number(check.value)}{unit} | {relation} {check.limit:g}{unit} | {verdict} |"


def _machine(chosen: Sequence[Chosen]) -> Iterator[str]:
    machine = chosen[0].run.machine
    yield "## Where"
    yield ""
    yield (
        f"{machine.cores} cores of {machine.processor}, {machine.memory_gib:g} GiB, {machine.system}. Everything "
        "runs on these cores at once: producer, workers, PostgreSQL (fsync on), RabbitMQ (confirms on), and "
        "the receiver."
    )
    yield ""
    yield ", ".join(f"{name} {version}" for name, version in machine.versions.items()) + "."
    yield ""
    yield f"Workers: `{chosen[0].run.workers}`; all settings are the defaults."
    yield ""
    for run in {each.run.began: each.run for each in chosen}.values():
        keys = ", ".join(f"({each.scenario.key})" for each in chosen if each.run is run)
        yield f"- {keys}: {run.form} form, {run.began}, revision {run.machine.commit}"
    yield ""


def _section(each: Chosen, remarks: dict[str, str]) -> Iterator[str]:
    scenario = each.scenario
    yield f"## ({scenario.key}) {scenario.title}"
    yield ""
    yield from (f"- {note}" for note in scenario.notes)
    if scenario.notes:
        yield ""
    if scenario.rates:
        yield f"![rates](images/bench-{scenario.key}-rates.svg)"
        yield ""
        yield from _rates(scenario.rates)
        if any(rate.cpu for rate in scenario.rates):
            yield f"![CPU](images/bench-{scenario.key}-cpu.svg)"
            yield ""
    if scenario.spreads:
        yield from _spreads(scenario.spreads)
    if scenario.series:
        yield f"![{scenario.series[0].y}](images/bench-{scenario.key}-lines.svg)"
        yield ""
    yield from _paragraphs(remarks, scenario.key)


def _rates(rates: Sequence[Rate]) -> Iterator[str]:
    roles = sorted({role for rate in rates for role in rate.cpu})
    yield f"| | notifications/s | count | {' | '.join(f'{role}, CPU s per 1,000' for role in roles)} |"
    yield "|---|---|---|" + "---|" * len(roles)
    for rate in rates:
        costs = rate.cpu_per_thousand()
        cells = " | ".join(number(costs[role]) if role in costs else "" for role in roles)
        yield f"| {rate.what} | {rate.per_second:,.0f} | {rate.count:,} | {cells} |"
    yield ""


def _spreads(spreads: Sequence[Spread]) -> Iterator[str]:
    yield "| | samples | p50 | p90 | p99 | largest |"
    yield "|---|---|---|---|---|---|"
    for each in spreads:
        cells = " | ".join(
            f"{number(value)} {each.unit}" for value in (each.p50, each.p90, each.p99, each.largest)
        )
        yield f"| {each.what} | {each.count:,} | {cells} |"
    yield ""


def _paragraphs(remarks: dict[str, str], key: str) -> Iterator[str]:
    if remarks.get(key):
        yield remarks[key]
        yield ""


def number(value: float) -> str:
    """Three figures, as people read them: 0.00123, 12.3, 12,345."""
    if value == 0 or abs(value) >= 100:  # noqa: PLR2004  # three figures before the point
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _draw(scenario: Scenario, images: Path) -> None:
    stem = f"bench-{scenario.key}"
    if scenario.rates:
        plots.rates(scenario.rates, images / f"{stem}-rates.svg")
        with_cpu = [rate for rate in scenario.rates if rate.cpu]
        if with_cpu:
            plots.cpu(with_cpu, images / f"{stem}-cpu.svg")
    if scenario.series:
        plots.lines(scenario.series, images / f"{stem}-lines.svg", logarithmic=scenario.key == "f")
