"""(d) Critical alerts while a bulk push waits: on the same platform, and to a channel of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from bench.results import Check, Scenario, spread
from bench.scenarios.trickle import latencies
from bench.stack import TENANT, Installation
from model.database import transaction
from model.tables import Device

if TYPE_CHECKING:
    from pathlib import Path

    from bench.results import Spread
    from bench.sizes import Sizes
    from bench.stack import Stack

#: Milliseconds.
NEARLY_ALL = 300.0

#: Alerts a second.
RATE = 4

TOKEN = "c" * 64


def critical(stack: Stack, sizes: Sizes) -> Scenario:
    """Start a bulk push, and meanwhile raise critical alerts for one phone and one webhook."""
    stack.far.clear()
    with Installation(stack) as tocsin:
        users = [f"u{number}" for number in range(100)]
        tocsin.channel("everybody", "push", {"user_ids": users}, alert_type="bulk")
        tocsin.channel("on-call", "push", {"user_ids": ["on-call"]}, min_severity=4)
        tocsin.hook("hook", stack.far.hook("critical"), min_severity=4)
        tocsin.devices("ios", sizes.backlog, users=len(users))
        with transaction():
            Device.create(
                tenant=TENANT, user_id="on-call", platform="ios", token=TOKEN, address_hash="on-call"
            )
        tocsin.start_workers()
        warm = ("--severity", "4", "--call", "1", "--prefix", "warm", "--rate", str(RATE))
        tocsin.measure("warm-up", 20, tocsin.delivered, tocsin.producer("--alerts", "10", *warm))
        stack.far.clear()
        book = stack.directory / "critical.json"
        urgent = tocsin.producer(
            *("--alerts", str(sizes.critical), "--severity", "4", "--call", "1", "--rate", str(RATE)),
            *("--prefix", "urgent", "--book", str(book)),
        )
        bulk = tocsin.producer("--alerts", "1", "--prefix", "bulk", "--bulk")
        bulk.say("go")
        bulk.hear()
        tocsin.wait(lambda: tocsin.ask("SELECT count(*) FROM deliveries") > sizes.backlog // 2, "the backlog")
        urgent.say("go")
        urgent.hear()
        waiting = tocsin.ask(
            "SELECT count(*) FROM deliveries d JOIN notification_jobs j ON j.id = d.job_id "
            "WHERE d.finished_at IS NULL AND starts_with(j.alert_id, 'bulk-')"
        )
        sql = "SELECT count(*) FROM alerts a WHERE starts_with(alert_id, 'urgent-') AND NOT EXISTS "
        sql += "(SELECT FROM notification_jobs j WHERE j.sequence = a.id AND j.finished_at IS NOT NULL)"
        tocsin.wait(lambda: tocsin.ask(sql) == 0 and tocsin.unfinished() == 0, "the critical alerts", 0.2)
        for program in (urgent, bulk):
            program.stop()
    spreads = [
        _pushes(stack, book),
        spread("Critical webhooks behind the backlog", latencies(stack.far, "critical", book)),
    ]
    stack.far.clear()
    return Scenario(
        key="d",
        title=f"{sizes.critical:,} critical alerts while {sizes.backlog:,} bulk pushes wait",
        spreads=spreads,
        checks=[
            Check(
                claim=f"{each.what}: 99 of 100 arrive within",
                value=each.p99, limit=NEARLY_ALL, at_most=True, unit="ms",
            )
            for each in spreads
        ],
        notes=[f"When the last critical alert had been handed in, {waiting:,} bulk pushes were still waiting."],
    )  # fmt: skip


def _pushes(stack: Stack, book: Path) -> Spread:
    arrived: dict[str, float] = {}
    for each in stack.far.received("apns", TOKEN):
        arrived.setdefault(str(each["content"]["alert_id"]), each["at"])
    asked: dict[str, float] = dict(orjson.loads(book.read_bytes()))
    return spread(
        "Critical pushes of the same platform", [1000 * (arrived[name] - at) for name, at in asked.items()]
    )
