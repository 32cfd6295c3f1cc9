"""What a command ends with when it cannot do its work: one line that says what to do, and a status.

Statuses: 0 done, 1 bad input or an error, 2 something failed in delivery.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

OK, ERROR, UNDELIVERED = 0, 1, 2

#: Problems that are told of one input.
SHOWN = 20


class CommandError(Exception):
    """A command cannot do its work. The text is one line a person can act on."""


def explain(error: BaseException) -> list[str] | None:
    """The lines that tell an error, or None: it is a bug of ours."""
    from config import SettingsError  # noqa: PLC0415  # 0.1 s that `--help` need not wait for

    if isinstance(error, (CommandError, SettingsError)):
        return [str(error)]
    return next(iter(_told(error)), None)


def _told(error: BaseException) -> Iterator[list[str]]:
    from dramatiq.errors import BrokerError  # noqa: PLC0415  # as above
    from pika.exceptions import AMQPError  # noqa: PLC0415
    from playhouse.pool import MaxConnectionsExceeded  # noqa: PLC0415

    from admin import damage  # noqa: PLC0415
    from config import get_settings  # noqa: PLC0415
    from model.database import DATABASE_AWAY  # noqa: PLC0415
    from model.problems import InvalidInput  # noqa: PLC0415

    if isinstance(error, InvalidInput):
        lines = [str(problem) for problem in error.problems]
        yield lines[:SHOWN] + ([f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else [])
    if isinstance(error, MaxConnectionsExceeded):
        yield ["the pool of database connections is used up; raise TOCSIN_DATABASE_POOL"]
    if isinstance(error, damage.ERRORS) and damage.is_damage(error):
        yield [f"TOCSIN_DATABASE_URL: {get_settings().sqlite_path}: {damage.FOUND}; {damage.REMEDY}"]
    if isinstance(error, DATABASE_AWAY):
        yield [
            f"the database is away or refuses: {_first_line(error)}; check TOCSIN_DATABASE_URL, or try again"
        ]
    if isinstance(error, (BrokerError, AMQPError)):
        yield [f"the broker is away or refuses: {_first_line(error)}; check TOCSIN_BROKER_URL, or try again"]
    if isinstance(error, LookupError) and not isinstance(error, (KeyError, IndexError)):
        yield [str(error)]
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        yield [f"{name}{error.strerror or type(error).__name__}"]


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip()


def tell(lines: list[str]) -> None:
    """Write an error to stderr."""
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
