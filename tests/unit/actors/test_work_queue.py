"""The queue between consumers and worker threads: urgent first, one thread kept for it, what may goes together."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from itertools import count
from queue import Empty
from typing import TYPE_CHECKING, Any

import pytest
from dramatiq import Message, Worker
from dramatiq.brokers.rabbitmq import _RabbitmqMessage
from dramatiq.worker import _WorkQueueItem as Item
from hypothesis import given
from hypothesis import strategies as st

from actors import work_queue
from actors.handing import BATCH
from actors.memory import MemoryBroker
from actors.roads import BULK, CRITICAL, DELIVER, FRONT, LAST, URGENT
from actors.together import Together, parts_of
from actors.work_queue import WorkQueue

if TYPE_CHECKING:
    from collections.abc import Callable

_tags = count(1)


def item(
    priority: int = BULK,
    ids: list[int] | None = None,
    *,
    actor: str = "deliver",
    redelivered: bool = False,
    queue_name: str = "tocsin.any",
    **options: Any,
) -> Item:
    """What Dramatiq's consumer thread puts in."""
    message: Message[Any] = Message(queue_name, actor, (ids or [1],), {}, options)
    return Item(priority, _RabbitmqMessage(redelivered, next(_tags), message))  # type: ignore[no-untyped-call]


def queue_of(threads: int, *queues: str) -> WorkQueue:
    """The queue of a worker with so many threads, which consumes these queues; all of them if none is named."""
    broker = MemoryBroker([])
    return WorkQueue(Worker(broker, queues=set(queues), worker_threads=threads))


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def eventually(holds: Callable[[], bool]) -> bool:
    return any(holds() for _ in range(100))


def take_in_threads(queue: WorkQueue, number: int) -> list[Item]:
    """What so many threads get that hold on to it, as workers in the middle of a message do."""
    taken: list[Item] = []

    def take(tried: threading.Event) -> None:
        with contextlib.suppress(Empty):
            taken.append(queue.get(timeout=0.05))
        tried.set()
        threading.Event().wait(30)  # a thread that ended would leave its identity to the next one

    for _ in range(number):
        tried = threading.Event()
        in_thread(partial(take, tried))
        assert tried.wait(5)
    return taken


def test_urgent_goes_first_and_then_what_is_older() -> None:
    queue = queue_of(1)
    items = [item(), item(LAST), item(), item(URGENT), item(FRONT)]
    for each in items:
        queue.put(each)
    found = []
    for _ in items:
        found.append(queue.get(timeout=0))
        queue.task_done()
    assert found == [items[number] for number in (3, 4, 0, 2, 1)]


def test_one_thread_is_kept_for_what_is_urgent() -> None:
    # Given four threads, and more bulk than they can take
    queue = queue_of(4)
    for _ in range(10):
        queue.put(item())
    # When all of them come for work
    taken = take_in_threads(queue, 4)
    # Then one goes without
    assert len(taken) == 3
    # And when something urgent comes, it takes that
    urgent = item(URGENT)
    queue.put(urgent)
    assert take_in_threads(queue, 1) == [urgent]


def test_while_critical_alerts_come_one_thread_does_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a worker that has just begun with a critical alert
    monkeypatch.setattr(work_queue, "CALM", 0.5)
    queue = queue_of(4)
    queue.put(item(URGENT))
    take_in_threads(queue, 1)
    for _ in range(10):
        queue.put(item())
    # When the others come for work, then one of them gets some
    assert len(take_in_threads(queue, 2)) == 1
    # And when no more critical ones came for a while, all but the thread that is kept
    assert eventually(lambda: len(take_in_threads(queue, 1)) == 1)
    assert len(take_in_threads(queue, 2)) == 1


def test_who_waits_for_a_far_side_leaves_the_work_to_another() -> None:
    # Given a critical alert at work, and a thread that does the rest
    queue = queue_of(4)
    queue.put(item(URGENT))
    take_in_threads(queue, 1)
    for _ in range(10):
        queue.put(item())
    queue.get(timeout=0)
    assert not take_in_threads(queue, 1)
    # When it steps aside
    with queue.aside():
        # Then another has its turn, and no third
        assert len(take_in_threads(queue, 2)) == 1
    # And when it comes back, nobody begins until both are done
    assert not take_in_threads(queue, 1)
    queue.task_done()
    assert not take_in_threads(queue, 1)


def test_who_steps_aside_is_still_one_of_all() -> None:
    # Given two threads, one of which waits for a far side
    queue = queue_of(2)
    for _ in range(3):
        queue.put(item())
    queue.get(timeout=0)
    with queue.aside():
        # Then the other is kept for what is urgent
        assert not take_in_threads(queue, 1)


def test_urgent_work_takes_every_thread() -> None:
    queue = queue_of(2)
    for _ in range(2):
        queue.put(item(URGENT))
    assert len(take_in_threads(queue, 2)) == 2


def test_a_single_thread_takes_everything() -> None:
    queue = queue_of(1)
    queue.put(item())
    assert queue.get(timeout=0).priority == BULK


@pytest.mark.parametrize(("consumed", "taken"), [((CRITICAL, DELIVER), 1), ((DELIVER,), 2)])
def test_none_is_kept_where_nothing_urgent_comes(consumed: tuple[str, ...], taken: int) -> None:
    queue = queue_of(2, *consumed)
    for _ in range(2):
        queue.put(item())
    assert len(take_in_threads(queue, 2)) == taken


