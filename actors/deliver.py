"""Third step: claim, send, settle. Database work stays in this thread, network work on the event loop.

What is to be tried again is written, with its due time, before the message is: a retry that is lost in the broker is
only late. Then `Waiting` is raised, and the Retries middleware brings the message back.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from concurrent import futures
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import dramatiq

from actors import attempts, record
from actors.broker import database_is_away, runtime
from actors.decide import LaneFullError, after_sending, backoff, before_sending, put_off
from actors.handing import BROKER_AWAY, lane_of
from actors.lanes import FIRST_PAUSE
from actors.roads import BULK, CRITICAL, DELIVER, LAST, LATER, LONGEST_DELAYED_MESSAGE, URGENT
from config.logging import get_logger
from config.metrics import metrics
from model import ledger
from model.channels import channels_of
from model.database import among, connection, transaction, tuples, utcnow
from model.states import DeliveryState, Reason
from model.tables import Delivery
from model.tallies import TallyName, tally
from senders.outcomes import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from actors.decide import Attempt
    from actors.handing import Lane
    from model.channels import ChannelRef

log = get_logger(__name__)


class Waiting(dramatiq.errors.Retry):
    """Deliveries of this message failed transiently and are due again after `delay` milliseconds."""


def _worth_another_message(retries: int, error: BaseException) -> bool:
    return isinstance(error, Waiting) or database_is_away(retries, error)


def _deliver(delivery_ids: list[int]) -> None:
    """Make deliveries: all that are ours to make, concurrently, none of them hindered by another.

    Raises:
        Waiting: some are to be tried again, soon enough for a delayed message.
    """
    with connection():
        # In this order: who stands still between them takes the lease for older than it is, and not for younger.
        began, now = time.monotonic(), utcnow()
        with transaction():
            claimed = ledger.claim(delivery_ids, now=now, lease=timedelta(seconds=runtime.settings.lease))
        ready = _prepare(ledger.load(claimed, now=now), now, began)
    _wait_for(set(delivery_ids) - _send(ready))


class _Ready(NamedTuple):
    """What became of claims before anything was sent: the rest, its channels, and what needs no more looking after."""

    claims: list[ledger.Claim]
    channels: dict[int, ChannelRef]
    seen_to: set[int]


def _prepare(claims: Sequence[ledger.Claim], now: datetime, began: float) -> _Ready:
    """Settle what is not to be sent. On the caller's connection.

    Args:
        claims: what was claimed, as it was after the commit.
        now: when it was, by the wall clock.
        began: the same, by the monotonic one.
    """
    channels = channels_of(claim.channel_id for claim in claims)
    to_send, ended = _settle_without_sending(claims, channels, now)
    if time.monotonic() - began > runtime.settings.lease - runtime.settings.send_deadline:
        # The process stood still between claim and sending, and the lease may end before the answer: whoever holds
        # the delivery then must not find that it is sent from here as well.
        log.warning("lease_too_old", deliveries=len(to_send))
        return _Ready([], channels, {claim.delivery_id for claim in claims})
    return _Ready(to_send, channels, ended)


deliver = dramatiq.actor(
    actor_name="deliver", queue_name=DELIVER, priority=BULK, retry_when=_worth_another_message
)(_deliver)
deliver_critical = dramatiq.actor(
    actor_name="deliver_critical", queue_name=CRITICAL, priority=URGENT, retry_when=_worth_another_message
)(_deliver)
deliver_later = dramatiq.actor(
    actor_name="deliver_later", queue_name=LATER, priority=LAST, retry_when=_worth_another_message
)(_deliver)


def deliver_claimed(
    claimed: Collection[int],
    read: Callable[[], Sequence[ledger.Claim]],
    now: datetime,
    began: float,
    *,
    is_critical: bool,
) -> None:
    """Make deliveries whose rows were inserted claimed, in the thread of the step that inserted them.

    That step is done, whatever comes of this.

    Args:
        claimed: the deliveries, all for one lane.
        read: makes claims of them: `ledger.load`, or `ledger.recheck`.
        now: when they were claimed, by the wall clock.
        began: the same, by the monotonic one.
        is_critical: whether all of them are, or none.
    """
    try:
        with connection():
            ready = _prepare(read(), now, began)
        _wait_apart(set(claimed) - _send(ready), is_critical=is_critical)
    except Exception as error:  # noqa: BLE001  # as after a worker's death their leases end, and the sweep comes
        log.warning("not_delivered_at_once", deliveries=len(claimed), why=type(error).__name__)


def _wait_apart(waiting: set[int], *, is_critical: bool) -> None:
    """See to deliveries that have not ended, where no message is at hand to be tried again."""
    try:
        _wait_for(waiting)
    except Waiting as again:
        step = deliver_critical if is_critical else deliver
        with contextlib.suppress(*BROKER_AWAY):  # then it is the sweep's
            step.send_with_options(args=(sorted(waiting),), delay=again.delay)


def _send(ready: _Ready) -> set[int]:
    """Make the attempts and settle them; those that last longer than a moment go on without this thread.

    Returns:
        The deliveries that have ended, or that go on.
    """
    claims, channels, seen_to = ready
    if not claims:
        return seen_to
    made: list[Attempt] = []
    destination = lane_of(claims[0].sender, claims[0].channel_id)
    sending = runtime.begin(attempts.make(runtime, claims, channels, made))
    try:
        patience, done, step = runtime.lanes.patience(destination, len(claims)), 0, max(1, len(claims) // 10)
        with runtime.awaiting(destination, len(claims)):
            # What moves on is worth the wait: then this process's own backlog is what takes long.
            while futures.wait([sending], patience).not_done and len(made) >= done + step:
                done = len(made)
    except BaseException:
        # The time limit: what is known is written, the rest is left to its lease.
        sending.cancel()
        _settle(made[:], channels)
        raise
    known = made[:]
    ended = _settle(known, channels)
    if len(known) == len(claims):
        return seen_to | ended
    slow = {claim.delivery_id for claim in claims} - {attempt.claim.delivery_id for attempt in known}

    def finish() -> None:
        _wait_apart(slow - _settle(made[len(known) :], channels), is_critical=claims[0].is_critical)

    runtime.lanes.go_on(destination, len(slow), sending, finish)
    return seen_to | ended | slow


def _retries(channels: Mapping[int, ChannelRef]) -> defaultdict[int, int]:
    """How often each channel is tried again: as its config says, or its type by default, or the settings do."""
    allowed = defaultdict(lambda: runtime.settings.max_retries)
    for channel_id, channel in channels.items():
        with contextlib.suppress(Misconfigured):  # which its attempt comes to
            own = attempts.config_of(channel).max_retries
            if own is not None:
                allowed[channel_id] = own
    return allowed


def _settle_without_sending(
    claims: Sequence[ledger.Claim], channels: dict[int, ChannelRef], now: datetime
) -> tuple[list[ledger.Claim], set[int]]:
    """What remains to be sent, and the deliveries that ended without it."""
    to_send, settlements = [], []
    ended: set[int] = set()
    pauses: dict[Lane, timedelta | None] = {}
    retries = _retries(channels)
    for claim in claims:
        channel = channels.get(claim.channel_id)
        settlement = before_sending(claim, channel, max_retries=retries[claim.channel_id], now=now)
        if settlement is None:
            settlement = _put_off(claim, pauses, now)
        if settlement is None:
            to_send.append(claim)
        else:
            settlements.append(settlement)
    if settlements:
        with transaction():
            kept, endings = ledger.settle(
                settlements, now=now, grace=timedelta(seconds=runtime.settings.sweep_grace)
            )
            jobs = ledger.count(endings, now=now)
        record.settled(settlements, kept, now=now)
        record.jobs_ended(jobs, runtime.settings, now=now)
        _tell_of_unreadable(settlements)
        ended = _ended(settlements, kept)
    return to_send, ended


def _tell_of_unreadable(settlements: Sequence[ledger.Settlement]) -> None:
    waiting = [each.claim.channel_id for each in settlements if each.reason == Reason.UNREADABLE]
    if waiting:
        log.warning("unreadable_channel", channels=sorted(set(waiting)), deliveries=len(waiting))


def _put_off(
    claim: ledger.Claim, pauses: dict[Lane, timedelta | None], now: datetime
) -> ledger.Settlement | None:
    """What becomes of a claim if its lane is full. All of a message for one lane are put off alike."""
    if claim.is_critical:
        return None
    destination = lane_of(claim.sender, claim.channel_id)
    if destination not in pauses:
        pauses[destination] = runtime.lanes.pause(destination)
    pause = pauses[destination]
    return None if pause is None else put_off(claim, pause, now=now)


def _ended(settlements: Iterable[ledger.Settlement], kept: set[int]) -> set[int]:
    return {each.claim.delivery_id for each in settlements if each.state.is_final} & kept


def _settle(made: Sequence[Attempt], channels: dict[int, ChannelRef]) -> set[int]:
    """Write states, log, totals, device and channel health in one transaction; then tell the world.

    Returns:
        The deliveries that ended.
    """
    if not made:
        return set()
    now = utcnow()
    pauses: dict[int, timedelta] = {}
    settlements = [
        put_off(attempt.claim, FIRST_PAUSE, now=now)
        for attempt in made
        if isinstance(attempt.result, LaneFullError)
    ]
    made = [attempt for attempt in made if not isinstance(attempt.result, LaneFullError)]
    unsent = len(settlements)
    retries = _retries(channels)
    for attempt in made:
        number = attempt.claim.attempts
        # One draw for all with the same number of attempts: their retries stay one batch.
        pause = pauses.setdefault(number, backoff(runtime.settings, number))
        allowed = retries[attempt.claim.channel_id]
        settlements.append(after_sending(attempt, max_retries=allowed, pause=pause, now=now))
    with transaction():
        kept, endings = ledger.settle(
            settlements, now=now, grace=timedelta(seconds=runtime.settings.sweep_grace)
        )
        record.log_attempts(made, now=now)
        disabled = record.disable_devices(made, now=now)
        record.channel_health(made, channels, now=now)
        jobs = ledger.count(endings, now=now)
    record.attempted(made, settlements[unsent:], kept, now=now)
    record.jobs_ended(jobs, runtime.settings, now=now)
    for attempt in disabled:
        runtime.device_invalid(attempt.claim.device_id, attempt.claim.user_id or "", str(attempt.result))
    return _ended(settlements, kept)


def _wait_for(delivery_ids: set[int]) -> None:
    """See to deliveries that have not ended here.

    Raises:
        Waiting: some are to be tried again, soon enough for a delayed message.
    """
    if not delivery_ids:
        return
    with connection():
        _raise_if_waiting(delivery_ids)


def _raise_if_waiting(delivery_ids: set[int]) -> None:
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
