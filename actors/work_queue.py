"""What a worker process holds: critical alerts first, with a thread that is always theirs; what may, goes together."""

from __future__ import annotations

import contextlib
import heapq
import threading
import time
from dataclasses import replace
from queue import Empty, PriorityQueue
from typing import TYPE_CHECKING, Any

from actors.roads import CRITICAL, URGENT
from actors.together import Together, joins, taken_along

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dramatiq import Worker

#: Seconds after a critical alert in which the rest goes on in one thread: where there is one there are often more.
CALM = 5.0


class WorkQueue(PriorityQueue[Any]):
    """Dramatiq's queue between its consumers and its worker threads, which leaves one of these to what is urgent.

    A message may speak of a hundred pushes. A critical alert that finds all threads at such messages would wait for the
    first to be done, however high its priority.

    Threads also share the interpreter's lock and the processors. So while critical alerts come, one thread alone begins
    what is not urgent, which costs no throughput where the processor is what bounds it, and halves what a critical
    alert takes behind a backlog (scenario d of the benchmarks: a median of 0.12 s, then 0.06 s).

    Args:
        worker: whose threads take from it. A single one takes everything, and so do all where nothing urgent comes.
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        queues = worker.consumer_whitelist
        kept = 1 if not queues or CRITICAL in queues else 0
        self._most = max(1, worker.worker_threads - kept)
        self._at_it: set[int] = set()  # threads that work on what is not urgent
        self._aside: set[int] = set()  # and those that only wait for a far side, whatever they work on
        self._calm_until = 0.0

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002  # Queue's signature
        """As Queue's, for a thread that calls `task_done` before it comes again; without `block` for anybody.

        Raises:
            Empty: nothing came in time that this thread may take.
        """
        if not block:
            return super().get(block=False)
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        with self.not_empty:
            while not self._has_some():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Empty
                self.not_empty.wait(min(left, threading.TIMEOUT_MAX))
            item = self._get()
            if item.priority > URGENT:
                self._at_it.add(threading.get_ident())
            else:
                self._calm_until = time.monotonic() + CALM
            return self._with_others(item)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """While this thread waits for a far side, and nothing here is busy with it, another may begin in its stead."""
        with self.mutex:
            self._aside.add(threading.get_ident())
            self.not_empty.notify()
        try:
            yield
        finally:
            with self.mutex:
                self._aside.discard(threading.get_ident())

    def makes_way(self) -> bool:
        """Whether critical alerts came of late, and the rest makes way for them. From any thread."""
        return time.monotonic() < self._calm_until

    def task_done(self) -> None:
        """As Queue's."""
        with self.mutex:
            self._at_it.discard(threading.get_ident())
            self.not_empty.notify()
        super().task_done()

    def _with_others(self, item: Any) -> Any:
        """The item, or one message for it and what may go with it."""
        if not self.queue or joins(item.message) is None:
            return item
        waiting = sorted(self.queue)
        places = taken_along(item.message, [each.message for each in waiting])
        if not places:
            return item
        others = [waiting.pop(place) for place in reversed(places)][::-1]
        self.queue[:] = waiting
        heapq.heapify(self.queue)
        # One `task_done` speaks for all of them.
        self.unfinished_tasks -= len(others)
        return replace(item, message=Together([item.message, *(each.message for each in others)]))

    def _has_some(self) -> bool:
        return bool(self.queue) and (self.queue[0].priority <= URGENT or self._may_begin())

    def _may_begin(self) -> bool:
        """Whether there is a thread for what is not urgent."""
        if len(self._at_it) >= self._most:
            return False
        return not self.makes_way() or self._at_it <= self._aside