def test_a_thread_that_is_done_makes_room() -> None:
    # Given one of two threads at work, and another that waits for what it may take
    queue = queue_of(2)
    for _ in range(2):
        queue.put(item())
    got = threading.Event()
    queue.get(timeout=0)

    def wait() -> None:
        queue.get(timeout=5)
        got.set()

    in_thread(wait)
    assert not got.wait(0.05)
    # When the first is done
    queue.task_done()
    # Then the second goes on at once
    assert got.wait(1)


def test_what_is_left_at_the_end_is_handed_out_whole() -> None:
    # Given a worker that ends with one of its threads at work (Dramatiq then empties the queue without waiting)
    queue = queue_of(2)
    for _ in range(4):
        queue.put(item())
    assert len(take_in_threads(queue, 1)) == 1
    # Then nothing stays behind
    for _ in range(3):
        queue.get_nowait()
    with pytest.raises(Empty):
        queue.get_nowait()


def test_nothing_in_time_is_said() -> None:
    with pytest.raises(Empty):
        queue_of(4).get(timeout=0.01)


def test_joining_waits_for_what_was_taken() -> None:
    queue = queue_of(4)
    queue.put(item())
    joined = threading.Event()

    def join() -> None:
        queue.join()
        joined.set()

    queue.get(timeout=0)
    in_thread(join)
    assert not joined.wait(0.05)
    queue.task_done()
    assert joined.wait(1)


def take_all(queue: WorkQueue) -> list[Any]:
    """The messages that one thread gets, one after the other."""
    found = []
    with contextlib.suppress(Empty):
        while True:
            found.append(queue.get(timeout=0).message)
            queue.task_done()
    return found


def test_what_waits_for_the_same_step_goes_together() -> None:
    queue = queue_of(1)
    for number in range(3):
        queue.put(item(FRONT, [number], actor="match_rules"))
    (message,) = take_all(queue)
    assert isinstance(message, Together)
    assert message.args == ([0, 1, 2],)
    assert message.actor_name == "match_rules"
    assert [part.args for part in parts_of(message)] == [([0],), ([1],), ([2],)]
    queue.join()  # one task_done has spoken for all three


@pytest.mark.parametrize(
    "other",
    [
        {"actor": "match_critical"},
        {"actor": "match_rules", "redelivered": True},
        {"actor": "match_rules", "retries": 1},
        {"actor": "match_rules", "queue_name": "tocsin.other"},
        {"actor": "deliver"},
        {"actor": "deliver", "lane": ["webhook", 1]},
    ],
    ids=str,
)
def test_what_differs_stays_alone(other: dict[str, Any]) -> None:
    queue = queue_of(1)
    queue.put(item(FRONT, [1], actor="match_rules"))
    queue.put(item(FRONT, [2], **other))
    assert [message.args for message in take_all(queue)] == [([1],), ([2],)]


@pytest.mark.parametrize("args", [(), (1,), ([1], [2]), ("12",)], ids=str)
def test_a_message_of_no_shape_of_ours_stays_alone(args: tuple[Any, ...]) -> None:
    queue = queue_of(1)
    stranger: Message[Any] = Message("tocsin.match", "match_rules", args, {}, {})
    queue.put(Item(FRONT, _RabbitmqMessage(False, next(_tags), stranger)))  # type: ignore[no-untyped-call]
    for number in range(2):
        queue.put(item(FRONT, [number], actor="match_rules"))
    assert [message.args for message in take_all(queue)] == [args, ([0, 1],)]


def test_deliveries_go_together_by_lane() -> None:
    queue = queue_of(1)
    for number in range(6):
        queue.put(item(ids=[number], lane=["webhook", number % 2]))
    assert [message.args for message in take_all(queue)] == [([0, 2, 4],), ([1, 3, 5],)]


KINDS = (
    {"priority": FRONT, "actor": "match_rules"},
    {"priority": URGENT, "actor": "match_critical"},
    {"priority": BULK, "actor": "deliver", "lane": ["webhook", 1]},
    {"priority": BULK, "actor": "deliver", "lane": ["webhook", 2]},
    {"priority": BULK, "actor": "deliver"},
    {"priority": FRONT, "actor": "fanout_devices"},
    {"priority": FRONT, "actor": "match_rules", "redelivered": True},
)


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, BATCH)), max_size=30))
def test_nothing_is_lost_or_doubled_or_overtaken(load: list[tuple[dict[str, Any], int]]) -> None:
    # Given messages of any kinds and sizes
    queue, numbers = queue_of(1), count()
    put: dict[str, list[int]] = {}
    for kind, size in load:
        ids = [next(numbers) for _ in range(size)]
        put.setdefault(str(kind), []).extend(ids)
        queue.put(
            item(kind["priority"], ids, **{name: each for name, each in kind.items() if name != "priority"})
        )
    # When they are taken
    taken = take_all(queue)
    # Then each id comes once, in the order of its kind, in messages that are not too large
    assert sorted(each for message in taken for each in message.args[0]) == list(range(next(numbers)))
    for ids in put.values():
        mine = set(ids)
        assert [each for message in taken for each in message.args[0] if each in mine] == ids
    assert all(len(message.args[0]) <= BATCH for message in taken)
    queue.join()
