"""Fan-outs at the edges: large, late, or through a channel that is no way to devices any more."""

from __future__ import annotations

import importlib
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

import actors
from admin.replay import Filter, replay
from model import audience
from model.database import connection, database, utcnow
from model.tables import Channel, Delivery, Device, Job
from receivers import Answer
from tests.integration.chain.conftest import TENANT
from tests.support.database import lose_key

if TYPE_CHECKING:
    from tests.integration.chain.conftest import Chain

#: Its actor has the module's name in the package.
fanout = importlib.import_module("actors.fanout_devices")

HOUR = timedelta(hours=1)


def _quiet() -> dict[str, Any]:
    """Preferences of a user who is not to be disturbed now, nor in the next hours."""
    now = datetime.now(UTC)
    return {
        "quiet_hours_enabled": True,
        "quiet_hours_start": f"{now - HOUR:%H:%M}",
        "quiet_hours_end": f"{now + 6 * HOUR:%H:%M}",
        "quiet_hours_action": "defer",
    }


def _matched(chain: Chain, *alerts: dict[str, Any]) -> None:
    """Alerts whose push jobs wait for a worker; `chain.start()` brings one."""
    chain.stop()
    actors.match_rules.fn(list(chain.send(*alerts).ids))
    assert {job.state for job in chain.jobs() if job.alert_id == str(alerts[0]["alert_id"])} == {"PENDING"}


def test_an_alert_whose_time_is_over_is_not_kept_for_the_morning(chain: Chain) -> None:
    # Given a user in quiet hours and one without, and an alert worth an hour that has waited for five
    chain.rule(chain.channel("phones", "push", all_users=True))
    chain.device("alice")
    chain.device("bob")
    chain.preferences("alice", **_quiet())
    _matched(chain, {"alert_id": 1, "severity": 0})
    with connection():
        late = Job.get().accepted_at - 5 * HOUR
        Job.update(accepted_at=late, expires_at=late + HOUR).execute()
    # When it is fanned out
    chain.start()
    # Then it reaches neither of them, tonight or tomorrow
    assert {line[3:5] for line in chain.settled()} == {("EXPIRED", "too_late")}


def test_a_push_channel_that_is_gone_or_another_leaves_word_and_can_be_replayed(chain: Chain) -> None:
    # Given two push channels whose jobs wait, one of which is deleted, and one becomes a webhook
    gone, other = (chain.channel(name, "push", all_users=True) for name in ("gone", "other"))
    chain.rule(gone)
    chain.rule(other)
    chain.device("alice")
    _matched(chain, {"alert_id": 1})
    with connection():
        gone.delete_instance(recursive=True)
        other.channel_type = "webhook"
        other.config = {"url": chain.far.webhook.url("other"), "secret": chain.far.webhook.secret}
        other.save()
    # When they are fanned out
    chain.start()
    # Then each says what became of it
    assert chain.settled() == [
        ("1", "OPEN", "gone", "FAILED", "channel_deleted", 0),
        ("1", "OPEN", "other", "FAILED", "misconfigured", 0),
    ]
    assert [(job.state, job.targets, job.failed) for job in chain.jobs()] == [("FAILED", 1, 1)] * 2
    # And a replay delivers through what the channel is now
    replay(TENANT, Filter(), settings=chain.settings)
    assert [line[3] for line in chain.settled()] == ["FAILED", "DELIVERED"]


@pytest.mark.parametrize("severity", [2, 5])
def test_a_push_job_that_could_not_look_for_devices_does_so_when_it_is_replayed(
    chain: Chain, severity: int
) -> None:
    # Given push jobs of a channel whose key was lost until it was too late, and of one that was another meanwhile
    lost, other = (chain.channel(name, "push", all_users=True) for name in ("lost", "other"))
    chain.rule(lost)
    chain.rule(other)
    chain.device("alice")
    chain.device("bob", "android")
    _matched(chain, {"alert_id": 1, "severity": severity})
    with connection():
        lose_key(lost.id)
        Channel.update(channel_type="webhook").where(Channel.id == other.id).execute()
        Job.update(expires_at=Job.accepted_at).execute()
    chain.start()
    assert {line[3:5] for line in chain.settled()} == {("FAILED", "misconfigured")}

    # When they are replayed before the channels are mended, then the one that nobody can read stays
    def run() -> dict[str, Any]:
        return replay(TENANT, Filter(), settings=chain.settings).document()

    with connection():
        Channel.update(channel_type="push").where(Channel.id == other.id).execute()
    assert run() == {"deliveries": 1, "jobs": 1, "skipped": {"misconfigured": 1}, "more": False}
    # And when that is saved anew it goes as well
    with connection():
        lost.config = {"all_users": True}
        lost.save()
    assert run() == {"deliveries": 1, "jobs": 1, "skipped": {}, "more": False}
    assert sorted(line[2:] for line in chain.settled()) == [
        ("lost", "DELIVERED", None, 1),
        ("lost", "DELIVERED", None, 1),
        ("other", "DELIVERED", None, 1),
        ("other", "DELIVERED", None, 1),
    ]
    assert {(job.state, job.reason, job.targets, job.delivered, job.failed) for job in chain.jobs()} == {
        ("COMPLETED", None, 2, 2, 0)
    }


