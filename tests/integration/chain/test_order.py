"""For one alert on one channel a later event wins, and never arrives before an earlier one."""

from __future__ import annotations

import importlib
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY

import actors
from actors.broker import runtime
from model.database import connection
from model.tables import Channel, RoutingRule, Tenant
from receivers import Answer
from tests.integration.chain.conftest import TENANT

if TYPE_CHECKING:
    from tests.integration.chain.conftest import Chain

EVENTS = ["OPEN", "ACKNOWLEDGED", "ESCALATED", "CLOSED"]


def test_closed_supersedes_an_open_that_waits_for_its_retry(chain: Chain) -> None:
    # Given an OPEN that the far side refused for now
    chain.rule(chain.channel("hook"), deliver_on=EVENTS)
    chain.far.webhook.script("hook", [Answer(503, headers={"Retry-After": "60"})])
    chain.send({"alert_id": 1})
    chain.until(lambda: [line[3] for line in chain.lines()] == ["RETRYING"])

    # When the alert is closed
    chain.send({"alert_id": 1, "event_type": "CLOSED"})

    # Then OPEN ends, and only CLOSED arrives
    assert [line[1:5] for line in chain.settled()] == [
        ("OPEN", "hook", "SUPERSEDED", "later_event"),
        ("CLOSED", "hook", "DELIVERED", None),
    ]
    assert [job.state for job in chain.jobs()] == ["SUPERSEDED", "COMPLETED"]
    assert [each.content["type"] for each in chain.far.webhook.received if each.accepted] == ["alert.closed"]


def test_what_a_later_event_ends_is_in_the_metrics(chain: Chain) -> None:
    # Given an OPEN to a webhook and two phones, none of which has been sent
    chain.rule(chain.channel("hook"), deliver_on=EVENTS)
    chain.rule(chain.channel("phones", "push", all_users=True), deliver_on=EVENTS)
    chain.device("alice", "ios")
    chain.device("bob", "android")
    chain.stop()
    before = _superseded()

    # When the alert is closed
    for event in ("OPEN", "CLOSED"):
        actors.match_rules.fn(list(chain.send({"alert_id": 1, "event_type": event}).ids))
        pushes = [job.id for job in chain.jobs() if job.state == "PENDING"]
        actors.fanout_devices.fn(pushes)

    # Then each of the three is counted once, the phones as devices, too
    assert [line[3] for line in chain.lines()].count("SUPERSEDED") == 3
    assert _superseded() - before == {"webhook": 1, "push": 2, "ios": 1, "android": 1}


def _superseded() -> Counter[str]:
    """What the metrics count as superseded, by channel type, and by platform."""
    numbers: Counter[str] = Counter()
    for metric in REGISTRY.collect():
        for sample in metric.samples:
            labels = sample.labels
            if sample.name == "tocsin_deliveries_total" and labels["reason"] == "later_event":
                numbers[labels["channel_type"]] += int(sample.value)
            elif sample.name == "tocsin_push_dispatch_devices" and labels["status"] == "SUPERSEDED":
                numbers[labels["platform"]] += int(sample.value)
    return numbers


@pytest.mark.parametrize("action", ["skip", "defer"])
@pytest.mark.parametrize("chain", [{"retry_min_backoff": 1.0}], indirect=True)
def test_what_quiet_hours_hold_back_ends_no_critical_push(chain: Chain, action: str) -> None:
    # Given a user in quiet hours, and a critical OPEN that the push service refused for now
    chain.rule(chain.channel("phones", "push", all_users=True), deliver_on=EVENTS)
    phone = chain.device("alice")
    chain.preferences(
        "alice", quiet_hours_enabled=True, quiet_hours_start="00:00", quiet_hours_end="24:00",
        quiet_hours_action=action,
    )  # fmt: skip
    chain.far.apns.script(phone.token, [Answer(503)])
    chain.send({"alert_id": 1, "severity": 5})
    chain.until(lambda: [line[3] for line in chain.lines()] == ["RETRYING"])
    # When later events come that are not critical, so that she does not hear of them now
    held = "DEFERRED" if action == "defer" else "SUPPRESSED"
    chain.send({"alert_id": 1, "event_type": "ACKNOWLEDGED"})
    chain.until(lambda: [line[3] for line in chain.lines()[1:]] == [held])
    chain.send({"alert_id": 1, "event_type": "ESCALATED"})
    # Then she hears of the first one
    assert chain.settled()[0] == ("1", "OPEN", "phones", "DELIVERED", None, 2)
    # And once it is closed, of no other
    chain.send({"alert_id": 1, "event_type": "CLOSED"})
    ended = "SUPERSEDED" if action == "defer" else "SUPPRESSED"
    chain.until(lambda: [line[3] for line in chain.lines()] == ["DELIVERED", ended, ended, held])


