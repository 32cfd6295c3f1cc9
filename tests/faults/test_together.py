"""Messages that were worked on together come again apart when that fails, and nothing of them is lost."""

from __future__ import annotations

import threading

import dramatiq
from dramatiq import Worker
from dramatiq.middleware import Retries

from actors.rabbitmq import ConfirmingRabbitmqBroker
from actors.work_queue import WorkQueue
from tests.servers.programs import wait_until

NUMBERS = 7
BAD = 4


def test_of_messages_that_failed_together_each_is_judged_by_itself(rabbitmq_url: str) -> None:
    # Given a broker with a step whose first message takes long, and one that it cannot work on
    never = Retries(retry_when=lambda _retries, _error: False)
    broker = ConfirmingRabbitmqBroker(rabbitmq_url, queue_type="classic", middleware=[never])
    calls: list[list[int]] = []
    done: list[int] = []
    go_on = threading.Event()

    @dramatiq.actor(broker=broker, queue_name="tocsin.test", actor_name="match_rules")
    def step(ids: list[int]) -> None:
        calls.append(ids)
        go_on.wait(10)
        if BAD in ids:
            raise LookupError("nobody can match this")
        done.extend(ids)

    worker = Worker(broker, worker_threads=1, worker_timeout=50)
    worker.queue_prefetch = NUMBERS
    worker.work_queue = WorkQueue(worker)
    worker.start()
    try:
        step.send([0])
        wait_until(lambda: calls == [[0]], 10, "the first message")
        # When others come meanwhile
        for number in range(1, NUMBERS):
            step.send([number])
        wait_until(lambda: worker.work_queue.qsize() == NUMBERS - 1, 10, "the messages")
        go_on.set()
        # Then they are tried together, and after that each alone
        wait_until(lambda: len(done) == NUMBERS - 1 and len(calls) == NUMBERS + 1, 10, "each of them")
        assert calls[:2] == [[0], [1, 2, 3, 4, 5, 6]]
        assert sorted(calls[2:]) == [[1], [2], [3], [4], [5], [6]]
        assert sorted(done) == [0, 1, 2, 3, 5, 6]
        # And only the one to blame is a dead letter
        wait_until(lambda: broker.dead_letters("tocsin.test") == 1, 10, "the dead letter")
        assert broker.waiting("tocsin.test") == 0
    finally:
        worker.stop()
        broker.close()
