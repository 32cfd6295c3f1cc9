"""The schema, brought up to date by Peewee's own migrations, also when several processes start at once."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from peewee import OperationalError
from playhouse.migrations import Runner

from model.database import connection, database, is_sqlite

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = Path(__file__).with_name("migrations")

#: The advisory lock under which PostgreSQL migrates: an arbitrary number that only Tocsin uses.
LOCK = 7_061_902_143


class SchemaError(OperationalError):
    """The schema is not up to date, and is not ours to change. The same call is worth another try when it is."""


def migrate() -> list[str]:
    """Apply what is pending; the names of what was applied. Waits for another process that is at it."""
    with connection(), _alone():
        applied: list[str] = Runner(database.obj, str(DIRECTORY), table_name="schema_migrations").up()
        return applied


def pending() -> list[str]:
    """The names of the migrations that the database still lacks, oldest first."""
    with connection():
        runner = Runner(database.obj, str(DIRECTORY), table_name="schema_migrations")
        return [migration.name for migration in runner.status() if not migration.applied]


def unknown() -> list[str]:
    """The names of the migrations that a later version of Tocsin has applied, oldest first."""
    with connection():
        runner = Runner(database.obj, str(DIRECTORY), table_name="schema_migrations")
        return [migration.name for migration in runner.status() if migration.path is None]


@contextmanager
def _alone() -> Iterator[None]:
    if is_sqlite():
        # The whole run is one transaction that holds the write lock; Peewee nests its own as savepoints.
        with database.atomic("EXCLUSIVE"):
            yield
        return
    database.execute_sql("SELECT pg_advisory_lock(%s)", (LOCK,))
    try:
        yield
    finally:
        database.execute_sql("SELECT pg_advisory_unlock(%s)", (LOCK,))
