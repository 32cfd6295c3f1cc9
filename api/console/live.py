"""Live pages: one look at the database a second for a whole process, told to every page that is open (SSE).

An event says only that something of the tenant changed; the page then fetches itself again and takes over the parts
that are marked `data-live`, so that what moves is drawn by the same templates. What is looked at is cheap whatever the
tables hold: the newest ids by their index, and the work in progress up to a bound.

The stream follows https://html.spec.whatwg.org/multipage/server-sent-events.html; browsers reconnect by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from anyio import to_thread
from peewee import SQL, fn

from config.logging import get_logger
from model.database import DATABASE_AWAY, connection
from model.tables import Alert, Channel, Delivery, Job, LogEntry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

#: Seconds between two looks, between two signs of life, and until a stream ends and its page asks for another: by then
#: its key may have been revoked.
LOOK: Final = 1.0
HEARTBEAT: Final = 15.0
LIFETIME: Final = 600.0

#: Streams of one process; each holds a connection and a page that asks again at every change.
STREAMS: Final = 200
#: Rows in progress that one look counts.
COUNTED: Final = 1000

Fingerprint = tuple[object, ...]
#: What a look finds while the database is away. That is news, too: the pages look, and say that they do not live.
AWAY: Final[Fingerprint] = ("away",)

log = get_logger(__name__)


class FullError(Exception):
    """There are as many streams as may be."""


class Pulse:
    """Who listens, and what they last heard of. It lives on the event loop of the app.

    Args:
        is_stopping: whether the server is about to end, which must not wait for streams.
        look: the fingerprint of a tenant; runs in a thread.
        pause: seconds between two looks.
    """

    def __init__(
        self,
        is_stopping: Callable[[], bool],
        *,
        look: Callable[[str], Fingerprint] | None = None,
        pause: float = LOOK,
    ) -> None:
        self._is_stopping = is_stopping
        self._look = look or fingerprint
        self._pause = pause
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._seen: dict[str, Fingerprint] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._listeners.values()))

    async def listen(self, tenant_id: str, *, lifetime: float = LIFETIME) -> AsyncIterator[bytes]:
        """The stream of one page.

        Raises:
            FullError: there are STREAMS already; raised before the first part.
        """
        if len(self) >= STREAMS:
            raise FullError
        changed = asyncio.Event()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + lifetime
        self._listeners.setdefault(tenant_id, set()).add(changed)
        try:  # from here on it is counted, and its page may go at any moment
            if tenant_id not in self._seen:
                # Before the greeting, upon which the page looks for itself: nothing falls in between.
                with contextlib.suppress(*DATABASE_AWAY):
                    self._seen[tenant_id] = await to_thread.run_sync(self._look, tenant_id)
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())
            yield b"retry: 2000\nevent: hello\ndata: {}\n\n"
            while loop.time() < ends_at and not self._is_stopping():
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        await changed.wait()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                changed.clear()
                if not self._is_stopping():
                    yield b"event: change\ndata: {}\n\n"
        finally:
            listeners = self._listeners.get(tenant_id, set())
            listeners.discard(changed)
            if not listeners:
                self._listeners.pop(tenant_id, None)
                self._seen.pop(tenant_id, None)

    async def _run(self) -> None:
        """Look, tell, pause, as long as somebody listens."""
        while self._listeners:
            if self._is_stopping():
                for changed in self._all():
                    changed.set()  # wakes the streams, which then end
                return
            for tenant_id in list(self._listeners):
                try:
                    found = await to_thread.run_sync(self._look, tenant_id)
                except DATABASE_AWAY as error:
                    log.warning("database_away", why=str(error).strip() or type(error).__name__)
                    for each in self._listeners:
                        self._tell(each, AWAY)
                    break
                self._tell(tenant_id, found)
            await asyncio.sleep(self._pause)

    def _tell(self, tenant_id: str, found: Fingerprint) -> None:
        """Wake a tenant's streams if what was found is not what they last heard of."""
        if self._seen.get(tenant_id, found) != found:
            for changed in self._listeners.get(tenant_id, ()):
                changed.set()
        self._seen[tenant_id] = found

    def _all(self) -> list[asyncio.Event]:
        return [changed for listeners in self._listeners.values() for changed in listeners]

    async def close(self) -> None:
        """End the look, if one is under way."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task


def fingerprint(tenant_id: str) -> Fingerprint:
    """What differs once something of a tenant happened: newest ids, work in progress, channels' health."""
    with connection():
        newest = tuple(
            table.select(fn.MAX(table.id)).where(mine == tenant_id).scalar()
            for table, mine in ((Alert, Alert.tenant), (Job, Job.tenant_id), (LogEntry, LogEntry.tenant_id))
        )
        in_progress = tuple(
            table.select(SQL("1"))
            .where((mine == tenant_id) & table.sweep_at.is_null(is_null=False))
            .limit(COUNTED)
            .count()
            for table, mine in ((Alert, Alert.tenant), (Job, Job.tenant_id), (Delivery, Delivery.tenant_id))
        )
        channels = Channel.select(fn.MAX(Channel.health_at), fn.MAX(Channel.updated_at), fn.COUNT(Channel.id))
        health = tuple(map(str, next(iter(channels.where(Channel.tenant == tenant_id).tuples()))))
    return (*newest, *in_progress, *health)
