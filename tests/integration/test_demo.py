"""`make demo` on a terminal that lacks its characters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_the_demo_runs_where_the_terminal_is_not_utf_8() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done
    assert b"Traceback" not in done.stderr
    assert rb"\u2713 1/10" in done.stdout
