"""A process that has imported Tocsin's libraries once, and forks one child for each command that it is told to run.

Importing the providers' libraries takes a second or two, which fifty commands of a test file need not pay each. The
child is a process with its own environment, standard streams and database, as the real command is. Settings are not
read before the fork.

Standard input: one JSON object a line, {"arguments", "environment", "streams": [paths of stdin, stdout, stderr]}.
Standard output: the exit status of each, a line.
"""

from __future__ import annotations

import json
import os
import sys
import traceback


def preload() -> None:
    """Import what commands import, but for `actors`, which reads the settings."""
    import dramatiq  # noqa: F401, PLC0415  # for its side effect: it is there after the fork
    import uvloop  # noqa: F401, PLC0415

    import admin.apply  # noqa: PLC0415
    import admin.explain  # noqa: F401, PLC0415
    import cli.main  # noqa: F401, PLC0415
    import senders.registry  # noqa: F401, PLC0415


def run(arguments: list[str], environment: dict[str, str], streams: list[str]) -> int:
    """In the child: become the command."""
    flags = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)
    for descriptor, (path, flag) in enumerate(zip(streams, flags, strict=True)):
        os.dup2(os.open(path, flag, 0o600), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    from cli.main import main  # noqa: PLC0415  # loaded already

    try:
        return main(arguments)
    except BaseException:  # noqa: BLE001  # what Python itself would do: tell it, and end with 1
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    preload()
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(run(**request))
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
