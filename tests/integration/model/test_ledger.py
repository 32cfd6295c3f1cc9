"""The ledger: a delivery has one holder, ends once, and is counted once, whoever is at it at the same time."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model import bulk, ledger
from model.channels import channels_of
from model.database import connection, database, transaction
from model.ledger import COUNTERS, Settlement
from model.states import FINAL_STATES, DeliveryState, JobState, Reason
from model.status import status
from model.tables import Channel, Delivery, Device, Job
from tests.support.database import (
    NOW,
    make_channel,
    make_deliveries,
    make_job,
    make_tenant,
    open_test_database,
)

if TYPE_CHECKING:
    from pathlib import Path

LEASE, GRACE = timedelta(seconds=60), timedelta(seconds=30)
SECOND = timedelta(seconds=1)
S = DeliveryState


def _claim(ids: list[int], now: Any = NOW) -> list[ledger.Claim]:
    with connection():
        with transaction():
            claimed = ledger.claim(ids, now=now, lease=LEASE)
        return ledger.load(claimed, now=now)


def _settle(settlements: list[Settlement], now: Any = NOW) -> tuple[set[int], list[ledger.Ended]]:
    with transaction():
        return ledger.settle(settlements, now=now, grace=GRACE)


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
    assert ledger.load([to_device], now=NOW)[0].device_disabled
    assert ledger.load([], now=NOW) == []


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
    assert not ledger.load([one.delivery_id], now=NOW + LEASE)[0].earlier_under_way
    _settle([Settlement(first, S.DELIVERED)])
    assert not ledger.load([one.delivery_id], now=NOW)[0].earlier_under_way


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


COUNTS = st.fixed_dictionaries({name: st.integers(0, 2) for name in COUNTERS})


def _row(sequence: int, targets: int, counts: dict[str, int]) -> bulk.Row:
    return {
        "tenant_id": "acme", "alert_id": f"a{sequence}", "deliver_on_event": "OPEN", "sequence": sequence,
        "channel_id": 1, "channel_name": "ops", "channel_type": "webhook", "payload": {}, "accepted_at": NOW,
        "expires_at": NOW, "state": JobState.PROCESSING, "targets": targets, **counts,
    }  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(mixes=st.lists(st.tuples(COUNTS, COUNTS, st.integers(0, 1)), min_size=1, max_size=30))
@pytest.mark.usefixtures("acme")
def test_the_state_of_a_job_is_the_same_in_sql_and_in_python(
    mixes: list[tuple[dict[str, int], dict[str, int], int]],
) -> None:
    with database.atomic() as undone:
        # Given jobs of which some deliveries have ended before, and some are left over
        rows = [
            _row(n, sum(before.values()) + sum(now.values()) + left, before)
            for n, (before, now, left) in enumerate(mixes)
        ]
        ids = [int(row[0]) for row in bulk.insert(Job, rows, returning=["id"])]

        # When the next ones end
        ended = ledger.count(
            Counter(
                {
                    (id_, state): now[state.value.lower()]
                    for id_, (_, now, _) in zip(ids, mixes, strict=True)
                    for state in FINAL_STATES
                }
            ),
            now=NOW,
        )

        # Then each job is in the state that Python gives it, and those without a rest have ended
        found = {job.id: job for job in Job.select()}
        for id_, row, (before, now, _) in zip(ids, rows, mixes, strict=True):
            expected = ledger.job_state(row["targets"], Counter(before) + Counter(now))
            assert found[id_].state == expected
            assert found[id_].finished_at == (NOW if expected.is_final else None)
        assert {job.job_id: job.state for job in ended} == {
            id_: JobState(found[id_].state) for id_ in ids if JobState(found[id_].state).is_final
        }
        undone.rollback()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, JobState.SUPPRESSED),
        ({"suppressed": 3}, JobState.SUPPRESSED),
        ({"delivered": 1, "suppressed": 1, "superseded": 1}, JobState.COMPLETED),
        ({"delivered": 2, "failed": 1}, JobState.PARTIAL),
        ({"delivered": 2, "expired": 1}, JobState.PARTIAL),
        ({"failed": 1, "expired": 1, "suppressed": 1}, JobState.FAILED),
        ({"expired": 1, "superseded": 1}, JobState.EXPIRED),
        ({"superseded": 1, "suppressed": 1}, JobState.SUPERSEDED),
    ],
)
def test_the_most_telling_word_says_how_a_job_ended(counts: dict[str, int], expected: JobState) -> None:
    assert ledger.job_state(sum(counts.values()), Counter(counts)) is expected
    assert ledger.job_state(sum(counts.values()) + 1, Counter(counts)) is JobState.PROCESSING


@pytest.mark.usefixtures("acme")
def test_a_later_event_ends_what_waits_of_the_earlier_ones_and_nothing_else() -> None:
    # Given an earlier event with a delivery in each state, and others that must stay as they are
    opened = make_job(sequence=1, targets=5, delivered=1)
    states = [S.PENDING, S.RETRYING, S.DEFERRED, S.SENDING, S.DELIVERED]
    ids = [make_deliveries(opened, 1, state=state, device_id=n)[0] for n, state in enumerate(states)]
    acknowledged = make_job(sequence=2, deliver_on_event="ACKNOWLEDGED")
    make_deliveries(acknowledged, 1)
    others = [make_job(sequence=1, alert_id="other"), make_job(sequence=1, channel_id=2)]
    later = make_job(sequence=9, deliver_on_event="ESCALATED")
    closed = make_job(sequence=3, deliver_on_event="CLOSED")
    rest = [make_deliveries(job, 1)[0] for job in (*others, later, closed)]

    # When CLOSED has been fanned out
    with transaction():
        ended = ledger.supersede_earlier([closed], now=NOW)

    # Then what waited has ended with its reason, and what was being sent was left to its worker
    found = [Delivery.get_by_id(id_) for id_ in ids]
    assert [delivery.state for delivery in found] == [S.SUPERSEDED] * 3 + [S.SENDING, S.DELIVERED]
    assert all(
        d.reason == Reason.LATER_EVENT and d.finished_at == NOW and d.sweep_at is None for d in found[:3]
    )
    assert [(job.job_id, job.state) for job in ended] == [(acknowledged, JobState.SUPERSEDED)]
    assert Job.get_by_id(opened).superseded == 3
    assert [Delivery.get_by_id(id_).state for id_ in rest] == [S.PENDING] * 4
    assert ledger.conservation("acme")["superseded"] == 4
    # And once more changes nothing
    with transaction():
        assert ledger.supersede_earlier([closed], now=NOW) == []


@pytest.mark.usefixtures("acme")
def test_the_equation_is_checked_and_not_assumed() -> None:
    job = make_job(targets=2, delivered=1)
    make_deliveries(job, 1, state=S.DELIVERED)
    make_deliveries(job, 1, device_id=2)
    expected = {"targets": 2, **dict.fromkeys(COUNTERS, 0), "delivered": 1, "in_progress": 1}

    assert ledger.conservation("acme") == ledger.conservation() == expected
    assert ledger.conservation("nobody")["targets"] == 0
    for change in ({"targets": 3}, {"failed": 1}, {"delivered": 0, "failed": 1}, {"delivered": 2}):
        with database.atomic() as undone:
            Job.update(change).where(Job.id == job).execute()
            with pytest.raises(AssertionError, match="jobs say"):
                ledger.conservation("acme")
            undone.rollback()
    assert status("acme")["deliveries"]["DELIVERED"] == 1


@pytest.mark.usefixtures("acme")
def test_channels_come_with_their_secrets_as_they_are_now() -> None:
    first, second = (
        make_channel(name="a"),
        make_channel(name="b", config={"token": "c4nary"}, is_enabled=False),
    )

    found = channels_of([second, first, first, 10**6])
    assert {id_: channel.config for id_, channel in found.items()} == {
        first: {"url": "https://ops.example.org/in"},
        second: {"token": "c4nary"},
    }
    assert (found[first].is_enabled, found[second].is_enabled) == (True, False)
    assert "c4nary" not in repr(found)
    assert channels_of([]) == {}

    # A change counts at once, also one that leaves no trace in updated_at.
    Channel.update(config={"token": "two"}).where(Channel.id == second).execute()
    assert channels_of([second])[second].config == {"token": "two"}


def test_no_secret_is_found_in_the_files_of_the_database(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    with open_test_database(f"sqlite:///{path}"), connection():
        from_bulk = {
            "tenant_id": "acme",
            "name": "b",
            "channel_type": "webhook",
            "config": {"password": "c4nary"},
        }
        make_tenant()
        make_channel(config={"headers": {"Authorization": "c4nary"}, "url": "https://c4nary@example.org"})
        bulk.insert(Channel, [from_bulk])
        while_open = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"webhook" in while_open
    assert b"c4nary" not in while_open
    assert b"c4nary" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


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


def test_workers_that_claim_and_supersede_the_same_deliveries_do_not_block_each_other(
    postgres_url: str,
) -> None:
    threads, rounds = 8, 12
    with open_test_database(postgres_url):
        # Given a job with many deliveries, and a later event that ends what waits of it
        with connection():
            make_tenant()
            ids = make_deliveries(make_job(sequence=1, targets=3000), 3000)
            later = make_job(sequence=2, deliver_on_event="CLOSED", targets=0)
        start = Barrier(threads)

        # When workers claim any of them, few and many, in any order, each time as if the leases had ended
        def work(seed: int) -> None:
            draw = random.Random(seed)
            start.wait()
            for number in range(rounds):
                now = NOW + timedelta(seconds=number)
                with transaction():
                    mine = draw.sample(ids, draw.choice([2, 50, 400, 2000]))
                    ledger.claim(mine, now=now, lease=timedelta(milliseconds=1))
                if seed == 0 and number == rounds // 2:
                    with transaction():
                        ledger.supersede_earlier([later], now=now)

        # Then PostgreSQL refuses nobody for a deadlock
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))
        with connection():
            assert ledger.conservation()["targets"] == 3000
