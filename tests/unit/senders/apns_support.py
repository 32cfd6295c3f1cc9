"""A channel with credentials of its own, pushes of it, and connections to APNs without the sender above them."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from receivers.keys import new_p256, pem
from senders.apns_pool import ApnsPool, ProviderToken
from senders.apns_protocol import ApnsRequest
from senders.push import PushConfig
from tests.unit.senders.push_support import (
    IOS_TOKEN,
    TOPIC,
    FaultyApns,
    apns_credentials,
    apns_settings,
    push,
)

if TYPE_CHECKING:
    from senders.base import Notification

KEY = new_p256()
CHANNEL = PushConfig(all_users=True, apns=apns_credentials(KEY))


def alert_push(**overrides: Any) -> Notification[PushConfig]:
    return push(config=CHANNEL, **overrides)


def pool_to(apns: FaultyApns, **more: Any) -> ApnsPool:
    settings = apns_settings(apns)
    context = ssl.create_default_context(cafile=settings.apns_ca_file)
    context.set_alpn_protocols(["h2"])
    token = ProviderToken(pem(KEY).decode(), "KEY1234567", "TEAM123456")
    return ApnsPool("127.0.0.1", apns.port, token, ssl_context=context, connect_timeout=5, **more)


def request_of(size: int = 100) -> ApnsRequest:
    it = alert_push()
    return ApnsRequest(
        IOS_TOKEN, b" " * size, apns_id=str(it.id), topic=TOPIC, collapse_id="c", priority=10, expiration=0
    )
