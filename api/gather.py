"""Calls of one kind that come at the same time, made as one.

A commit, a look at a key and a message to the broker cost a hundred calls little more than one. So a call that finds
nothing under way is made at once, by itself, and what comes meanwhile is made together when that is done: the busier
the server, the more of them go together, and nobody waits for others to come.

All who go together wait for each other. So a group is small in bytes, and whoever has many calls waiting has one of
them in it for each one of everybody else's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from concurrent.futures import Executor

Given = TypeVar("Given")
Made = TypeVar("Made")

#: Seconds after which what is under way keeps nobody waiting any more: others begin beside it, in another thread. A
#: database or a broker that does not answer thus has as many threads wait for it as may, as without this.
PATIENCE = 0.05

#: Calls, and their bytes, that are made as one at most. One call alone may have more. Two hundred of one alert each
#: have about as many bytes, and so have three of a thousand short ones, which take a second.
MOST, LARGEST = 200, 64 * 1024


class _Waiting(NamedTuple, Generic[Given, Made]):
    given: Given
    size: int
    made: asyncio.Future[Made]


class Gather(Generic[Given, Made]):
    """Makes calls of one kind, together where they come together. It lives on one event loop.

    Args:
        threads: where they are made.
        make: for each of what was given, in this order, what comes of it, or the error that this caller alone is to
            have. What it raises is everybody's.
        at_once: groups that are under way at a time: no more than there are threads, since what waits for a thread
            goes together no more, and in nobody's turn.
    """

    def __init__(
        self,
        threads: Executor,
        make: Callable[[Sequence[Given]], Sequence[Made | Exception]],
        *,
        at_once: int,
    ) -> None:
        self._threads = threads
        self._make = make
        self._at_once = at_once
        #: By whose they are; whoever is first has the next turn.
        self._waiting: dict[Hashable, deque[_Waiting[Given, Made]]] = {}
        self._running = 0
        self._under_way: asyncio.Task[None] | None = None

    async def __call__(self, given: Given, size: int = 0, whose: Hashable = None) -> Made:
        """Make a call, and wait for what comes of it.

        Args:
            size: its bytes.
            whose: with whom it shares its turns. Calls of one are made in their order.
        """
        made: asyncio.Future[Made] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, deque()).append(_Waiting(given, size, made))
        if self._under_way is None:
            self._begin()
        return await made

    def _begin(self) -> None:
        if self._running < self._at_once and (taken := self._taken()):
            self._running += 1
            self._under_way = asyncio.create_task(self._make_together(taken))

    async def _make_together(self, taken: Sequence[_Waiting[Given, Made]]) -> None:
        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        impatience = loop.call_later(PATIENCE, self._free, this)
        outcomes: Sequence[Made | Exception]
        try:
            outcomes = await loop.run_in_executor(self._threads, self._make, [each.given for each in taken])
        except Exception as error:  # noqa: BLE001  # it is the callers', who wait for it
            outcomes = [error] * len(taken)
        impatience.cancel()
        for each, outcome in zip(taken, outcomes, strict=True):
            if each.made.done():
                continue
            if isinstance(outcome, Exception):
                each.made.set_exception(outcome)
            else:
                each.made.set_result(outcome)
        self._running -= 1
        self._free(this)

    def _taken(self) -> list[_Waiting[Given, Made]]:
        taken: list[_Waiting[Given, Made]] = []
        size = 0
        while self._waiting and len(taken) < MOST:
            whose, calls = next(iter(self._waiting.items()))
            size += calls[0].size
            if taken and size > LARGEST:
                break
            each = calls.popleft()
            del self._waiting[whose]
            if calls:
                self._waiting[whose] = calls  # behind the others
            if not each.made.done():  # its caller was cancelled
                taken.append(each)
        return taken

    def _free(self, task: asyncio.Task[None] | None) -> None:
        if self._under_way is task:
            self._under_way = None
        if self._under_way is None:
            self._begin()
