"""What a process does before it works: find a schema that it knows."""

from __future__ import annotations

from actors.broker import runtime
from config.logging import get_logger
from model.database import DATABASE_AWAY, connection
from model.migrate import migrate, pending

log = get_logger(__name__)


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
