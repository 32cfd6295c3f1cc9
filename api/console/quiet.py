"""A week of quiet hours on the user's own clock: which minutes of which day, and a drawing of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from model.preferences import DAYS

if TYPE_CHECKING:
    from datetime import datetime

    from model.preferences import Preference

DAY: Final = 24 * 60
NAMES: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

#: Units of the drawing.
_LEFT, _HOUR, _ROW = 34, 18, 18


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the week.

    Attributes:
        quiet: spans of minutes since midnight, start inclusive, end exclusive, in order and apart.
    """

    name: str
    quiet: tuple[tuple[int, int], ...]

    @property
    def words(self) -> str:
        """The spans as people write them."""
        return ", ".join(f"{_clock(start)} to {_clock(end)}" for start, end in self.quiet) or "none"


def week(preference: Preference) -> list[Day]:
    """Monday to Sunday. A window that crosses midnight belongs to the day on which it starts."""
    found: list[list[tuple[int, int]]] = [[] for _ in DAYS]
    if preference.quiet_hours_enabled:
        start, end = _minutes(preference.quiet_hours_start), _minutes(preference.quiet_hours_end)
        for index, day in enumerate(DAYS):
            if day in preference.quiet_hours_days:
                if end > start:
                    found[index].append((start, end))
                else:
                    found[index].append((start, DAY))
                    found[(index + 1) % 7].append((0, end))
    return [Day(name, _joined(spans)) for name, spans in zip(NAMES, found, strict=True)]


def _joined(spans: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return tuple(joined)


def drawn(preference: Preference, *, at: datetime) -> Markup:
    """The week as SVG, with a mark at the present moment on the user's clock."""
    days = week(preference)
    wall = at.astimezone(ZoneInfo(preference.quiet_hours_timezone))
    width, height = _LEFT + 24 * _HOUR + 4, 7 * _ROW + 20
    shapes = []
    for row, day in enumerate(days):
        y = row * _ROW
        shapes.append(
            Markup(
                '<text x="0" y="{}">{}</text><rect class="day" x="{}" y="{}" width="{}" height="{}"/>'
            ).format(y + 13, day.name[:3], _LEFT, y + 2, 24 * _HOUR, _ROW - 4)
        )
        shapes += [
            Markup('<rect class="quiet" x="{}" y="{}" width="{}" height="{}"/>').format(
                _x(start), y + 2, _x(end) - _x(start), _ROW - 4
            )
            for start, end in day.quiet
        ]
    now = _x(wall.hour * 60 + wall.minute)
    row = wall.weekday() * _ROW
    shapes.append(Markup('<path class="now" d="M{} {}v{}"/>').format(now, row, _ROW))
    for hour in range(0, 25, 6):
        anchor = "start" if hour == 0 else "end" if hour == 24 else "middle"  # noqa: PLR2004  # midnight
        shapes.append(
            Markup('<text x="{}" y="{}" text-anchor="{}">{:02}:00</text>').format(
                _x(hour * 60), height - 4, anchor, hour
            )
        )
    said = "; ".join(f"{day.name}: {day.words}" for day in days)
    return Markup('<svg class="week" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, f"Quiet hours. {said}", Markup("").join(shapes)
    )


def _x(minutes: int) -> float:
    return _LEFT + minutes * _HOUR / 60


def _minutes(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"
