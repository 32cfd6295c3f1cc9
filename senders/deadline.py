"""The time that an attempt has, kept also where the process stands still and no timer runs.

While a process stands still (SIGSTOP, a paused machine) the kernel makes its connections and takes its answers all the
same. When it wakes, what was waiting for them may go on before any timer does, and would send what another worker has
sent since: an OPEN after the CLOSED. So every sender asks `check_deadline` before what cannot be taken back.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The event loop's clock, but on Linux it goes on while the machine sleeps (clock_gettime(2))."""

_ends_at: ContextVar[float] = ContextVar("ends_at", default=math.inf)


def now() -> float:
    """Seconds, by the clock of `current_deadline`."""
    return time.clock_gettime(_CLOCK)


def current_deadline() -> float:
    """The moment at which the time of this task's attempt is over; infinity outside of a `Deadline`."""
    return _ends_at.get()


def check_deadline() -> None:
    """Go on only while there is time.

    Raises:
        TimeoutError: the time is over, whether or not a timer has said so.
    """
    if now() >= current_deadline():
        raise TimeoutError


class Deadline:
    """As `asyncio.timeout`, which takes twice as long, and for `check_deadline` to ask about.

    One within another lasts no longer than that one.

    Args:
        seconds: from entering the block.

    Raises:
        TimeoutError: from the block, as `asyncio.timeout` does.
    """

    __slots__ = ("_cancelling", "_has_come", "_seconds", "_task", "_timer", "_token")

    _cancelling: int
    _task: asyncio.Task[Any]
    _timer: asyncio.TimerHandle
    _token: Token[float]

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._has_come = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline is a task's")
        self._task, self._cancelling = task, task.cancelling()
        self._token = _ends_at.set(min(now() + self._seconds, current_deadline()))
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._come)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _ends_at.reset(self._token)
        self._timer.cancel()
        # Who else wants the task to end goes first.
        if self._has_come and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _come(self) -> None:
        self._has_come = True
        self._task.cancel()
