"""A private RabbitMQ 3.10 or newer with its management plugin, that tests may stop, kill and wipe.

Environment variables of the node: https://www.rabbitmq.com/docs/configure#supported-environment-variables
"""

from __future__ import annotations

import secrets
import shutil
import signal
from pathlib import Path
from typing import Self

import httpx

from tests.servers.containers import Container
from tests.servers.programs import (
    INSTALL,
    LocalProgram,
    Program,
    ServersMissingError,
    free_port,
    unprivileged,
    wait_until,
)

USER = "tocsin"
START_SECONDS = 90.0
STOP_SECONDS = 60.0

# The real script, not Debian's wrapper in /usr/sbin, which insists on its own user, directories and log.
_SCRIPTS = ["/usr/lib/rabbitmq/bin", "/opt/homebrew/opt/rabbitmq/sbin", "/usr/local/opt/rabbitmq/sbin"]


def find_programs() -> Path | None:
    """The directory of rabbitmq-server and rabbitmqctl, if they and Erlang are on this machine."""
    if not shutil.which("erl"):
        return None
    for directory in map(Path, _SCRIPTS):
        if (directory / "rabbitmq-server").exists():
            return directory
    on_path = shutil.which("rabbitmq-server")
    return Path(on_path).resolve().parent if on_path else None


