"""The in-process broker of the embedded default: Dramatiq's StubBroker, fit to run for months.

A lost process loses its messages, which costs nothing but time: the sweep sends on whatever the database says is due.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq.brokers.stub import StubBroker, _StubConsumer
from dramatiq.common import dq_name
from dramatiq.errors import QueueNotFound

from actors.together import has_ended, parts_of

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
        """As the StubBroker's, with a bounded list behind it.

        Raises:
            dramatiq.errors.QueueNotFound: there is no such queue.
        """
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]  # Dramatiq's
        if not isinstance(self.dead_letters_by_queue.get(queue_name), _Latest):
            self.dead_letters_by_queue[queue_name] = _Latest()
        return _Consumer(  # type: ignore[no-untyped-call]  # as above
            self.queues[queue_name], self.dead_letters_by_queue[queue_name], prefetch, timeout
        )

    def waiting(self, queue_name: str) -> int:
        """How many messages wait in a queue, delayed ones included, besides those that this worker holds already."""
        queues = (self.queues.get(name) for name in (queue_name, dq_name(queue_name)))
        return sum(queue.qsize() for queue in queues if queue is not None)


class _Consumer(_StubConsumer):
    """Takes messages back that were worked on together, each by itself."""

    def ack(self, message: MessageProxy) -> None:
        for part in parts_of(message):
            super().ack(part)  # type: ignore[no-untyped-call]  # as above

    def nack(self, message: MessageProxy) -> None:
        parts = parts_of(message)
        if len(parts) == 1:
            super().nack(message)  # type: ignore[no-untyped-call]  # as above
            return
        for part in parts:
            # One of them may be to blame. Each comes again, alone, and is judged by itself.
            if not has_ended(message, part):
                self.queue.put(part.copy(options={"redelivered": True}).encode())
            super().ack(part)  # type: ignore[no-untyped-call]  # as above


class _Latest(list["MessageProxy"]):
    """A list that forgets its oldest. Only `append` is bounded: nothing else adds to it."""

    def append(self, message: MessageProxy) -> None:
        super().append(message)
        del self[:-DEAD_LETTERS]
