"""Moments that a caller gives: RFC 3339 with a zone, and where they decide something not at the calendar's very ends.

No zone but their own can show those, and from the last of them the end of quiet hours cannot be told.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

FIRST_YEAR, LAST_YEAR = 2, 9998

#: The beginning of an RFC 3339 time (section 5.6); pydantic sees to the rest.
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:")


def _rfc_3339(value: Any) -> Any:
    # pydantic alone would take 1, or "1774747800", for a time, and a date for midnight.
    if value is None or isinstance(value, datetime) or (isinstance(value, str) and _TIME.match(value)):
        return value
    raise ValueError("must be an RFC 3339 time such as 2026-03-29T01:30:00Z")


def within_bounds(moment: datetime) -> datetime:
    """The moment itself.

    Raises:
        ValueError: it is too near to an end of the calendar.
    """
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"must be in the years {FIRST_YEAR} to {LAST_YEAR}")
    return moment


Time = Annotated[AwareDatetime, BeforeValidator(_rfc_3339)]
Moment = Annotated[Time, AfterValidator(within_bounds)]
