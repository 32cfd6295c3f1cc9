"""How a server's processes are run: by this machine's own programs here, in a container in containers.py.

Both ways stand behind one small interface, `Program`, so that PostgresServer and RabbitServer say what they
run and do not care where.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.reaper import Reaper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

INSTALL = "apt-get install postgresql rabbitmq-server   (macOS: brew install postgresql rabbitmq)"


class ServersMissingError(Exception):
    """Neither the server's programs nor a container engine are here. The text says what to install."""


#: Where Linux says from which port on it takes the near ends of connections; elsewhere IANA's first one.
_EPHEMERAL, _FIRST_EPHEMERAL, _FIRST_PORT = Path("/proc/sys/net/ipv4/ip_local_port_range"), 49152, 15000


#: What this process was given: a server that is away, or has yet to start, must find its port free.
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, below those that the kernel gives to connections.

    One of those could become the near end of somebody's connection while its server is away, which then could not
    start again. For the same reason test processes that run side by side (xdist's) share no port.
    """
    first = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else _FIRST_EPHEMERAL
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % processes
    while True:
        port = _FIRST_PORT + secrets.randbelow(max(first - _FIRST_PORT, 1000))
        if port % processes != own or port in _given:
            continue
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            _given.add(port)
            return port


def wait_until(
    check: Callable[[], bool], timeout: float, what: str, *, describe: Callable[[], str] = str
) -> None:
    """Ask every 50 ms.

    Args:
        check: whether it has come to pass.
        timeout: seconds.
        what: completes "gave up waiting for ...".
        describe: the evidence to show when it does not come to pass.

    Raises:
        TimeoutError: it did not happen in time.
    """
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            raise TimeoutError(f"gave up waiting for {what} after {timeout:g} s\n{describe()}".rstrip())
        time.sleep(0.05)


def private_directory(name: str, user: str | None) -> Path:
    """A new directory of mode 700 that belongs to `user`, who can reach it."""
    candidates = [tempfile.gettempdir(), "/tmp", "/var/tmp"]  # noqa: S108  # mkdtemp makes a private one inside
    parent = next(
        (p for p in candidates if all(up.stat().st_mode & 0o001 for up in [Path(p), *Path(p).parents])),
        candidates[0],
    )
    directory = Path(tempfile.mkdtemp(prefix=f"tocsin-{name}-", dir=parent if user else None)).resolve()
    if user:
        shutil.chown(directory, user)
    return directory


def unprivileged(*names: str) -> str | None:
    """The first of these users that exists, if we are root: PostgreSQL refuses to run as root.

    Returns:
        None where we are not root, and servers simply run as ourselves.
    """
    if os.geteuid() != 0:
        return None
    for name in (*names, "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise ServersMissingError(
        f"root must not run a server, and none of the users {', '.join(names)}, nobody exists"
    )


class Program(ABC):
    """One server in the foreground, with its data and its helper commands."""

    @abstractmethod
    def start(self) -> None:
        """Start it on the data that is there; ready is for the caller to find out."""

    @abstractmethod
    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server's main process."""

    @abstractmethod
    def is_running(self) -> bool:
        """Whether the main process lives."""

    @abstractmethod
    def forget(self) -> None:
        """Tidy up after the process has ended."""

    @abstractmethod
    def run(self, command: Sequence[str], timeout: float = 60) -> str:
        """Run a helper command where the server runs; its output.

        Raises:
            subprocess.CalledProcessError: it failed; the text holds what it printed.
        """

    @abstractmethod
    def wipe(self) -> None:
        """Remove all data of the stopped server."""

    @abstractmethod
    def log(self) -> str:
        """The last lines that the server printed."""

    @abstractmethod
    def close(self) -> None:
        """End whatever still runs, and leave nothing behind."""

    def wait(self, timeout: float) -> None:
        """Wait for the end of the process.

        Raises:
            TimeoutError: it lives on.
        """
        wait_until(lambda: not self.is_running(), timeout, "the server to end", describe=self.log)
        self.forget()


class LocalProgram(Program):
    """A program of this machine, in a session of its own and, if we are root, as another user.

    Args:
        name: names the temporary directory.
        command: runs the server in the foreground, `{dir}` replaced by the directory.
        environment: all that the server and its helpers get, `{dir}` replaced, besides PATH, HOME and locale.
        user: whom to run as; None for ourselves.
        ask: the signal by which the server ends tidily.
        prepare: called with this object when there is no data yet.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        user: str | None,
        ask: signal.Signals,
        prepare: Callable[[LocalProgram], None],
    ) -> None:
        self.directory = private_directory(name, user)
        self.reaper = Reaper(self.directory)
        self.user = user
        self._command = self._fill(command)
        self.environment = {
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            **{key: value.format(dir=self.directory) for key, value in environment.items()},
        }
        self._ask = ask
        self._prepare = prepare
        self._log = self.directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._data = self.directory / "data"

    def start(self) -> None:
        if not self._data.exists():
            self._prepare(self)
        self._process = self._spawn(self._command, self._ask)

    def start_helper(self, command: Sequence[str]) -> None:
        """Start a process that the server needs beside it, and that lives until `close`."""
        self._helpers.append(self._spawn(command, signal.SIGTERM))

    def _spawn(self, command: Sequence[str], ask: signal.Signals) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self._fill(command),
                cwd=self.directory,
                env=self.environment,
                user=self.user,
                group=self._group,
                extra_groups=[] if self.user else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.reaper.watch(process.pid, ask)
        return process

    def signal(self, number: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(number)

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def forget(self) -> None:
        if self._process:
            self.reaper.forget(self._process.pid)
            self._process = None

    def run(self, command: Sequence[str], timeout: float = 60) -> str:
        result = subprocess.run(
            self._fill(command),
            cwd=self.directory,
            env=self.environment,
            user=self.user,
            group=self._group,
            extra_groups=[] if self.user else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            text=True,
            check=False,
        )
        if result.returncode:
            raise CommandError(result.returncode, command, result.stdout)
        return result.stdout

    def write(self, name: str, text: str, mode: int = 0o600) -> None:
        """Write a file into the directory that the server's user can read."""
        path = self.directory / name
        path.touch(mode=mode)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        if self.user:
            shutil.chown(path, self.user)

    def wipe(self) -> None:
        shutil.rmtree(self._data)

    def log(self) -> str:
        lines = (
            self._log.read_text(encoding="utf-8", errors="replace").splitlines() if self._log.exists() else []
        )
        return "\n".join(lines[-30:])

    def close(self) -> None:
        for process in [*self._helpers, *filter(None, [self._process])]:
            process.kill()
            process.wait(5)
            self.reaper.forget(process.pid)
        self._helpers.clear()
        self._process = None
        self.reaper.close()

    @property
    def _group(self) -> int | None:
        return pwd.getpwnam(self.user).pw_gid if self.user else None

    def _fill(self, command: Iterable[str]) -> list[str]:
        return [word.replace("{dir}", str(self.directory)) for word in command]


class CommandError(subprocess.CalledProcessError):
    """A helper command failed; unlike its parent, the text shows what the command printed."""

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.output}".rstrip()
