"""A test of a channel: one marked alert, at once, past the queue, through the sender that deliveries use.

Nothing is written, no device disabled and no job made: it answers the question whether it would work. Nothing of it
stays on the far side either: no broker retains it, and what its OPEN raised its CLOSED clears.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from actors.attempts import config_of, thread_of
from actors.decide import outcome_name
from actors.record import code_of, detail_of
from admin.lookup import find_channel
from config.logging import get_logger
from model.audience import users_of
from model.channels import channels_of
from model.database import Unreadable, connection, utcnow
from model.ledger import clip
from model.states import EventType
from model.tables import Device
from senders import base, pagerduty, snmp
from senders.mqtt_config import MqttConfig
from senders.outcomes import Receipt, Transient
from senders.registry import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors.runtime import Runtime
    from model.channels import ChannelRef

PUSH = "push"
#: Types whose far side keeps what an OPEN raises (an incident, an alarm) until the same thread's CLOSED.
KEEPING = frozenset({pagerduty.PagerDutySender.name, snmp.SnmpSender.name})
#: Sends at one time, where a push channel has many devices.
CONCURRENT = 50
#: How long the far side may keep a test before it is worthless.
WORTH = timedelta(minutes=10)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Trial:
    """A test that is to be made.

    Attributes:
        name: the channel's.
        devices: those of a push channel's users; of any other channel None.
    """

    name: str
    channel: ChannelRef
    devices: Sequence[base.Device] | None


def test_channel(tenant_id: str, reference: str | int, *, runtime: Runtime) -> dict[str, Any]:
    """Send a test to a channel, or to every device of a push channel's users. As `prepare` and `make`."""
    return runtime.run(make(prepare(tenant_id, reference), runtime))


def prepare(tenant_id: str, reference: str | int) -> Trial:
    """What a test needs of the database.

    Args:
        tenant_id: whose channel.
        reference: its name or id.

    Raises:
        LookupError: this tenant has no such channel.
    """
    with connection():
        channel = find_channel(tenant_id, reference)
        found = channels_of([channel.id])[channel.id]
        # Whom a push channel names that cannot be read, nobody knows: that is the answer then.
        is_push = found.channel_type == PUSH and not isinstance(found.config, Unreadable)
        return Trial(channel.name, found, _devices(tenant_id, found) if is_push else None)


async def make(trial: Trial, runtime: Runtime) -> dict[str, Any]:
    """Send a test.

    Args:
        trial: the test.
        runtime: a started runtime: the senders, and the loop they live on, which this runs on.

    Returns:
        `status` ok or failed, `outcome` (ok, transient, rejected, target_gone, misconfigured, not_configured,
        internal, no_devices), `latency_ms`, `provider_response` with `code`, `detail` and `provider_id`; of a
        push channel also `devices`, the same for each, and of all of them together the first that failed.
    """
    channel = trial.channel
    tests = await _send_all(runtime, channel, [None] if trial.devices is None else trial.devices)
    answer: dict[str, Any] = {
        "channel": trial.name,
        "channel_id": channel.channel_id,
        "channel_type": channel.channel_type,
    }
    if trial.devices is None:
        return _status(tests[0]["outcome"]) | answer | tests[0]
    whole = next((each for each in tests if each["outcome"] != "ok"), tests[0] if tests else _NOBODY)
    names = ("outcome", "provider_response")
    latency = max((each["latency_ms"] for each in tests), default=0.0)
    summed = {name: whole[name] for name in names} | {"latency_ms": latency, "devices": tests}
    return _status(whole["outcome"]) | answer | summed


_NOBODY: dict[str, Any] = {
    "outcome": "no_devices",
    "provider_response": {
        "code": None,
        "detail": "none of the channel's users has a device that is not disabled",
        "provider_id": None,
    },
}


def _status(outcome: str) -> dict[str, Any]:
    return {"status": "ok" if outcome == "ok" else "failed"}


def _devices(tenant_id: str, channel: ChannelRef) -> list[base.Device]:
    users = users_of(channel.config, None)
    query = (
        Device.select().where((Device.tenant == tenant_id) & Device.disabled_at.is_null()).order_by(Device.id)
    )
    if users is not None:
        query = query.where(Device.user_id.in_(users))
    return [
        base.Device(device.id, device.user_id, device.platform, device.token, device.subscription or {})
        for device in query
    ]


async def _send_all(
    runtime: Runtime, channel: ChannelRef, devices: Sequence[base.Device | None]
) -> list[dict[str, Any]]:
    limit = asyncio.Semaphore(CONCURRENT)
    alert_id = f"test:{uuid.uuid4()}"

    async def one(device: base.Device | None) -> dict[str, Any]:
        async with limit:
            return await _send(runtime, channel, device, alert_id)

    return await asyncio.gather(*map(one, devices))


async def _send(
    runtime: Runtime, channel: ChannelRef, device: base.Device | None, alert_id: str
) -> dict[str, Any]:
    began = time.perf_counter()
    result = await _outcome(runtime, channel, device, alert_id, EventType.OPEN)
    latency_ms = round((time.perf_counter() - began) * 1000, 1)
    if channel.channel_type in KEEPING and isinstance(result, Receipt):
        closed = await _outcome(runtime, channel, device, alert_id, EventType.CLOSED)
        result = result if isinstance(closed, Receipt) else closed
    if isinstance(result, BaseException) and outcome_name(result) == "internal":
        log.error("test_failed", channel=channel.channel_id, exc_info=result)
    answer: dict[str, Any] = {
        "outcome": outcome_name(result),
        "latency_ms": latency_ms,
        "provider_response": {
            "code": clip(code_of(result)),
            "detail": clip(detail_of(result), 2000),
            "provider_id": clip(getattr(result, "provider_id", None)),
        },
    }
    if device is None:
        return answer
    return {"device_id": device.device_id, "user_id": device.user_id, "platform": device.platform} | answer


async def _outcome(
    runtime: Runtime, channel: ChannelRef, device: base.Device | None, alert_id: str, event: EventType
) -> Receipt | BaseException:
    deadline = runtime.settings.send_deadline
    now = utcnow()
    try:
        notification = base.Notification(
            id=uuid.uuid4(),
            tenant_id=channel.tenant_id,
            job_id=0,
            alert={
                "alert_id": alert_id,
                "alert_type": "test",
                "severity": 0,
                "message": "Test from Tocsin: this channel works. Nothing has happened.",
                "details": {"title": "Test from Tocsin", "test": True},
                "triggered_at": now.isoformat(),
            },
            event=event,
            severity=0,
            is_critical=False,
            thread=thread_of(channel.tenant_id, alert_id),
            accepted_at=now,
            expires_at=now + WORTH,
            config=_config(channel),
            device=device,
        )
        sender = runtime.sender(channel.channel_type if device is None else PLATFORMS[device.platform])
        async with asyncio.timeout(deadline):
            return await sender.send(notification)
    except TimeoutError:
        return Transient("timeout", f"no answer within {deadline:g} s; whether it arrived is unknown")
    except Exception as error:  # noqa: BLE001  # whatever a sender raises is the answer
        return error


def _config(channel: ChannelRef) -> base.ChannelConfig:
    """The channel's config, but that nothing is retained: a test must not replace what the broker keeps of an alert."""
    config = config_of(channel)
    return config.model_copy(update={"retain": False}) if isinstance(config, MqttConfig) else config
