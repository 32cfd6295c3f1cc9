"""The names of the time zones, read once: the list takes milliseconds to make."""

from __future__ import annotations

import functools
from zoneinfo import available_timezones


@functools.cache
def zone_names() -> tuple[str, ...]:
    """All IANA zones that this machine knows, sorted; those that preferences take."""
    return tuple(sorted(available_timezones()))
