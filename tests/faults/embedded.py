"""The embedded mode under faults: one process, SQLite, no broker. What is lost with the process is its queue."""

from __future__ import annotations

import contextlib
import random
import resource
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from config import load_settings
from model.channels import forget as forget_channels
from model.database import open_database
from model.migrate import migrate
from model.rulebook import forget as forget_rules
from tests.faults.account import Account, Times, read_book, read_receipts, read_rows, settle_accounts
from tests.faults.cycle import Sampler, configure
from tests.faults.stack import DEADLINE, PACE, FarSide, clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.cycle import Size


@dataclass
class Embedded:
    """An SQLite file, the far side, and one process that accepts and delivers. A context manager."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    size: Size | None = None
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.file = self.directory / "tocsin.db"
        self.far = FarSide(self.directory)
        self._open.callback(self.far.close)
        self.far.start()
        url = f"sqlite:///{self.file}"
        self.environment = clean_environment() | self.far.environment() | PACE | {"TOCSIN_DATABASE_URL": url}
        opened: Any = open_database(load_settings(database_url=url))
        self._open.callback(opened.close_all)
        self._open.callback(self.kill)
        forget_rules()
        forget_channels()
        migrate()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def hook_url(self, name: str) -> str:
        """The address of one webhook of the far side."""
        return f"http://127.0.0.1:{self.far.port}/hooks/{name}"

    def start(self, tenant: str) -> None:
        """Start the process, or start it again: it repeats the call that had no answer, and ends when all has ended."""
        assert self.size is not None
        book = self.directory / f"{tenant}.book"
        command = [
            *(
                sys.executable,
                "-m",
                "tests.faults.producer",
                "--work",
                "--tenant",
                tenant,
                "--book",
                str(book),
            ),
            *("--alerts", str(self.size.alerts), "--pairs", str(self.size.pairs)),
            *("--seconds", str(self.size.seconds), "--resume-at", str(len(read_book(book)))),
        ]
        with (self.directory / "embedded.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        self.starts += 1

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def logs(self) -> str:
        """The last lines of its log."""
        return (self.directory / "embedded.log").read_text(errors="replace")[-4000:]


@dataclass(frozen=True, slots=True)
class EmbeddedFault:
    """What is done to it; as `Fault`."""

    name: str
    title: str
    strike: Callable[[Embedded, str], None]
    hold: float = 8.0


def killed_at_any_point(stack: Embedded, tenant: str) -> None:
    """SIGKILL at three random moments, and a start after each."""
    assert stack.size is not None
    for _ in range(3):
        time.sleep(random.uniform(0.2, stack.size.seconds / 3))
        stack.kill()
        stack.start(tenant)


def disk_full(stack: Embedded, tenant: str) -> None:  # noqa: ARG001  # as the others
    """No file of the process may grow any more: writing fails in the middle of a transaction, as on a full disk."""
    assert stack.size is not None
    assert stack.process is not None
    pid = stack.process.pid
    largest = max(each.stat().st_size for each in stack.directory.glob("tocsin.db*"))
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest, hard))
    time.sleep(stack.size.hold)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


EMBEDDED_FAULTS = (
    EmbeddedFault("embedded-killed", "embedded: SIGKILL at three random moments", killed_at_any_point),
    EmbeddedFault("embedded-disk-full", "embedded: the disk is full for a while", disk_full),
)


def run(stack: Embedded, fault: EmbeddedFault, size: Size, number: int, *, patience: float = 120) -> Account:
    """One cycle.

    Raises:
        subprocess.TimeoutExpired: the process did not end within `patience` seconds after the healing.
    """
    tenant = f"{fault.name}-{number}-{secrets.token_hex(2)}"
    stack.size, stack.starts = size, 0
    configure(stack, tenant)
    stack.far.order("always", answer={"delay": 0.1})
    with Sampler(tenant) as sampler:
        stack.start(tenant)
        time.sleep(size.seconds / 2)
        began = time.time()
        fault.strike(stack, tenant)
        healed = time.time()
        assert stack.process is not None
        assert stack.process.wait(patience) == 0, stack.logs()
        stack.process = None
    stack.far.order("normal")
    receipts, refused = read_receipts(stack.far.record, tenant)
    rows, alerts = read_rows(tenant)
    times = Times(began, healed, DEADLINE + 1)
    account = settle_accounts(rows, alerts, read_book(stack.directory / f"{tenant}.book"), receipts, times)
    account.refused = refused
    account.samples, account.broken_samples = sampler.samples, len(sampler.broken)
    account.restarts = stack.starts - 1
    return account
