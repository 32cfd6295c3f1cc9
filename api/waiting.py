"""Waiting for what comes of a notification: for so many callers at a time, and without a thread between two looks.

A wait changes nothing: the notification is committed before it begins. So whatever keeps one from learning how it ends,
the answer is that it goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from actors import wait_for_result
from api.work import reading
from model.database import DATABASE_AWAY

if TYPE_CHECKING:
    from starlette.requests import Request

    from api.auth import Caller

#: Callers that wait at a time in one process, and those of them with the same key.
WAITERS, OF_KEY = 200, 30
#: Seconds between two looks, growing from one to the other.
FIRST_LOOK, LAST_LOOK = 0.02, 0.5
#: Seconds that one look may take: by then a server that is about to end is asked for again.
LOOK = 5.0


class Waiting:
    """Who waits. It lives on the event loop of the app."""

    def __init__(self) -> None:
        self._keys: list[int] = []

    def __len__(self) -> int:
        return len(self._keys)

    async def result(
        self, request: Request, caller: Caller, job_id: int, seconds: float
    ) -> dict[str, Any] | None:
        """A job's DispatchResult once it has ended.

        Returns:
            None: it goes on. The time is over, or the caller is gone, or the server ends, or too many wait already.
        """
        if len(self) >= WAITERS or self._keys.count(caller.key_id) >= OF_KEY:
            return None
        self._keys.append(caller.key_id)
        try:
            async with asyncio.timeout(seconds):
                return await _looked_for(request, job_id)
        except TimeoutError:
            return None
        finally:
            self._keys.remove(caller.key_id)


async def _looked_for(request: Request, job_id: int) -> dict[str, Any] | None:
    pause = FIRST_LOOK
    while not (request.app.state.is_stopping() or await request.is_disconnected()):
        with contextlib.suppress(
            TimeoutError, LookupError, *DATABASE_AWAY
        ):  # LookupError: the job was pruned
            async with asyncio.timeout(LOOK):
                if (result := await reading(request, wait_for_result, job_id, timeout=0)) is not None:
                    return result
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LAST_LOOK)
    return None
