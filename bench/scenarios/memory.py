"""(i) Memory over a long run: storm after storm, and what the worker processes hold meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.processes import resident
from bench.results import Check, Scenario, Series, slope
from bench.stack import Installation

if TYPE_CHECKING:
    from bench.sizes import Sizes
    from bench.stack import Stack

STORM = 2000
MIB = 1024 * 1024

#: Warm-up: this part of the run is not judged. After it memory may grow by so much over the whole of what remains.
WARM_UP, GROWTH = 0.34, 0.05


def memory(stack: Stack, sizes: Sizes) -> Scenario:
    """Sample the largest worker process after each storm."""
    points: list[tuple[float, float]] = []
    with Installation(stack) as tocsin:
        tocsin.hook("hook", stack.nginx.url)
        group = tocsin.start_workers()[0]
        began = time.monotonic()
        rounds = 0
        while time.monotonic() - began < sizes.memory_seconds:
            stack.nginx.restart_count()
            producer = tocsin.producer("--alerts", str(STORM), "--prefix", f"r{rounds}")
            tocsin.measure("storm", STORM, stack.nginx.count, producer)
            rounds += 1
            points.append((time.monotonic() - began, max(resident(group.pid).values()) / MIB))
    judged = [point for point in points if point[0] >= WARM_UP * sizes.memory_seconds] or points
    growth = 0.0
    if len(judged) > 1:
        growth = slope(judged) * (judged[-1][0] - judged[0][0]) / judged[0][1]
    return Scenario(
        key="i",
        title=f"Memory over {rounds * STORM:,} notifications in {sizes.memory_seconds:,} s",
        checks=[
            Check(
                claim="growth of the largest worker process after warm-up, as a part of it",
                value=growth,
                limit=GROWTH,
                at_most=True,
            )
        ],
        series=[Series(what="largest worker process", x="seconds", y="MiB", points=points)],
    )
