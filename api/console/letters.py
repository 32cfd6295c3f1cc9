"""How many messages nobody could work on, for the overview: asked seldom, however many look."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from admin.dead_letters import count_dead_letters

if TYPE_CHECKING:
    from config import Settings

#: Seconds for which an answer is good. A broker that is away makes one look in so many wait for it.
HOLDS: Final = 10.0


class DeadLetters:
    """What `admin.dead_letters.count_dead_letters` says, at most HOLDS seconds old."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._seen: dict[str, int] | None = None

    def look(self) -> dict[str, int] | None:
        """Dead letters by queue; None while the broker is away."""
        with self._lock:
            if time.monotonic() - self._asked > HOLDS:
                self._seen = count_dead_letters(self._settings)
                self._asked = time.monotonic()
            return self._seen
