"""The receiver of pushes, and of whatever must misbehave: `python -m receivers --no-verify` in a process of its own."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any, Self

import httpx

from bench.processes import Program
from tests.servers.programs import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Far:
    """The far side. A context manager.

    Attributes:
        environment: the settings by which workers reach it (TOCSIN_*), and its own addresses (FAR_*).
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        file = directory / "far.env"
        command = [sys.executable, "-m", "receivers", "--quiet", "--no-verify", "--env-file", str(file)]
        self._program = Program("receiver", command, environment, directory / "far.log")
        wait_until(file.exists, 30, "the far side", describe=self._program.tail)
        pairs = (shlex.split(line)[1].partition("=") for line in file.read_text().splitlines())
        self.environment = {name: value for name, _, value in pairs}
        self._http = httpx.Client(base_url=self.environment["FAR_URL"], trust_env=False, timeout=60)

    @property
    def url(self) -> str:
        """The origin of its HTTP receivers."""
        return self.environment["FAR_URL"]

    def hook(self, name: str) -> str:
        """The address of a webhook."""
        return f"{self.url}/hooks/{name}"

    def received(self, receiver: str, target: str | None = None) -> list[dict[str, Any]]:
        """What arrived, oldest first."""
        query = {"receiver": receiver} | ({"target": target} if target else {})
        found: list[dict[str, Any]] = self._http.get("/control/received", params=query).json()["received"]
        return found

    def always(self, target: str, **answer: Any) -> None:
        """What a webhook answers from now on."""
        self._order("always", receiver="webhook", target=target, answer=answer)

    def clear(self) -> None:
        """Forget what arrived and what was ordered."""
        self._order("normal")
        self._order("clear")

    def subscribe(self) -> dict[str, Any]:
        """A browser's PushSubscription."""
        found: dict[str, Any] = self._http.post("/control/subscribe", json={}).json()
        return found

    def _order(self, order: str, **document: Any) -> None:
        self._http.post(f"/control/{order}", json=document).raise_for_status()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._program.stop()