def test_a_replay_asks_what_the_users_want_by_now(chain: Chain) -> None:
    # Given pushes about a camera that failed by day
    chain.rule(chain.channel("phones", "push", all_users=True))
    for user in ("alice", "bob", "carol", "dora", "emil"):
        chain.far.apns.script(chain.device(user).token, [Answer(403)])
    chain.send({"alert_id": 1, "severity": 2, "details": {"camera_id": "door"}})
    assert {line[3:5] for line in chain.settled()} == {("FAILED", "misconfigured")}
    # And users of whom one sleeps by now, one wants no pushes meanwhile, one has switched the camera off, and one has
    # preferences that nobody can read
    chain.preferences("alice", **_quiet())
    chain.preferences("bob", **(_quiet() | {"quiet_hours_action": "skip"}))
    chain.preferences("carol", cameras={"door": {"enabled": False}})
    chain.preferences("dora", of_a_later_version=1)
    # When they are replayed
    done = replay(TENANT, Filter(), settings=chain.settings)
    # Then it rings for those alone who want it
    assert done.document() == {
        "deliveries": 3, "jobs": 1, "skipped": {"quiet_hours": 1, "camera_disabled": 1}, "more": False,
    }  # fmt: skip
    assert [line[3:] for line in chain.settled()] == [
        ("DEFERRED", "quiet_hours", 0),
        ("FAILED", "misconfigured", 1),
        ("FAILED", "misconfigured", 1),
        ("DELIVERED", None, 1),
        ("DELIVERED", None, 1),
    ]
    assert chain.totals()["in_progress"] == 1
    # And in the morning for whoever asked for that, when it is still worth sending
    with connection():
        waiting = Delivery.get(Delivery.state == "DEFERRED")
        assert waiting.next_attempt_at > utcnow() + 5 * HOUR
        assert (waiting.sweep_at, waiting.expires_at) == (
            waiting.next_attempt_at,
            waiting.next_attempt_at + 4 * HOUR,
        )
        Delivery.update(next_attempt_at=utcnow(), sweep_at=utcnow()).where(
            Delivery.id == waiting.id
        ).execute()
    chain.until(lambda: chain.lines()[0][3:] == ("DELIVERED", None, 1))


def test_one_users_unreadable_preferences_keep_nobodys_pushes(chain: Chain) -> None:
    chain.rule(chain.channel("phones", "push", all_users=True))
    for user in ("alice", "bob"):
        chain.device(user)
    chain.preferences("alice", quiet_hours_timezone="Mars/Olympus", of_a_later_version=1)

    chain.send({"alert_id": 1})

    assert [line[3] for line in chain.settled()] == ["DELIVERED", "DELIVERED"]


