"""Output for pipes, and errors as one line."""

from __future__ import annotations

import pytest
from dramatiq.errors import ConnectionClosed
from peewee import OperationalError

from cli import errors, show
from config import SettingsError
from model.problems import InvalidInput, Problem


def test_a_pipe_gets_tabs_and_no_terminal_is_driven_by_what_others_wrote(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show.table(("a", "b c"), [("x\t\x1b[31m", None), (True, 1.25)])
    assert capsys.readouterr().out == "a\tb_c\nx  [31m\t-\nyes\t1.2\n"


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
