"""Nobody waits for a slow destination, and critical alerts wait for nobody."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import actors
from actors.roads import CRITICAL, DELIVER, MATCH, URGENT
from model.database import connection, utcnow
from model.tables import Delivery
from receivers.records import Answer

if TYPE_CHECKING:
    from tests.integration.chain.conftest import Chain

#: Seconds that the slow destination takes: longer than all that others need.
LONG = 3.0


@pytest.mark.alone("a delivery while others take three seconds")
def test_slow_destinations_hold_no_thread(chain: Chain) -> None:
    # Given more slow channels than the worker has threads, and a healthy one
    for number in range(6):
        chain.rule(chain.channel(f"slow-{number}"), alert_type="slow")
        chain.far.webhook.always(f"slow-{number}", Answer(delay=LONG))
    chain.rule(chain.channel("healthy"), alert_type="healthy")
    # When they all have something to do, and only then the healthy one
    began = time.monotonic()
    chain.send({"alert_id": 1, "alert_type": "slow"})
    chain.until(lambda: len(chain.far.webhook.received) >= 4)
    chain.send({"alert_id": 2, "alert_type": "healthy"})

    # Then that is served while they still are at it
    chain.until(lambda: any(each.target == "healthy" for each in chain.far.webhook.received))
    assert time.monotonic() - began < LONG
    # And what they answer in the end is settled all the same, after one attempt
    lines = chain.settled()
    assert [(line[3], line[5]) for line in lines] == [("DELIVERED", 1)] * 7


def test_what_fails_slowly_is_tried_again(chain: Chain) -> None:
    chain.rule(chain.channel("slow"))
    chain.far.webhook.script("slow", [Answer(503, delay=1.5), Answer()])
    chain.send({"alert_id": 1})

    assert [(line[3], line[5]) for line in chain.settled()] == [("DELIVERED", 2)]


def test_a_full_lane_puts_off_what_comes_and_loses_nothing(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a lane that is slow with more than it may hold (and pauses for which no test need wait)
    monkeypatch.setattr("actors.lanes.LAST_PAUSE", timedelta(seconds=3))
    chain.rule(chain.channel("slow"))
    chain.far.webhook.always("slow", Answer(delay=2.5))
    chain.send(*({"alert_id": number} for number in range(1000)))
    # Then some are put off, which counts as no attempt
    with connection():
        put_off = Delivery.select().where(Delivery.reason == "lane_full")

    def is_full() -> bool:
        with connection():
            return put_off.count() > 0

    chain.until(is_full)
    with connection():
        assert {row.attempts for row in put_off} == {0}
    # And delivered in the end, once each
    chain.far.webhook.normal()
    chain.until(lambda: len(chain.far.webhook.received) == 1000, within=40)
    lines = chain.settled()
    assert {(line[3], line[4], line[5]) for line in lines} == {("DELIVERED", None, 1)}


def test_a_critical_alert_that_fails_at_once_is_tried_again(chain: Chain) -> None:
    # Given two channels and a phone that a critical alert goes to, one of which refuses it at first
    for name in ("first", "second"):
        chain.rule(chain.channel(name))
    chain.far.webhook.script("second", [Answer(503), Answer()])
    chain.rule(chain.channel("phones", "push", all_users=True))
    chain.device("alice")
    # When it comes, its steps follow each other in one thread
    chain.send({"alert_id": 1, "severity": 4})

    # Then all of them have it
    lines = chain.settled()
    assert {(line[2], line[3], line[5]) for line in lines} == {
        ("first", "DELIVERED", 1),
        ("second", "DELIVERED", 2),
        ("phones", "DELIVERED", 1),
    }


def test_critical_alerts_have_a_road_of_their_own(chain: Chain) -> None:
    # Given no worker, and a backlog of ordinary deliveries
    chain.rule(chain.channel("hook"))
    chain.stop()
    waiting: Any = actors.broker
    accepted = chain.send(*({"alert_id": number} for number in range(30)))
    critical = chain.send({"alert_id": "critical", "severity": 4})
    # Then the critical one waits in a queue of its own
    assert {name: waiting.waiting(name) for name in (MATCH, CRITICAL)} == {MATCH: 1, CRITICAL: 1}
    # And so it does at the next step
    actors.match_rules.fn([*accepted.ids, *critical.ids])
    assert {name: waiting.waiting(name) for name in (DELIVER, CRITICAL)} == {DELIVER: 1, CRITICAL: 2}
    actors.dispatch_to_user("alice", {"message": "Smoke", "severity": 4}, tenant_id="acme")
    assert waiting.waiting(CRITICAL) == 3
    # And there is nothing that a worker takes before it
    urgent = {actor.actor_name for actor in waiting.actors.values() if actor.priority == URGENT}
    assert urgent == {"match_critical", "fanout_critical", "deliver_critical"}
    assert min(actor.priority for actor in waiting.actors.values()) == URGENT
    # And the sweep finds the same way for both
    chain.stop()
    with connection():
        Delivery.update(sweep_at=utcnow()).execute()
    chain.start()
    assert {line[3] for line in chain.settled()} == {"DELIVERED"}
