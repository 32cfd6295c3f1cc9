"""A worker ends when it is told, at whatever moment that is."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dramatiq
import pytest

from cli import operate

if TYPE_CHECKING:
    from collections.abc import Iterator


class Telling:
    """In a worker's place: has the process told to end so many calls after the start, and at the latest a bit later."""

    calls = 0

    def __init__(self, *_: object, **__: object) -> None:
        self._left = self.calls
        self._later = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))

    def start(self) -> None:
        self._later.start()
        sys.setprofile(self._count)

    def stop(self, **_: object) -> None:
        sys.setprofile(None)
        self._later.cancel()
        self._later.join()

    def _count(self, *_: object) -> None:
        self._left -= 1
        if self._left == 0:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def _handlers() -> Iterator[None]:
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    yield
    for number, handler in handlers:
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
def test_a_worker_that_is_told_to_end_as_it_begins_to_wait_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dramatiq, "Worker", Telling)
    monkeypatch.setattr("config.logging.configure_logging", lambda _: None)
    monkeypatch.setattr("config.logging.get_logger", lambda _: SimpleNamespace(info=lambda *_, **__: None))
    settings: Any = SimpleNamespace(is_sqlite=False)  # all that is asked of them
    for calls in range(1, 30):
        Telling.calls = calls
        assert operate._work_here(settings, 1) == 0
