"""Judges that others wrote, in node, each started once for the session; and what they need to be here.

What is missing skips the tests that need it; in CI it fails them, and says how to install it.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

HERE = Path(__file__).parent


def lacking(what: str, remedy: str) -> None:
    """Skip the test, or fail it in CI."""
    text = f"{what} is missing: {remedy}"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


@pytest.fixture(scope="session")
def library() -> Callable[[str, str], ModuleType]:
    """Imports a module of a Python package that only these tests need."""

    def get(name: str, package: str) -> ModuleType:
        try:
            return importlib.import_module(name)
        except ImportError:
            lacking(package, f"pip install {package}")
            raise

    return get


class Judge:
    """A script of judges/, which answers questions one at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, **question: Any) -> Any:
        """Put a question, and give the verdict.

        Raises:
            ValueError: the judge could make nothing of it; its own words.
        """
        assert self._process.stdin
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self.read()

    def read(self) -> Any:
        """The next line that it prints."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the judge has died; its last words are on stderr"
        verdict = json.loads(line)
        if isinstance(verdict, dict) and "error" in verdict:
            raise ValueError(verdict["error"])
        return verdict


@contextmanager
def judging(script: str) -> Iterator[Judge]:
    """Run a judge."""
    node = shutil.which("node")
    if node is None:
        lacking("node", "apt-get install nodejs npm")
    if not (HERE / "node_modules/.package-lock.json").exists():
        lacking("tests/conformance/node_modules", "sh tools/conformance.sh")
    with subprocess.Popen(
        [str(node), str(HERE / "judges" / script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE,
    ) as process:
        try:
            yield Judge(process)
        finally:
            assert process.stdin
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="session")
def webhook_judge() -> Iterator[Judge]:
    """Npm's standardwebhooks and svix."""
    with judging("webhook.js") as judge:
        yield judge


@pytest.fixture(scope="session")
def ece_judge() -> Iterator[Judge]:
    """Npm's http_ece."""
    with judging("ece.js") as judge:
        yield judge


@pytest.fixture(scope="session")
def card_judge() -> Iterator[Judge]:
    """Npm's adaptivecards."""
    with judging("card.js") as judge:
        yield judge


@pytest.fixture(scope="session")
def apns_client() -> Iterator[Judge]:
    """Npm's @parse/node-apn, a client."""
    with judging("apns_client.js") as judge:
        yield judge


@pytest.fixture(scope="session")
def push_service() -> Iterator[str]:
    """Npm's web-push-testing, a push service; its URL."""
    with judging("push_service.js") as judge:
        yield str(judge.read()["url"])
