"""Logging: structlog for our own lines, and the same renderer for every library's."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from config.settings import Settings

_SHARED: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


def configure_logging(settings: Settings) -> None:
    """Send every line of this process to stderr, as text on a terminal and as JSON elsewhere."""
    wanted = settings.log_format or ("console" if sys.stderr.isatty() else "json")
    render: tuple[Any, ...]
    # Tracebacks without local variables in both: those hold tokens and secrets.
    if wanted == "console":
        plain = structlog.dev.plain_traceback
        render = (structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain),)
    else:
        render = (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    # These speak of every message and connection at info, or dump stack traces for what we handle.
    for name, level in (
        ("pika", logging.CRITICAL),
        ("dramatiq", logging.WARNING),
        ("aioapns", logging.ERROR),
    ):
        logging.getLogger(name).setLevel(level)
    for name in ("httpx", "httpcore", "peewee", "peewee.pool", "peewee.migrations"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # At debug these tell the paths of requests, and so the tokens in them. Above, apprise's sender hears nothing.
    for name in ("apprise", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
