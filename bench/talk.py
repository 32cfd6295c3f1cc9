"""How a measured program speaks with the benchmark: ready, go, done, each a line."""

from __future__ import annotations

import sys
from typing import Any

import orjson


def ready() -> None:
    """Say that all is imported and connected, and wait to be told to begin."""
    _say({"ready": True})
    sys.stdin.readline()


def done(**found: Any) -> None:
    """Say what came of it."""
    _say(found)


def _say(document: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(document) + b"\n")
    sys.stdout.buffer.flush()
