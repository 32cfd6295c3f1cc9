"""The overview's numbers and the lists, from rows that are known, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from api.console import lists
from api.console.figures import FRESH, RANGES, Overview, figures
from api.console.live import fingerprint
from model import bulk
from model.database import connection, utcnow
from model.states import DeliveryState, JobState
from model.tables import Alert, Delivery, Device, Job, LogEntry, PreferenceRow
from tests.support.database import make_channel, make_deliveries, make_job, make_tenant, open_test_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import PostgresServer

NOW = datetime(2026, 3, 29, 12, 30, 30, tzinfo=UTC)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """As everywhere, but one for the module: all but the last test only read."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('figures') / 'test.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.create_database()
    yield url
    server.drop_database(url)


@pytest.fixture(autouse=True, scope="module")
def _database(database_url: str) -> Iterator[None]:
    with open_test_database(database_url):
        for tenant in ("acme", "other"):
            with connection():
                make_tenant(tenant)
                _fill(tenant)
        yield


def _fill(tenant: str) -> None:
    """Three alerts of the last hour, one of the day before; jobs that took 1, 2 and 3 seconds, and one that goes on."""
    moments = [NOW - timedelta(minutes=minutes) for minutes in (24 * 60, 30, 10, 10)]
    events = bulk.insert(
        Alert,
        [
            {
                "tenant_id": tenant, "alert_id": f"a{number}", "event_type": "OPEN", "accepted_at": moment,
                "payload": {"alert_id": f"a{number}", "message": f'Größe {number} "100 %" _ \\ x'},
                "matched_at": moment, "jobs": int(number > 0),
            }
            for number, moment in enumerate(moments)
        ],
        returning=["id"],
    )  # fmt: skip
    channel = make_channel(tenant)
    for number, moment in enumerate(moments[1:], 1):
        job = make_job(
            tenant, sequence=events[number][0], channel_id=channel, alert_id=f"a{number}",
            state=JobState.COMPLETED, delivered=1, accepted_at=moment, created_at=moment,
            finished_at=moment + timedelta(seconds=number),
        )  # fmt: skip
        (delivery,) = make_deliveries(
            job, tenant_id=tenant, channel_id=channel, state=DeliveryState.DELIVERED, sweep_at=None,
            finished_at=moment + timedelta(seconds=number),
        )  # fmt: skip
        rows = [("transient", 0), ("ok", number)] if number == 1 else [("ok", number)]
        bulk.insert(
            LogEntry,
            [
                {
                    "tenant_id": tenant, "job_id": job, "delivery_id": delivery, "channel_id": channel,
                    "sender": "webhook", "attempt": attempt, "outcome": outcome, "latency_ms": 10.0 * number,
                    "at": moment + timedelta(seconds=seconds),
                }
                for attempt, (outcome, seconds) in enumerate(rows, 1)
            ],
        )  # fmt: skip
    going = make_job(
        tenant, sequence=events[0][0], channel_id=channel, alert_id="a9", accepted_at=NOW, targets=2, failed=1,
        created_at=NOW - timedelta(minutes=5),
    )  # fmt: skip
    make_deliveries(going, 2, tenant_id=tenant, channel_id=channel)
    Delivery.update(state=DeliveryState.FAILED, reason="rejected", finished_at=utcnow(), sweep_at=None).where(
        (Delivery.job_id == going) & (Delivery.device_id == 1)
    ).execute()
    for user in ("alice", "bob", "Zoë/ü"):
        Device.create(tenant=tenant, user_id=user, platform="ios", token=user, address_hash=user)
    PreferenceRow.insert(tenant=tenant, user_id="carol", preferences={"quiet_hours_enabled": True}).execute()


def test_the_overview_counts_what_happened_in_its_range() -> None:
    found = figures("acme", "1h", now=NOW)
    assert len(found.times) == 60
    assert found.times[-1] <= NOW < found.times[-1] + timedelta(minutes=1)
    assert sum(found.alerts) == 3
    assert found.alerts[found.times.index(datetime(2026, 3, 29, 12, 20, tzinfo=UTC))] == 2
    assert (found.delivered, found.failed) == (3, 1)
    assert sum(figures("acme", "24h", now=NOW).alerts) in {3, 4}  # the range ends with a whole bucket
    (channel,) = found.channels
    assert (channel.jobs, channel.counts["delivered"], channel.counts["failed"]) == (4, 3, 1)
    assert channel.counts["in_progress"] == 1
    assert channel.arrived == 0.75
    # One, two and three seconds from acceptance to delivery; the provider took a hundredth of that.
    assert found.whole["accepted to delivered"] == [2000.0, 3000.0, 3000.0]
    assert found.whole["the provider's answer"] == [20.0, 30.0, 30.0]
    assert not found.is_cut


