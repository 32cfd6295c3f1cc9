"""What would become of an alert, and why: every rule with its reason, every target with its verdict.

It asks what the chain asks (`Rule.mismatch`, `Rule.is_throttled`, `Preference.verdict`), and adds what the chain never
sees: rules and channels that are disabled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peewee import fn

from model.alert import AlertEvent, parse_alert
from model.audience import Target, count_targets, targets_for, users_of
from model.database import Unreadable, connection, tuples
from model.jobs import is_critical, notifies
from model.rulebook import spec_of
from model.rules import Rule
from model.tables import NO_DEVICE, Alert, Channel, Job, RoutingRule

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from config import Settings

PUSH = "push"

#: Targets that an answer lists: those of a push to a million devices would take gigabytes.
LISTED = 1000


def explain(
    alert: Mapping[str, Any] | AlertEvent,
    *,
    tenant_id: str,
    settings: Settings,
    at: datetime,
    user_id: str | None = None,
) -> dict[str, Any]:
    """Explain an alert, as if it were accepted at a moment.

    Args:
        alert: an alert as in docs/api.md.
        tenant_id: whose rules.
        settings: say what is critical.
        at: the moment, aware, for which throttles and quiet hours are judged.
        user_id: of push channels' targets only this user's.

    Returns:
        `rules` in the order in which they are asked, `targets` of the channels that would be notified (LISTED at
        most), `targets_left_out`, which is the number of the others, and `already_accepted`: whether this event of
        this alert is on record, so that sending it again changes nothing.

    Raises:
        InvalidInput: names each field that is wrong.
    """
    event = parse_alert(alert)
    with connection():
        # Before the channels: a rule may be made meanwhile, with its channel.
        query = RoutingRule.select().where(RoutingRule.tenant == tenant_id)
        rows = list(query.order_by(RoutingRule.priority, RoutingRule.id))
        channels = {channel.id: channel for channel in Channel.select().where(Channel.tenant == tenant_id)}
        notified = _last_notified(tenant_id, event, at)
        known = (
            Alert.select()
            .where(
                (Alert.tenant == tenant_id)
                & (Alert.alert_id == event.key)
                & (Alert.event_type == event.event_type)
            )
            .exists()
        )
        rules: list[dict[str, Any]] = []
        chosen: dict[int, str] = {}
        for row in rows:
            channel = channels.get(row.channel_id)
            if channel is None:  # it was deleted meanwhile, and its rules with it
                continue
            reason = _why_not(row, channel, event, notified.get(channel.id), at)
            matched = reason is None
            if matched and channel.id in chosen:
                reason = f"rule {chosen[channel.id]} comes first: one job a channel"
            elif matched:
                chosen[channel.id] = row.name
            rules.append({"rule": row.name, "channel": channel.name, "matched": matched, "reason": reason})
        targets: list[dict[str, Any]] = []
        left_out = 0
        for channel_id, rule in chosen.items():
            channel, room = channels[channel_id], LISTED - len(targets)
            found, further = _targets(channel, event, settings, at, user_id=user_id, room=room)
            targets += [_shown(channel, rule, target) for target in found]
            left_out += further
    return {"rules": rules, "targets": targets, "targets_left_out": left_out, "already_accepted": known}


def _why_not(
    row: RoutingRule, channel: Channel, event: AlertEvent, last_notified_at: datetime | None, at: datetime
) -> str | None:
    """The first reason why a rule asks for nothing, or None: it does."""
    if not row.is_enabled:
        return "is_enabled: the rule is disabled"
    if not channel.is_enabled:
        return f"channel: {channel.name} is disabled"
    rule = Rule.compile(row.id, channel.id, spec_of(row))
    mismatch = rule.mismatch(event.event_type, event.snapshot)
    if mismatch is not None:
        return mismatch
    if last_notified_at is not None and rule.is_throttled(last_notified_at, at):
        again = last_notified_at + rule.throttle if rule.throttle else at
        return (
            f"throttle_minutes: {channel.name} was notified of this alert at {_clock(last_notified_at)}, "
            f"and not again before {_clock(again)}"
        )
    if isinstance(channel.config, Unreadable):
        return f"channel: {channel.name} cannot be sent to: {Unreadable.WHY}"
    return None


def _clock(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _last_notified(tenant_id: str, event: AlertEvent, at: datetime) -> dict[int, datetime]:
    """When each channel was last notified of the alert, before the moment and by another event of it."""
    query = (
        Job.select(Job.channel_id, fn.MAX(Job.created_at).converter(Job.created_at.python_value))
        .where(
            (Job.tenant_id == tenant_id)
            & (Job.alert_id == event.key)
            & (Job.deliver_on_event != event.event_type)
            & (Job.created_at <= at)
            & notifies()
        )
        .group_by(Job.channel_id)
    )
    return dict(tuples(query))


def _targets(
    channel: Channel, event: AlertEvent, settings: Settings, at: datetime, *, user_id: str | None, room: int
) -> tuple[list[Target], int]:
    """A channel's targets, as many as there is room for, and how many others there are."""
    if channel.channel_type != PUSH:
        return ([Target(NO_DEVICE, None, channel.channel_type)], 0) if room else ([], 1)
    users = users_of(channel.config, None)
    if user_id is not None:
        users = [user_id] if users is None or user_id in users else []
    alert = event.snapshot
    critical = is_critical(settings, alert)
    found = targets_for(channel.tenant_id, users, alert, is_critical=critical, at=at, limit=room)
    if len(found) < room:
        return found, 0
    return found, max(0, count_targets(channel.tenant_id, users) - len(found))


def _shown(channel: Channel, rule: str, target: Target) -> dict[str, Any]:
    return {
        "rule": rule,
        "channel": channel.name,
        "channel_type": channel.channel_type,
        "user_id": target.user_id,
        "device": None if target.device_id == NO_DEVICE else target.device_id,
        "device_name": target.name or None,
        "platform": None if target.device_id == NO_DEVICE else target.sender,
        "verdict": target.verdict.action,
        "reason": target.verdict.reason,
        "until": target.verdict.until.isoformat() if target.verdict.until else None,
    }
