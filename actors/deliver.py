"""Third step: claim, send, settle. Database work stays in this thread, network work on the event loop.

What is to be tried again is written, with its due time, before the message is: a retry that is lost in the broker is
only late. Then `Waiting` is raised, and the Retries middleware brings the message back.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

import dramatiq

from actors import attempts, record
from actors.broker import DELIVER, database_is_away, runtime
from actors.decide import after_sending, backoff, before_sending
from config.logging import get_logger
from config.metrics import metrics
from model import ledger
from model.channels import channels_of
from model.database import among, connection, transaction, tuples, utcnow
from model.states import DeliveryState
from model.tables import Delivery
from model.tallies import TallyName, tally

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from actors.decide import Attempt
    from model.channels import ChannelRef

log = get_logger(__name__)

#: Longer waits belong to the database: RabbitMQ takes a message back that a worker holds for 30 minutes, and a worker's
#: memory is no place for tomorrow's.
LONGEST_DELAYED_MESSAGE = timedelta(minutes=10)


class Waiting(dramatiq.errors.Retry):
    """Deliveries of this message failed transiently and are due again after `delay` milliseconds."""


def _worth_another_message(retries: int, error: BaseException) -> bool:
    return isinstance(error, Waiting) or database_is_away(retries, error)


@dramatiq.actor(queue_name=DELIVER, retry_when=_worth_another_message)
def deliver(delivery_ids: list[int]) -> None:
    """Make deliveries: all that are ours to make, concurrently, none of them hindered by another.

    Raises:
        Waiting: some are to be tried again, soon enough for a delayed message.
    """
    now, began = utcnow(), time.monotonic()
    with connection():
        with transaction():
            claimed = ledger.claim(delivery_ids, now=now, lease=timedelta(seconds=runtime.settings.lease))
        claims = ledger.load(claimed, now=now)
        channels = channels_of(claim.channel_id for claim in claims)
        to_send = _settle_without_sending(claims, channels, now)
    if time.monotonic() - began > runtime.settings.lease - runtime.settings.send_deadline:
        # The process stood still between claim and sending, and the lease may end before the answer: whoever holds
        # the delivery then must not find that it is sent from here as well.
        log.warning("lease_too_old", deliveries=len(to_send))
        return
    if to_send:
        made: list[Attempt] = []
        try:
            runtime.run(attempts.make(runtime, to_send, channels, made))
        finally:
            # Also when the time limit interrupts: what is known is written, the rest is left to its lease.
            _settle(made, channels)
    with connection():
        _raise_if_waiting(delivery_ids)


def max_retries(channel: ChannelRef | None) -> int:
    """How often a channel is tried again."""
    own = channel.config.get("max_retries") if channel is not None else None
    return runtime.settings.max_retries if own is None else int(own)


def _settle_without_sending(
    claims: Sequence[ledger.Claim], channels: dict[int, ChannelRef], now: datetime
) -> list[ledger.Claim]:
    to_send, settlements = [], []
    for claim in claims:
        channel = channels.get(claim.channel_id)
        settlement = before_sending(claim, channel, max_retries=max_retries(channel), now=now)
        if settlement is None:
            to_send.append(claim)
        else:
            settlements.append(settlement)
    if settlements:
        with transaction():
            kept, ended = ledger.settle(
                settlements, now=now, grace=timedelta(seconds=runtime.settings.sweep_grace)
            )
        record.settled(settlements, kept, now=now)
        record.jobs_ended(ended, runtime.settings, now=now)
    return to_send


def _settle(made: Sequence[Attempt], channels: dict[int, ChannelRef]) -> None:
    """Write states, log, totals, device and channel health in one transaction; then tell the world."""
    if not made:
        return
    now = utcnow()
    pauses: dict[int, timedelta] = {}
    settlements = []
    for attempt in made:
        number = attempt.claim.attempts
        # One draw for all with the same number of attempts: their retries stay one batch.
        pause = pauses.setdefault(number, backoff(runtime.settings, number))
        channel = channels.get(attempt.claim.channel_id)
        settlements.append(after_sending(attempt, max_retries=max_retries(channel), pause=pause, now=now))
    with transaction():
        kept, ended = ledger.settle(
            settlements, now=now, grace=timedelta(seconds=runtime.settings.sweep_grace)
        )
        record.log_attempts(made, now=now)
        disabled = record.disable_devices(made, now=now)
        record.channel_health(made, channels, now=now)
    record.attempted(made, settlements, kept, now=now)
    record.jobs_ended(ended, runtime.settings, now=now)
    for attempt in disabled:
        runtime.device_invalid(attempt.claim.device_id, attempt.claim.user_id or "", str(attempt.result))


def _raise_if_waiting(delivery_ids: Sequence[int]) -> None:
    states = [DeliveryState.RETRYING, DeliveryState.SENDING]
    query = (
        Delivery.select(Delivery.state, Delivery.next_attempt_at, Delivery.tenant_id)
        .where(among(Delivery.id, delivery_ids) & Delivery.state.in_(states))
        .order_by(Delivery.id)
    )
    found = list(tuples(query))
    # What is still being sent is another worker's: this message came a second time.
    elsewhere = (tenant for state, _, tenant in found if state == DeliveryState.SENDING)
    metrics().duplicates_avoided.inc(tally(TallyName.DUPLICATES_AVOIDED, elsewhere))
    due = min((moment for state, moment, _ in found if state == DeliveryState.RETRYING), default=None)
    if due is not None:
        delay = max(due - utcnow(), timedelta(0))
        if delay <= LONGEST_DELAYED_MESSAGE:
            raise Waiting(delay=int(delay.total_seconds() * 1000) + 1)
