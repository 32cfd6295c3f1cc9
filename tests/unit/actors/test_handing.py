"""From one step to the next: in batches, and what a broker does not take is due at once."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.errors import ConnectionClosed
from hypothesis import given
from hypothesis import strategies as st
from pika.exceptions import AMQPConnectionError
from structlog.testing import capture_logs

from actors import handing
from actors.handing import (
    BATCH,
    FORGOTTEN,
    LONGEST_PAUSE,
    PAUSE,
    SILENCE,
    Asking,
    batches,
    hand_on,
    lane_of,
)  # fmt: skip
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


class SilentBroker(MemoryBroker):
    """A broker that says nothing to whoever asks, until it is told to be gone."""

    def __init__(self) -> None:
        super().__init__([])
        self.asked = threading.Semaphore(0)
        self.gone = threading.Event()

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:  # noqa: ARG002  # as above
        self.asked.release()
        assert self.gone.wait(30)
        raise GONE


class Clock:
    """The clock of actors.handing, for Asking."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(handing, "time", SimpleNamespace(monotonic=lambda: self.now))

    def refuse(self, asking: Asking, *, after: float) -> None:
        """Ask, and be refused so many seconds later."""
        began = asking.begin(is_sweep=False)
        assert began is not None
        self.end(asking, began, after=after, refused=True)

    def end(self, asking: Asking, began: float, *, after: float, refused: bool) -> None:
        """What was asked then has its answer so many seconds from now."""
        with contextlib.suppress(ConnectionClosed), asking.since(began):
            self.now += after
            if refused:
                raise GONE

    def pause(self, asking: Asking, *, is_sweep: bool = False) -> float:
        """For how long nobody is to ask now."""
        before, step = self.now, 0.25
        while (began := asking.begin(is_sweep=is_sweep)) is None:
            self.now += step
        asking._under_way.remove(began)
        waited, self.now = self.now - before, before
        return waited


def _actor(broker: MemoryBroker, name: str = "step") -> Actor[[list[int]], None]:
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


def test_nobody_waits_behind_others_for_a_broker_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing, "SILENCE", 0.2)
    broker = SilentBroker()
    actor = _actor(broker, "deliver")
    with (
        open_test_database(f"sqlite:///{tmp_path}/test.db"),
        ThreadPoolExecutor(2) as threads,
        capture_logs(),
    ):
        with connection():
            make_tenant()
            later = utcnow() + timedelta(hours=1)
            mine, others = make_deliveries(make_job(), 2, sweep_at=later)
        try:
            # Given somebody who has been asking for longer than a moment
            first = threads.submit(hand_on, actor, [mine])
            assert broker.asked.acquire(timeout=10)
            time.sleep(0.3)
            # When another has something to hand on, then it does not ask, and its row is due at once
            assert threads.submit(hand_on, actor, [others]).result(timeout=10) is False
            assert not broker.asked.acquire(timeout=0)
            with connection():
                assert Delivery.get_by_id(others).sweep_at <= utcnow()
                assert Delivery.get_by_id(mine).sweep_at == later
        finally:
            broker.gone.set()
        # And so is the row of the one that asked, once that was in vain
        assert first.result(timeout=10) is False
        with connection():
            assert Delivery.get_by_id(mine).sweep_at <= utcnow()


def test_a_pause_grows_with_each_refusal_that_had_to_be_waited_for_and_ends_with_what_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, asking = Clock(monkeypatch), Asking()
    pauses = []
    for _ in range(6):
        clock.refuse(asking, after=5)
        pauses.append(clock.pause(asking))
        # The sweep must find out soon
        assert clock.pause(asking, is_sweep=True) == PAUSE
        clock.now += pauses[-1]
    assert pauses == [2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE]
    # What is refused at once costs nobody anything
    clock.refuse(asking, after=0.1)
    assert clock.pause(asking) == PAUSE
    # And the first message that is taken ends all this, be it the sweep's
    clock.now += PAUSE
    began = asking.begin(is_sweep=True)
    assert began is not None
    clock.end(asking, began, after=0, refused=False)
    assert clock.pause(asking) == 0
    clock.refuse(asking, after=5)
    assert clock.pause(asking) == PAUSE


def test_after_a_refusal_one_asks_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asking = Clock(monkeypatch), Asking()
    # Given four that asked within the first moment, and all were refused: one refusal, not four in a row
    began = [asking.begin(is_sweep=False) for _ in range(4)]
    clock.now += 5
    for each in began:
        assert each is not None
        clock.end(asking, each, after=0.1, refused=True)
    assert PAUSE - 1 <= clock.pause(asking) <= PAUSE
    # When the pause is over, then one asks, and the next one does while nobody is at it
    clock.now += PAUSE
    first = asking.begin(is_sweep=False)
    assert first is not None
    assert asking.begin(is_sweep=False) is None
    clock.end(asking, first, after=0.1, refused=False)
    assert [asking.begin(is_sweep=False) is not None for _ in range(3)] == [True] * 3


def test_a_broker_that_takes_others_messages_is_busy_and_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asking = Clock(monkeypatch), Asking()
    # Given one message that is not confirmed for long
    assert asking.begin(is_sweep=False) is not None
    for _ in range(10):
        # When others are taken beside it, then others ask
        began = asking.begin(is_sweep=False)
        assert began is not None
        clock.end(asking, began, after=SILENCE / 2, refused=False)
    # And no more once none is
    clock.now += SILENCE
    assert asking.begin(is_sweep=False) is None


def test_who_was_ended_while_asking_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asking = Clock(monkeypatch), Asking()
    # Given a thread that its time limit ended before it could say what came of it
    assert asking.begin(is_sweep=False) is not None
    clock.now += FORGOTTEN - 1
    assert asking.begin(is_sweep=False) is None
    # When nobody can still be at it, then others ask
    clock.now += 1
    began = asking.begin(is_sweep=False)
    assert began is not None
    # And one who was for all that time has nothing to take back
    clock.end(asking, began, after=FORGOTTEN, refused=False)


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
