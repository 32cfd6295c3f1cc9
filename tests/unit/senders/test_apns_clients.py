"""Clients are kept by credentials, and closed when others have taken their place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from config import load_settings
from receivers import FarSide
from senders.apns import ApnsSender
from senders.base import Device
from senders.http import HttpClient
from senders.push import ApnsCredentials, PushConfig
from tests.unit.senders.push_support import until
from tests.unit.senders.support import notification

if TYPE_CHECKING:
    from receivers.apns import ApnsCredential


def _config(credential: ApnsCredential) -> PushConfig:
    own = ApnsCredentials.model_validate(
        {
            "key": credential.key_file.read_text(),
            "key_id": credential.key_id,
            "team_id": credential.team_id,
            "topic": credential.topic,
        }
    )
    return PushConfig(all_users=True, apns=own)


async def test_a_channels_new_credentials_close_what_the_old_ones_held() -> None:
    with FarSide() as far:
        environment = {key.removeprefix("TOCSIN_").lower(): value for key, value in far.environment().items()}
        settings = load_settings(**environment)
        http = HttpClient(settings)
        sender = ApnsSender(settings, http)
        device = Device(1, "alice", "ios", token=far.apns.device_token("alice"))

        async def send(credential: ApnsCredential) -> None:
            until_later = datetime.now(UTC) + timedelta(hours=1)
            await sender.send(
                notification(_config(credential), id=uuid4(), device=device, expires_at=until_later)
            )

        # Given two teams, whose clients are both kept while they are used
        first, second, third = far.apns.credential, far.apns.issue(), far.apns.issue()
        await send(first)
        await send(second)
        assert far.apns.connections == 2

        # When a third takes the place of credentials that nothing was sent with for a while
        sender._clients.unused = -1.0  # a while that has passed already
        await send(third)

        # Then theirs are closed, and they can come back
        await until(lambda: far.apns.connections == 1)
        await send(first)
        assert len(far.apns.received) == 4
        await sender.aclose()
        await http.aclose()
        await until(lambda: far.apns.connections == 0)
