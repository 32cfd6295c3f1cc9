"""The processes of a benchmark: started, told apart by their role, their CPU time and memory taken from Linux's /proc.

Fields of /proc/PID/stat: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")

#: How servers that others start call themselves, and what we call them.
SERVERS = {
    "postgres": "PostgreSQL",
    "beam.smp": "RabbitMQ",
    "rabbitmq-server": "RabbitMQ",
    "erl": "RabbitMQ",
    "sh": "RabbitMQ",
    "epmd": "RabbitMQ",
}


class NotLinuxError(Exception):
    """There is no /proc to count CPU time from."""


@dataclass(frozen=True, slots=True)
class Stat:
    """One process at one moment.

    Attributes:
        ticks: clock ticks of CPU time, its own and that of children which it has waited for.
        resident: bytes.
    """

    pid: int
    parent: int
    name: str
    ticks: int
    resident: int


def parse_stat(text: str) -> Stat:
    """Read a line of /proc/PID/stat. The name, in parentheses, may hold spaces and parentheses itself."""
    pid, _, rest = text.partition(" (")
    name, _, fields = rest.rpartition(") ")
    values = fields.split()
    # From `state` on, the manual's third field: ppid is the 4th, utime to cstime the 14th to 17th, rss the 24th.
    return Stat(int(pid), int(values[1]), name, sum(map(int, values[11:15])), int(values[21]) * PAGE)


def everything() -> dict[int, Stat]:
    """All processes of this moment.

    Raises:
        NotLinuxError: this system has no /proc.
    """
    if not (PROC / "self/stat").exists():
        raise NotLinuxError("the benchmarks count CPU time from /proc, which only Linux has")
    found = {}
    for directory in PROC.iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it ended meanwhile
                stat = parse_stat((directory / "stat").read_text())
                found[stat.pid] = stat
    return found


def tree(root: int, stats: Mapping[int, Stat]) -> list[Stat]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        if pid in stats:
            found.append(stats[pid])
            waiting += children.get(pid, [])
    return found


#: Children of this process that we started ourselves, and their roles.
_roles: dict[int, str] = {}


def cpu_by_role(parent: int | None = None) -> dict[str, float]:
    """CPU seconds that the children of this process, with all their descendants, have used so far, by role."""
    stats = everything()
    sums: dict[str, float] = {}
    for child in stats.values():
        if child.parent != (parent or os.getpid()):
            continue
        role = _roles.get(child.pid) or SERVERS.get(child.name)
        if role is not None:
            sums[role] = sums.get(role, 0.0) + sum(each.ticks for each in tree(child.pid, stats)) / TICKS
    return sums


def difference(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """What was used in between, by role; who used nothing is left out."""
    used = {role: seconds - before.get(role, 0.0) for role, seconds in after.items()}
    return {role: round(seconds, 3) for role, seconds in used.items() if seconds > 0}


def resident(root: int) -> dict[int, int]:
    """Bytes of resident memory of a process and its descendants, by process id."""
    return {stat.pid: stat.resident for stat in tree(root, everything())}


class Program:
    """A program in a session of its own, ended with all that it started.

    Args:
        role: by which its CPU time is told.
        command: what to run.
        environment: all of it.
        log: takes its errors, and its output unless that is talked with.
        talks: whether we speak with it: it says a line of JSON when it is ready, begins when it is told, and says
            another when it is done.
    """

    def __init__(
        self,
        role: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        talks: bool = False,
    ) -> None:
        self.role = role
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                list(command),
                env=dict(environment),
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else file,
                stderr=file,
                text=True,
                start_new_session=True,
            )
        _roles[self._process.pid] = role

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def say(self, line: str) -> None:
        """Write a line to it."""
        assert self._process.stdin  # noqa: S101  # it talks
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """Wait for its next line of JSON.

        Raises:
            RuntimeError: it ended instead; the text holds the end of its log.
        """
        assert self._process.stdout  # noqa: S101  # it talks
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.role} ended early\n{self.tail()}")
        return json.loads(line)

    def is_running(self) -> bool:
        """Whether its main process lives."""
        return self._process.poll() is None

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def stop(self, timeout: float = 20) -> None:
        """SIGTERM, then SIGKILL for whatever is left of it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(5)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        _roles.pop(self._process.pid, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def run_together(programs: Iterable[Program]) -> list[Any]:
    """Have programs that talk begin at once; what each said when it was done."""
    ready = list(programs)
    for program in ready:
        program.say("go")
    return [program.hear() for program in ready]
