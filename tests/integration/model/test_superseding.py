"""A later event of an alert ends what waits of the earlier ones, whoever claims it at the same time."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest

from model import ledger, superseding
from model.database import connection, transaction
from model.states import DeliveryState as S
from model.states import JobState, Reason
from model.tables import NO_DEVICE, Delivery, Job
from tests.support.database import NOW, make_deliveries, make_job, make_tenant, open_test_database


@pytest.mark.usefixtures("acme")
def test_a_later_event_ends_what_waits_of_the_earlier_ones_and_nothing_else() -> None:
    # Given an earlier event with a delivery in each state, and others that must stay as they are
    opened = make_job(sequence=1, targets=5, delivered=1)
    states = [S.PENDING, S.RETRYING, S.DEFERRED, S.SENDING, S.DELIVERED]
    ids = [
        make_deliveries(opened, 1, state=state, device_id=n, next_attempt_at=NOW)[0]
        for n, state in enumerate(states)
    ]
    acknowledged = make_job(sequence=2, deliver_on_event="ACKNOWLEDGED")
    make_deliveries(acknowledged, 1, sender="apns")
    others = [make_job(sequence=1, alert_id="other"), make_job(sequence=1, channel_id=2)]
    later = make_job(sequence=9, deliver_on_event="ESCALATED")
    closed = make_job(sequence=3, deliver_on_event="CLOSED")
    rest = [make_deliveries(job, 1)[0] for job in (*others, later, closed)]

    # When CLOSED has been fanned out
    with transaction():
        ended = superseding.supersede_earlier([closed], now=NOW)

    # Then what waited has ended with its reason, and what was being sent was left to its worker
    found = [Delivery.get_by_id(id_) for id_ in ids]
    assert [delivery.state for delivery in found] == [S.SUPERSEDED] * 3 + [S.SENDING, S.DELIVERED]
    assert all(
        (d.reason, d.finished_at, d.next_attempt_at, d.sweep_at) == (Reason.LATER_EVENT, NOW, None, None)
        for d in found[:3]
    )
    assert [(job.job_id, job.state) for job in ended.jobs] == [(acknowledged, JobState.SUPERSEDED)]
    assert ended.deliveries == {"webhook": 3, "apns": 1}
    assert Job.get_by_id(opened).superseded == 3
    assert [Delivery.get_by_id(id_).state for id_ in rest] == [S.PENDING] * 4
    assert ledger.conservation("acme")["superseded"] == 4
    # And once more changes nothing
    with transaction():
        assert superseding.supersede_earlier([closed], now=NOW) == (Counter(), [])


#: What became of an escalation's push to a device, if there is one, and whether it ends the earlier event's push to
#: the same: an ordinary one, and a critical one.
ESCALATED: list[tuple[S | None, bool, bool]] = [
    (S.PENDING, True, True),
    (S.SENDING, True, True),
    (S.RETRYING, True, True),
    (S.DELIVERED, True, True),
    (S.FAILED, True, True),
    (S.DEFERRED, True, False),
    (S.SUPPRESSED, False, False),
    (S.SUPERSEDED, False, False),
    (None, False, False),
]


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize("is_critical", [False, True])
@pytest.mark.parametrize("event", ["ESCALATED", "CLOSED"])
def test_a_push_is_ended_by_what_reaches_the_same_device_or_by_the_end(
    event: str, *, is_critical: bool
) -> None:
    # Given an OPEN to devices and, of a former channel, to none, and a later event with other fates at each device
    more: dict[str, Any] = {"channel_type": "push", "targets": len(ESCALATED) + 1}
    opened = make_job(sequence=1, is_critical=is_critical, **more)
    later = make_job(sequence=2, deliver_on_event=event, **more)
    make_job(sequence=3, deliver_on_event="ACKNOWLEDGED", channel_type="push", state="PENDING", targets=0)
    ids = make_deliveries(opened, len(ESCALATED), is_critical=is_critical)
    (to_channel,) = make_deliveries(opened, 1, device_id=NO_DEVICE, is_critical=is_critical)
    for device_id, (state, *_) in enumerate(ESCALATED, start=1):
        if state is not None:
            make_deliveries(later, 1, state=state, device_id=device_id)
    ends = {number for number, (_, *how) in zip(ids, ESCALATED, strict=True) if how[is_critical]}
    ends = {*(ids if event == "CLOSED" else ends), to_channel}

    # When OPEN is claimed, Then what the later event ends knows of it
    claimed = ledger.claim([*ids, to_channel], now=NOW, lease=timedelta(minutes=1))
    assert {claim.delivery_id for claim in ledger.load(claimed, now=NOW) if claim.later} == ends

    # And when it waits again, the later event ends just that
    Delivery.update(state=S.RETRYING, lease_until=None).where(Delivery.job_id == opened).execute()
    with transaction():
        assert superseding.supersede_earlier([later], now=NOW).deliveries == {"webhook": len(ends)}
    ended = Delivery.select().where((Delivery.job_id == opened) & (Delivery.state == S.SUPERSEDED))
    assert {delivery.id for delivery in ended} == ends


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
                        superseding.supersede_earlier([later], now=now)

        # Then PostgreSQL refuses nobody for a deadlock
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))
        with connection():
            assert ledger.conservation()["targets"] == 3000
