"""The in-process broker of the embedded default: Dramatiq's StubBroker, fit to run for months.

A lost process loses its messages, which costs nothing but time: the sweep sends on whatever the database says is due.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq.brokers.stub import StubBroker
from dramatiq.common import dq_name

if TYPE_CHECKING:
    from dramatiq import Consumer, MessageProxy
    from dramatiq.middleware import Middleware

#: The StubBroker keeps every dead letter for its tests' sake; we keep the latest of each queue, to look at.
DEAD_LETTERS = 100


class MemoryBroker(StubBroker):
    """A StubBroker whose dead letters are bounded."""

    def __init__(self, middleware: list[Middleware]) -> None:
        super().__init__(middleware=middleware)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> Consumer:
        """As the StubBroker's, with a bounded list behind it."""
        if queue_name in self.queues and not isinstance(self.dead_letters_by_queue.get(queue_name), _Latest):
            self.dead_letters_by_queue[queue_name] = _Latest()
        return super().consume(queue_name, prefetch, timeout)

    def waiting(self, queue_name: str) -> int:
        """How many messages wait in a queue, delayed ones included, besides those that this worker holds already."""
        queues = (self.queues.get(name) for name in (queue_name, dq_name(queue_name)))
        return sum(queue.qsize() for queue in queues if queue is not None)


class _Latest(list["MessageProxy"]):
    """A list that forgets its oldest. Only `append` is bounded: nothing else adds to it."""

    def append(self, message: MessageProxy) -> None:
        super().append(message)
        del self[:-DEAD_LETTERS]
