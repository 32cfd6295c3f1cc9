"""Connections whose request never begins: uvicorn keeps them for ever, and each is one of the process's open files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

#: Seconds for the whole head of a request, from the connection's or its own first byte on. Its body has its own
#: (api.limits); between requests uvicorn waits for five.
SECONDS = 30.0


class HeadInTime(H11Protocol):
    """uvicorn's HTTP/1.1, which closes a connection that does not come to the end of a request's head."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """A head is awaited from here on."""
        super().connection_made(transport)
        self._limit_head()

    def data_received(self, data: bytes) -> None:
        """Of a head, to its end or not, or of a body."""
        super().data_received(data)
        self._limit_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._lift_limit()
        super().connection_lost(exc)

    def _limit_head(self) -> None:
        # Who was answered before the body was there sends it to nobody.
        is_answered = self.conn.our_state is h11.DONE
        if self.conn.their_state is not h11.IDLE and not is_answered:  # the head is there
            self._lift_limit()
        elif self._limit is None:
            # uvicorn's own end of a connection on which no further request comes
            self._limit = self.loop.call_later(SECONDS, self.timeout_keep_alive_handler)

    def _lift_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
