"""Blocks the event loop of a worker process when told to, as a sender that computes or waits would.

A worker imports this as the module of its TOCSIN_DEVICE_INVALID_HOOK, at its boot and in its main thread. At SIGUSR2
its loop sleeps for as many seconds as the file says that FAULT_BLOCK names; its threads go on. The file with the
suffix `.log` gets a line at each beginning and end.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from actors.broker import runtime

#: The environment variable that names the file.
FILE = "FAULT_BLOCK"


def journal(file: Path) -> Path:
    """Where beginnings and ends are written."""
    return file.with_suffix(".log")


def device_invalid(*_: Any) -> None:
    """The hook itself: nothing."""


def _block() -> None:
    file = Path(os.environ[FILE])
    _note(file, "begins")
    time.sleep(float(file.read_text()))
    _note(file, "ends")


def _note(file: Path, word: str) -> None:
    with journal(file).open("a") as lines:
        lines.write(f"{os.getpid()} {word}\n")


def _told(*_: Any) -> None:
    loop = runtime._loop  # nobody else has a reason to reach it
    assert loop is not None
    loop.call_soon_threadsafe(_block)


if FILE in os.environ:
    signal.signal(signal.SIGUSR2, _told)
