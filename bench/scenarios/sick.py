"""(e) One channel in ten is a black hole, one answers 429, one is slow: what do the healthy ones feel?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from bench.results import Check, Scenario, spread
from bench.stack import Installation

if TYPE_CHECKING:
    from bench.results import Spread
    from bench.sizes import Sizes
    from bench.stack import Stack

CHANNELS = 10

#: By channel: what it answers.
SICK: dict[int, dict[str, Any]] = {
    0: {"stall": True},
    1: {"status": 429, "headers": {"Retry-After": "5"}},
    2: {"delay": 3.0},
}

#: How much slower than without the sick ones the healthy may be.
FACTOR = 2.0


def sick(stack: Stack, sizes: Sizes) -> Scenario:
    """The same load twice."""
    well = _load(stack, sizes, ill=False)
    ill = _load(stack, sizes, ill=True)
    check = Check(
        claim="healthy channels' 99th percentile, as a multiple of that without sick ones",
        value=ill.p99 / well.p99,
        limit=FACTOR,
        at_most=True,
    )
    return Scenario(
        key="e",
        title=f"Three sick channels of ten, {sizes.sick_rate:g} alerts a second over all",
        spreads=[well, ill],
        checks=[check],
        notes=["One never answers, one answers 429 with `Retry-After: 5`, one answers after 3 s."],
    )


def _load(stack: Stack, sizes: Sizes, *, ill: bool) -> Spread:
    stack.far.clear()
    healthy = [number for number in range(CHANNELS) if number not in SICK]
    with Installation(stack) as tocsin:
        for number in range(CHANNELS):
            tocsin.hook(f"hook-{number}", stack.far.hook(f"hook-{number}"), alert_type=f"type-{number}")
        tocsin.start_workers()
        arguments = ("--call", "1", "--types", str(CHANNELS), "--rate", str(sizes.sick_rate))
        warm = tocsin.producer("--alerts", "50", "--prefix", "warm", *arguments)
        tocsin.measure("warm-up", 50, tocsin.delivered, warm)
        stack.far.clear()
        for number, answer in SICK.items() if ill else ():
            stack.far.always(f"hook-{number}", **answer)
        count = int(sizes.sick_rate * sizes.sick_seconds)
        book = stack.directory / "sick.json"
        producer = tocsin.producer("--alerts", str(count), "--book", str(book), *arguments)
        producer.say("go")
        producer.hear()
        types = ", ".join(f"'hook-{number}'" for number in healthy)
        sql = (
            "SELECT (SELECT count(*) FROM alerts WHERE matched_at IS NULL) + (SELECT count(*) FROM "  # noqa: S608
            f"notification_jobs WHERE finished_at IS NULL AND channel_name IN ({types}))"
        )
        tocsin.wait(lambda: tocsin.ask(sql) == 0, "the healthy channels", 0.1)
        producer.stop()
        arrived: dict[str, float] = {}
        for number in healthy:
            for each in stack.far.received("webhook", f"hook-{number}"):
                arrived.setdefault(str(each["content"]["data"]["alert_id"]), each["at"])
        # Only now: what hangs would delay the end of the workers.
        stack.far.clear()
    asked: dict[str, float] = dict(orjson.loads(book.read_bytes()))
    samples = [1000 * (arrived[name] - asked[name]) for name in asked if _channel(name) in healthy]
    return spread(f"Healthy channels, {'beside' if ill else 'without'} sick ones", samples)


def _channel(alert_id: str) -> int:
    return int(alert_id.rpartition("-")[2]) % CHANNELS
