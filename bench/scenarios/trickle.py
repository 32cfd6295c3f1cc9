"""(c) A trickle: how long an alert takes from its acceptance to its receiver while nothing else is to be done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from bench.results import Check, Scenario, spread
from bench.stack import Installation

if TYPE_CHECKING:
    from pathlib import Path

    from bench.far import Far
    from bench.sizes import Sizes
    from bench.stack import Stack

#: Milliseconds.
HALF, NEARLY_ALL = 20.0, 60.0


def trickle(stack: Stack, sizes: Sizes) -> Scenario:
    """Measure one alert at a time, at random moments."""
    stack.far.clear()
    with Installation(stack) as tocsin:
        tocsin.hook("hook", stack.far.hook("trickle"))
        tocsin.start_workers()
        book = stack.directory / "trickle.json"
        arguments = ("--call", "1", "--rate", str(sizes.trickle_rate))
        warm = tocsin.producer("--alerts", str(sizes.trickle // 5), "--prefix", "warm", *arguments)
        tocsin.measure("warm-up", sizes.trickle // 5, tocsin.delivered, warm)
        stack.far.clear()
        producer = tocsin.producer("--alerts", str(sizes.trickle), "--book", str(book), *arguments)
        before = tocsin.delivered()
        tocsin.measure("trickle", sizes.trickle, lambda: tocsin.delivered() - before, producer)
    found = spread("From the call that hands it in to its receiver", latencies(stack.far, "trickle", book))
    return Scenario(
        key="c",
        title=f"A trickle: {sizes.trickle_rate:g} alerts a second, {sizes.trickle:,} in all",
        spreads=[found],
        checks=[
            Check(
                claim="half of the alerts arrive within", value=found.p50, limit=HALF, at_most=True, unit="ms"
            ),
            Check(
                claim="99 of 100 arrive within", value=found.p99, limit=NEARLY_ALL, at_most=True, unit="ms"
            ),
        ],
        notes=[
            "The time includes the commit that accepts the alert; the receiver is a Python program of ours."
        ],
    )


def latencies(far: Far, hook: str, book: Path) -> list[float]:
    """Milliseconds from the producer's call to the first arrival, of each alert in its book.

    Raises:
        RuntimeError: one never arrived.
    """
    arrived: dict[str, float] = {}
    for each in far.received("webhook", hook):
        arrived.setdefault(str(each["content"]["data"]["alert_id"]), each["at"])
    asked: dict[str, float] = dict(orjson.loads(book.read_bytes()))
    missing = asked.keys() - arrived.keys()
    if missing:
        raise RuntimeError(f"{len(missing)} alerts of {len(asked)} never arrived at {hook}")
    return [1000 * (arrived[name] - moment) for name, moment in asked.items()]
