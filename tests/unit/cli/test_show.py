"""Output for pipes, and errors as one line."""

from __future__ import annotations

import re
import sys
from collections import Counter

import pytest
from dramatiq.errors import ConnectionClosed
from peewee import OperationalError

from cli import errors, show
from config import SettingsError
from model.problems import InvalidInput, Problem

#: What colours a word on a terminal.
SEQUENCE = re.compile(r"\x1b\[[\d;]*m")


def test_a_pipe_gets_tabs_and_no_terminal_is_driven_by_what_others_wrote(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show.table(("a", "b c"), [("x\t\x1b[31m", None), (True, 1.25)])
    assert capsys.readouterr().out == "a\tb_c\nx  [31m\t-\nyes\t1.2\n"


@pytest.mark.parametrize("width", [30, 80, 200])
def test_a_narrow_terminal_loses_nothing_and_breaks_last_what_people_look_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    # Given more than 80 columns hold
    columns = ("delivery", "target", "user", "state", "reason", "code", "provider id", "ms")
    message = "projects/example/messages/0:1500415314455276%31bd1c9631bd1c96"
    rows = [
        ("1234", "android 12", "alice", "FAILED", "provider_not_configured", "not configured", "-", "0.2"),
        ("1235", "android 13", "alice", "DELIVERED", "-", "200", message, "123.4"),
    ]
    # When a terminal shows it
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    show.table(columns, rows)
    # Then each character is there, within the terminal's width
    out = SEQUENCE.sub("", capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= width
    assert Counter("".join(out.replace("─", "").split())) == Counter(
        "".join("".join((*columns, *rows[0], *rows[1])).split())
    )
    # And what became of each is to be read at a glance
    if width >= 80:
        assert {"FAILED", "provider_not_configured", "DELIVERED"} <= set(out.split())


def test_a_terminal_shows_no_column_that_holds_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    show.table(("job", "reason", "targets", "failed"), [(1, None, 0, 0), (2, None, 3, 0)])
    assert SEQUENCE.sub("", capsys.readouterr().out).splitlines()[1].split() == ["job", "targets"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SettingsError("TOCSIN_X: must be y"), ["TOCSIN_X: must be y"]),
        (LookupError("there is no job 7"), ["there is no job 7"]),
        (InvalidInput([Problem("a", "b"), Problem("c", "d")]), ["a: b", "c: d"]),
        (FileNotFoundError(2, "No such file or directory", "x.json"), ["x.json: No such file or directory"]),
        (
            OperationalError("could not connect\nIs the server running?"),
            ["the database is away or refuses: could not connect; check TOCSIN_DATABASE_URL, or try again"],
        ),
        (
            ConnectionClosed("gone"),  # type: ignore[no-untyped-call]  # untyped in Dramatiq
            ["the broker is away or refuses: gone; check TOCSIN_BROKER_URL, or try again"],
        ),
        (KeyError("a bug"), None),
        (ZeroDivisionError(), None),
    ],
)
def test_what_a_person_can_mend_is_told_in_a_line_and_a_bug_is_not_hidden(
    error: Exception, told: list[str] | None
) -> None:
    assert errors.explain(error) == told


def test_many_problems_are_told_in_part() -> None:
    told = errors.explain(InvalidInput(Problem(f"[{number}]", "wrong") for number in range(50)))
    assert told is not None
    assert len(told) == errors.SHOWN + 1
    assert told[-1] == "... and 30 more"
