"""What a caller may ask of one process: the size of a body, and how often.

The buckets are this process's own: behind several processes a key may do as many times as much. They are there so that
a producer that went wild cannot starve the others, not to bill anybody.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

#: Names that a set of buckets remembers. What was forgotten begins with a full bucket.
REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of an app.

    Attributes:
        body_bytes: of one request. A thousand alerts of 8 KiB each.
        body_seconds: from a request's head to the end of its body.
        rate: requests a second that a key may make for ever.
        burst: requests that it may make at once, after a rest.
        failures: wrong keys a second that one address may show for ever.
        failure_burst: wrong keys that it may show at once.
    """

    body_bytes: int = 8 * 1024 * 1024
    body_seconds: float = 30.0
    rate: float = 200.0
    burst: int = 400
    failures: float = 2.0
    failure_burst: int = 50


class Buckets:
    """Token buckets by name; threads may share them.

    Args:
        rate: tokens that a bucket gains a second.
        burst: tokens that it holds.
        clock: seconds, monotonic.
    """

    def __init__(self, rate: float, burst: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._lock = threading.Lock()
        self._levels: dict[Hashable, tuple[float, float]] = {}

    def take(self, name: Hashable) -> float:
        """Take a token.

        Returns:
            0.0: it was there. Else the seconds until there is one; none was taken.
        """
        with self._lock:
            now = self._clock()
            level, at = self._levels.pop(name, (self._burst, now))
            level = min(self._burst, level + max(0.0, now - at) * self._rate)
            taken = level >= 1.0
            # Written last, so that the dict's order is that of use and its first entry the one to forget.
            self._levels[name] = (level - 1.0 if taken else level, now)
            if len(self._levels) > REMEMBERED:
                del self._levels[next(iter(self._levels))]
            return 0.0 if taken else (1.0 - level) / self._rate