def test_closed_waits_for_an_open_that_is_being_sent(chain: Chain) -> None:
    # Given an OPEN whose answer takes its time
    chain.rule(chain.channel("hook"), deliver_on=EVENTS)
    chain.far.webhook.script("hook", [Answer(delay=1.5)])
    chain.send({"alert_id": 1})
    chain.far.webhook.wait_for(1)

    # When the alert is closed meanwhile
    chain.send({"alert_id": 1, "event_type": "CLOSED"})
    lines = chain.settled()

    # Then CLOSED arrived after OPEN was answered, and waiting was no attempt
    assert [line[1:] for line in lines] == [
        ("OPEN", "hook", "DELIVERED", None, 1),
        ("CLOSED", "hook", "DELIVERED", None, 1),
    ]
    first, second = chain.far.webhook.received
    assert (first.content["type"], second.content["type"]) == ("alert.open", "alert.closed")
    assert second.monotonic - first.monotonic >= 1.5


def test_an_open_that_fails_while_closed_waits_is_not_tried_again(chain: Chain) -> None:
    chain.rule(chain.channel("hook"), deliver_on=EVENTS)
    chain.far.webhook.script("hook", [Answer(503, delay=1)])
    chain.send({"alert_id": 1})
    chain.far.webhook.wait_for(1)
    chain.send({"alert_id": 1, "event_type": "CLOSED"})
    assert [line[1:5] for line in chain.settled()] == [
        ("OPEN", "hook", "SUPERSEDED", "later_event"),
        ("CLOSED", "hook", "DELIVERED", None),
    ]


def test_the_order_of_acceptance_decides_not_the_order_of_messages(chain: Chain) -> None:
    # Given both events accepted while nobody works, and only CLOSED's message on its way
    chain.rule(chain.channel("hook"), deliver_on=EVENTS)
    chain.stop()
    chain.send({"alert_id": 1}, {"alert_id": 1, "event_type": "CLOSED"})
    from actors import broker, match_rules  # noqa: PLC0415  # the queue is emptied and filled by hand
    from model.tables import Alert  # noqa: PLC0415

    broker.flush_all()
    with connection():
        first, second = Alert.select().order_by(Alert.id)
    match_rules.send([second.id])
    chain.start()
    chain.until(lambda: [line[3] for line in chain.lines()] == ["DELIVERED"])

    # When OPEN's comes late
    match_rules.send([first.id])

    # Then it is superseded at birth
    assert [line[1:4] for line in chain.settled()] == [
        ("CLOSED", "hook", "DELIVERED"),
        ("OPEN", "hook", "SUPERSEDED"),
    ]


def test_other_channels_and_other_alerts_are_not_concerned(chain: Chain) -> None:
    chain.rule(chain.channel("both"), deliver_on=["OPEN", "CLOSED"])
    chain.rule(chain.channel("open-only"), deliver_on=["OPEN"])
    chain.far.webhook.script("both", [Answer(503, headers={"Retry-After": "60"})])
    chain.far.webhook.script("open-only", [Answer(503)])
    chain.send({"alert_id": 1})
    # What is being sent is its worker's, and superseded only when it is tried again
    chain.until(lambda: ("1", "OPEN", "both", "RETRYING", "transient", 1) in chain.lines())
    chain.send({"alert_id": 2})
    chain.until(lambda: len(chain.far.webhook.received) >= 4)
    chain.send({"alert_id": 1, "event_type": "CLOSED"})
    by_state = {(line[0], line[2]): line[3] for line in chain.settled() if line[1] == "OPEN"}
    assert (
        by_state[("1", "open-only")] == by_state[("2", "open-only")] == by_state[("2", "both")] == "DELIVERED"
    )


