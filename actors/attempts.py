"""The attempts of one message, made concurrently on the event loop. No database here."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
import uuid
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from actors.decide import Attempt, LaneFullError
from actors.handing import lane_of
from config.logging import get_logger
from model.database import Unreadable, utcnow
from senders.base import Device, Notification
from senders.outcomes import Misconfigured, Receipt, Transient
from senders.registry import ALIASES, CHANNEL_TYPES, SENDERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from actors.handing import Lane
    from actors.runtime import Runtime
    from model.channels import ChannelRef
    from model.ledger import Claim
    from senders.base import ChannelConfig

log = get_logger(__name__)

#: The namespace of the ids that we give notifications (RFC 9562 section 5.5).
NOTIFICATIONS = uuid.UUID("b1f0a8c4-0c5e-4f0a-8a63-1d0f4c6b9e2d")

_NAMESPACE = hashlib.sha1(NOTIFICATIONS.bytes, usedforsecurity=False)


async def make(
    runtime: Runtime, claims: Sequence[Claim], channels: Mapping[int, ChannelRef], made: list[Attempt]
) -> None:
    """Make one attempt for each claim, all at once, each with a deadline of its own.

    A claim whose lease is about to end is left to it, and not in `made`.

    Args:
        made: takes each result as it comes, so that an interruption leaves what is known. LaneFullError says that
            nothing was sent.
    """
    lasts = timedelta(seconds=runtime.settings.lease - runtime.settings.send_deadline)
    patience = lasts.total_seconds() / 2
    too_old: list[int] = []
    end = _End(runtime, claims)

    async def one(claim: Claim) -> None:
        destination = lane_of(claim.sender, claim.channel_id)
        if claim.is_critical:
            await attempt(claim, destination)
        elif await runtime.lanes.take_place(destination, places_of(claim.sender), patience):
            try:
                await attempt(claim, destination)
            finally:
                runtime.lanes.give_place_back(destination)
        else:
            made.append(Attempt(claim, LaneFullError(), 0.0))

    async def attempt(claim: Claim, destination: Lane) -> None:
        if utcnow() - claim.claimed_at > lasts:
            # The loop stood still, and the lease may end before the answer: whoever holds the delivery then must not
            # find that it is sent from here as well.
            too_old.append(claim.delivery_id)
            return
        began = time.perf_counter()
        try:
            result = await send(runtime, claim, channels)
        except asyncio.CancelledError as error:
            if not end.has_come():
                raise
            result = _hangs(claim, error)
        took = time.perf_counter() - began
        if not isinstance(result, LaneFullError):
            runtime.lanes.answered(destination, took, is_success=isinstance(result, Receipt))
        made.append(Attempt(claim, result, took * 1000))

    try:
        async with asyncio.TaskGroup() as group:
            end.tasks += [group.create_task(one(claim)) for claim in claims]
    finally:
        end.timer.cancel()
    if too_old:
        log.warning("lease_too_old", deliveries=len(too_old))


class _End:
    """The end of a message's sends.

    A sender keeps its deadline itself, and then knows what was reached by it. One that does not must not outlive its
    lease, whose last moment is for settling. All claims of a message are of one moment, hence one timer.
    """

    def __init__(self, runtime: Runtime, claims: Sequence[Claim]) -> None:
        settings, now = runtime.settings, utcnow()
        age = max(((now - claim.claimed_at).total_seconds() for claim in claims), default=0.0)
        rest = settings.lease - age - min(1.0, settings.send_deadline / 10)
        self.tasks: list[asyncio.Task[None]] = []
        self.timer = asyncio.get_running_loop().call_later(rest, self._come)
        self._has_come = False

    def _come(self) -> None:
        self._has_come = True
        for task in self.tasks:
            task.cancel()

    def has_come(self) -> bool:
        """Whether it is what cancelled this task, and it alone."""
        task = asyncio.current_task()
        return self._has_come and task is not None and not task.uncancel()


async def send(runtime: Runtime, claim: Claim, channels: Mapping[int, ChannelRef]) -> Receipt | BaseException:
    """One send, and what came of it."""
    try:
        notification = notification_of(claim, config_of(channels[claim.channel_id]))
        return await runtime.sender(claim.sender).send(notification)
    except TimeoutError as error:
        return _hangs(claim, error)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody wants this task to end: what its sender shares with others was given up. A group would take the task
        # for one that it has cancelled itself, and the delivery would wait for the end of its lease.
        return Transient(
            "cancelled", "given up together with what it shared; it may have been taken all the same"
        )
    except Transient as error:
        return error if error.is_attempt else LaneFullError()
    except Exception as error:  # noqa: BLE001  # whatever a sender raises is an outcome, of this one delivery
        return error


def _hangs(claim: Claim, error: BaseException) -> Transient:
    log.warning("sender_hangs", sender=claim.sender, delivery=claim.delivery_id, why=repr(error))
    return Transient("timeout", "no answer before the end of the lease; it may have been taken all the same")


def places_of(sender: str) -> int:
    """How many sends of one lane may be under way at most. Of a sender that is no more, one: it fails soon enough."""
    return SENDERS[sender].places if sender in SENDERS else 1


def notification_of(claim: Claim, config: ChannelConfig) -> Notification[Any]:
    """A claim as its sender sees it."""
    device = None
    if claim.platform is not None:
        device = Device(
            claim.device_id, claim.user_id or "", claim.platform, claim.token or "", claim.subscription or {}
        )
    return Notification(
        id=notification_id(claim.job_id, claim.accepted_at, claim.device_id),
        tenant_id=claim.tenant_id,
        job_id=claim.job_id,
        alert=claim.payload,
        event=claim.event,
        severity=claim.severity,
        is_critical=claim.is_critical,
        thread=thread_of(claim.tenant_id, claim.alert_id),
        accepted_at=claim.accepted_at,
        expires_at=claim.expires_at,
        config=config,
        device=device,
    )


def notification_id(job_id: int, accepted_at: datetime, device_id: int) -> uuid.UUID:
    """The same for every attempt at one delivery, and for no other, also of an installation whose ids began anew."""
    # As uuid.uuid5 does, which writes its namespace out and hashes it each time.
    digest = _NAMESPACE.copy()
    digest.update(f"{job_id}/{accepted_at.isoformat()}/{device_id}".encode())
    return uuid.UUID(bytes=digest.digest()[:16], version=5)


@lru_cache(maxsize=1024)  # a push to ten thousand devices has one
def thread_of(tenant_id: str, alert_id: str) -> str:
    """One key for all events of an alert: 32 characters of base64url, which every provider's field can hold."""
    digest = hashlib.sha256(f"{tenant_id}\0{alert_id}".encode()).digest()
    return base64.urlsafe_b64encode(digest)[:32].decode()


def config_of(channel: ChannelRef) -> ChannelConfig:
    """A channel's config, validated once for each version of it.

    Raises:
        Misconfigured: it was saved in a shape, or for a channel type, that is no longer valid, or no key decrypts it.
    """
    if isinstance(channel.config, Unreadable):
        raise Misconfigured("unreadable config", Unreadable.WHY)
    key = (channel.channel_id, channel.updated_at)
    found = _configs.get(key)
    if found is None:
        try:
            found = CHANNEL_TYPES[ALIASES.get(channel.channel_type, channel.channel_type)].model_validate(
                channel.config
            )
        except KeyError:
            raise Misconfigured(
                "unknown channel type", f"there is no {channel.channel_type}: change or delete the channel"
            ) from None
        except ValidationError as error:
            fields = ", ".join(".".join(map(str, item["loc"])) for item in error.errors(include_input=False))
            raise Misconfigured("invalid config", f"save the channel anew; wrong: {fields}") from None
        if len(_configs) > 10_000:  # noqa: PLR2004  # a bound on memory, not on use
            _configs.clear()
        _configs[key] = found
    return found


_configs: dict[tuple[int, object], ChannelConfig] = {}