def test_an_audience_is_looked_up_outside_of_the_transaction(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PostgreSQL ends a transaction that says nothing for 15 s, as that of many users' preferences would.
    chain.rule(chain.channel("phones", "push", all_users=True))
    chain.device("alice")
    audience, seen = fanout.audience, []

    def watched(*args: Any, **options: Any) -> Any:
        seen.append(database.in_transaction())
        return audience(*args, **options)

    monkeypatch.setattr(fanout, "audience", watched)
    chain.send({"alert_id": 1})

    assert [line[3] for line in chain.settled()] == ["DELIVERED"]
    assert seen == [False]


def test_large_audiences_take_turns_and_critical_alerts_take_none(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given audiences that count as large, each of which takes a moment
    monkeypatch.setattr(fanout, "TARGETS", 1)
    chain.rule(chain.channel("phones", "push", all_users=True))
    for user in ("alice", "bob"):
        chain.device(user)
    audience, lock = fanout.audience, threading.Lock()
    under_way: set[bool] = set()
    together: list[set[bool]] = []

    def slow(jobs: list[Job], *args: Any, **options: Any) -> Any:
        (is_critical,) = {job.is_critical for job in jobs}
        with lock:
            assert is_critical not in under_way
            under_way.add(is_critical)
            together.append(set(under_way))
        time.sleep(0.3)
        with lock:
            under_way.remove(is_critical)
        return audience(jobs, *args, **options)

    monkeypatch.setattr(fanout, "audience", slow)
    # When two alerts and a critical one come at once
    for number, severity in ((1, 2), (2, 2), (3, 5)):
        chain.send({"alert_id": number, "severity": severity})
    # Then the two come one after the other, and the critical one beside them
    assert [line[3] for line in chain.settled()] == ["DELIVERED"] * 6
    assert {True, False} in together


def test_a_phone_that_changes_hands_meanwhile_is_one_target(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a channel with more users than SQLite takes parameters, and two phones
    users = ["alice", *(f"u{number}" for number in range(33_000)), "zoe"]
    chain.rule(chain.channel("phones", "push", user_ids=users))
    phone = chain.device("alice")
    chain.device("zoe")
    # When an alert comes, and one of them changes hands as soon as somebody has read who has it
    read = audience._preference

    def moves(*of: Any) -> Any:
        Device.update(user_id="zoe").where(Device.id == phone.id).execute()
        return read(*of)

    monkeypatch.setattr(audience, "_preference", moves)
    chain.send({"alert_id": 1})
    # Then each is a target once, and the job ends
    assert sorted(line[3:5] for line in chain.settled()) == [
        ("DELIVERED", None),
        ("FAILED", "device_deleted"),
    ]
    assert [(job.state, job.targets) for job in chain.jobs()] == [("PARTIAL", 2)]


def test_what_waits_for_the_morning_uses_up_no_throttle(chain: Chain) -> None:
    # Given a throttled channel, whose user is not to be disturbed but by what is critical
    chain.rule(
        chain.channel("phones", "push", all_users=True),
        deliver_on=["OPEN", "ESCALATED"],
        throttle_minutes=10,
    )
    chain.device("alice")
    chain.preferences("alice", **_quiet())
    chain.send({"alert_id": 1, "severity": 2})
    assert [line[3] for line in chain.settled()] == ["DEFERRED"]
    # When the alert escalates
    chain.send({"alert_id": 1, "event_type": "ESCALATED", "severity": 5})
    # Then she is woken, and does not hear of the first event in the morning
    assert [line[1:4:2] for line in chain.settled()] == [("OPEN", "SUPERSEDED"), ("ESCALATED", "DELIVERED")]
    # And now the channel was notified
    chain.send({"alert_id": 1, "event_type": "ESCALATED", "severity": 5}, {"alert_id": 2, "severity": 5})
    assert [line[0] for line in chain.settled()] == ["1", "1", "2"]


def test_a_push_that_has_found_no_devices_yet_uses_up_no_throttle(chain: Chain) -> None:
    # Given a throttled channel, whose user is not to be disturbed but by what is critical
    events = ["OPEN", "ESCALATED", "CLOSED"]
    chain.rule(chain.channel("phones", "push", all_users=True), deliver_on=events, throttle_minutes=10)
    chain.device("alice")
    chain.preferences("alice", **_quiet())
    # When an alert opens and is closed in one call
    chain.send({"alert_id": 1, "severity": 2}, {"alert_id": 1, "severity": 2, "event_type": "CLOSED"})
    # Then she hears in the morning that it is closed
    morning = [("OPEN", "SUPERSEDED"), ("CLOSED", "DEFERRED")]
    chain.until(lambda: [line[1:4:2] for line in chain.lines()] == morning)
    # And when one escalates while its OPEN waits to be fanned out
    _matched(chain, {"alert_id": 2, "severity": 2})
    actors.match_critical.fn(list(chain.send({"alert_id": 2, "severity": 5, "event_type": "ESCALATED"}).ids))
    chain.start()
    # Then she is woken
    chain.until(lambda: ("2", "ESCALATED", "phones", "DELIVERED", None, 1) in chain.lines())
    chain.settled()
