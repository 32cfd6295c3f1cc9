"""What is written and told about attempts: log rows, disabled devices, a channel's health, log lines, metrics.

Rows are written within the caller's transaction. Lines and metrics come after its commit, when the fact is true.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from actors.decide import outcome_name
from config.logging import get_logger
from config.metrics import metrics
from model import bulk
from model.ledger import clip
from model.states import DeliveryState
from model.tables import NO_DEVICE, Channel, Device, LogEntry
from senders.outcomes import Misconfigured, Receipt, SendError, TargetGone
from senders.registry import PLATFORMS, channel_type_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from structlog.stdlib import BoundLogger

    from actors.decide import Attempt
    from config import Settings
    from model.channels import ChannelRef
    from model.ledger import Ended, Settlement

#: The channel type whose targets are devices.
PUSH = "push"

#: Characters of a provider's explanation that are kept.
DETAIL = 2000

log = get_logger("tocsin.delivery")


def log_attempts(made: Sequence[Attempt], *, now: datetime) -> None:
    """One row an attempt, in one statement."""
    bulk.insert(
        LogEntry,
        [
            {
                "tenant_id": attempt.claim.tenant_id,
                "job_id": attempt.claim.job_id,
                "delivery_id": attempt.claim.delivery_id,
                "channel_id": attempt.claim.channel_id,
                "sender": attempt.claim.sender,
                "attempt": attempt.claim.attempts,
                "outcome": outcome_name(attempt.result),
                "code": clip(code_of(attempt.result)),
                "provider_id": clip(getattr(attempt.result, "provider_id", None)),
                "latency_ms": attempt.latency_ms,
                "detail": clip(detail_of(attempt.result), DETAIL),
                "at": now,
            }
            for attempt in made
        ],
    )


def code_of(result: Receipt | BaseException) -> str:
    """The provider's answer, or the name of our own error."""
    return result.code if isinstance(result, (Receipt, SendError)) else type(result).__name__


def detail_of(result: Receipt | BaseException) -> str | None:
    """What a person should know. The text of an error of ours may quote a secret, so it is not stored."""
    if isinstance(result, (Receipt, SendError)):
        return result.detail or None
    return "an error in Tocsin; the worker's log has it whole"


def disable_devices(made: Sequence[Attempt], *, now: datetime) -> list[Attempt]:
    """Disable devices whose address is gone, unless they registered again since; the attempts that led to it."""
    gone = [
        attempt
        for attempt in made
        if isinstance(attempt.result, TargetGone) and attempt.claim.device_id != NO_DEVICE
    ]
    rows = [
        {
            "id": attempt.claim.device_id,
            "disabled_at": now,
            "disabled_reason": clip(code_of(attempt.result)),
            "_registered_at": getattr(attempt.result, "since", None) or attempt.claim.claimed_at,
        }
        for attempt in gone
    ]
    disabled = {
        row[0]
        for row in bulk.update(
            Device,
            rows,
            where="t.disabled_at IS NULL AND t.registered_at <= r._registered_at",
            returning=["id"],
            in_order=True,
        )
    }
    return [attempt for attempt in gone if attempt.claim.device_id in disabled]


def channel_health(made: Sequence[Attempt], channels: Mapping[int, ChannelRef], *, now: datetime) -> None:
    """Note what the last attempt says of its channel, where that is news."""
    news: dict[int, bulk.Row] = {}
    for attempt in made:
        if isinstance(attempt.result, TargetGone):
            continue  # says something of a device, not of the channel
        health = _health(attempt.result)
        if channels[attempt.claim.channel_id].health != health or health != "ok":
            detail = (
                None
                if health == "ok"
                else clip(f"{code_of(attempt.result)}: {detail_of(attempt.result) or ''}", DETAIL)
            )
            news[attempt.claim.channel_id] = {
                "id": attempt.claim.channel_id, "health": health, "health_detail": detail, "health_at": now
            }  # fmt: skip
    bulk.update(Channel, list(news.values()), where=_SAYS_OTHERWISE, in_order=True)


#: One that fails for hours with the same words is written once.
_SAYS_OTHERWISE = "(t.health <> r.health OR COALESCE(t.health_detail, '') <> COALESCE(r.health_detail, ''))"


def _health(result: Receipt | BaseException) -> str:
    if isinstance(result, Receipt):
        return "ok"
    return "misconfigured" if isinstance(result, Misconfigured) else "failing"


