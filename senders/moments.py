"""Moments by two clocks: one that far sides have too, and one that nobody sets.

A token says by the wall clock when it was signed. How old it is must not be asked of that clock, which may have been
set since: one that was signed an hour ahead would be kept an hour too long, and say all the time that it is of the
future.
"""

from __future__ import annotations

import math
import time
from typing import Final, NamedTuple

from senders.deadline import now as steady_now

STEP: Final = 60.0
"""Seconds. A wall clock that has gone so much more or less than the other was set; no far side minds less."""


class Moment(NamedTuple):
    """One moment.

    Attributes:
        wall: Unix seconds.
        steady: seconds by a clock that is never set, and goes on while the machine sleeps (`senders.deadline.now`).
    """

    wall: float
    steady: float

    def age(self, now: Moment) -> float:
        """Seconds since then; infinity where the wall clock was set in between, so that `wall` is wrong."""
        passed = now.steady - self.steady
        return passed if abs(now.wall - self.wall - passed) <= STEP else math.inf


def this_moment() -> Moment:
    """The present one."""
    return Moment(time.time(), steady_now())
