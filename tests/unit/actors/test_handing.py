"""From one step to the next: in batches, and what a broker does not take is due at once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.errors import ConnectionClosed
from hypothesis import given
from hypothesis import strategies as st
from pika.exceptions import AMQPConnectionError
from structlog.testing import capture_logs

from actors.handing import BATCH, batches, hand_on, lane_of
from actors.memory import MemoryBroker
from model.database import connection, tuples, utcnow
from model.tables import Delivery
from tests.support.database import make_deliveries, make_job, make_tenant, open_test_database

if TYPE_CHECKING:
    from pathlib import Path

    from dramatiq import Actor, Message


GONE: Exception = ConnectionClosed("gone")  # type: ignore[no-untyped-call]  # untyped in Dramatiq


class LeavingBroker(MemoryBroker):
    """A broker that goes away after it has taken so many messages."""

    def __init__(self, takes: int, error: Exception) -> None:
        super().__init__([])
        self.takes = takes
        self.error = error
        self.tried = 0
        self.taken: list[list[int]] = []

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        self.tried += 1
        if self.tried > self.takes:
            raise self.error
        self.taken.append(message.args[0])
        return super().enqueue(message, delay=delay)


def _actor(broker: LeavingBroker, name: str = "step") -> Actor[[list[int]], None]:
    def step(ids: list[int]) -> None:
        """Is never run: this is about what is sent."""

    return dramatiq.actor(broker=broker, queue_name="step", actor_name=name)(step)


@given(items=st.lists(st.integers()), size=st.integers(1, 10))
def test_batches_keep_everything_in_its_order(items: list[int], size: int) -> None:
    parts = [list(part) for part in batches(items, size)]

    assert [item for part in parts for item in part] == items
    assert all(len(part) == size for part in parts[:-1])
    assert all(parts)


@pytest.mark.parametrize(
    ("number", "sizes"), [(0, []), (1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])]
)
def test_ids_travel_a_hundred_to_a_message(number: int, sizes: list[int]) -> None:
    broker = LeavingBroker(takes=99, error=GONE)
    ids = list(range(number))

    assert hand_on(_actor(broker), ids)

    assert [len(batch) for batch in broker.taken] == sizes
    assert [item for batch in broker.taken for item in batch] == ids


def test_a_message_may_speak_of_one_row_alone() -> None:
    broker = LeavingBroker(takes=99, error=GONE)

    assert hand_on(_actor(broker), (3, 1, 2), size=1)

    assert broker.taken == [[3], [1], [2]]


@pytest.mark.parametrize("error", [GONE, AMQPConnectionError(), ConnectionRefusedError("refused"), OSError()])
def test_what_a_broker_that_goes_away_did_not_take_is_due_for_the_sweep_at_once(
    error: Exception, tmp_path: Path
) -> None:
    with open_test_database(f"sqlite:///{tmp_path}/test.db"):
        # Given five messages' worth of deliveries, one of which has ended, and a broker that takes one message
        with connection():
            make_tenant()
            ids = make_deliveries(make_job(), 5 * BATCH)
            Delivery.update(state="DELIVERED", sweep_at=None).where(Delivery.id == ids[-1]).execute()
            unmoved = Delivery.get_by_id(ids[0]).sweep_at
        broker = LeavingBroker(takes=1, error=error)

        # When they are handed on
        with capture_logs() as lines:
            assert not hand_on(_actor(broker, "deliver"), ids)

        # Then it is said once, the broker is not tried for each batch, and what it did not take is due now
        assert [(line["event"], line["actor"]) for line in lines] == [("broker_away", "deliver")]
        assert lines[0]["why"]
        assert broker.tried == 2
        with connection():
            found = {row[0]: row[1] for row in tuples(Delivery.select(Delivery.id, Delivery.sweep_at))}
        assert [found[id_] for id_ in ids[:BATCH]] == [unmoved] * BATCH
        assert all(timedelta(0) <= utcnow() - found[id_] < timedelta(minutes=1) for id_ in ids[BATCH:-1])
        assert found[ids[-1]] is None


def test_a_database_that_is_away_as_well_is_no_error_either(tmp_path: Path) -> None:
    with open_test_database(f"sqlite:///{tmp_path}/missing/test.db", migrated=False):
        broker = LeavingBroker(takes=0, error=GONE)

        assert not hand_on(_actor(broker, "match_rules"), [1, 2])


def test_an_error_of_ours_is_not_taken_for_an_absence() -> None:
    broker = LeavingBroker(takes=0, error=TypeError("a bug"))

    with pytest.raises(TypeError, match="a bug"):
        hand_on(_actor(broker), [1])


def test_a_push_service_is_one_destination_and_each_channels_browsers_are_another() -> None:
    assert lane_of("apns", 1) == lane_of("apns", 2)
    assert lane_of("fcm", 1) == lane_of("fcm", 2)
    # A browser's push service is whatever address its user gives: no other tenant's must wait for it.
    assert lane_of("webpush", 1) != lane_of("webpush", 2)
    assert lane_of("slack", 1) != lane_of("slack", 2)