def test_latency_is_that_of_every_attempt_that_is_counted() -> None:
    # Given six thousand deliveries, of which the older half took 30 s and the newer one a second.
    numbers = range(6000)
    with connection():
        make_tenant("busy")
        channel = make_channel("busy")
        at = [NOW - timedelta(minutes=50 if number < 3000 else 1) for number in numbers]
        accepted = [at[number] - timedelta(seconds=30 if number < 3000 else 1) for number in numbers]
        jobs = bulk.insert(
            Job,
            [
                {
                    "tenant_id": "busy", "alert_id": str(number), "deliver_on_event": "OPEN", "sequence": 100 + number,
                    "channel_id": channel, "channel_name": "ops", "channel_type": "webhook",
                    "accepted_at": accepted[number], "created_at": accepted[number], "expires_at": NOW,
                    "finished_at": at[number], "state": JobState.COMPLETED, "targets": 1, "delivered": 1,
                }
                for number in numbers
            ],
            returning=["id"],
        )  # fmt: skip
        bulk.insert(
            LogEntry,
            [
                {
                    "tenant_id": "busy", "job_id": job, "delivery_id": job, "channel_id": channel,
                    "sender": "webhook", "attempt": 1, "outcome": "ok", "latency_ms": 5.0, "at": at[number],
                }
                for number, (job,) in enumerate(jobs)
            ],
        )  # fmt: skip
    # Then both are counted, and both are timed.
    found = figures("busy", "1h", now=NOW)
    assert found.delivered == 6000
    assert [value for value in found.latency[95] if value is not None] == [30_000.0, 1000.0]
    assert found.whole["accepted to delivered"] == [1000.0, 30_000.0, 30_000.0]
    assert not found.is_cut


def test_jobs_under_way_follow_from_the_record() -> None:
    found = figures("acme", "1h", now=NOW)
    at = dict(zip(found.times, found.under_way, strict=True))
    assert at[datetime(2026, 3, 29, 12, 24, tzinfo=UTC)] == 0
    assert at[datetime(2026, 3, 29, 12, 25, tzinfo=UTC)] == 1
    assert found.under_way[-1] == 1


@pytest.mark.parametrize("chosen", RANGES)
def test_a_tenant_without_anything_has_an_overview_too(chosen: str) -> None:
    found = figures("nobody", chosen, now=NOW)
    assert sum(found.alerts) == sum(found.under_way) == found.delivered == 0
    assert found.whole["accepted to delivered"] == [None, None, None]


def test_many_who_look_at_once_cost_one_look() -> None:
    moment = [0.0]
    overview = Overview(clock=lambda: moment[0])
    first = overview.of("acme", "1h")
    assert overview.of("acme", "1h") is first
    assert overview.of("other", "1h") is not first
    moment[0] = FRESH + 0.1
    assert overview.of("acme", "1h") is not first


def test_a_search_finds_what_an_alert_says_and_no_pattern() -> None:
    wanted = {"a1": 1, "Größe": 4, '2 "100': 1, "100 %": 4, "\\ x": 4, "_": 4, "%%": 0, "b": 0, "a_": 0}
    with connection():
        found = {
            text: lists.alerts("acme", text=text, event="", outcome="", cursor=None).items for text in wanted
        }
    assert {text: len(items) for text, items in found.items()} == wanted
    assert all(each.tenant_id == "acme" for items in found.values() for each in items)


def test_pages_follow_each_other_without_gap_or_repeat() -> None:
    with connection():
        ids: list[int] = []
        cursor = None
        while True:
            page = lists.alerts("acme", text="", event="", outcome="", cursor=cursor, limit=3)
            ids += [each.id for each in page.items]
            cursor = page.next
            if cursor is None:
                break
    assert len(ids) == len(set(ids)) == 4
    assert ids == sorted(ids, reverse=True)


def test_lists_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    with connection():
        assert len(lists.alerts("acme", text="", event="", outcome="none", cursor=None).items) == 1
        assert lists.alerts("acme", text="", event="CLOSED", outcome="", cursor=None).items == []
        assert lists.alerts("acme", text="", event="", outcome="error", cursor=None).items == []
        jobs = lists.jobs("acme", text="a1", states=["COMPLETED"], channel=None, cursor=None).items
        assert [job.alert_id for job in jobs] == ["a1"]
        assert lists.jobs("acme", text="", states=[], channel=999, cursor=None).items == []
        (dead,) = lists.dead("acme", channel=None, reason="rejected", hours=24, cursor=None).items
        assert (dead.alert_id, dead.state, dead.tenant_id) == ("a9", "FAILED", "acme")
        assert lists.dead("acme", channel=None, reason="exhausted", hours=24, cursor=None).items == []
        (attempted,) = lists.jobs("acme", text="a1", states=[], channel=None, cursor=None).items
        rows = lists.deliveries(attempted, None).items
        tried, is_cut = lists.attempts([row.id for row in rows])
        assert ([each.outcome for each in tried], is_cut) == (["transient", "ok"], False)
        monkeypatch.setattr(lists, "ATTEMPTS", 1)
        tried, is_cut = lists.attempts([row.id for row in rows])
        assert ([each.outcome for each in tried], is_cut) == (["ok"], True)


def test_users_have_devices_or_preferences() -> None:
    with connection():
        found, following = lists.users("acme", text="", after="")
        assert {(user.user_id, user.devices) for user in found} == {
            ("alice", (1, 0)), ("bob", (1, 0)), ("carol", (0, 0)), ("Zoë/ü", (1, 0)),
        }  # fmt: skip
        assert following is None
        assert [user.user_id for user in lists.users("acme", text="o", after="")[0]] in (
            ["Zoë/ü", "bob", "carol"], ["bob", "carol", "Zoë/ü"],
        )  # fmt: skip


def test_the_pulse_feels_every_kind_of_news() -> None:
    before = fingerprint("acme")
    assert fingerprint("acme") == before
    with connection():
        job = Job.select().where((Job.tenant_id == "acme") & (Job.alert_id == "a9")).get()
        Delivery.update(state=DeliveryState.EXPIRED, sweep_at=None).where(
            (Delivery.job_id == job.id) & (Delivery.device_id == 2)
        ).execute()
    after = fingerprint("acme")
    assert after != before
    assert fingerprint("other") == fingerprint("other")
    with connection():
        make_channel("acme", "new")
    assert fingerprint("acme") != after
