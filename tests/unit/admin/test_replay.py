"""Replays: what goes out again, what stays, and totals that add up at every moment (the fixture checks)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from admin.replay import Filter, replay
from config import load_settings
from model import ledger
from model.database import utcnow
from model.states import DeliveryState, JobState
from model.tables import Alert, Channel, Delivery, Device, Job
from tests.support.database import KEY, make_channel, make_deliveries, make_job

if TYPE_CHECKING:
    from admin.replay import Replayed

DEAD: dict[str, Any] = {"finished_at": utcnow(), "sweep_at": None, "attempts": 4}


def run(**wanted: Any) -> Replayed:
    return replay("acme", Filter(**wanted), settings=load_settings(secret_keys=KEY))


def failed_job(channel_id: int, sequence: int, **fields: Any) -> int:
    job = make_job(
        sequence=sequence, alert_id=str(sequence), channel_id=channel_id, state=JobState.FAILED, finished_at=utcnow(),
        failed=1,
    )  # fmt: skip
    values: dict[str, Any] = {
        "state": DeliveryState.FAILED,
        "reason": "exhausted",
        "channel_id": channel_id,
        "device_id": 0,
    }
    make_deliveries(job, **(values | DEAD | fields))
    return job


@pytest.mark.usefixtures("db")
def test_a_failed_delivery_is_as_good_as_new_and_its_job_open_again() -> None:
    job = failed_job(make_channel(), 1)
    done = run(job_id=job)
    ledger.conservation()
    assert done.document() == {"deliveries": 1, "jobs": 1, "skipped": {}, "more": False}
    delivery, row = Delivery.get(), Job.get()
    assert (delivery.state, delivery.attempts, delivery.reason, delivery.finished_at) == (
        "PENDING",
        0,
        None,
        None,
    )
    assert delivery.expires_at > utcnow() + timedelta(minutes=30)
    assert delivery.sweep_at is not None
    assert (row.state, row.failed, row.finished_at) == ("PROCESSING", 0, None)
    # A second replay finds nothing.
    assert run(job_id=job).deliveries == 0


@pytest.mark.usefixtures("db")
def test_what_cannot_succeed_is_skipped_and_said_and_what_was_superseded_stays() -> None:
    channel = make_channel(channel_type="push", config={"all_users": True})
    ids = [
        Device.create(
            tenant="acme", user_id="alice", platform="ios", token=str(number), address_hash=str(number),
            disabled_at=utcnow() if number else None,
        ).id
        for number in range(2)
    ]  # fmt: skip
    for sequence, device in enumerate([*ids, 99_999], start=1):
        failed_job(channel, sequence, device_id=device, user_id="alice")
    failed_job(channel, 8, device_id=ids[0], user_id="its former owner")
    job = make_job(sequence=9, alert_id="9", channel_id=channel, state=JobState.SUPERSEDED, superseded=1)
    make_deliveries(job, state=DeliveryState.SUPERSEDED, channel_id=channel, device_id=0, **DEAD)

    assert run(channel="ops").document() == {
        "deliveries": 1, "jobs": 1, "skipped": {"device_disabled": 1, "device_deleted": 2}, "more": False,
    }  # fmt: skip
    ledger.conservation()
    Channel.update(is_enabled=False).execute()
    assert run().skipped == {"channel_disabled": 3}
    Channel.delete().where(Channel.id == channel).execute()
    assert run().skipped == {"channel_deleted": 3}
    assert Delivery.get(Delivery.job_id == job).state == "SUPERSEDED"


@pytest.mark.usefixtures("db")
def test_filters_choose_and_other_tenants_are_out_of_reach() -> None:
    channel = make_channel()
    failed_job(channel, 1)
    failed_job(channel, 2, reason="misconfigured")
    expired = failed_job(channel, 3, state=DeliveryState.EXPIRED, reason="too_late")
    Job.update(failed=0, expired=1).where(Job.id == expired).execute()
    ledger.conservation()

    with pytest.raises(LookupError, match="there is no channel 'ops' in tenant 'other'"):
        replay("other", Filter(channel="ops"), settings=load_settings(secret_keys=KEY))
    assert replay("other", Filter(), settings=load_settings(secret_keys=KEY)).deliveries == 0
    assert run(since=utcnow()).deliveries == 0
    assert run(reason="misconfigured").deliveries == 1
    with pytest.raises(LookupError, match="there is no reason 'bad'"):
        run(reason="bad")
    assert run(until=utcnow()).deliveries == 2
    ledger.conservation()


@pytest.mark.usefixtures("db")
def test_thousands_go_in_batches_up_to_the_limit() -> None:
    channel = make_channel(channel_type="push", config={"all_users": True})
    job = make_job(channel_id=channel, targets=2500, failed=2500, state=JobState.FAILED)
    make_deliveries(
        job, 2500, state=DeliveryState.FAILED, channel_id=channel, sender="apns", user_id="u", **DEAD
    )
    Device.insert_many([
        {"id": number, "tenant": "acme", "user_id": "u", "platform": "ios", "address_hash": str(number)}
        for number in range(1, 2501)
    ]).execute()  # fmt: skip
    done = replay("acme", Filter(), settings=load_settings(secret_keys=KEY), limit=2200)
    assert (done.deliveries, len(done.jobs), Job.get().failed, done.more) == (2200, 1, 300, True)
    ledger.conservation()
    # And the rest with another, which says that it was all
    done = replay("acme", Filter(), settings=load_settings(secret_keys=KEY), limit=300)
    assert (done.deliveries, Job.get().failed, done.more) == (300, 0, False)


@pytest.mark.usefixtures("db")
def test_a_large_alert_is_read_once_and_not_for_each_phone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given one alert that failed at a hundred phones
    channel = make_channel(channel_type="push", config={"all_users": True})
    job = make_job(channel_id=channel, targets=100, failed=100, state=JobState.FAILED)
    make_deliveries(
        job, 100, state=DeliveryState.FAILED, channel_id=channel, sender="apns", user_id="u", **DEAD
    )
    Device.insert_many([
        {"id": number, "tenant": "acme", "user_id": "u", "platform": "ios", "address_hash": str(number)}
        for number in range(1, 101)
    ]).execute()  # fmt: skip
    read: list[str] = []
    decode = Alert.payload.python_value

    def counted(text: str | None) -> Any:
        read.append(text or "")
        return decode(text)

    monkeypatch.setattr(Alert.payload, "python_value", counted)
    assert run(job_id=job).deliveries == 100
    assert len(read) == 1


@pytest.mark.usefixtures("db")
def test_what_cannot_go_keeps_nothing_from_going(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given more that cannot go than a replay sends, or reads at once, before two that can
    monkeypatch.setattr("admin.replay.BATCH", 3)
    gone, well = make_channel(name="gone"), make_channel()
    for sequence in range(1, 8):
        failed_job(gone, sequence)
    Channel.update(is_enabled=False).where(Channel.id == gone).execute()
    for sequence in (8, 9):
        failed_job(well, sequence)
    settings = load_settings(secret_keys=KEY)
    # When they are replayed, one at a time, then each call sends one, and says whether there are more
    assert [replay("acme", Filter(), settings=settings, limit=1).document() for _ in range(3)] == [
        {"deliveries": 1, "jobs": 1, "skipped": {"channel_disabled": 7}, "more": True},
        {"deliveries": 1, "jobs": 1, "skipped": {"channel_disabled": 7}, "more": False},
        {"deliveries": 0, "jobs": 0, "skipped": {"channel_disabled": 7}, "more": False},
    ]


@pytest.mark.usefixtures("db")
def test_a_channel_of_another_type_now_delivers_as_what_it_is() -> None:
    channel = make_channel()
    failed_job(channel, 1)
    device = Device.create(tenant="acme", user_id="alice", platform="ios", token="t", address_hash="h")
    failed_job(channel, 2, device_id=device.id, user_id="alice", sender="apns")
    Channel.update(channel_type="slack").where(Channel.id == channel).execute()

    done = run()
    assert (done.deliveries, done.skipped) == (1, {"misconfigured": 1})

    assert [(row.sender, row.state) for row in Delivery.select().order_by(Delivery.id)] == [
        ("slack", "PENDING"),
        ("apns", "FAILED"),
    ]
