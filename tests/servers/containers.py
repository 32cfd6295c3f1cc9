"""A server in a container, where this machine has a container engine but not the server's own programs."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.servers.programs import CommandError, Program, private_directory
from tests.servers.reaper import Reaper

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence


class Container(Program):
    """A server in a container, where this machine has an engine but not the programs.

    Args:
        name: names the container, with a random suffix.
        image: such as postgres:17.
        ports: port of 127.0.0.1 to port of the container.
        environment: of the container.
        arguments: after the image's name.
        docker: the engine's command line.
    """

    def __init__(
        self,
        name: str,
        image: str,
        *,
        ports: Mapping[int, int],
        environment: Mapping[str, str],
        arguments: Sequence[str] = (),
        docker: str = "docker",
    ) -> None:
        self.name = f"tocsin-{name}-{secrets.token_hex(4)}"
        self._docker = docker
        # A fixed host name: RabbitMQ names its data directory after it.
        self._create = [docker, "create", "--name", self.name, "--hostname", name]
        for ours, theirs in ports.items():
            self._create += ["--publish", f"127.0.0.1:{ours}:{theirs}"]
        for key, value in environment.items():
            self._create += ["--env", f"{key}={value}"]
        self._create += [image, *arguments]
        self._exists = False
        self._reaper = Reaper(private_directory(name, None))
        self._reaper.finally_run([docker, "rm", "--force", "--volumes", self.name])

    @staticmethod
    def engine_runs(docker: str = "docker") -> bool:
        """Whether there is an engine that answers."""
        if not shutil.which(docker):
            return False
        try:
            return (
                subprocess.run([docker, "info"], capture_output=True, timeout=20, check=False).returncode == 0
            )
        except (OSError, subprocess.TimeoutExpired):
            return False

    def start(self) -> None:
        if not self._exists:
            self._call(self._create, timeout=600)  # the image may have to be fetched
            self._exists = True
        self._call([self._docker, "start", self.name])

    def signal(self, number: signal.Signals) -> None:
        self._call([self._docker, "kill", "--signal", str(int(number)), self.name])

    def is_running(self) -> bool:
        if not self._exists:
            return False
        state = self._call([self._docker, "inspect", "--format", "{{.State.Running}}", self.name])
        return state.strip() == "true"

    def forget(self) -> None:
        """The engine keeps account itself."""

    def run(self, command: Sequence[str], timeout: float = 60) -> str:
        return self._call([self._docker, "exec", self.name, *command], timeout=timeout)

    def wipe(self) -> None:
        self._call([self._docker, "rm", "--force", "--volumes", self.name])
        self._exists = False

    def log(self) -> str:
        return self._call([self._docker, "logs", "--tail", "30", self.name]) if self._exists else ""

    def close(self) -> None:
        self._reaper.close()

    def _call(self, command: Sequence[str], timeout: float = 60) -> str:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            text=True,
            check=False,
        )
        if result.returncode:
            raise CommandError(result.returncode, list(command), result.stdout)
        return result.stdout
