"""The chain in the command's own process (the embedded default), and waiting for what came of it (both)."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cli import show

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from admin.progress import Group, Pending, Summary
    from config import Settings

#: Threads of a worker within a command: sends run concurrently anyway, these are for the database's part.
THREADS = 4
#: What is due within so many seconds is waited for; the three retries of the default end within it.
PATIENCE = 60.0
#: Seconds between two looks, growing from one to the other.
FIRST_LOOK, LAST_LOOK = 0.02, 0.5
#: Milliseconds that a message in hand may take to end when the command does.
STOP = 20_000


def is_embedded(settings: Settings) -> bool:
    """Whether the queue is this process's own."""
    return settings.broker_url.get_secret_value() == "memory://"


def working(settings: Settings) -> AbstractContextManager[None]:
    """On the embedded default, a worker for the length of the block; else nothing: workers are elsewhere."""
    return _worker() if is_embedded(settings) else nullcontext()


@contextmanager
def _worker() -> Iterator[None]:
    from dramatiq import Worker  # noqa: PLC0415  # `--help` need not wait for it

    from actors import broker  # noqa: PLC0415

    worker = Worker(broker, worker_timeout=50, worker_threads=THREADS)
    worker.start()
    try:
        yield
    finally:
        worker.stop(timeout=STOP)


class Waited:
    """What was seen while waiting.

    Attributes:
        pending: what had not ended, by group.
    """

    def __init__(self) -> None:
        self.pending: list[Pending] = []

    @property
    def active(self) -> int:
        """What would have moved soon, had the time not run out."""
        return sum(each.active for each in self.pending)

    def lines(self) -> list[str]:
        """What still waits, for people."""
        found = []
        states = (
            sum((each.later for each in self.pending), start=self.pending[0].later.__class__())
            if self.pending
            else {}
        )
        due = min((each.due for each in self.pending if each.due is not None), default=None)
        if states and due is not None:
            counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
            found.append(
                f"still waiting: {counts}, the first due {due.isoformat(timespec='seconds')}; "
                "a later `tocsin send` or a running worker sends them on"
            )
        if self.active:
            found.append(
                f"{self.active} had not ended when the time was up; a later `tocsin send` or a worker goes on"
            )
        return found


def wait(watched: Sequence[Group], *, timeout: float) -> Waited:
    """Wait until what is watched has ended, or waits for longer than PATIENCE, or the time is up."""
    from admin.progress import pending  # noqa: PLC0415  # `--help` need not wait for it
    from model.database import connection, utcnow  # noqa: PLC0415

    deadline = time.monotonic() + timeout
    waited = Waited()
    with progress("delivering", len(watched)) as advance:
        for group in watched:
            pause = FIRST_LOOK
            while True:
                with connection():
                    seen = pending(group, until=utcnow() + timedelta(seconds=PATIENCE))
                if not seen.active or time.monotonic() + pause > deadline:
                    break
                time.sleep(pause)
                pause = min(pause * 1.5, LAST_LOOK)
            waited.pending.append(seen)
            advance(1)
    return waited


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Any]:
    """A progress bar on a terminal; yields what moves it on."""
    if not sys.stderr.isatty():
        yield lambda _number: None
        return
    from rich import progress as bars  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415  # only a terminal needs it

    columns = (
        bars.SpinnerColumn(),
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
    )
    with bars.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda number: bar.advance(task, number)


def show_summary(found: Summary) -> None:
    """A row for each channel."""
    names = ("jobs", "targets", "delivered", "failed", "suppressed", "superseded", "expired", "in_progress")
    show.table(
        ("channel", "type", *(name.replace("_", " ") for name in names)),
        [
            (name, kind, *(counts[each] for each in names))
            for (name, kind), counts in sorted(found.channels.items())
        ],
        empty="no channel is to hear of it",
    )


def summary_document(found: Summary, waited: Waited) -> dict[str, Any]:
    """The same as JSON."""
    later: dict[str, int] = {}
    for each in waited.pending:
        for state, number in each.later.items():
            later[state] = later.get(state, 0) + number
    return {
        "channels": [
            {"channel": name, "channel_type": kind, **counts}
            for (name, kind), counts in sorted(found.channels.items())
        ],
        "totals": found.totals,
        "waiting": later,
        "timed_out": bool(waited.active),
    }
