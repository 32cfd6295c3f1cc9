"""CPU time and memory of processes, against the system's own word for them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import processes
from bench.processes import Program, Stat, parse_stat, run_together, tree

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not processes.PROC.is_dir(), reason="only Linux has /proc")

#: Burns a quarter of a second of CPU time in a child of its own, waits for that, then for us.
_BURNER = """
import subprocess, sys, time
code = "import time\\nwhile time.process_time() < 0.25: pass"
print('{"ready": true}', flush=True)
sys.stdin.readline()
subprocess.run([sys.executable, "-c", code], check=True)
print('{"done": 1}', flush=True)
sys.stdin.readline()
"""


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=15))
def test_a_name_may_hold_anything(name: str) -> None:
    fields = " ".join(str(number) for number in range(4, 53))
    stat = parse_stat(f"42 ({name}) ) (S) S {fields}")
    assert (stat.pid, stat.parent, stat.name) == (42, 4, f"{name}) ) (S")
    assert stat.ticks == 14 + 15 + 16 + 17
    assert stat.resident == 24 * processes.PAGE


def test_our_own_figures_are_the_systems() -> None:
    mine = processes.everything()[os.getpid()]
    used = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    assert mine.ticks / processes.TICKS == pytest.approx(
        sum(each.ru_utime + each.ru_stime for each in used), abs=0.2
    )
    assert mine.parent == os.getppid()
    assert mine.resident > 10_000_000


def test_a_tree_has_all_descendants_and_nobody_else() -> None:
    stats = {
        pid: Stat(pid, parent, "it", 1, 1) for pid, parent in [(1, 0), (2, 1), (3, 2), (4, 1), (5, 0), (6, 5)]
    }
    assert {each.pid for each in tree(1, stats)} == {1, 2, 3, 4}
    assert tree(9, stats) == []


@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 1000)),
    st.dictionaries(st.text(max_size=3), st.integers(0, 1000)),
)
def test_what_was_used_in_between(before: dict[str, int], used: dict[str, int]) -> None:
    after = {role: float(before.get(role, 0) + used.get(role, 0)) for role in before | used}
    spent = processes.difference(after, {role: float(seconds) for role, seconds in before.items()})
    assert spent == {role: float(seconds) for role, seconds in used.items() if seconds}


def test_a_program_that_talks_and_the_time_that_its_dead_children_used(tmp_path: Path) -> None:
    # Given a program of a role that is ready
    program = Program(
        "burner", [sys.executable, "-c", _BURNER], dict(os.environ), tmp_path / "log", talks=True
    )
    try:
        assert program.hear() == {"ready": True}
        before = processes.cpu_by_role()

        # When it has a child burn CPU time, and waits for the child's end
        assert run_together([program]) == [{"done": 1}]

        # Then that time is its role's
        spent = processes.difference(processes.cpu_by_role(), before)
        assert 0.2 < spent["burner"] < 1.5
        assert program.pid in processes.resident(program.pid)
    finally:
        program.stop()
    assert "burner" not in processes.cpu_by_role()


def test_a_program_that_ends_early_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no nginx here')"]
    with (
        Program("it", command, dict(os.environ), tmp_path / "log", talks=True) as program,
        pytest.raises(RuntimeError, match="no nginx here"),
    ):
        program.hear()


def test_what_a_program_started_ends_with_it(tmp_path: Path) -> None:
    code = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    with Program(
        "it", [sys.executable, "-c", code], dict(os.environ), tmp_path / "log", talks=True
    ) as program:
        child = program.hear()
        assert json.dumps(child)
    deadline = time.monotonic() + 5
    while (stat := processes.everything().get(child)) and stat.resident:
        assert time.monotonic() < deadline
        subprocess.run(["true"], check=True)
