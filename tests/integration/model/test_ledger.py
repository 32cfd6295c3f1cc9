"""The ledger: a delivery has one holder and ends once, whoever is at it at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from model import ledger
from model.database import connection, transaction
from model.ledger import Settlement
from model.states import FINAL_STATES, JobState, Reason
from model.states import DeliveryState as S
from model.tables import Delivery, Device, Job
from tests.support.database import NOW, make_deliveries, make_job, make_tenant, open_test_database

LEASE, GRACE = timedelta(seconds=60), timedelta(seconds=30)
SECOND = timedelta(seconds=1)


def _claim(ids: list[int], now: Any = NOW) -> list[ledger.Claim]:
    with connection():
        with transaction():
            claimed = ledger.claim(ids, now=now, lease=LEASE)
        return ledger.load(claimed, now=now)


def _settle(settlements: list[Settlement], now: Any = NOW) -> tuple[set[int], list[ledger.Ended]]:
    with transaction():
        kept, endings = ledger.settle(settlements, now=now, grace=GRACE)
        return kept, ledger.count(endings, now=now)


@pytest.mark.usefixtures("acme")
def test_what_may_be_claimed_and_what_may_not() -> None:
    job = make_job(targets=11)
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"state": S.PENDING}, True),
        ({"state": S.RETRYING, "next_attempt_at": NOW}, True),
        ({"state": S.RETRYING, "next_attempt_at": NOW + SECOND}, False),
        ({"state": S.DEFERRED, "next_attempt_at": NOW - SECOND}, True),
        ({"state": S.DEFERRED, "next_attempt_at": NOW + SECOND}, False),
        ({"state": S.SENDING, "lease_until": NOW}, False),
        ({"state": S.SENDING, "lease_until": NOW - timedelta(microseconds=1), "attempts": 2}, True),
        *(({"state": state}, False) for state in FINAL_STATES),
    ]
    ids = [
        make_deliveries(
            job, 1, **{"next_attempt_at": None, "lease_until": None, "attempts": 0} | fields, device_id=n
        )[0]
        for n, (fields, _) in enumerate(cases)
    ]
    stranger = make_deliveries(job, 1, device_id=99)[0]

    claimed = ledger.claim([*ids, 10**9], now=NOW, lease=LEASE)

    assert sorted(claimed) == [id_ for id_, (_, mine) in zip(ids, cases, strict=True) if mine]
    for delivery, (fields, mine) in zip(Delivery.select().order_by(Delivery.id), cases, strict=False):
        if mine:
            assert (delivery.state, delivery.lease_until) == (S.SENDING, NOW + LEASE)
        assert delivery.attempts == fields.get("attempts", 0) + mine
    assert Delivery.get_by_id(stranger).state == S.PENDING


@pytest.mark.usefixtures("acme")
def test_who_stood_still_for_a_lease_between_claim_and_reading_has_nothing() -> None:
    # Given a worker that claimed two deliveries, and stands still for so long that another takes one over
    one, other = make_deliveries(make_job(targets=2), 2)
    mine = ledger.claim([one, other], now=NOW, lease=LEASE)
    theirs = ledger.claim([one], now=NOW + LEASE + SECOND, lease=LEASE)
    # When both read what they have claimed
    # Then each has what is its own
    assert (mine, theirs) == ({one: 1, other: 1}, {one: 2})
    assert [claim.delivery_id for claim in ledger.load(mine, now=NOW)] == [other]
    assert [claim.delivery_id for claim in ledger.load(theirs, now=NOW)] == [one]


@pytest.mark.usefixtures("migrated")
def test_two_workers_that_claim_the_same_deliveries_get_each_of_them_once() -> None:
    with connection():
        ids = make_deliveries(make_job(targets=100), 100)
    start = Barrier(4)

    def work(mine: list[int]) -> list[int]:
        start.wait()
        return [claim.delivery_id for claim in _claim(mine)]

    # Opposite orders, so that they meet in the middle, and locks taken in that order would be fatal.
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(work, [ids, ids[::-1], ids, ids[::-1]]))

    assert sorted(id_ for claimed in found for id_ in claimed) == ids
    with connection():
        assert {delivery.attempts for delivery in Delivery.select()} == {1}


@pytest.mark.usefixtures("acme")
def test_a_claim_carries_what_is_needed_to_make_it() -> None:
    device = Device.create(
        tenant="acme",
        user_id="alice",
        platform="web",
        address_hash="h",
        subscription={"endpoint": "https://p"},
    )
    job = make_job(
        payload={"alert_id": "door", "severity": 4}, severity=4, is_critical=True, channel_type="push"
    )
    (to_device,) = make_deliveries(job, 1, device_id=device.id, user_id="alice", sender="webpush")
    (to_channel,) = make_deliveries(job, 1, device_id=0)
    (to_nobody,) = make_deliveries(job, 1, device_id=10**9)

    first, second, third = _claim([to_nobody, to_channel, to_device])

    assert (first.delivery_id, first.job_id, first.tenant_id, first.alert_id) == (
        to_device,
        job,
        "acme",
        "door",
    )
    assert (first.event, first.severity, first.is_critical, first.attempts) == ("OPEN", 4, True, 1)
    assert (first.accepted_at, first.expires_at, first.claimed_at) == (NOW, NOW + timedelta(hours=1), NOW)
    assert first.payload == {"alert_id": "door", "severity": 4}
    assert (first.user_id, first.sender, first.platform) == ("alice", "webpush", "web")
    assert (first.token, first.subscription, first.device_disabled) == ("", {"endpoint": "https://p"}, False)
    assert (second.device_id, second.platform, second.device_disabled) == (0, None, False)
    assert (third.device_id, third.platform) == (10**9, None)

    Device.update(disabled_at=NOW).execute()
    assert ledger.load({to_device: 1}, now=NOW)[0].device_disabled
    assert ledger.load({}, now=NOW) == []


@pytest.mark.usefixtures("acme")
def test_what_waits_for_a_devices_former_owner_is_not_for_the_new_one() -> None:
    device = Device.create(tenant="acme", user_id="bob", platform="ios", token="t", address_hash="h")
    job = make_job(channel_type="push")
    (former,) = make_deliveries(job, 1, device_id=device.id, user_id="alice", sender="apns")
    (foreign,) = make_deliveries(
        make_job(make_tenant("other"), channel_type="push"), 1, tenant_id="other", device_id=device.id,
        user_id="bob", sender="apns",
    )  # fmt: skip

    assert [(claim.platform, claim.token) for claim in _claim([former, foreign])] == [(None, None)] * 2


@pytest.mark.usefixtures("acme")
def test_a_later_event_and_an_earlier_one_under_way_are_seen() -> None:
    # Given OPEN, being sent to one of two devices, and CLOSED, of one alert on one channel; and what looks like them
    opened = make_job(sequence=5, targets=2)
    closed = make_job(sequence=6, deliver_on_event="CLOSED", targets=2)
    make_job(sequence=9, alert_id="other")
    make_job(sequence=9, channel_id=2)
    make_job("acme", sequence=4, alert_id="other", deliver_on_event="CLOSED")
    under_way = make_deliveries(opened, 1)
    (waiting,) = make_deliveries(opened, 1, device_id=2)
    ids = make_deliveries(closed, 2)

    # When both are claimed
    (first,) = _claim(under_way)
    one, two = _claim(ids)

    # Then OPEN knows of CLOSED, and CLOSED of the device at which OPEN is this moment
    assert (first.later, first.earlier_under_way) == (True, False)
    assert (one.later, one.earlier_under_way) == (False, True)
    assert (two.later, two.earlier_under_way) == (False, False)
    assert Delivery.get_by_id(waiting).state == S.PENDING

    # And no longer once the lease has ended, or the attempt
    assert not ledger.load({one.delivery_id: one.attempts}, now=NOW + LEASE)[0].earlier_under_way
    _settle([Settlement(first, S.DELIVERED)])
    assert not ledger.load({one.delivery_id: one.attempts}, now=NOW)[0].earlier_under_way


@pytest.mark.usefixtures("acme")
def test_claims_that_nobody_read_are_checked_for_other_events_alone() -> None:
    # Given two deliveries whose claims their maker knows, and a CLOSED for the first one's alert
    alone, opened = make_job(alert_id="2"), make_job(sequence=5)
    known = _claim([*make_deliveries(alone, 1), *make_deliveries(opened, 1)])
    assert ledger.recheck(known, now=NOW) == known
    make_job(sequence=6, deliver_on_event="CLOSED")

    # When they are checked again
    checked = {claim.job_id: claim for claim in ledger.recheck(known, now=NOW)}

    # Then the first one's knows of it, and nothing else has changed
    assert checked == {alone: known[0], opened: replace(known[1], later=True)}
    # And what another worker has claimed since is not ours
    with transaction():
        ledger.claim([known[1].delivery_id], now=NOW + LEASE * 2, lease=LEASE)
    assert ledger.recheck(known, now=NOW) == [known[0]]


@pytest.mark.usefixtures("acme")
def test_a_replay_counts_attempts_anew_and_is_no_former_holders_all_the_same() -> None:
    # Given a first attempt whose worker stood still, and a replay of what came of it
    (number,) = make_deliveries(make_job(), 1)
    (former,) = _claim([number])
    Delivery.update(state=S.PENDING, attempts=0, lease_until=None).execute()
    (mine,) = _claim([number], NOW + 2 * LEASE)
    assert mine.attempts == former.attempts
    # When the former holder wakes
    kept, _ = _settle([Settlement(former, S.FAILED, Reason.REJECTED)])
    # Then it settles nothing, and the holder does
    assert kept == set()
    assert _settle([Settlement(mine, S.DELIVERED)])[0] == {number}


@pytest.mark.usefixtures("acme")
def test_a_job_that_is_deleted_while_claims_are_read_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given claims of two jobs, one of which goes away between the deliveries' reading and their alerts'
    gone, there = make_job(), make_job(alert_id="2")
    ids = [*make_deliveries(gone, 1), *make_deliveries(there, 1)]
    events = ledger._events

    def late(job_ids: set[int]) -> Any:
        Job.delete().where(Job.id == gone).execute()
        return events(job_ids)

    monkeypatch.setattr(ledger, "_events", late)
    # When they are read, then the other one is ours
    assert [claim.job_id for claim in _claim(ids)] == [there]


@pytest.mark.usefixtures("acme")
def test_settling_writes_what_became_of_each_claim() -> None:
    job = make_job(targets=3)
    done, again, back = _claim(make_deliveries(job, 3))
    due = NOW + timedelta(seconds=9)

    kept, ended = _settle(
        [
            Settlement(done, S.DELIVERED, code="200 \0" + "x" * 300, provider_id="\ud800id", latency_ms=12.5),
            Settlement(again, S.RETRYING, Reason.TRANSIENT, "503", next_attempt_at=due),
            Settlement(
                back, S.RETRYING, Reason.EARLIER_EVENT_UNDER_WAY, next_attempt_at=due, counts_attempt=False
            ),
        ],
        now=NOW + SECOND,
    )

    assert kept == {done.delivery_id, again.delivery_id, back.delivery_id}
    assert ended == []
    first, second, third = Delivery.select().order_by(Delivery.id)
    assert (first.state, first.reason, first.finished_at) == (S.DELIVERED, None, NOW + SECOND)
    assert (first.code, first.provider_id, first.latency_ms) == ("200 " + "x" * 251, "?id", 12.5)
    assert (first.lease_until, first.sweep_at, first.next_attempt_at) == (None, None, None)
    assert (second.state, second.reason, second.attempts) == (S.RETRYING, Reason.TRANSIENT, 1)
    assert (second.next_attempt_at, second.sweep_at, second.finished_at) == (due, due + GRACE, None)
    assert (third.state, third.attempts) == (S.RETRYING, 0)
    found = Job.get_by_id(job)
    assert (found.state, found.delivered, found.finished_at) == (JobState.PROCESSING, 1, None)
    assert ledger.conservation("acme")["in_progress"] == 2


@pytest.mark.usefixtures("acme")
def test_who_lost_the_lease_settles_nothing() -> None:
    job = make_job(targets=1, user_id="alice", channel_type="push")
    ids = make_deliveries(job, 1)
    (slow,) = _claim(ids)
    (quick,) = _claim(ids, now=NOW + LEASE + SECOND)
    assert (slow.attempts, quick.attempts) == (1, 2)

    # The slow one comes back while the quick one holds it, and again after that one has settled.
    assert _settle([Settlement(slow, S.FAILED, Reason.REJECTED)]) == (set(), [])
    kept, ended = _settle([Settlement(quick, S.DELIVERED)], now=NOW + LEASE)
    assert _settle([Settlement(slow, S.FAILED, Reason.REJECTED)]) == (set(), [])
    assert _settle([Settlement(quick, S.DELIVERED)]) == (set(), [])

    assert kept == set(ids)
    assert ended == [ledger.Ended(job, JobState.COMPLETED, "push", "alice", NOW)]
    found = Job.get_by_id(job)
    assert (found.state, found.delivered, found.failed, found.finished_at) == (
        JobState.COMPLETED,
        1,
        0,
        NOW + LEASE,
    )
    assert ledger.conservation()["delivered"] == 1


def test_workers_that_settle_the_same_jobs_in_opposite_orders_do_not_block_each_other(
    postgres_url: str,
) -> None:
    threads, rounds, jobs = 8, 25, 4
    with open_test_database(postgres_url):
        # Given jobs with a delivery for each worker and round, all claimed
        with connection():
            make_tenant()
            ids = [make_job(alert_id=f"a{n}", targets=threads * rounds) for n in range(jobs)]
            claims = [_claim(make_deliveries(id_, threads * rounds)) for id_ in ids]
        start = Barrier(threads)

        # When all workers settle parts of all jobs, half of them in the opposite order: 200 transactions
        def work(worker: int) -> list[ledger.Ended]:
            start.wait()
            ended = []
            for number in range(rounds):
                mine = [claims[job][worker * rounds + number] for job in range(jobs)][
                    :: 1 if worker % 2 else -1
                ]
                _, found = _settle([Settlement(claim, S.DELIVERED) for claim in mine])
                ended += found
            return ended

        with ThreadPoolExecutor(threads) as pool:
            ended = [job for found in pool.map(work, range(threads)) for job in found]

        # Then nobody was refused, everything is counted, and each job ended once
        with connection():
            assert ledger.conservation()["delivered"] == jobs * threads * rounds
        assert sorted(job.job_id for job in ended) == ids
