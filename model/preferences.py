"""What a user wants to hear of, and when: the verdict on one notification for one user, pure.

Quiet hours are wall-clock times in the user's own zone, start inclusive, end exclusive. A window that ends at
or before its start crosses midnight and belongs to the day on which it starts. Because it is the clock on the
wall that decides, both days of the year on which the clocks change come out as the user reads them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator

from model.alert import Identifier  # noqa: TC001  # pydantic reads it at run time
from model.states import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

DAYS: tuple[Day, ...] = get_args(Day)


def _zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("must be an IANA time zone such as Europe/Berlin")
    return value


def _clock(value: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d|24:00", value):
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
    """A user's preferences (CONTRACT.md, "Preferences"). The default wants everything at any time."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    quiet_hours_enabled: StrictBool = False
    quiet_hours_start: Clock = "22:00"
    quiet_hours_end: Clock = "07:00"
    quiet_hours_timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    quiet_hours_days: Annotated[list[Day], Field(max_length=7)] = list(DAYS)
    quiet_hours_action: Literal["skip", "defer"] = "skip"
    critical_overrides_quiet_hours: StrictBool = True
    cameras: dict[str, Camera] = {}

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
        camera = self.cameras.get(str(details.get("camera_id", "")))
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

        Windows that touch each other are followed for at most eight days, so that a user who is never to be
        disturbed gets a moment a week away rather than an endless search.
        """
        for _ in range(8):
            end = self._window(self._wall(at)) if self.quiet_hours_enabled else None
            if end is None:
                break
            at = _first_moment(end, after=at, zone=ZoneInfo(self.quiet_hours_timezone))
        return at.astimezone(UTC)

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


def _first_moment(wall: datetime, *, after: datetime, zone: ZoneInfo) -> datetime:
    """The first moment after another at which a clock in this zone has reached a wall-clock time.

    An hour that happens twice gives two candidates. An hour that is skipped gives none: then it is the moment
    of the jump, found by bisection between the two readings (PEP 495) of the time that never was.
    """
    early, late = sorted(wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early.astimezone(zone).replace(tzinfo=None) == wall:
        return early if early > after else late
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) / 2
        if middle.astimezone(zone).replace(tzinfo=None) >= wall:
            late = middle
        else:
            early = middle
    return late.replace(microsecond=0)
