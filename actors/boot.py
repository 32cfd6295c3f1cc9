"""What a process does before it works: find a schema that it knows."""

from __future__ import annotations

import functools

from actors.broker import runtime
from config.logging import get_logger
from model.database import DATABASE_AWAY, connection, database, is_sqlite
from model.migrate import SchemaError, migrate, pending

log = get_logger(__name__)


def require_schema() -> None:
    """Find a schema that we know before alerts are accepted; looked for once.

    A producer's process has no boot, and may be the first to open an SQLite file.

    Raises:
        SchemaError: it is not up to date, and somebody else's to change.
        peewee.OperationalError: the database is away.
    """
    _require_schema(database.obj)


@functools.lru_cache(maxsize=1)
def _require_schema(_opened: object) -> None:
    lacking = pending()
    if lacking and not is_sqlite():
        raise SchemaError(f"the schema lacks {', '.join(lacking)}: run `tocsin migrate`, then try again")
    if lacking:
        migrate()


def prepare() -> None:
    """Ready a worker process. An SQLite file is brought up to date on the way: nobody else could own it."""
    if runtime.settings.is_sqlite:
        migrate()
        return
    try:
        with connection():
            lacking = pending()
    except DATABASE_AWAY as error:
        log.warning("database_away", why=str(error).strip(), remedy="work begins when it is back")
        return
    if lacking:
        log.critical(
            "migrations_pending", names=lacking, remedy="run `tocsin migrate`, then start the workers again"
        )
