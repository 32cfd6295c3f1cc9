"""What most commands begin with: settings read, database opened, schema up to date, logs quiet."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config import Settings


@contextmanager
def session() -> Iterator[Settings]:
    """The settings, with the database open and a connection for the length of the block.

    Raises:
        SettingsError: a setting is wrong.
        CommandError: the schema is not up to date, and is not ours to change.
    """
    settings = open_all()
    from model.database import connection  # noqa: PLC0415  # `--help` need not wait for it

    with connection():
        yield settings


def open_all() -> Settings:
    """Read the settings, open the database, see to its schema. No connection remains.

    An SQLite file is brought up to date on the way: nobody else could own it. PostgreSQL is a deployment's,
    where migrating is a step of its own.
    """
    from config import get_settings  # noqa: PLC0415  # as above
    from model.database import open_database  # noqa: PLC0415
    from model.migrate import migrate, pending  # noqa: PLC0415

    settings = get_settings()
    quiet(settings)
    open_database(settings)
    if pending():
        if not settings.is_sqlite:
            raise CommandError("the database's schema is not up to date; run `tocsin migrate`")
        migrate()
    return settings


def open_to_work() -> Settings:
    """As `open_all`, and read the keys of secrets, so that what is to run does not find out at its first secret.

    Raises:
        SettingsError: the key file beside an SQLite file cannot be read, or holds no keys.
    """
    settings = open_all()
    from model.vault import vault  # noqa: PLC0415  # as above

    vault.encrypt(b"")
    return settings


def log_as_json() -> None:
    """What `--json` means to a command whose answer is its log; before anything has read the settings.

    By the environment, since it holds for the processes of a worker, too.
    """
    os.environ["TOCSIN_LOG_FORMAT"] = "json"


def quiet(settings: Settings) -> None:
    """Keep a command's log, ours and the libraries', to what its answer does not say, unless TOCSIN_LOG_LEVEL was set.

    Where the chain runs in the command itself that is what is wrong with Tocsin; where it runs elsewhere,
    also that a broker is away.
    """
    from config.logging import configure_logging  # noqa: PLC0415  # `--help` need not wait for it

    level = None
    if "log_level" not in settings.model_fields_set:
        embedded = settings.broker_url.get_secret_value() == "memory://"
        level = "error" if embedded else "warning"
    configure_logging(settings, level=level)
