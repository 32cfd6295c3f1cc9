"""A shell can complete the command's words."""

from __future__ import annotations

import os
import subprocess
import sys


def test_a_shell_completes_commands() -> None:
    environment = os.environ | {
        "_TOCSIN_COMPLETE": "complete_bash",
        "COMP_WORDS": "tocsin ap",
        "COMP_CWORD": "1",
    }
    program = "import sys; sys.argv[0] = 'tocsin'; from cli.main import main; sys.exit(main())"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.split() == ["apply"], ran.stderr
