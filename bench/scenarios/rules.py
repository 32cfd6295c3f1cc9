"""(f) What matching an alert costs as a tenant's rules grow a hundredfold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.results import Check, Scenario, Series
from bench.stack import Installation

if TYPE_CHECKING:
    from bench.sizes import Sizes
    from bench.stack import Stack

#: The base of the comparison, and how much more the most rules may cost.
BASE, FACTOR = 100, 2.0


def rules(stack: Stack, sizes: Sizes) -> Scenario:
    """Match the same alerts with ever more rules."""
    found: dict[int, dict[str, float]] = {}
    for number in sizes.rules:
        with Installation(stack) as tocsin:
            program = stack.program(
                "matching",
                *("bench.matching", "--rules", str(number), "--alerts", str(sizes.matched)),
                environment=tocsin.environment,
            )
            try:
                found[number] = program.hear()
            finally:
                program.stop()
    most = max(found)
    cost = found[most]["milliseconds"] / found[BASE]["milliseconds"]
    return Scenario(
        key="f",
        title=f"Matching with {sizes.rules[0]:,} to {most:,} rules",
        checks=[
            Check(
                claim=f"an alert's matching with {most:,} rules, as a multiple of that with {BASE}",
                value=cost,
                limit=FACTOR,
                at_most=True,
            )
        ],
        series=[
            Series(
                what=name,
                x="rules",
                y="ms",
                points=[(float(rules), each[key]) for rules, each in found.items()],
            )
            for name, key in (
                ("matching an alert", "milliseconds"),
                ("compiling the rules once", "compiling"),
            )
        ],
        notes=[
            f"`match_rules` alone, {sizes.matched:,} alerts in batches of a hundred, its database work included.",
            "Each alert meets one channel. Rules name an alert type, a site, a device prefix or a tag each.",
        ],
    )
