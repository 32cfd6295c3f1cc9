"""When a channel hears of an alert: a routing rule, pure.

A filter that is null or empty matches all. Filters are joined by AND, the members of a list by OR.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, model_validator

from model.alert import MAX_SEVERITY, Identifier, Text
from model.states import EventType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

_Filter = Annotated[Text, Field(max_length=255)]
#: A list filter; null is the empty list, which matches all.
_Filters = Annotated[list[_Filter], BeforeValidator(lambda value: [] if value is None else value)]


class RuleSpec(BaseModel):
    """A routing rule's own fields, as people write them."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Identifier
    min_severity: Annotated[StrictInt, Field(ge=0, le=MAX_SEVERITY)] | None = None
    alert_type: _Filter | None = None
    device_tag_key: _Filter | None = None
    device_tag_val: _Filter | None = None
    site_ids: _Filters = []
    device_prefixes: _Filters = []
    deliver_on: Annotated[list[EventType], Field(min_length=1)] = [EventType.OPEN]
    throttle_minutes: Annotated[StrictInt, Field(ge=0, le=525_600)] | None = None
    priority: Annotated[StrictInt, Field(ge=-(2**31), lt=2**31)] = 100
    is_enabled: StrictBool = True

    @model_validator(mode="after")
    def _no_value_of_no_tag(self) -> Self:
        if self.device_tag_val and not self.device_tag_key:
            raise ValueError("device_tag_val must have a device_tag_key beside it")
        return self


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule ready for matching: one comparison a filter, nothing parsed twice.

    Attributes:
        tag: a device tag's key, and its value; None for any value.
        throttle: how long the channel stays quiet about an alert that it was notified of; None for never.
    """

    rule_id: int
    name: str
    channel_id: int
    events: frozenset[str]
    min_severity: int
    alert_type: str
    tag: tuple[str, str | None] | None
    site_ids: frozenset[str]
    device_prefixes: tuple[str, ...]
    throttle: timedelta | None

    @classmethod
    def compile(cls, rule_id: int, channel_id: int, spec: RuleSpec) -> Self:
        """Prepare a rule for matching."""
        return cls(
            rule_id=rule_id,
            name=spec.name,
            channel_id=channel_id,
            events=frozenset(spec.deliver_on),
            min_severity=spec.min_severity or 0,
            alert_type=spec.alert_type or "",
            tag=(spec.device_tag_key, spec.device_tag_val or None) if spec.device_tag_key else None,
            site_ids=frozenset(spec.site_ids),
            device_prefixes=tuple(spec.device_prefixes),
            throttle=timedelta(minutes=spec.throttle_minutes) if spec.throttle_minutes else None,
        )

    def mismatch(self, event: str, alert: Mapping[str, Any]) -> str | None:  # noqa: PLR0911  # one a filter
        """The first reason why this rule does not match, or None: it matches.

        Args:
            event: the event's type.
            alert: the alert's snapshot.
        """
        if event not in self.events:
            return f"deliver_on: {event} is not one of {', '.join(sorted(self.events))}"
        if (severity := alert.get("severity") or 0) < self.min_severity:
            return f"min_severity: {severity} is less than {self.min_severity}"
        if self.alert_type and alert.get("alert_type") != self.alert_type:
            return f"alert_type: {alert.get('alert_type')!r} is not {self.alert_type!r}"
        if self.tag and (reason := _other_tag(alert, *self.tag)):
            return reason
        if self.site_ids and alert.get("site_id") not in self.site_ids:
            return f"site_ids: {alert.get('site_id')!r} is not among them"
        if self.device_prefixes and not (alert.get("device_id") or "").startswith(self.device_prefixes):
            return f"device_prefixes: {alert.get('device_id')!r} begins with none of them"
        return None

    def matches(self, event: str, alert: Mapping[str, Any]) -> bool:
        """Whether the alert passes every filter. The throttle is a matter of history: see is_throttled."""
        return self.mismatch(event, alert) is None

    def is_throttled(self, last_notified_at: datetime | None, now: datetime) -> bool:
        """Whether the channel was notified of the same alert too recently.

        Args:
            last_notified_at: the latest delivery of the alert to this channel that succeeded or is under way.
            now: the moment for which to decide.
        """
        return (
            self.throttle is not None
            and last_notified_at is not None
            and now - last_notified_at < self.throttle
        )


def _other_tag(alert: Mapping[str, Any], key: str, value: str | None) -> str | None:
    found = tag_of(alert, key)
    if value is None:
        return f"device_tag: the alert has no {key}" if found is None else None
    return None if found == value else f"device_tag: {key} is {found!r}, not {value!r}"


def tag_of(alert: Mapping[str, Any], key: str) -> str | None:
    """A device tag as text: rules hold text, and a producer may have sent 3 or true."""
    value = ((alert.get("details") or {}).get("device_tags") or {}).get(key)
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


def in_order(rules: Iterable[tuple[int, Rule]]) -> list[Rule]:
    """Rules by (priority, rule id), from (priority, rule) pairs."""
    return [rule for _, rule in sorted(rules, key=lambda pair: (pair[0], pair[1].rule_id))]
