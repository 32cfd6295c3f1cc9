"""The connections to one APNs host, and the one provider token that they share.

aioapns signs a token for each connection, which Apple punishes with TooManyProviderTokenUpdates, polls
every 10 ms for a free connection, and keeps a lock while it connects. Here the token is shared, senders wait
in line, and one attempt to connect serves all who wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import TYPE_CHECKING, ClassVar

import jwt
from aioapns.connection import APNsKeyConnectionPool, JWTAuthorizationHeaderProvider
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from senders import names
from senders.apns_protocol import ApnsProtocol
from senders.moments import Moment, this_moment
from senders.reach import first_to_answer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from aioapns.common import NotificationRequest, NotificationResult


class ProviderToken(JWTAuthorizationHeaderProvider):
    """The signed token of one (team, key), for all connections of the process.

    Apple wants it renewed no more than every 20 and no less than every 60 minutes:
    https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns

    Args:
        key: text of the .p8 file.
        key_id: ten characters, the JWT's `kid`.
        team_id: ten characters, the JWT's `iss`.
        clock: the present moment.

    Raises:
        ValueError: the key is no P-256 private key in PEM.
    """

    TOKEN_TTL = 40 * 60
    MIN_INTERVAL: ClassVar[int] = 20 * 60
    MAX_AGE: ClassVar[int] = 60 * 60

    def __init__(
        self, key: str, key_id: str, team_id: str, clock: Callable[[], Moment] = this_moment
    ) -> None:
        try:
            private_key = load_pem_private_key(key.encode(), None)
        except Exception:  # noqa: BLE001  # cryptography raises half a dozen types, and they may quote the key
            raise ValueError("the key is no PEM private key, as Apple's .p8 files are") from None
        if not isinstance(private_key, ec.EllipticCurvePrivateKey) or private_key.curve.name != "secp256r1":
            raise ValueError("the key is not on the curve P-256, as Apple's .p8 files are")
        super().__init__(private_key, key_id, team_id)
        self._clock = clock
        self._header = self._previous = ""
        self._issued = self._previous_issued = clock()
        self._frozen_until = float("-inf")
        self._forced_at = float("-inf")

    def get_header(self) -> str:
        """The value of the `authorization` header to use now."""
        now = self._clock()
        if not self._header or (self._issued.age(now) >= self.TOKEN_TTL and now.steady >= self._frozen_until):
            self._sign(now)
        return self._header

    def expired(self, refused: str) -> bool:
        """Apple called the header `refused` expired: put a new one in force, once in 20 minutes.

        Returns:
            Whether a later attempt goes out with another header. If not, the clock of this machine is wrong.
        """
        if refused != self._header:
            return True
        now = self._clock()
        if now.steady < self._frozen_until or now.steady - self._forced_at < self.MIN_INTERVAL:
            return False
        self._forced_at = now.steady
        self._sign(now)
        return True

    def too_many_updates(self, refused: str) -> None:
        """Apple saw too many tokens: the one before, if it still holds, and no new one for 20 minutes."""
        now = self._clock()
        self._frozen_until = now.steady + self.MIN_INTERVAL
        if refused == self._header and self._previous and self._previous_issued.age(now) < self.MAX_AGE:
            self._header, self._issued = self._previous, self._previous_issued
            self._previous = ""

    def _sign(self, now: Moment) -> None:
        self._previous, self._previous_issued = self._header, self._issued
        claims = {"iss": self.team_id, "iat": int(now.wall)}
        token = jwt.encode(claims, self.key, algorithm="ES256", headers={"kid": self.key_id})
        self._header, self._issued = f"bearer {token}", now


class ApnsPool(APNsKeyConnectionPool):
    """The connections to one APNs host with one token.

    Args:
        host: APNs' host, or a gateway's.
        port: its port.
        token: shared by all connections.
        ssl_context: with ALPN set to h2.
        connect_timeout: seconds for name, TCP, TLS and the server's settings together.
        max_connections: another is opened only when those that are open have no room.
        protocol: the connection's class.
    """

    connections: list[ApnsProtocol]  # type: ignore[assignment]  # aioapns' own are never put there

    CLOSE_TIMEOUT: ClassVar[float] = 1.0

    def __init__(
        self,
        host: str,
        port: int,
        token: ProviderToken,
        *,
        ssl_context: ssl.SSLContext,
        connect_timeout: float,
        max_connections: int = 4,
        protocol: type[ApnsProtocol] = ApnsProtocol,
    ) -> None:
        super().__init__("", token.key_id, token.team_id, "", max_connections, 1, ssl_context=ssl_context)
        # aioapns keeps host and port on the protocol's class: one of our own, which no other pool sees.
        self._protocol: type[ApnsProtocol] = type(
            "ApnsProtocol", (protocol,), {"APNS_SERVER": host, "APNS_PORT": port}
        )
        self.protocol_class = self._protocol
        self.token = token
        self.connect_timeout = connect_timeout
        self._connecting: asyncio.Task[None] | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()

    async def send_notification(self, request: NotificationRequest) -> NotificationResult:
        """Send on a connection that has room, and wait for the answer.

        Raises:
            NoAnswerError: the connection or the stream ended first.
            OSError, TimeoutError: no connection could be made (`ssl.SSLError` is an OSError).
        """
        # Nothing else may be awaited between these two, or the room would be gone.
        return await (await self.acquire()).send_notification(request)

    async def acquire(self) -> ApnsProtocol:
        """Find a connection with room, open one, or wait in line."""
        while True:
            free = max(self.connections, key=lambda connection: connection.room, default=None)
            if free and free.room:
                return free
            if len(self.connections) < self.max_connections:
                # Shared and shielded: the cancellation of one sender does not take it from the others.
                if self._connecting is None:
                    self._connecting = asyncio.create_task(self._connect())
                    # Looked at even if all who waited for it were cancelled.
                    self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
                await asyncio.shield(self._connecting)
            else:
                await self._wait_in_line()

    async def create_connection(self) -> ApnsProtocol:
        """Connect, and wait until the server has said how many streams it takes."""
        async with asyncio.timeout(self.connect_timeout):
            protocol = await self._connect_to_first()
            try:
                await protocol.ready
            except BaseException:
                protocol.close()
                raise
        return protocol

    def discard_connection(self, connection: ApnsProtocol) -> None:  # type: ignore[override]  # as `connections`
        """Forget a connection that takes no further request."""
        if connection in self.connections:
            self.connections.remove(connection)
        self._release(len(self._waiters))  # they may open another

    async def aclose(self) -> None:
        """Close all connections, and abandon the one that is being made."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        closing = list(self.connections)
        for connection in closing:
            connection.close()
        # A TLS connection ends by an exchange. The loop must not close before it has, and not wait for a dead peer.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.CLOSE_TIMEOUT):
                await asyncio.gather(*(connection.lost.wait() for connection in closing))
        for connection in closing:
            if not connection.lost.is_set() and connection.transport is not None:
                connection.transport.abort()

    async def _connect_to_first(self) -> ApnsProtocol:
        """A connection to the first address that takes one."""
        host, port = self._protocol.APNS_SERVER, self._protocol.APNS_PORT
        found = await names.system.look_up(host, kind=socket.SOCK_STREAM)
        _, protocol = await self.loop.create_connection(
            lambda: self._protocol(self.token, self._wake, self.discard_connection),
            sock=await first_to_answer([(address, port) for _, address in found]),
            ssl=self.ssl_context,
            server_hostname=host,
        )
        return protocol

    async def _connect(self) -> None:
        try:
            connection = await self.create_connection()
            if not connection.is_gone:
                self.connections.append(connection)
                self._wake()
        finally:
            self._connecting = None

    async def _wait_in_line(self) -> None:
        waiter = self.loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._release(1)  # the room that was ours is the next one's
            raise

    def _wake(self) -> None:
        """Let as many go on as there is room for."""
        self._release(sum(connection.room for connection in self.connections) if self._waiters else 0)

    def _release(self, count: int) -> None:
        while self._waiters and count > 0:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1
