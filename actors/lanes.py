"""Slow destinations do not hold worker threads, and no destination holds them all.

A lane is one destination (actors.handing.lane_of). A message whose sends last longer than a moment goes on without its
thread: the sends stay on the event loop, and what comes of them is settled when they are done. Of these slow sends each
lane may have so many in a process; what else comes for a full lane is put off, later each time, until it has room.
Whatever a process takes to its grave has its lease, and is sent by another.

A lane also has places for the sends that are under way at the same time: as many as its destination answers quickly
(actors.places), and no more than Sender.places, since the event loop serves them all in turn: a backlog of pushes must
not make a critical alert wait for four hundred others at each of its steps. Critical alerts need no place, and are
never put off.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from actors.places import Places
from config.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from actors.handing import Lane

#: Seconds that a thread waits for the sends of its message, and for each of them. To leave a message costs a second
#: transaction for what was done before, where there is any.
PATIENCE, FOR_EACH = 0.1, 0.01

#: The same where the lane has been slow of late. At 0.1, ten alerts a second for what does not answer kept so many
#: threads waiting that healthy channels felt it (scenario e, its sick half: 99 of 100 within 67 ms, then within 45 ms).
SLOW_PATIENCE = 0.02

#: So many sends at most keep the event loop busy for a moment only: then the processor is free while they are awaited.
FEW = 10

#: Seconds for which a lane is remembered as slow.
MEMORY = 60.0

#: A lane moves if within the last second it had an answer that took no longer than half a second. What is too much for
#: it then is this process's own backlog, and soon done.
QUICK, LATELY = 0.5, 1.0

#: Slow sends of one lane in this process at most, and from how many of all lanes on a lane has its smaller share only.
LIMIT, ALL, SHARE = 256, 768, 32

#: By how much what comes for a full lane is put off: at first, and at last.
FIRST_PAUSE, LAST_PAUSE = timedelta(seconds=1), timedelta(seconds=15)

log = get_logger(__name__)


class Lanes:
    """The sends of a process, by lane.

    Attributes:
        makes_way: says whether critical alerts are under way, for which the rest is to make way.
    """

    def __init__(self, makes_way: Callable[[], bool] = lambda: False) -> None:
        self.makes_way = makes_way
        self._slow: Counter[Lane] = Counter()
        self._was_slow: dict[Lane, float] = {}
        self._moved: dict[Lane, float] = {}
        self._put_off: Counter[Lane] = Counter()
        self._changed = threading.Condition()
        self._finishers: ThreadPoolExecutor | None = None
        self._places: dict[Lane, Places] = {}
        self._is_closing = False

    async def take_place(self, lane: Lane, most: int, patience: float) -> bool:
        """Take one of a lane's places, on the event loop.

        Args:
            lane: whose.
            most: how many places it may have.
            patience: seconds to wait for one.

        Returns:
            Whether one became free in time.
        """
        places = self._places.get(lane)
        if places is None:
            places = self._places[lane] = Places(most, self.makes_way)
        deadline = time.monotonic() + patience
        while places.are_taken():
            if self._is_closing or time.monotonic() > deadline:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await places.take()
                    return True
        await places.take()
        return True

    def give_place_back(self, lane: Lane) -> None:
        """After `take_place`."""
        self._places[lane].give_back()

    def patience(self, lane: Lane, number: int) -> float:
        """Seconds that a thread may wait for so many sends of this lane."""
        return SLOW_PATIENCE if self._is_slow(lane) else PATIENCE + FOR_EACH * number

    def is_idle(self, lane: Lane, number: int) -> bool:
        """Whether so many sends of this lane are likely to leave this process's processor time to others."""
        return number <= FEW or self._is_slow(lane)

    def answered(self, lane: Lane, seconds: float, *, is_success: bool) -> None:
        """Note how long a send took, from its first byte to its outcome, and whether the far side took it."""
        if seconds <= QUICK:
            self._moved[lane] = time.monotonic()
        if lane in self._places:
            self._places[lane].answered(seconds, is_success=is_success)

    def moves(self, lane: Lane) -> bool:
        """Whether a lane answers quickly at the moment."""
        return time.monotonic() - self._moved.get(lane, -LATELY) < LATELY

    def pause(self, lane: Lane) -> timedelta | None:
        """How long to put off what comes for a full lane, longer each time unless it moves; None: there is room."""
        with self._changed:
            slow = self._slow[lane]
            if slow < LIMIT and (slow < SHARE or self._slow.total() < ALL):
                self._put_off.pop(lane, None)
                return None
            self._put_off[lane] = 1 if self.moves(lane) else self._put_off[lane] + 1
            return min(FIRST_PAUSE * (1 << min(self._put_off[lane] - 1, 10)), LAST_PAUSE)

    def go_on(self, lane: Lane, number: int, sending: Future[Any], finish: Callable[[], None]) -> None:
        """Let sends go on without a thread.

        Args:
            lane: where they go.
            number: how many they are.
            sending: is done when all of them are.
            finish: is called then, in a thread that may use the database.
        """
        with self._changed:
            self._slow[lane] += number
            self._was_slow[lane] = time.monotonic()
            if self._finishers is None:
                # Made here, after the fork, as the runtime is.
                self._finishers = ThreadPoolExecutor(2, thread_name_prefix="tocsin-finish")
            finishers = self._finishers

        def done(_: object) -> None:
            finishers.submit(self._finish, lane, number, finish)

        sending.add_done_callback(done)

    def close(self) -> None:
        """Let the finishers go, when nothing is to be settled any more."""
        with self._changed:
            if self._finishers is not None:
                self._finishers.shutdown(wait=False)

    def wait_until_empty(self, timeout: float) -> bool:
        """Let nobody wait for a place any more, and wait for all slow sends to be settled.

        Returns:
            Whether they are, within so many seconds.
        """
        self._is_closing = True
        with self._changed:
            return self._changed.wait_for(lambda: not self._slow.total(), timeout)

    def _is_slow(self, lane: Lane) -> bool:
        since = self._was_slow.get(lane)
        return since is not None and time.monotonic() - since <= MEMORY

    def _finish(self, lane: Lane, number: int, finish: Callable[[], None]) -> None:
        try:
            finish()
        except Exception:
            log.exception("settling_failed", remedy="the deliveries' leases end, and they are tried again")
        finally:
            with self._changed:
                self._slow[lane] -= number
                if not self._slow[lane]:
                    del self._slow[lane]
                self._changed.notify_all()
