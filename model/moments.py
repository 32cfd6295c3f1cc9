"""Moments that a caller gives, which must not be at the very ends of the calendar.

No zone but their own can show those, and from the last of them the end of quiet hours cannot be told.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # pydantic reads it at run time
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime

FIRST_YEAR, LAST_YEAR = 2, 9998


def within_bounds(moment: datetime) -> datetime:
    """The moment itself.

    Raises:
        ValueError: it is too near to an end of the calendar.
    """
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"must be in the years {FIRST_YEAR} to {LAST_YEAR}")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(within_bounds)]
