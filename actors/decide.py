"""What an attempt's outcome means for its delivery: pure, given the time and the randomness.

Only Transient is tried again: exponentially later with jitter, not before the provider's Retry-After, no more often
than the channel allows, and not beyond the moment from which nobody wants it any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from dramatiq.common import compute_backoff

from model.database import Unreadable
from model.ledger import Claim, Settlement
from model.states import DeliveryState, Reason
from model.tables import NO_DEVICE
from senders.outcomes import (
    Misconfigured,
    NotConfigured,
    Receipt,
    Rejected,
    SendError,
    TargetGone,
    Transient,
)
from senders.registry import sender_of

if TYPE_CHECKING:
    from datetime import datetime

    from config import Settings
    from model.channels import ChannelRef

#: How long a later event waits before it looks again whether the earlier one is still under way.
TURN = timedelta(seconds=1)

#: How long a delivery waits for a worker that has the key of its channel's config, or for the channel to be saved anew.
KEY = timedelta(minutes=1)

#: Claims of a delivery that may end unsettled, however few retries its channel allows. The database may hiccup between
#: a claim and its sending, or the worker stand still or be killed there: that must not be all that ever was of a
#: notification, and what kills each of its workers must come to an end.
CLAIMS = 3


class LaneFullError(Exception):
    """No place of the lane became free in time, or no connection of its sender: nothing was sent."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one claim: a receipt, one of the senders' errors, or an error of ours."""

    claim: Claim
    result: Receipt | BaseException
    latency_ms: float


#: A sender's error that ends a delivery, and the reason that is stored. The order matters: subclasses first.
_FINAL: tuple[tuple[type[SendError], Reason], ...] = (
    (NotConfigured, Reason.PROVIDER_NOT_CONFIGURED),
    (Misconfigured, Reason.MISCONFIGURED),
    (TargetGone, Reason.TARGET_GONE),
    (Rejected, Reason.REJECTED),
)

#: What the log calls each outcome.
_NAMES: tuple[tuple[type[SendError], str], ...] = (
    (NotConfigured, "not_configured"),
    (Misconfigured, "misconfigured"),
    (TargetGone, "target_gone"),
    (Rejected, "rejected"),
    (Transient, "transient"),
)

#: Those, and what an attempt without one of them is called.
OUTCOMES = ("ok", *(name for _, name in _NAMES), "internal")


def outcome_name(result: Receipt | BaseException) -> str:
    """How logs and metrics call what came of an attempt."""
    if isinstance(result, Receipt):
        return "ok"
    return next((name for kind, name in _NAMES if isinstance(result, kind)), "internal")


def backoff(settings: Settings, attempts: int) -> timedelta:
    """The pause after this many attempts: what Dramatiq's Retries would choose, jitter included."""
    _, milliseconds = compute_backoff(
        attempts - 1,
        factor=int(settings.retry_min_backoff * 1000),
        max_backoff=int(settings.retry_max_backoff * 1000),
    )
    return timedelta(milliseconds=milliseconds)


def before_sending(  # noqa: C901, PLR0911  # a line or two a reason, in the order that decides
    claim: Claim, channel: ChannelRef | None, *, max_retries: int, now: datetime
) -> Settlement | None:
    """What becomes of a claim without an attempt, or None: send it."""
    if channel is None or channel.tenant_id != claim.tenant_id:
        return Settlement(claim, DeliveryState.FAILED, Reason.CHANNEL_DELETED, counts_attempt=False)
    if claim.device_id != NO_DEVICE and claim.platform is None:
        return Settlement(claim, DeliveryState.FAILED, Reason.DEVICE_DELETED, counts_attempt=False)
    if sender_of(channel.channel_type, claim.platform) != claim.sender:
        # The channel has become one of another type; a replay goes by what it is now.
        return Settlement(claim, DeliveryState.FAILED, Reason.MISCONFIGURED, counts_attempt=False)
    if claim.later:
        return Settlement(claim, DeliveryState.SUPERSEDED, Reason.LATER_EVENT, counts_attempt=False)
    is_unreadable = isinstance(channel.config, Unreadable)
    if claim.expires_at <= now and not is_unreadable:
        return Settlement(claim, DeliveryState.EXPIRED, Reason.TOO_LATE, counts_attempt=False)
    if not channel.is_enabled:
        return Settlement(claim, DeliveryState.SUPPRESSED, Reason.CHANNEL_DISABLED, counts_attempt=False)
    if claim.device_disabled:
        return Settlement(claim, DeliveryState.SUPPRESSED, Reason.DEVICE_DISABLED, counts_attempt=False)
    if is_unreadable:
        if claim.expires_at <= now:
            return Settlement(claim, DeliveryState.FAILED, Reason.MISCONFIGURED, counts_attempt=False)
        return _waits(claim, Reason.UNREADABLE, min(now + KEY, claim.expires_at))
    if claim.attempts > max(max_retries + 1, CLAIMS):
        # Its last attempts were begun and none was settled: whatever it is that kills its worker, it ends here.
        return Settlement(claim, DeliveryState.FAILED, Reason.EXHAUSTED, counts_attempt=False)
    if claim.earlier_under_way:
        return _waits(claim, Reason.EARLIER_EVENT_UNDER_WAY, now + TURN)
    return None


def put_off(claim: Claim, pause: timedelta, *, now: datetime) -> Settlement:
    """What becomes of a claim whose lane is full."""
    return _waits(claim, Reason.LANE_FULL, now + pause)


def _waits(claim: Claim, reason: Reason, due: datetime) -> Settlement:
    return Settlement(claim, DeliveryState.RETRYING, reason, next_attempt_at=due, counts_attempt=False)


def after_sending(attempt: Attempt, *, max_retries: int, pause: timedelta, now: datetime) -> Settlement:
    """What becomes of a claim by what came of its attempt.

    Args:
        pause: the backoff, drawn once for a batch so that its retries stay together.
    """
    claim, result = attempt.claim, attempt.result
    code = getattr(result, "code", None) or (None if isinstance(result, Receipt) else type(result).__name__)
    provider_id = getattr(result, "provider_id", None)

    def ends(state: DeliveryState, reason: Reason | None = None) -> Settlement:
        return Settlement(claim, state, reason, code, provider_id, attempt.latency_ms)

    if isinstance(result, Receipt):
        return ends(DeliveryState.DELIVERED)
    for kind, reason in _FINAL:
        if isinstance(result, kind):
            return ends(DeliveryState.FAILED, reason)
    if not isinstance(result, Transient):
        return ends(DeliveryState.FAILED, Reason.INTERNAL)
    if claim.attempts > max_retries:
        return ends(DeliveryState.FAILED, Reason.EXHAUSTED)
    due = now + max(pause, timedelta(seconds=result.retry_after or 0))
    if due >= claim.expires_at:
        return ends(DeliveryState.EXPIRED, Reason.TOO_LATE)
    return Settlement(
        claim,
        DeliveryState.RETRYING,
        Reason.TRANSIENT,
        code,
        provider_id,
        attempt.latency_ms,
        next_attempt_at=due,
    )