class RabbitServer:
    """One node with an administrator `tocsin` and a random password, listening on 127.0.0.1 alone.

    Raises:
        ServersMissingError: neither programs nor a container engine.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.management_port = free_port()
        self.password = secrets.token_hex(16)
        self._vhosts: list[str] = []
        self._has_epmd = False
        programs = find_programs()
        if programs:
            self.program: Program = self._local(programs)
            self._ctl = str(programs / "rabbitmqctl")
        elif Container.engine_runs():
            self._ctl = "rabbitmqctl"
            self.program = Container(
                "rabbitmq",
                "rabbitmq:4-management",
                ports={self.port: 5672, self.management_port: 15672},
                environment={"RABBITMQ_DEFAULT_USER": USER, "RABBITMQ_DEFAULT_PASS": self.password},
            )
        else:
            raise ServersMissingError(f"RabbitMQ 3.10 or newer is missing: {INSTALL}")
        self._http = httpx.Client(
            base_url=self.management_url, auth=(USER, self.password), trust_env=False, timeout=10
        )

    @property
    def management_url(self) -> str:
        """Where the management console and its HTTP API are; user `tocsin` and `password`."""
        return f"http://127.0.0.1:{self.management_port}"

    def start(self) -> None:
        """Start, and wait until AMQP and management answer and every vhost handed out so far exists.

        After `wipe` the vhosts are declared again, as an operator's definitions file would do it: queues,
        bindings and messages are gone, the URLs remain good.

        Raises:
            TimeoutError: it did not come up; the text holds the node's last lines.
        """
        self.program.start()
        wait_until(self._answers_or_died, START_SECONDS, "RabbitMQ to start", describe=self.program.log)
        if not self.program.is_running():
            raise TimeoutError(f"RabbitMQ ended at once\n{self.program.log()}")
        for vhost in self._vhosts:
            self._declare(vhost)

    def stop(self) -> None:
        """End it tidily."""
        if self.program.is_running():
            self.program.signal(signal.SIGTERM)
            self.program.wait(STOP_SECONDS)

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self.program.is_running():
            self.program.signal(signal.SIGKILL)
            self.program.wait(STOP_SECONDS)

    def restart(self) -> None:
        """Stop tidily and start on the same data and ports."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Kill it and remove all its data: the disk is lost. `start` begins with an empty node."""
        self.kill()
        self.program.wipe()

    def is_running(self) -> bool:
        """Whether the node's process lives."""
        return self.program.is_running()

    def create_vhost(self) -> str:
        """Make an empty virtual host.

        Returns:
            Its URL: amqp://user:password@127.0.0.1:port/name
        """
        name = f"tocsin-{secrets.token_hex(6)}"
        self._declare(name)
        self._vhosts.append(name)
        return f"amqp://{USER}:{self.password}@127.0.0.1:{self.port}/{name}"

    def drop_vhost(self, url: str) -> None:
        """Delete a virtual host that `create_vhost` made; connections to it are closed."""
        name = url.rpartition("/")[2]
        self._http.delete(f"/api/vhosts/{name}").raise_for_status()
        self._vhosts.remove(name)

    def rabbitmqctl(self, *arguments: str) -> str:
        """Run rabbitmqctl against this node, such as `rabbitmqctl("close_all_connections", "test")`.

        Raises:
            subprocess.CalledProcessError: it failed; the text holds what it printed.
        """
        return self.program.run([self._ctl, *arguments])

    def close(self) -> None:
        """End it for good and remove the data, without the seconds that a tidy stop takes."""
        self._http.close()
        try:
            self.kill()
        finally:
            self.program.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _local(self, programs: Path) -> LocalProgram:
        epmd_port = free_port()
        # Busy waiting buys a broker latency with processor time that the tests need themselves.
        erlang = "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"

        def make_data(program: LocalProgram) -> None:
            program.write(
                "rabbitmq.conf",
                f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
                f"management.tcp.ip = 127.0.0.1\n"
                f"management.tcp.port = {self.management_port}\n"
                f"default_user = {USER}\n"
                f"default_pass = {self.password}\n",
            )
            program.write("enabled_plugins", "[rabbitmq_management].\n")
            program.write(".erlang.cookie", secrets.token_hex(16), mode=0o400)
            # Erlang would start its port mapper as a daemon that outlives the node; this one is ours to end.
            if not self._has_epmd:
                program.start_helper(["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"])
                self._has_epmd = True

        return LocalProgram(
            "rabbitmq",
            [str(programs / "rabbitmq-server")],
            environment={
                "RABBITMQ_NODENAME": f"tocsin-{secrets.token_hex(4)}@localhost",
                "RABBITMQ_DIST_PORT": str(free_port()),
                "ERL_EPMD_PORT": str(epmd_port),
                "ERL_EPMD_ADDRESS": "127.0.0.1",
                # The machine's own file would win over these.
                "RABBITMQ_CONF_ENV_FILE": "{dir}/no-rabbitmq-env.conf",
                "RABBITMQ_CONFIG_FILE": "{dir}/rabbitmq.conf",
                "RABBITMQ_ADVANCED_CONFIG_FILE": "{dir}/no-advanced.config",
                "RABBITMQ_ENABLED_PLUGINS_FILE": "{dir}/enabled_plugins",
                "RABBITMQ_MNESIA_BASE": "{dir}/data",
                "RABBITMQ_LOG_BASE": "{dir}/log",
                "RABBITMQ_LOGS": "-",
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": erlang.replace("{", "{{").replace("}", "}}"),
                # The script then becomes the node instead of watching over it: signals go where we send them.
                "RUNNING_UNDER_SYSTEMD": "1",
            },
            user=unprivileged("rabbitmq"),
            ask=signal.SIGTERM,
            prepare=make_data,
        )

    def _declare(self, vhost: str) -> None:
        self._http.put(f"/api/vhosts/{vhost}").raise_for_status()
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self._http.put(f"/api/permissions/{vhost}/{USER}", json=everything).raise_for_status()

    def _answers_or_died(self) -> bool:
        if not self.program.is_running():
            return True
        try:
            # The node's own judgement: every listener that the configuration names is up.
            return all(
                self._http.get(f"/api/health/checks/port-listener/{port}").status_code == httpx.codes.OK
                for port in self._inner_ports()
            )
        except httpx.TransportError:
            return False

    def _inner_ports(self) -> tuple[int, int]:
        if isinstance(self.program, Container):
            return 5672, 15672
        return self.port, self.management_port
