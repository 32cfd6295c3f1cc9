"""Make .venv, and install a lock file and Tocsin itself into it. Called by tools/install.sh.

Plain pip, so that the user's own pip configuration (index, proxy, certificates) holds. Every file that pip
fetches is checked against the lock file's hashes; Tocsin is built with the locked setuptools, not with one
fetched on the side.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

VENV = Path(".venv")
PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"
EVERY = 20  # packages, between two lines where there is no terminal to rewrite one on

_QUIET = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_NO_COLOR": "1"}


def main(lock: Path) -> None:
    """Install `lock`, then the checkout in editable form.

    Raises:
        SystemExit: pip failed; the end of its output is shown.
    """
    if not _works():
        _say("Making .venv")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)  # noqa: S603  # our own
    total = len(re.findall(r"^[\w.-]+==", lock.read_text(encoding="utf-8"), re.MULTILINE))
    _say(f"Installing {lock} into .venv (the first time takes a minute or two)")
    LOG.write_text("", encoding="utf-8")
    _pip(["--require-hashes", "--requirement", str(lock)], total)
    # Compatible builds need no isolation: setuptools is in the lock file.
    _pip(["--no-deps", "--no-build-isolation", "--editable", "."], 0)


def _works() -> bool:
    """Whether .venv exists and its interpreter has not been upgraded away."""
    try:
        asked = subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False)  # noqa: S603  # our own
    except OSError:
        return False
    return asked.returncode == 0


def _pip(arguments: list[str], total: int) -> None:
    command = [str(PYTHON), "-m", "pip", "install", "--progress-bar", "off", *arguments]
    done = 0
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(  # noqa: S603  # our own arguments
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **_QUIET},
        ) as process,
    ):
        for line in process.stdout or ():
            log.write(line)
            step = re.match(r"(?:Collecting|Requirement already satisfied:) ([\w.-]+)", line)
            if step:
                done += 1
                _progress(done, total, step[1])
            elif line.startswith("Installing collected packages"):
                _progress(total, total, "unpacking")
    if total and sys.stdout.isatty():
        sys.stdout.write("\n")
    if process.returncode:
        tail = LOG.read_text(encoding="utf-8").splitlines()[-25:]
        sys.exit("\n".join([*tail, f"\npip failed; all that it said is in {LOG}"]))


def _progress(done: int, total: int, name: str) -> None:
    if not total:
        return
    if sys.stdout.isatty():
        sys.stdout.write(f"\r    {min(done, total)}/{total} {name:<40.40}")
        sys.stdout.flush()
    elif done % EVERY == 0 or name == "unpacking":
        _say(f"{min(done, total)}/{total} {name}", prefix="    ")


def _say(text: str, prefix: str = "==> ") -> None:
    sys.stdout.write(f"{prefix}{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
