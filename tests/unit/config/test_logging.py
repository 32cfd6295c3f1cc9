"""Log lines, as other programs read them."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING

import orjson
import pytest
import structlog

from config import load_settings
from config.logging import configure_logging, get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator


class Writes(io.StringIO):
    """A stream that remembers what it was given at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.each: list[str] = []

    def write(self, text: str) -> int:
        self.each.append(text)
        return super().write(text)


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Writes]:
    """What this process writes to stderr, with logging set up as a worker's; afterwards as it was."""
    root, writes = logging.getLogger(), Writes()
    before = (root.handlers[:], root.level, structlog.get_config())
    levels = {name: logging.getLogger(name).level for name in list(root.manager.loggerDict)}
    monkeypatch.setattr(sys, "stderr", writes)
    configure_logging(load_settings(log_format="json"))
    yield writes
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**before[2])
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_a_line_is_one_write_so_that_those_of_several_processes_do_not_mix(stderr: Writes) -> None:
    get_logger("tocsin.delivery").info("delivery", alert="1")
    logging.getLogger("somebody").warning("else")

    assert [text[-1] for text in stderr.each] == ["\n", "\n"]
    assert [orjson.loads(text)["event"] for text in stderr.each] == ["delivery", "else"]


def test_a_level_holds_for_our_lines_and_for_those_of_libraries(
    stderr: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)  # which pytest has set anew since
    configure_logging(load_settings(log_format="json"), level="error")
    names = ("tocsin.delivery", "dramatiq", "urllib3", "somebody")

    get_logger(names[0]).info("delivery")
    for level in (logging.WARNING, logging.ERROR):
        for name in names[1:]:
            logging.getLogger(name).log(level, "%s", name)
    get_logger(names[0]).error("internal")

    assert [orjson.loads(text)["event"] for text in stderr.each] == [*names[1:], "internal"]
    # And apprise's sender hears what it must hear in any case
    assert logging.getLogger("apprise").isEnabledFor(logging.WARNING)
