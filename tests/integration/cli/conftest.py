"""The `tocsin` command as a process of its own, on the embedded default, with a far side that verifies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from model import ledger
from model.database import connection
from receivers import FarSide
from tests.support.database import KEY, open_test_database

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]


@dataclass
class Done:
    """What a command wrote."""

    stdout: str
    stderr: str


class Preloaded:
    """See preloaded.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.cli.preloaded"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, arguments: tuple[str, ...], environment: dict[str, str], streams: list[Path]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"arguments": arguments, "environment": environment, "streams": [*map(str, streams)]}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=10)


@dataclass
class Tocsin:
    """The command, in a directory of its own."""

    preloaded: Preloaded
    environment: dict[str, str]
    directory: Path
    far: FarSide

    def __call__(self, *arguments: str, status: int = 0, text: str | None = None) -> Done:
        streams = [self.directory / name for name in ("stdin", "stdout", "stderr")]
        for stream, content in zip(streams, (text or "", "", ""), strict=True):
            stream.write_text(content)
        found = self.preloaded.run(arguments, self.environment, streams)
        done = Done(*(stream.read_text() for stream in streams[1:]))
        assert found == status, done
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, status: int = 0, text: str | None = None) -> Any:
        return json.loads(self(*arguments, "--json", status=status, text=text).stdout)

    def error(self, *arguments: str, text: str | None = None) -> list[str]:
        return self(*arguments, status=1, text=text).stderr.splitlines()

    def configuration(self) -> dict[str, Any]:
        hook = {"url": self.far.webhook.url("ops"), "secret": self.far.webhook.secret, "max_retries": 0}
        return {
            "tenant": "acme",
            "channels": [
                {"name": "hook", "channel_type": "http", "config": hook},
                {"name": "phones", "channel_type": "push", "config": {"user_ids": ["alice"]}},
            ],
            "rules": [
                {"name": "all", "channel": "hook", "deliver_on": ["OPEN", "CLOSED"]},
                {"name": "push", "channel": "phones", "min_severity": 2},
            ],
            "users": [
                {
                    "user_id": "alice",
                    "devices": [
                        {"platform": "ios", "token": "0f" * 32, "name": "phone"},
                        {"platform": "web", "subscription": self.far.webpush.subscribe()},
                    ],
                    "preferences": {"cameras": {"garden": {"enabled": False}}},
                }
            ],
        }

    def apply(self) -> None:
        self("apply", "-", text=json.dumps(self.configuration()))


@pytest.fixture(scope="module")
def far_side() -> Iterator[FarSide]:
    with FarSide() as far:
        yield far


@pytest.fixture(scope="module")
def preloaded() -> Iterator[Preloaded]:
    process = Preloaded()
    yield process
    process.close()


@pytest.fixture
def tocsin(far_side: FarSide, preloaded: Preloaded, tmp_path: Path) -> Iterator[Tocsin]:
    far_side.normal()
    far_side.clear()
    url = f"sqlite:///{tmp_path / 'cli.db'}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    environment = kept | far_side.environment() | {"TOCSIN_DATABASE_URL": url, "TOCSIN_SECRET_KEYS": KEY}
    yield Tocsin(preloaded, environment, tmp_path, far_side)
    with open_test_database(url), connection():
        ledger.conservation()
