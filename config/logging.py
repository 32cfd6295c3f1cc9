"""Logging: structlog for our own lines, and the same renderer for every library's."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import orjson
import structlog

if TYPE_CHECKING:
    from config.settings import Settings

_SHARED: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


def _named(_logger: Any, _method: str, event: Any) -> Any:
    """The name that `get_logger` bound, under the key that a library's line has it."""
    event["logger"] = event.pop("source")
    return event


def _dumps(event: Any, **_: Any) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except (
        orjson.JSONEncodeError
    ):  # what it refuses, such as an integer beyond 64 bits, must not silence the line
        return json.dumps(event, default=str)


def configure_logging(settings: Settings, *, level: str | None = None) -> None:
    """Send every line of this process to stderr, as text on a terminal and as JSON elsewhere.

    Args:
        level: below it nothing is said, by us or by libraries; else the setting's.
    """
    level = level or settings.log_level
    wanted = settings.log_format or ("console" if sys.stderr.isatty() else "json")
    render: tuple[Any, ...]
    # Tracebacks without local variables in both: those hold tokens and secrets.
    if wanted == "console":
        plain = structlog.dev.plain_traceback
        render = (structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain),)
    else:
        render = (structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_dumps))
    # Our own lines are rendered at once: a LogRecord for each would cost as much again.
    structlog.configure(
        processors=(_named, *_SHARED, *render),
        # In one write, line break included: Dramatiq's CLI puts the writes of all worker processes one after the other.
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=(*_SHARED, structlog.stdlib.add_logger_name),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These speak of every message and connection at info, or dump stack traces for what we handle.
    least = {"pika": logging.CRITICAL, "dramatiq": logging.WARNING, "aioapns": logging.ERROR}
    # And at debug urllib3 tells the paths of requests, and so the tokens in them.
    for name in ("httpx", "httpcore", "peewee", "peewee.pool", "peewee.migrations", "urllib3"):
        least[name] = logging.WARNING
    for name, floor in least.items():
        # A logger that has a level of its own is not asked for the root's.
        logging.getLogger(name).setLevel(max(floor, root.level))
    # As urllib3; but whatever is wanted here, since above this level apprise's sender hears nothing.
    logging.getLogger("apprise").setLevel(logging.WARNING)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(source=name)
    return logger
