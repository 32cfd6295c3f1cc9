"""Losing any message, at any step, loses nothing."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import actors
from actors.sweep import HOLDER
from model.database import connection, is_sqlite, transaction, utcnow
from model.tables import Alert, Delivery, Job, SweepLease
from tests.integration.chain.conftest import TENANT
from tests.support.database import make_job

if TYPE_CHECKING:
    from tests.integration.chain.conftest import Chain

LONG_AGO = timedelta(hours=1)


def _lose_everything_at(chain: Chain, step: str) -> None:
    """Bring an alert to a step by hand and lose its message there."""
    chain.stop()
    accepted = chain.send({"alert_id": 1})
    if step != "match":
        actors.match_rules.fn(list(accepted.ids))
    if step in {"deliver", "send"}:
        with connection():
            actors.fanout_devices.fn([Job.get().id])
    if step == "send":
        with connection():
            # A worker claimed it, and died.
            Delivery.update(
                state="SENDING", attempts=1, lease_until=utcnow() - timedelta(seconds=1)
            ).execute()
    actors.broker.flush_all()
    with connection():
        for table in (Alert, Job, Delivery):
            table.update(sweep_at=utcnow() - LONG_AGO).where(table.sweep_at.is_null(False)).execute()


@pytest.mark.parametrize(("step", "attempts"), [("match", 1), ("fanout", 1), ("deliver", 1), ("send", 2)])
def test_a_message_lost_at_any_step_is_sent_again(chain: Chain, step: str, attempts: int) -> None:
    chain.rule(chain.channel("hook"))
    _lose_everything_at(chain, step)
    chain.start()
    chain.until(lambda: bool(chain.lines()))
    assert chain.settled() == [("1", "OPEN", "hook", "DELIVERED", None, attempts)]
    assert len(chain.far.webhook.received) == 1


def test_what_kills_its_worker_runs_out_of_attempts(chain: Chain) -> None:
    chain.rule(chain.channel("hook"))
    _lose_everything_at(chain, "send")
    with connection():
        Delivery.update(attempts=4).execute()
    chain.start()
    chain.until(lambda: [line[3] for line in chain.lines()] == ["FAILED"])
    assert chain.lines() == [("1", "OPEN", "hook", "FAILED", "exhausted", 4)]
    assert not chain.far.webhook.received


def test_what_is_under_way_is_left_alone(chain: Chain) -> None:
    chain.rule(chain.channel("hook"))
    _lose_everything_at(chain, "send")
    with connection():
        Delivery.update(lease_until=utcnow() + timedelta(minutes=1)).execute()
        assert actors.sweep() == {"match": 0, "fanout": 0, "deliver": 0}


def test_what_somebody_is_settling_is_neither_waited_for_nor_marked_as_due(chain: Chain) -> None:
    chain.rule(chain.channel("hook"))
    _lose_everything_at(chain, "deliver")
    if is_sqlite():
        pytest.skip("of PostgreSQL: SQLite's writers are alone")
    # Given a worker that has locked what is due, and ends it
    held, may_end = threading.Event(), threading.Event()

    def settle() -> None:
        with connection(), transaction():
            Delivery.update(state="DELIVERED", sweep_at=None).execute()
            held.set()
            may_end.wait(10)

    worker = threading.Thread(target=settle)
    worker.start()
    assert held.wait(10)
    # When the sweep comes meanwhile
    swept = actors.sweep()
    may_end.set()
    worker.join()
    # Then it leaves the row alone
    assert swept["deliver"] == 0
    with connection():
        assert Delivery.get().sweep_at is None
        Job.update(state="COMPLETED", delivered=1).execute()


@pytest.mark.parametrize("step", ["match", "fanout"])
def test_critical_alerts_that_are_sent_on_keep_their_road(chain: Chain, step: str) -> None:
    phones = chain.channel("phones", "push", all_users=True)
    chain.rule(phones)
    chain.stop()
    accepted = chain.send({"alert_id": 1, "severity": 4}, {"alert_id": 2, "severity": 1})
    if step == "fanout":
        with connection():
            for sequence, is_critical in zip(accepted.ids, (True, False), strict=True):
                make_job(TENANT, sequence=sequence, alert_id=str(sequence), channel_id=phones.id, channel_type="push",
                    is_critical=is_critical, state="PENDING", targets=0, sweep_at=utcnow() - LONG_AGO)  # fmt: skip
            Alert.update(matched_at=utcnow(), sweep_at=None).execute()
    actors.broker.flush_all()
    with connection():
        Alert.update(sweep_at=utcnow() - LONG_AGO).where(Alert.sweep_at.is_null(False)).execute()

    assert actors.sweep()[step] == 2

    rest, critical = {"match": ("match", "critical"), "fanout": ("fanout", "critical")}[step]
    broker: Any = actors.broker
    assert (broker.waiting(f"tocsin.{rest}"), broker.waiting(f"tocsin.{critical}")) == (1, 1)
    actors.broker.flush_all()
    with connection():
        Job.delete().execute()


@pytest.mark.parametrize("chain", [{"sweep_interval": 30}], indirect=True)
def test_one_process_sweeps_at_a_time(chain: Chain) -> None:
    chain.stop()
    with connection():
        SweepLease.delete().execute()
        SweepLease.create(name="sweep", holder="another", lease_until=utcnow() + timedelta(minutes=1))
    assert actors.sweep() == {}
    with connection():
        SweepLease.update(lease_until=utcnow() - timedelta(seconds=1)).execute()
    assert actors.sweep() != {}
    with connection():
        assert SweepLease.get().holder == HOLDER
        # A clock that was ahead left its mark
        SweepLease.update(holder="another", lease_until=utcnow() + timedelta(minutes=3)).execute()
    assert actors.sweep() != {}
    with connection():
        assert SweepLease.get().lease_until <= utcnow() + timedelta(minutes=1)


def test_a_swept_row_is_not_swept_again_at_once(chain: Chain) -> None:
    chain.rule(chain.channel("hook"))
    _lose_everything_at(chain, "deliver")
    assert actors.sweep()["deliver"] == 1
    assert actors.sweep()["deliver"] == 0


def test_a_message_that_comes_twice_does_nothing_twice(chain: Chain) -> None:
    chain.rule(chain.channel("hook"))
    accepted = chain.send({"alert_id": 1})
    chain.settled()
    with connection():
        job, delivery = Job.get().id, Delivery.get().id
    for actor, row in (
        (actors.match_rules, accepted.ids[0]),
        (actors.fanout_devices, job),
        (actors.deliver, delivery),
    ):
        actor.send([row])
        actor.send([row, row])
    chain.until(lambda: all(queue.empty() for queue in actors.broker.queues.values()))
    assert chain.worker is not None
    chain.worker.join()
    assert chain.lines() == [("1", "OPEN", "hook", "DELIVERED", None, 1)]
    assert len(chain.far.webhook.received) == 1
