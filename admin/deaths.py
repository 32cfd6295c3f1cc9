"""Why a message is among the dead letters: what RabbitMQ's `x-death` header says, and what Tocsin sees for itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pika import BasicProperties

#: RabbitMQ's reasons, in words: https://www.rabbitmq.com/docs/dlx
_REASONS = {
    "rejected": "a worker refused it, or failed in a way that is not tried again: its log says why, by message_id",
    "expired": "it lay in its queue for longer than it may",
    "maxlen": "its queue was full",
    "delivery_limit": "it came back more often than its queue allows: something kills who works on it",
}

#: Where neither the broker nor the message says anything.
_UNKNOWN = "not known: somebody put it there past RabbitMQ's own way"

#: Characters of an error, or of a reason, that a list shows.
_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Death:
    """That a message died in a queue, as RabbitMQ notes it (https://www.rabbitmq.com/docs/dlx#effects).

    Attributes:
        reason: rejected, expired, maxlen or delivery_limit.
        count: how often it died there of this.
        time: when; None if the broker does not say.
    """

    queue: str
    reason: str
    count: int
    time: datetime | None

    def __str__(self) -> str:
        often = "" if self.count == 1 else f" {self.count} times"
        return f"{self.reason}{often} in {self.queue}"

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "queue": self.queue,
            "reason": self.reason,
            "count": self.count,
            "time": self.time.isoformat() if self.time else None,
        }


def deaths_of(headers: Mapping[str, Any] | None) -> list[Death]:
    """What the header says, the latest first. Whoever may write to a queue may have written it."""
    noted = (headers or {}).get("x-death")
    if not isinstance(noted, list):
        return []
    return [_death(each) for each in noted if isinstance(each, dict)]


def _death(noted: dict[str, Any]) -> Death:
    count, time = noted.get("count"), noted.get("time")
    return Death(
        str(noted.get("queue", "?")),
        str(noted.get("reason", "?")),
        count if isinstance(count, int) else 1,
        time.replace(tzinfo=UTC) if isinstance(time, datetime) else None,
    )


def why(options: Mapping[str, Any], deaths: list[Death], headers: Mapping[str, Any] | None) -> str:
    """Why a message lies there with which nothing is wrong that can be seen, in words.

    Args:
        options: the message's.
    """
    if refused := (headers or {}).get("reason"):  # actors.accept_alerts put it there
        return f"can never be accepted: {str(refused)[:_SHOWN]}"
    if tries := _tries(options):
        return tries
    return _REASONS.get(deaths[0].reason, deaths[0].reason) if deaths else _UNKNOWN


def refused_at(properties: BasicProperties) -> datetime | None:
    """When a message was put among the dead letters that no broker moved there: actors.accept_alerts notes it."""
    try:
        return datetime.fromtimestamp(properties.timestamp, UTC) if properties.timestamp else None
    except (OSError, OverflowError, ValueError):
        return None  # whoever may write to the queue may write any 64 bits


def _tries(options: Mapping[str, Any]) -> str | None:
    """What Dramatiq's Retries noted in the message before it came for the last time. Nothing notes the last failure."""
    retries = options.get("retries")
    if not isinstance(retries, int) or retries < 1:
        return None
    lines = str(options.get("traceback") or "").strip().splitlines()
    last = f"; the last try but one ended with {lines[-1].strip()[:_SHOWN]}" if lines else ""
    return f"too many failures: given up after {retries + 1} tries{last}"
