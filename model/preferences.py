"""What a user wants to hear of, and when: the verdict on one notification for one user, pure.

Quiet hours are wall-clock times in the user's own zone, start inclusive, end exclusive. A window that ends at
or before its start crosses midnight and belongs to the day on which it starts. Because it is the clock on the
wall that decides, both days of the year on which the clocks change come out as the user reads them.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator

from model.alert import Identifier  # pydantic reads it at run time
from model.states import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

DAYS: tuple[Day, ...] = get_args(Day)


@functools.cache
def _zones() -> frozenset[str]:
    """Reading their names takes milliseconds, and preferences are read for every user of a fan-out.

    `localtime` is no zone of IANA's but whatever this machine is set to, where it has a file for it.
    """
    return frozenset(available_timezones() - {"localtime"})


def _zone(value: str) -> str:
    if value not in _zones():
        raise ValueError("must be an IANA time zone such as Europe/Berlin")
    return value


def _clock(value: str) -> str:
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]|24:00", value):
        raise ValueError('must be a time of day, "HH:MM"')
    return value


Clock = Annotated[str, AfterValidator(_clock)]


class Camera(BaseModel):
    """What a user wants to hear from one camera. `smart_detection_types` null means all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    enabled: StrictBool = True
    smart_detection_types: list[Identifier] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one notification for one user.

    Attributes:
        action: deliver, defer (until `until`) or suppress.
        reason: why it is not delivered now; None for deliver.
        until: when the quiet hours end; only with defer.
    """

    action: Literal["deliver", "defer", "suppress"]
    reason: Reason | None = None
    until: datetime | None = None


DELIVER = Verdict("deliver")


class Preference(BaseModel):
    """A user's preferences (docs/api.md; the fields at `/docs`). The default wants everything at any time."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    quiet_hours_enabled: StrictBool = False
    quiet_hours_start: Clock = "22:00"
    quiet_hours_end: Clock = "07:00"
    quiet_hours_timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    quiet_hours_days: Annotated[list[Day], Field(max_length=7)] = list(DAYS)
    quiet_hours_action: Literal["skip", "defer"] = "skip"
    critical_overrides_quiet_hours: StrictBool = True
    cameras: dict[Identifier, Camera] = {}

    @model_validator(mode="after")
    def _a_window(self) -> Self:
        if self.quiet_hours_start == "24:00":
            raise ValueError("quiet_hours_start must be before 24:00")
        if self.quiet_hours_start == self.quiet_hours_end:
            raise ValueError(
                "quiet_hours_end must differ from quiet_hours_start; 00:00 to 24:00 is a whole day"
            )
        return self

    def verdict(self, alert: Mapping[str, Any], *, is_critical: bool, at: datetime) -> Verdict:
        """Decide on one notification. The first that applies wins: camera, detection type, quiet hours.

        Args:
            alert: the alert's snapshot; `details.camera_id` and `details.smart_detection_type` count.
            is_critical: whether it may override quiet hours.
            at: the moment for which to decide, aware.
        """
        details = alert.get("details") or {}
        camera_id = details.get("camera_id")
        camera = None if camera_id is None else self.cameras.get(str(camera_id))
        if camera is not None:
            if not camera.enabled:
                return Verdict("suppress", Reason.CAMERA_DISABLED)
            kind = details.get("smart_detection_type")
            wanted = camera.smart_detection_types
            if kind is not None and wanted is not None and str(kind) not in wanted:
                return Verdict("suppress", Reason.DETECTION_TYPE)
        if not self.is_quiet(at) or (is_critical and self.critical_overrides_quiet_hours):
            return DELIVER
        if self.quiet_hours_action == "defer":
            return Verdict("defer", Reason.QUIET_HOURS, self.quiet_until(at))
        return Verdict("suppress", Reason.QUIET_HOURS)

    def is_quiet(self, at: datetime) -> bool:
        """Whether the user's wall clock shows a quiet time at this moment."""
        if not self.quiet_hours_enabled:
            return False
        return self._window(self._wall(at)) is not None

    def quiet_until(self, at: datetime) -> datetime:
        """The first moment from `at` on, in UTC, at which it is not quiet.

        Windows that touch each other are followed for a week, so that a user who is never to be disturbed
        gets a moment some seven days away rather than an endless search.
        """
        at = at.astimezone(UTC)
        horizon = at + timedelta(days=7)
        while self.quiet_hours_enabled and at < horizon:
            wall = self._wall(at)
            end = self._window(wall)
            if end is None:
                break
            at = _advance(at, end - wall, ZoneInfo(self.quiet_hours_timezone))
        return at

    def _wall(self, at: datetime) -> datetime:
        return at.astimezone(ZoneInfo(self.quiet_hours_timezone)).replace(tzinfo=None)

    def _window(self, wall: datetime) -> datetime | None:
        """The end, on the wall clock, of the quiet window in which this wall-clock time lies."""
        for day in (wall.date() - timedelta(days=1), wall.date()):
            if DAYS[day.weekday()] in self.quiet_hours_days:
                start, end = _on(day, self.quiet_hours_start), _on(day, self.quiet_hours_end)
                if end <= start:
                    end += timedelta(days=1)
                if start <= wall < end:
                    return end
        return None


def _on(day: date, clock: str) -> datetime:
    hours, minutes = map(int, clock.split(":"))
    return datetime.combine(day, time()) + timedelta(hours=hours, minutes=minutes)


def _advance(at: datetime, by: timedelta, zone: ZoneInfo) -> datetime:
    """So much later, or the moment at which the clocks of the zone change if that comes sooner.

    Between two changes a clock on the wall runs as any other does. Changes come at whole seconds and are
    months apart, so one within a day shows by another offset at the end, and bisection to a second finds it.
    """
    low, high = at, at + by
    before = low.astimezone(zone).utcoffset()
    if high.astimezone(zone).utcoffset() == before:
        return high
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)