def test_a_throttled_rule_skips_what_its_channel_was_notified_of(chain: Chain) -> None:
    # Given a throttled channel, a second one without throttle, and a third whose first delivery fails
    chain.rule(chain.channel("calm"), deliver_on=EVENTS, throttle_minutes=10)
    chain.rule(chain.channel("eager"), deliver_on=EVENTS)
    chain.rule(chain.channel("broken"), deliver_on=EVENTS, throttle_minutes=10)
    chain.far.webhook.always("broken", Answer(400))

    # When an alert opens and escalates, and another one opens
    chain.send({"alert_id": 1})
    chain.settled()
    chain.send({"alert_id": 1, "event_type": "ESCALATED"}, {"alert_id": 2})
    lines = chain.settled()

    # Then the calm channel heard of each alert once; what failed does not use up the throttle
    def events(channel: str) -> list[tuple[str, str]]:
        return [(line[0], line[1]) for line in lines if line[2] == channel]

    assert events("calm") == [("1", "OPEN"), ("2", "OPEN")]
    assert events("eager") == [("1", "OPEN"), ("1", "ESCALATED"), ("2", "OPEN")]
    assert events("broken") == [("1", "OPEN"), ("1", "ESCALATED"), ("2", "OPEN")]


def test_events_of_one_batch_throttle_each_other(chain: Chain) -> None:
    chain.rule(chain.channel("calm"), deliver_on=EVENTS, throttle_minutes=10)
    chain.send(*({"alert_id": 1, "event_type": event} for event in EVENTS))
    assert [line[1] for line in chain.settled()] == ["OPEN"]


def test_a_rule_changed_by_anybody_is_seen_by_the_next_alert(chain: Chain) -> None:
    channel = chain.channel("hook")
    rule = chain.rule(channel)
    chain.send({"alert_id": 1})
    chain.settled()
    with connection():
        RoutingRule.update(min_severity=3).where(RoutingRule.id == rule.id).execute()
    chain.send({"alert_id": 2})
    chain.settled()
    with connection():
        RoutingRule.update(min_severity=None).execute()
        Channel.update(is_enabled=False).execute()
    chain.send({"alert_id": 3})
    assert [line[0] for line in chain.settled()] == ["1"]
    assert runtime.settings is chain.settings


def test_a_tenant_that_is_deleted_and_set_up_again_has_its_new_rules(chain: Chain) -> None:
    chain.rule(chain.channel("hook"))
    chain.send({"alert_id": 1})
    chain.settled()
    # Given a tenant that somebody deletes beside running workers, and sets up in the same way
    with connection():
        former = Tenant.get().version
        Tenant.delete().execute()
        Tenant.create(tenant_id=TENANT)
    chain.rule(chain.channel("hook"))
    with connection():
        assert Tenant.get().version == former
    # When an alert comes, then it goes to the channel that there is
    chain.send({"alert_id": 2})
    assert chain.settled() == [("2", "OPEN", "hook", "DELIVERED", None, 1)]


def test_events_that_are_matched_at_the_same_time_throttle_each_other(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given two workers with an event of one alert each, the first of which has not committed its job yet
    chain.rule(chain.channel("calm"), deliver_on=EVENTS, throttle_minutes=10)
    chain.stop()
    opened = chain.send({"alert_id": 1}).ids
    escalated = chain.send({"alert_id": 1, "event_type": "ESCALATED"}).ids
    module = importlib.import_module("actors.match_rules")
    insert, inserted = module._insert, threading.Event()

    def insert_and_wait(jobs: list[Any]) -> Any:
        made = insert(jobs)
        if not inserted.is_set():
            inserted.set()
            time.sleep(0.5)
        return made

    monkeypatch.setattr(module, "_insert", insert_and_wait)
    first = threading.Thread(target=module.match_rules.fn, args=(list(opened),))
    first.start()
    assert inserted.wait(5)
    # When the second one matches its own
    module.match_rules.fn(list(escalated))
    first.join()
    # Then the channel hears of the alert once
    assert [job.deliver_on_event for job in chain.jobs()] == ["OPEN"]
    chain.start()
    chain.settled()
