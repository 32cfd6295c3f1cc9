"""APNs: alerts to iPhones, iPads and Macs.

Set-up: a token-signing key (.p8) from https://developer.apple.com/account/resources/authkeys, its key id, the
team id and the app's bundle id, as TOCSIN_APNS_* or as the channel's `apns`. Facts from Apple's "Sending
notification requests to APNs" and "Generating a remote notification":
https://developer.apple.com/documentation/usernotifications

The connection is in `senders.apns_protocol`, the pool and the token in `senders.apns_pool`, the meaning of
answers in `senders.apns_answers`.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import SecretStr, ValidationError

from senders.apns_answers import classify, no_answer, too_late
from senders.apns_pool import ApnsPool, ProviderToken
from senders.apns_protocol import ApnsRequest, NoAnswerError
from senders.base import Sender
from senders.deadline import Deadline
from senders.devices import MismatchWatch, check_token
from senders.kept import Kept
from senders.outcomes import Misconfigured, NotConfigured, TargetGone
from senders.push import ApnsCredentials, PushConfig
from senders.push_content import fit, is_urgent, rings
from senders.text import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aioapns.common import NotificationResult

    from config import Settings
    from senders.base import Notification
    from senders.http import HttpClient
    from senders.outcomes import Receipt

MAX_PAYLOAD: Final = 4096
"""Bytes; "Generating a remote notification"."""

UNUSED: Final = 600.0
"""Seconds without a send after which a client is closed when another is made: most likely that one's credentials have
replaced its own."""

TOKENS: Final = 1024
"""Provider tokens that are kept. More than clients: Apple wants no new one for 20 minutes, whatever is closed."""

CONNECT_TIMEOUT: Final = 5.0
"""Seconds, for name, TCP, TLS and HTTP/2 settings."""

PRODUCTION: Final = "api.push.apple.com"
SANDBOX: Final = "api.sandbox.push.apple.com"


@dataclass(slots=True)
class _Client:
    pool: ApnsPool
    watch: MismatchWatch = field(default_factory=MismatchWatch)


class ApnsSender(Sender[PushConfig]):
    """Sends alerts to one device each.

    Connections are kept by credentials and host; the provider token by credentials alone.
    """

    name: ClassVar[str] = "apns"
    Config: ClassVar[type[PushConfig]] = PushConfig

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        super().__init__(settings, http)
        self._ssl: ssl.SSLContext | None = None
        self._own: ApnsCredentials | None = None
        self._tokens: Kept[tuple[str, ...], ProviderToken] = Kept(TOKENS)
        self._clients: Kept[tuple[str, ...], _Client] = Kept(
            close=lambda client: client.pool.aclose(), unused=UNUSED
        )

    async def send(self, notification: Notification[PushConfig]) -> Receipt:
        """Make one attempt. See `Sender.send`."""
        if notification.device is None:
            raise ValueError("a push needs a device")
        try:
            check_token("ios", notification.device.token)
        except ValueError as error:
            raise TargetGone("bad device token", str(error)) from None
        credentials = notification.config.apns or self._own_credentials()
        body, note = fit(notification, lambda *parts: payload(notification, *parts), MAX_PAYLOAD)
        request = ApnsRequest(
            notification.device.token,
            body,
            apns_id=str(notification.id),
            topic=credentials.topic,
            collapse_id=notification.thread,
            priority=10 if is_urgent(notification) else 5,
            expiration=int(notification.expires_at.timestamp()),
        )
        with self._client(credentials) as client:
            answer = await self._exchange(client.pool, request)
            return classify(answer, request, client.pool.token, client.watch, note)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._clients.aclose()

    async def _exchange(self, pool: ApnsPool, request: ApnsRequest) -> NotificationResult:
        deadline = self.settings.send_deadline
        try:
            async with Deadline(deadline):
                try:
                    return await pool.send_notification(request)
                except (OSError, NoAnswerError) as error:
                    outcome = no_answer(error)
        except TimeoutError:
            outcome = too_late(deadline)
        raise outcome

    def _own_credentials(self) -> ApnsCredentials:
        """The installation's own, from the settings."""
        if self._own is None:
            it = self.settings
            if not (it.apns_key_file and it.apns_key_id and it.apns_team_id and it.apns_topic):
                raise NotConfigured(
                    "APNs",
                    "set TOCSIN_APNS_KEY_FILE, TOCSIN_APNS_KEY_ID, TOCSIN_APNS_TEAM_ID and "
                    "TOCSIN_APNS_TOPIC, or the channel's apns",
                )
            try:
                self._own = ApnsCredentials(
                    key=SecretStr(it.apns_key_file.read_text(encoding="utf-8")),
                    key_id=it.apns_key_id,
                    team_id=it.apns_team_id,
                    topic=it.apns_topic,
                    sandbox=it.apns_sandbox,
                )
            except ValidationError as error:
                wrong = error.errors()[0]
                name = f"TOCSIN_APNS_{str(wrong['loc'][0]).upper()}"
                raise Misconfigured("bad credentials", f"{name}: {wrong['msg']}") from None
            except (OSError, UnicodeDecodeError):
                raise Misconfigured("bad credentials", "TOCSIN_APNS_KEY_FILE cannot be read") from None
        return self._own

    @contextlib.contextmanager
    def _client(self, credentials: ApnsCredentials) -> Iterator[_Client]:
        key = credentials.key.get_secret_value()
        # The key itself counts: who merely names another tenant's team and key id must not get its token.
        who = (credentials.team_id, credentials.key_id, hashlib.sha256(key.encode()).hexdigest())
        host = self.settings.apns_host or (SANDBOX if credentials.sandbox else PRODUCTION)

        def make_token() -> ProviderToken:
            try:
                return ProviderToken(key, credentials.key_id, credentials.team_id)
            except ValueError as error:
                raise Misconfigured("bad credentials", f"APNs: {error}") from None

        def make_client() -> _Client:
            return _Client(
                ApnsPool(
                    host,
                    self.settings.apns_port,
                    token,
                    ssl_context=self._ssl_context(),
                    connect_timeout=min(CONNECT_TIMEOUT, self.settings.send_deadline),
                )
            )

        with (
            self._tokens.use(who, make_token) as token,
            # The topic counts because the watch judges it.
            self._clients.use((*who, credentials.topic, host), make_client) as client,
        ):
            yield client

    def _ssl_context(self) -> ssl.SSLContext:
        if self._ssl is None:
            self._ssl = ssl.create_default_context(cafile=self.settings.apns_ca_file)
            self._ssl.set_alpn_protocols(["h2"])
        return self._ssl


def payload(
    notification: Notification[PushConfig], title: str, body: str, data: Mapping[str, str | int]
) -> bytes:
    """The JSON for one device: `aps`, and the data beside it."""
    # Critical needs Apple's entitlement; without it the app gets the next lower level.
    level = "critical" if rings(notification) else "time-sensitive" if is_urgent(notification) else "active"
    aps: dict[str, Any] = {
        "alert": {"title": title, "body": body},
        "thread-id": notification.thread,
        "interruption-level": level,
        "sound": {"critical": 1, "name": "default", "volume": 1.0} if rings(notification) else "default",
    }
    if "image_url" in data:
        aps["mutable-content"] = 1  # lets the app's service extension fetch it
    return to_json({"aps": aps, **data})
