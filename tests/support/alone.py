"""Test processes that run side by side, and tests that cannot bear company.

Who watches the clock, takes a whole core or counts what the machine does must be alone: marked so, they have the
machine to themselves, one by one, while the other test processes of the run wait between two tests.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Room:
    """Where the processes of a run test together, or one of them alone. One object for each process.

    Its locks are flock(2)'s, which end with the process that holds them, however it ends.

    Args:
        directory: the run's, the same one for all.
    """

    def __init__(self, directory: Path) -> None:
        self._door, self._room = (
            os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("door", "room")
        )
        self._is_alone = False

    def enter(self, *, alone: bool) -> None:
        """Wait until a test may run: with others, or once all of them have left."""
        if self._is_alone:
            return
        # Who waits to be alone stands in the door, so that those who come and go cannot keep them out for ever.
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)
        self._is_alone = alone

    def leave(self) -> None:
        """The test has ended; others may come in."""
        fcntl.flock(self._room, fcntl.LOCK_UN)
        self._is_alone = False

    def close(self) -> None:
        """Leave for good."""
        os.close(self._door)
        os.close(self._room)