def attempted(
    made: Sequence[Attempt], settlements: Sequence[Settlement], kept: set[int], *, now: datetime
) -> None:
    """One canonical line an attempt, and the metrics."""
    outcomes: Counter[tuple[str, str]] = Counter()
    pushes: Counter[tuple[str, str]] = Counter()
    final: list[Settlement] = []
    bound = log.bind()
    for attempt, settlement in zip(made, settlements, strict=True):
        outcome = outcome_name(attempt.result)
        outcomes[channel_type_of(attempt.claim.sender), outcome] += 1
        if attempt.claim.platform is not None:
            pushes[attempt.claim.platform, outcome] += 1
        if outcome == "internal" and isinstance(attempt.result, BaseException):
            log.error("sender_failed", sender=attempt.claim.sender, exc_info=attempt.result)
        owned = attempt.claim.delivery_id in kept
        _tell(bound, settlement, outcome=outcome, owned=owned)
        if owned and settlement.state.is_final:
            final.append(settlement)
    for labels, number in outcomes.items():
        metrics().attempts.labels(*labels).inc(number)
    for labels, number in pushes.items():
        metrics().push_attempts.labels(*labels).inc(number)
    _count(final, now)


def settled(settlements: Sequence[Settlement], kept: set[int], *, now: datetime) -> None:
    """The same for what ended, or waits, without an attempt."""
    final = [each for each in settlements if each.claim.delivery_id in kept and each.state.is_final]
    bound = log.bind()
    for settlement in final:
        _tell(bound, settlement, outcome="none", owned=True)
    _count(final, now)


def jobs_ended(ended: Sequence[Ended], settings: Settings, *, now: datetime) -> None:
    """The metrics of push jobs that ended."""
    for job in ended:
        if job.channel_type == PUSH:
            user = (job.user_id or "",) if settings.metrics_user_label else ()
            metrics().push.labels(job.state, *user).inc()
            metrics().push_duration.observe((now - job.accepted_at).total_seconds())


def _tell(bound: BoundLogger, settlement: Settlement, *, outcome: str, owned: bool) -> None:
    """The line of one settlement, by a logger that was bound for its batch: `log` itself binds anew for each line."""
    claim = settlement.claim
    fields: dict[str, Any] = {
        "tenant": claim.tenant_id,
        "alert": claim.alert_id,
        "event_type": claim.event,
        "job": claim.job_id,
        "delivery": claim.delivery_id,
        "channel": claim.channel_id,
        "channel_type": channel_type_of(claim.sender),
        "sender": claim.sender,
        "outcome": outcome,
        "state": settlement.state.value,
        "reason": settlement.reason,
        "code": settlement.code,
        "attempt": claim.attempts,
        "latency_ms": None if settlement.latency_ms is None else round(settlement.latency_ms, 1),
    }
    if not owned:
        # The lease ended before the answer came, and somebody else holds the delivery: this may be a duplicate.
        fields["lease_lost"] = True
    write = bound.warning if settlement.state is DeliveryState.FAILED or not owned else bound.info
    write("delivery", **fields)


def _count(final: Iterable[Settlement], now: datetime) -> None:
    ended: Counter[tuple[str, str, str]] = Counter()
    for settlement in final:
        claim = settlement.claim
        ended[claim.sender, settlement.state, settlement.reason or ""] += 1
        if settlement.state is DeliveryState.DELIVERED:
            metrics().latency.labels(channel_type_of(claim.sender)).observe(
                (now - claim.accepted_at).total_seconds()
            )
    deliveries_ended(ended)


def deliveries_ended(numbers: Mapping[tuple[str, str, str], int]) -> None:
    """The metrics of deliveries that ended, of pushes among them their devices' as well.

    Args:
        numbers: how many of them, by (sender, state, reason): each set of labels costs a look-up and two writes to a
            shared file.
    """
    ended: Counter[tuple[str, str, str]] = Counter()
    devices: Counter[tuple[str, str]] = Counter()
    for (sender, state, reason), number in numbers.items():
        ended[channel_type_of(sender), state, reason] += number
        if sender in _PLATFORM_OF:
            devices[_PLATFORM_OF[sender], state] += number
    for labels, number in ended.items():
        metrics().deliveries.labels(*labels).inc(number)
    for platform, number in devices.items():
        metrics().push_devices.labels(*platform).inc(number)


_PLATFORM_OF = {sender: platform for platform, sender in PLATFORMS.items()}
