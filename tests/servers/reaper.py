"""Clean up after a test run that may die in any way.

The run holds the write end of this process's standard input. The kernel closes it whatever happens to the
run, SIGKILL included: the sign to end what is still being watched and to remove the directory. Unlike
PR_SET_PDEATHSIG this works on macOS, survives a change of user, and does not fire when a mere thread ends.

Started as a script, with the directory as its argument. Lines on standard input:
    +PID SIGNAL   watch this process group leader; SIGNAL asks it to end
    -PID          it has ended; forget it (its number may be used again)
    ! ARG ...     a command to run at the end, JSON list
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 10.0

_HERE = Path(__file__)


class Reaper:
    """The run's side: start the process, and tell it what to watch."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_HERE), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def watch(self, pid: int, ask: signal.Signals) -> None:
        """End this process group if the run dies: first `ask`, SIGKILL after ten seconds."""
        self._say(f"+{pid} {int(ask)}")

    def forget(self, pid: int) -> None:
        """The process has been waited for."""
        self._say(f"-{pid}")

    def finally_run(self, command: list[str]) -> None:
        """Run this command at the end, whatever the end is."""
        self._say("! " + json.dumps(command))

    def close(self) -> None:
        """Clean up now, and wait until it is done."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(2 * GRACE_SECONDS)

    def _say(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def main(directory: Path) -> None:
    """Listen until the run ends or dies, then clean up."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    watched: dict[int, int] = {}
    commands: list[list[str]] = []
    for line in sys.stdin:
        kind, rest = line[0], line[1:].split()
        if kind == "+":
            watched[int(rest[0])] = int(rest[1])
        elif kind == "-":
            watched.pop(int(rest[0]), None)
        else:
            commands.append(json.loads(line[1:]))

    for pid, ask in watched.items():
        with suppress(OSError):
            os.kill(pid, ask)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(map(_is_alive, watched)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in watched:
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL)
    for command in commands:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
