"""Links between the workers and the servers that can be cut, each for itself.

With root on Linux: the workers live in a network namespace of their own, with one veth pair to each server. A link that
is set down drops what is sent over it and tells nobody, as a cut cable does (network_namespaces(7), veth(4)). Elsewhere
a forwarder stands in, which keeps connections open and moves nothing while it is cut.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from typing import Self

from tests.servers.programs import free_port, wait_until

#: What the workers talk to.
PEERS = ("database", "broker", "receiver")


class Network(ABC):
    """How the workers reach the servers. A context manager."""

    #: Goes before the command that starts a group of workers.
    prefix: tuple[str, ...] = ()
    #: What outbound requests must be allowed to reach.
    subnet = "127.0.0.0/8"

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._forwarders: dict[str, tuple[subprocess.Popen[bytes], tuple[str, int]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def address(self, peer: str, port: int) -> tuple[str, int]:
        """Where the workers find the peer that listens on this port of 127.0.0.1. Always the same."""
        if peer not in self._forwarders:
            host, own = self._host(peer), free_port()
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.forward", host, str(own), str(port)]
            )
            self._open.callback(process.wait)
            self._open.callback(process.kill)
            self._forwarders[peer] = process, (host, own)
            wait_until(lambda: _listens(host, own), 15, f"the way to the {peer}")
        return self._forwarders[peer][1]

    @abstractmethod
    def cut(self, peer: str) -> None:
        """Let nothing through any more, and tell nobody."""

    @abstractmethod
    def mend(self, peer: str) -> None:
        """As before."""

    @abstractmethod
    def _host(self, peer: str) -> str:
        """The address to listen on for a peer."""


class NoLinks(Network):
    """Without root: the forwarder swallows. SIGUSR1 cuts, SIGUSR2 mends."""

    def cut(self, peer: str) -> None:
        self._forwarders[peer][0].send_signal(signal.SIGUSR1)

    def mend(self, peer: str) -> None:
        self._forwarders[peer][0].send_signal(signal.SIGUSR2)

    def _host(self, peer: str) -> str:  # noqa: ARG002  # all on one address
        return "127.0.0.1"


class Links(Network):
    """A namespace with a veth pair for each peer."""

    def __init__(self) -> None:
        super().__init__()
        self._name = f"tocsin-{secrets.token_hex(3)}"
        self.prefix = ("ip", "netns", "exec", self._name)
        # A third of 198.18.0.0/15, which RFC 2544 keeps free for tests of network devices.
        self._net = ipaddress.IPv4Network(f"198.18.{secrets.randbelow(256)}.0/24")
        self.subnet = str(self._net)
        self._pairs = {
            peer: list(net.hosts())
            for peer, net in zip(PEERS, self._net.subnets(new_prefix=30), strict=False)
        }

    @staticmethod
    def permitted() -> bool:
        """Whether this process may make namespaces and links."""
        if os.geteuid() != 0 or not shutil.which("ip"):
            return False
        name = f"tocsin-{secrets.token_hex(3)}"
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
        if made:
            subprocess.run(["ip", "netns", "delete", name], check=True)
        return made

    def __enter__(self) -> Self:
        _ip("netns", "add", self._name)
        self._open.callback(_ip, "netns", "delete", self._name)
        _ip("-n", self._name, "link", "set", "lo", "up")
        for peer, (ours, theirs) in self._pairs.items():
            outer, inner = self._device(peer), f"{self._device(peer)}i"
            _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
            self._open.callback(_ip, "link", "delete", outer)
            _ip("link", "set", inner, "netns", self._name)
            _ip("address", "add", f"{ours}/30", "dev", outer)
            _ip("-n", self._name, "address", "add", f"{theirs}/30", "dev", inner)
            _ip("link", "set", outer, "up")
            _ip("-n", self._name, "link", "set", inner, "up")
        return self

    def cut(self, peer: str) -> None:
        _ip("link", "set", self._device(peer), "down")

    def mend(self, peer: str) -> None:
        _ip("link", "set", self._device(peer), "up")

    def _host(self, peer: str) -> str:
        return str(self._pairs[peer][0])

    def _device(self, peer: str) -> str:
        return f"{self._name.removeprefix('tocsin-')}{PEERS.index(peer)}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
