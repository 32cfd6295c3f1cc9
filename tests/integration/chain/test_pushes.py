"""Pushes, to devices: each by its user's preferences, and without harm to the others."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import prometheus_client
import pytest
import structlog

import actors
from actors.broker import runtime
from model.database import connection, utcnow
from model.results import job_document
from model.tables import Delivery, Device
from receivers import Answer

if TYPE_CHECKING:
    from tests.integration.chain.conftest import Chain

OPEN = {"alert_id": 1, "severity": 3, "message": "Smoke"}


def test_a_dead_device_is_disabled_and_the_others_hear_of_it(chain: Chain) -> None:
    # Given a user with three devices, one of which the provider has forgotten
    channel = chain.channel("phones", "push", user_ids=["alice"])
    chain.rule(channel)
    devices = [chain.device("alice", platform) for platform in ("ios", "android", "web")]
    chain.far.apns.always(devices[0].token, Answer(dead=True))
    heard: list[tuple[int, str, str]] = []
    runtime.on_device_invalid(lambda *told: heard.append(told))

    # When two alerts come, one after the other
    chain.send(OPEN)
    chain.settled()
    chain.send({"alert_id": 2})

    # Then the dead one failed once, was disabled, and is told about; the others got both
    assert [line[3:] for line in chain.settled()] == [
        ("FAILED", "target_gone", 1),
        ("DELIVERED", None, 1),
        ("DELIVERED", None, 1),
        ("SUPPRESSED", "device_disabled", 0),
        ("DELIVERED", None, 1),
        ("DELIVERED", None, 1),
    ]
    with connection():
        device = Device.get_by_id(devices[0].id)
    assert device.disabled_at is not None
    assert "Unregistered" in str(device.disabled_reason)
    assert [(told[0], told[1]) for told in heard] == [(device.id, "alice")]
    assert [job.state for job in chain.jobs()] == ["PARTIAL", "COMPLETED"]


def test_metrics_and_log_call_a_push_by_its_channel_type_and_say_beside_it_whose_it_was(chain: Chain) -> None:
    def counted() -> dict[str, float]:
        found = prometheus_client.REGISTRY.collect()
        return {
            f"{sample.name}{sorted(sample.labels.values())}": sample.value
            for metric in found
            if metric.name.startswith(("tocsin_deliver", "tocsin_push_attempts"))
            for sample in metric.samples
            if sample.name.endswith(("_total", "_count"))
        }

    # Given an iPhone that its push service has forgotten, a browser, and an Android phone whose user does not want this
    chain.rule(chain.channel("phones", "push", all_users=True))
    gone = chain.device("alice")
    chain.device("bob", "web")
    chain.device("carol", "android")
    chain.preferences("carol", cameras={"cam-1": {"enabled": False}})
    chain.far.apns.always(gone.token, Answer(dead=True))
    before = counted()

    def news() -> dict[str, float]:
        return {
            name: number - before.get(name, 0)
            for name, number in counted().items()
            if number != before.get(name)
        }

    # When an alert comes
    with structlog.testing.capture_logs() as logs:
        chain.send({"alert_id": 1, "details": {"camera_id": "cam-1"}})
        chain.settled()
        chain.until(lambda: len(news()) == 8)

    # Then all of it is a push's
    told = [(line["channel_type"], line["sender"]) for line in logs if line["event"] == "delivery"]
    assert sorted(told) == [("push", "apns"), ("push", "webpush")]
    assert news() == {
        "tocsin_deliveries_total['', 'DELIVERED', 'push']": 1,
        "tocsin_deliveries_total['FAILED', 'push', 'target_gone']": 1,
        "tocsin_deliveries_total['SUPPRESSED', 'camera_disabled', 'push']": 1,
        "tocsin_delivery_attempts_total['ok', 'push']": 1,
        "tocsin_delivery_attempts_total['push', 'target_gone']": 1,
        "tocsin_delivery_latency_seconds_count['push']": 1,
        # And whose push service failed is told, too
        "tocsin_push_attempts_total['ios', 'target_gone']": 1,
        "tocsin_push_attempts_total['ok', 'web']": 1,
    }


def test_a_device_that_registered_again_since_stays(chain: Chain) -> None:
    chain.rule(chain.channel("phones", "push", all_users=True))
    device = chain.device("alice", registered_at=utcnow() + timedelta(hours=1))
    chain.far.apns.always(device.token, Answer(dead=True))
    chain.send(OPEN)
    assert chain.settled() == [("1", "OPEN", "phones", "FAILED", "target_gone", 1)]
    with connection():
        assert Device.get().disabled_at is None


def test_preferences_decide_for_each_user(chain: Chain) -> None:
    # Given users who sleep, who switched a camera off, who want to hear in the morning, and one who does not exist
    users = ["sleeps", "no-camera", "defers", "listens", "nobody"]
    chain.rule(chain.channel("phones", "push", user_ids=users))
    night = {"quiet_hours_enabled": True, "quiet_hours_start": "00:00", "quiet_hours_end": "24:00"}
    chain.preferences("sleeps", **night)
    chain.preferences("defers", **night, quiet_hours_action="defer")
    chain.preferences("no-camera", cameras={"yard": {"enabled": False}})
    for user in users[:4]:
        chain.device(user)

    # When an ordinary and a critical alert come
    details = {"camera_id": "yard"}
    chain.send({"alert_id": 1, "severity": 2, "details": details})
    chain.settled()
    chain.send({"alert_id": 2, "severity": 0, "details": {**details, "is_critical": True}})

    # Then each reason is recorded, and the critical one goes past quiet hours but not to a camera that is off
    lines = chain.settled()
    assert [line[3:5] for line in lines[:4]] == [
        ("SUPPRESSED", "quiet_hours"),
        ("SUPPRESSED", "camera_disabled"),
        ("DEFERRED", "quiet_hours"),
        ("DELIVERED", None),
    ]
    assert [line[3:5] for line in lines[4:]] == [
        ("DELIVERED", None),
        ("SUPPRESSED", "camera_disabled"),
        ("DELIVERED", None),
        ("DELIVERED", None),
    ]
    assert chain.totals()["in_progress"] == 1


def test_what_was_deferred_is_delivered_when_its_time_comes(chain: Chain) -> None:
    chain.rule(chain.channel("phones", "push", all_users=True))
    chain.device("eve")
    night = {"quiet_hours_enabled": True, "quiet_hours_start": "00:00", "quiet_hours_end": "24:00"}
    chain.preferences("eve", **night, quiet_hours_action="defer")
    chain.send(OPEN)
    assert [line[3] for line in chain.settled()] == ["DEFERRED"]
    with connection():
        delivery = Delivery.get()
        # It does not expire before the morning.
        assert delivery.expires_at > delivery.next_attempt_at
        Delivery.update(next_attempt_at=utcnow(), sweep_at=utcnow()).execute()
    chain.until(lambda: [line[3] for line in chain.lines()] == ["DELIVERED"])


def test_a_push_channel_without_devices_ends_with_a_reason(chain: Chain) -> None:
    chain.rule(chain.channel("phones", "push", user_ids=["nobody"]))
    chain.send(OPEN)
    chain.settled()
    (job,) = chain.jobs()
    assert (job.state, job.reason, job.targets) == ("SUPPRESSED", "no_devices", 0)


def test_dispatch_to_user_needs_no_rule(chain: Chain) -> None:
    # Given a user with two devices
    chain.device("alice", "ios")
    chain.device("alice", "web")

    # When a notification is queued for them, twice under one id
    note = {"message": "Your parcel is here", "severity": 1}
    job_id = actors.dispatch_to_user("alice", note, tenant_id="acme", notification_id="n-1")
    again = actors.dispatch_to_user("alice", note, tenant_id="acme", notification_id="n-1")
    result = actors.wait_for_result(job_id, timeout=10)

    # Then both devices got it once, and the result says so
    assert again == job_id
    assert result is not None
    assert (result["user_id"], result["total_devices"], result["success_count"]) == ("alice", 2, 2)
    assert (result["failure_count"], result["skipped_count"], result["all_succeeded"]) == (0, 0, True)
    assert {each["platform"] for each in result["results"]} == {"ios", "web"}
    assert len(chain.far.apns.received) == len(chain.far.webpush.received) == 1


def test_waiting_for_a_result_gives_up(chain: Chain) -> None:
    chain.far.apns.always("*", Answer(stall=True))
    chain.device("alice", "ios")
    runtime.settings = chain.settings.model_copy(update={"send_deadline": 2.0, "max_retries": 0})
    job_id = actors.dispatch_to_user("alice", {"message": "?"}, tenant_id="acme")
    assert actors.wait_for_result(job_id, timeout=0.2) is None
    with pytest.raises(LookupError, match="no job"):
        actors.wait_for_result(10**9, timeout=0)
    assert [line[3:5] for line in chain.settled()] == [("FAILED", "exhausted")]


def test_one_failing_device_never_stops_another(chain: Chain) -> None:
    # Given a hundred devices, of which every tenth fails in its own way
    chain.rule(chain.channel("phones", "push", all_users=True))
    answers = [Answer(400, reason="PayloadEmpty"), Answer(503), Answer(reset=True), Answer(dead=True)]
    for number in range(100):
        device = chain.device(f"user-{number:03}")
        if number % 10 == 0:
            chain.far.apns.always(device.token, answers[number // 10 % 4])

    # When an alert comes
    chain.send(OPEN)

    # Then ninety got it, and ten ended with their own reasons
    chain.settled()
    totals = chain.totals()
    assert (totals["delivered"], totals["failed"], totals["in_progress"]) == (90, 10, 0)
    document = job_document(chain.jobs()[0])
    assert document["state"] == "PARTIAL"
