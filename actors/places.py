"""How many sends to one destination are under way: as many as it answers quickly.

A fixed number is wrong for somebody. A hundred that a provider's front end does not notice are, from each of several
processes and after an outage, more than a small receiver answers before our deadline: then what arrived is sent again.
So a lane's places grow while all are taken and answers come soon, and are halved when one comes late: congestion
control as TCP has it (RFC 5681), told by the delay above the quickest answer as in LEDBAT (RFC 6817), since a far side
does not say that it is full. What was not needed of late is not kept (RFC 7661): a lane that was quiet begins with few.

While critical alerts come much less counts as late, and places grow slowly: what is under way stands before a critical
alert at each of its steps, on the event loop, for the processors and at a far side that both share (what that brings is
in docs/performance.md, d). Where nothing is in the way of anything, answers come in time, and a lane keeps its places.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Places of a lane at first, and at least.
FIRST, FEWEST = 20, 10

#: How many places an answer in time adds while all are taken: a quarter more with each round of answers. And while the
#: lane makes way: slowly, so that it is mostly well below what would be in the way.
GROWTH, GROWTH_IN_THE_WAY = 0.25, 0.05

#: Seconds beyond the lane's quickest answer from which one is late; and while it makes way.
LATE, LATE_IN_THE_WAY = 0.25, 0.02

#: Seconds without a send after which a lane begins again, and for which its quickest answer is remembered at least.
QUIET, MEMORY = 1.0, 300.0


class Places:
    """The places of one lane in this process. Belongs to the event loop.

    Args:
        most: how many there may be.
        makes_way: whether something more urgent is under way.
    """

    def __init__(self, most: int, makes_way: Callable[[], bool] = lambda: False) -> None:
        self._most = most
        self._makes_way = makes_way
        self._quickest = self._quickest_before = float("inf")
        self._remembers_since = self._used_at = self._halved_at = time.monotonic()
        self._taken = 0
        self._wanted = float(min(FIRST, most))
        self._made = self.number
        self._free = asyncio.Semaphore(self._made)

    @property
    def number(self) -> int:
        """How many there are."""
        return int(self._wanted)

    def are_taken(self) -> bool:
        """Whether who comes now has to wait."""
        return self._free.locked()

    async def take(self) -> None:
        """Take one, when one is free."""
        now = time.monotonic()
        if not self._taken and not self.are_taken() and now - self._used_at > QUIET:
            self._wanted = float(min(FIRST, self._most))
            self._made = self.number
            self._free = asyncio.Semaphore(self._made)
        self._used_at = now
        await self._free.acquire()
        self._taken += 1

    def give_back(self) -> None:
        """After `take`."""
        self._taken -= 1
        self._used_at = time.monotonic()
        if self._made > self.number:
            self._made -= 1
        else:
            self._free.release()

    def answered(self, seconds: float, *, is_success: bool) -> None:
        """Learn from a send before its place is given back. Refusals come as quickly from who is at its end as not.

        Args:
            seconds: from its first byte to its outcome.
            is_success: whether the far side took it.
        """
        now = time.monotonic()
        late, growth = (LATE_IN_THE_WAY, GROWTH_IN_THE_WAY) if self._makes_way() else (LATE, GROWTH)
        if is_success:
            self._remember(seconds, now)
        if seconds > self._usual() + late:
            # Once for all that were under way at the time.
            if now - seconds >= self._halved_at:
                self._halved_at = now
                self._wanted = max(self._wanted / 2, min(FEWEST, self._most))
        elif is_success and self.are_taken():
            self._wanted = min(self._wanted + growth, self._most)
            while self._made < self.number:
                self._made += 1
                self._free.release()

    def _usual(self) -> float:
        quickest = min(self._quickest, self._quickest_before)
        return 0.0 if quickest == float("inf") else quickest

    def _remember(self, seconds: float, now: float) -> None:
        if now - self._remembers_since > MEMORY:
            self._quickest_before, self._quickest, self._remembers_since = self._quickest, float("inf"), now
        self._quickest = min(self._quickest, seconds)
