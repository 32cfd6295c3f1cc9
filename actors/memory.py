"""The in-process broker of the embedded default: Dramatiq's StubBroker, fit to run for months.

A lost process loses its messages, which costs nothing but time: the sweep sends on whatever the database says is due.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

from dramatiq.brokers.stub import StubBroker

if TYPE_CHECKING:
    from dramatiq.middleware import Middleware

#: The StubBroker keeps every dead letter for its tests' sake; we keep the latest, to look at.
DEAD_LETTERS = 100


class MemoryBroker(StubBroker):
    """A StubBroker whose dead letters are bounded."""

    def __init__(self, middleware: list[Middleware]) -> None:
        super().__init__(middleware=middleware)
        self.dead_letters_by_queue = defaultdict(lambda: deque(maxlen=DEAD_LETTERS))  # type: ignore[assignment,arg-type]  # only append is used
