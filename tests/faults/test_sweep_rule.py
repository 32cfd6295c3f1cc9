"""When the sweep sends a row on: by its time, and by what the queue says."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from dramatiq.errors import ConnectionClosed

import actors
from actors.broker import runtime
from actors.memory import MemoryBroker
from actors.sweep import DOUBLINGS, sweep
from config import load_settings
from model.database import connection, utcnow
from model.tables import Delivery
from model.tallies import tallies
from tests.support.database import make_deliveries, make_job, make_tenant, open_test_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dramatiq import Message

GRACE, IDLE = 60.0, 5.0

_NUMBERS = itertools.count()


class Queue(MemoryBroker):
    """A broker whose queue is as long as a test says, and that may be away.

    Attributes:
        taken: the ids of each message.
        takes: how many messages it takes before it goes away.
    """

    def __init__(self) -> None:
        super().__init__([])
        self.length: int | None = 0
        self.taken: list[list[int]] = []
        self.takes = 10_000

    def waiting(self, queue_name: str) -> int:  # noqa: ARG002  # as its parent's
        if self.length is None:
            raise ConnectionClosed("away")  # type: ignore[no-untyped-call]  # Dramatiq's
        return self.length

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:  # noqa: ARG002
        if len(self.taken) >= self.takes:
            raise ConnectionClosed("away")  # type: ignore[no-untyped-call]  # Dramatiq's
        self.taken.append(message.args[0])
        return message


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    before, brokers = runtime.settings, {actor: actor.broker for actor in _steps()}
    runtime.settings = load_settings(
        database_url=f"sqlite:///{tmp_path}/test.db", sweep_grace=GRACE, sweep_grace_idle=IDLE
    )
    queue = Queue()
    for actor in _steps():
        actor.broker = queue
    with open_test_database(f"sqlite:///{tmp_path}/test.db"), connection():
        make_tenant()
        yield queue
    for actor, broker in brokers.items():
        actor.broker = broker
    runtime.settings = before


def _steps() -> list[Any]:
    return [
        *(actors.match_rules, actors.match_critical),
        *(actors.fanout_devices, actors.fanout_critical),
        *(actors.deliver, actors.deliver_critical, actors.deliver_later),
    ]


def _waiting_since(seconds: float, number: int = 1, **fields: Any) -> list[int]:
    """Deliveries whose messages were sent so long ago."""
    ids = make_deliveries(make_job(alert_id=f"a{next(_NUMBERS)}", state="PROCESSING"), number)
    sent = utcnow() - timedelta(seconds=seconds)
    Delivery.update(**{"sweep_at": sent + timedelta(seconds=GRACE), **fields}).where(
        Delivery.id.in_(ids)
    ).execute()
    return ids


@pytest.mark.parametrize(
    ("length", "waited", "swept"),
    [(0, IDLE - 2, 0), (0, IDLE + 2, 1), (3, IDLE + 2, 0), (3, GRACE - 2, 0), (3, GRACE + 2, 1)],
)
def test_an_empty_queue_shortens_the_patience(queue: Queue, length: int, waited: float, swept: int) -> None:
    queue.length = length
    _waiting_since(waited)

    assert sweep()["deliver"] == swept
    assert len(queue.taken) == swept


@pytest.mark.parametrize("times", range(DOUBLINGS + 2))
def test_patience_doubles_with_every_sweep(queue: Queue, times: int) -> None:
    factor = 2 ** min(times, DOUBLINGS)
    sent_at = utcnow() - timedelta(seconds=IDLE * factor)
    for offset, swept in ((2, 0), (-2, 1)):
        (row,) = _waiting_since(0, sweeps=times)
        sweep_at = sent_at + timedelta(seconds=GRACE * factor + offset)
        Delivery.update(sweep_at=sweep_at).where(Delivery.id == row).execute()
        assert sweep()["deliver"] == swept
    # And from now on the next, longer patience counts
    row_now = Delivery.get_by_id(row)
    assert row_now.sweeps == times + 1
    ahead = (row_now.sweep_at - utcnow()).total_seconds()
    assert ahead == pytest.approx(GRACE * 2 ** min(times + 1, DOUBLINGS), abs=5)
    del queue


def test_what_waits_for_its_time_or_is_being_sent_is_left_alone(queue: Queue) -> None:
    soon, long_ago = utcnow() + timedelta(seconds=30), utcnow() - timedelta(seconds=1)
    _waiting_since(IDLE + 1, state="RETRYING", next_attempt_at=soon)
    _waiting_since(IDLE + 1, state="DEFERRED", next_attempt_at=soon)
    _waiting_since(IDLE + 1, state="SENDING", lease_until=soon, sweep_at=soon)
    (lost,) = _waiting_since(IDLE + 1, state="SENDING", lease_until=long_ago, sweep_at=long_ago)

    assert sweep()["deliver"] == 1
    assert queue.taken == [[lost]]
    assert tallies() == {"leases_recovered": 1, "duplicates_avoided": 0}


def test_what_comes_again_comes_in_ever_smaller_messages(queue: Queue) -> None:
    for sweeps in range(3):
        _waiting_since(10_000, number=20, sweeps=sweeps)

    sweep()

    assert sorted(len(ids) for ids in queue.taken) == [1] * 20 + [10, 10, 20]


def test_while_the_broker_is_away_rows_stay_as_due_as_they_were(queue: Queue) -> None:
    ids = _waiting_since(GRACE + 1, number=3)
    queue.length = None

    assert sweep()["deliver"] == 0

    rows = list(Delivery.select().where(Delivery.id.in_(ids)))
    assert all(row.sweeps == 0 and row.sweep_at < utcnow() for row in rows)


def test_what_a_broker_that_goes_away_in_mid_sweep_did_not_take_is_due_at_once(queue: Queue) -> None:
    # Given deliveries of three lanes, and a broker that takes one message
    ids = [_waiting_since(GRACE + 1, channel_id=channel)[0] for channel in (1, 2, 3)]
    queue.takes = 1

    sweep()

    # Then the others do not wait for another grace
    taken = queue.taken[0]
    for row in Delivery.select().where(Delivery.id.in_(ids)):
        assert (row.sweep_at > utcnow()) == (row.id in taken)
