"""What a sender keeps for each set of credentials: connections, engines, tokens. Tenants bring as many as they like.

One event loop's: no lock, and nothing is awaited between a look and what follows from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable, Iterator

MOST: Final = 256
"""Sets of credentials for which a process keeps connections and the like to one kind of provider."""

_Key = TypeVar("_Key", bound="Hashable")
_Value = TypeVar("_Value")
_Opened = TypeVar("_Opened")


@dataclass(slots=True)
class _Entry(Generic[_Value]):
    value: _Value
    users: int = 0
    used_at: float = 0.0


class Kept(Generic[_Key, _Value]):
    """Values by key, each made when it is first used. When another is made, those that nobody uses may have to go.

    Args:
        most: of how many; the one that was used longest ago goes first. More only where all are in use.
        close: what to do with a value that goes.
        unused: seconds without use after which a value goes, however few there are.
    """

    def __init__(
        self,
        most: int = MOST,
        close: Callable[[_Value], Coroutine[None, None, None]] | None = None,
        *,
        unused: float = math.inf,
    ) -> None:
        self.unused = unused
        self._most = most
        self._close = close
        self._entries: OrderedDict[_Key, _Entry[_Value]] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[_Value]:
        """The values, without using them; what was used longest ago first."""
        return iter([entry.value for entry in self._entries.values()])

    @contextlib.contextmanager
    def use(self, key: _Key, make: Callable[[], _Value]) -> Iterator[_Value]:
        """The value of a key, which stays until the block is left.

        Args:
            key: whose.
            make: called where there is none; what it raises is raised.
        """
        entry = self._entries.get(key)
        if entry is None:
            entry = _Entry(make())
            self._make_room()
            self._entries[key] = entry
        self._entries.move_to_end(key)
        entry.users += 1
        try:
            yield entry.value
        finally:
            entry.users -= 1
            entry.used_at = time.monotonic()

    def get(self, key: _Key) -> _Value | None:
        """The value of a key, without using it; None where there is none."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def forget(self, key: _Key, value: _Value) -> None:
        """Have the next use make another than this value, which is the caller's to close."""
        if self.get(key) is value:
            del self._entries[key]

    async def aclose(self) -> None:
        """Close everything, and wait until it is."""
        while self._entries:
            self._let_go(next(iter(self._entries)))
        await asyncio.gather(*self._closing)

    def _make_room(self) -> None:
        """For one more."""
        now = time.monotonic()
        for key, entry in list(self._entries.items()):
            if not entry.users and (len(self._entries) >= self._most or now - entry.used_at > self.unused):
                self._let_go(key)

    def _let_go(self, key: _Key) -> None:
        entry = self._entries.pop(key)
        if self._close is not None:
            closing = asyncio.ensure_future(self._close(entry.value))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


class Opened(Kept[_Key, "asyncio.Task[_Opened]"], Generic[_Key, _Opened]):
    """`Kept` for what takes a while to make: the values are the tasks that make it. One that has failed is not kept.

    Await a value shielded: it is everybody's, and a send's cancellation is its own.

    Args:
        close: what to do with what was made.
        most: as in `Kept`.
    """

    def __init__(self, close: Callable[[_Opened], Coroutine[None, None, None]], most: int = MOST) -> None:
        async def close_made(making: asyncio.Task[_Opened]) -> None:
            making.cancel()
            await asyncio.wait([making])
            if not making.cancelled() and making.exception() is None:
                await close(making.result())

        super().__init__(most, close_made)

    def open(
        self, key: _Key, make: Callable[[], Coroutine[None, None, _Opened]]
    ) -> contextlib.AbstractContextManager[asyncio.Task[_Opened]]:
        """`use`, with a coroutine that makes it."""

        def ended(making: asyncio.Task[_Opened]) -> None:
            if making.cancelled() or making.exception() is not None:
                self.forget(key, making)

        def start() -> asyncio.Task[_Opened]:
            # In a context of its own: it is not bound to the deadline of who asks first.
            making = asyncio.create_task(make(), context=contextvars.Context())
            making.add_done_callback(ended)
            return making

        return self.use(key, start)
