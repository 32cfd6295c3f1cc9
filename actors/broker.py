"""The composition root: settings, database, broker and runtime of this process, each made once, here.

Importing it reads the settings and binds the tables, and makes no connection. Middleware order matters, since the
hooks after a message run from last to first: TimeLimit must come after Retries, or its exception may strike while
Retries publishes, and kill the thread.
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import TYPE_CHECKING

import dramatiq
from dramatiq.middleware import Retries, TimeLimit

from actors.exposition import SharedMetrics
from actors.memory import MemoryBroker
from actors.rabbitmq import ConfirmingRabbitmqBroker
from actors.runtime import Runtime
from config import Settings, SettingsError, get_settings
from model.database import DATABASE_AWAY, open_database

if TYPE_CHECKING:
    from dramatiq import Broker
    from dramatiq.middleware import Middleware


def database_is_away(retries: int, error: BaseException) -> bool:
    """Whether a message is worth another try soon. The sweep comes after the last one."""
    return isinstance(error, DATABASE_AWAY) and retries < 5  # noqa: PLR2004  # half a minute of backoff in all


def make_broker(settings: Settings) -> Broker:
    """The broker that the settings name, with its middleware."""
    middleware: list[Middleware] = [
        SharedMetrics(settings),
        Retries(
            min_backoff=1000,
            max_backoff=int(settings.retry_max_backoff * 1000),
            retry_when=database_is_away,
        ),
        TimeLimit(time_limit=settings.time_limit * 1000),
    ]
    url = settings.broker_url.get_secret_value()
    if url == "memory://":
        return MemoryBroker(middleware)
    return ConfirmingRabbitmqBroker(url, queue_type=settings.queue_type, middleware=middleware)


try:
    settings = get_settings()
except SettingsError as error:
    if multiprocessing.parent_process() is None:
        raise
    # A worker process of Dramatiq's CLI: its traceback would bury the one line that helps.
    sys.exit(f"tocsin: {error}")
open_database(settings)
runtime = Runtime(settings)
broker = make_broker(settings)
dramatiq.set_broker(broker)
