"""What `match_rules` costs: `python -m bench.matching --rules N --alerts N`. It says milliseconds an alert, all told.

Rules as an installation with many of them has: each is about one site, one alert type, one device family or one tag.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import actors
from actors.handing import batches
from bench import talk
from bench.load import alert
from model import bulk
from model.database import connection, transaction, utcnow
from model.rulebook import forget, rulebooks
from model.tables import Alert, Channel, RoutingRule

TENANT = "bench"
BATCH = 100
CHANNELS = 20


def rule(number: int, channel_id: int) -> bulk.Row:
    """The n-th rule."""
    filters: dict[str, Any] = {"alert_type": None, "device_tag_key": None, "device_tag_val": None}
    filters |= {"site_ids": [], "device_prefixes": []}
    match number % 4:
        case 0:
            filters["site_ids"] = [f"site-{number}", f"annex-{number}"]
        case 1:
            filters["alert_type"] = f"type-{number}"
        case 2:
            filters["device_prefixes"] = [f"family-{number}-"]
        case _:
            filters |= {"device_tag_key": "team", "device_tag_val": f"team-{number}"}
    return {
        "tenant_id": TENANT,
        "channel_id": channel_id,
        "name": f"rule-{number}",
        "min_severity": 1,
        **filters,
    }


def event(number: int, rules: int) -> dict[str, Any]:
    """An alert that one rule matches."""
    target = number % rules
    told = alert(f"a-{number}", alert_type="other") | {"site_id": "none", "device_id": "none"}
    match target % 4:
        case 0:
            told["site_id"] = f"site-{target}"
        case 1:
            told["alert_type"] = f"type-{target}"
        case 2:
            told["device_id"] = f"family-{target}-7"
        case _:
            told["details"] = {"device_tags": {"team": f"team-{target}"}}
    return told


def main() -> None:
    """Fill the tables, match, and say what it cost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rules", type=int, required=True)
    parser.add_argument("--alerts", type=int, required=True)
    options = parser.parse_args()
    with transaction():
        channels = [
            Channel.create(
                tenant=TENANT,
                name=f"hook-{n}",
                channel_type="webhook",
                config={"url": "https://example.org/in"},
            ).id
            for n in range(CHANNELS)
        ]
        rows = [rule(number, channels[number % CHANNELS]) for number in range(options.rules)]
        bulk.insert(RoutingRule, rows)
        now = utcnow()
        alerts = bulk.insert(
            Alert,
            [
                {
                    "tenant_id": TENANT, "alert_id": f"a-{number}", "event_type": "OPEN",
                    "payload": event(number, options.rules), "accepted_at": now, "sweep_at": None,
                }
                for number in range(options.alerts)
            ],
            returning=["id"],
        )  # fmt: skip
    forget()
    began = time.perf_counter()
    with connection():
        rulebooks([TENANT])
    compiling = time.perf_counter() - began
    ids = [row[0] for row in alerts]
    # The first batches make connections, declare queues and have statements planned.
    warm, measured = ids[: len(ids) // 5], ids[len(ids) // 5 :]
    for batch in batches(warm, BATCH):
        actors.match_rules.fn(list(batch))
    began = time.perf_counter()
    for batch in batches(measured, BATCH):
        actors.match_rules.fn(list(batch))
    seconds = time.perf_counter() - began
    talk.done(milliseconds=1000 * seconds / len(measured), compiling=1000 * compiling)
    actors.broker.close()


if __name__ == "__main__":
    main()
