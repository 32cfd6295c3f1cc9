"""The faults: how each is made, and how it heals."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from tests.faults.cycle import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.cycle import Cycle
    from tests.faults.stack import Stack


def slow(seconds: float) -> Callable[[Stack], None]:
    """A far side that answers late, so that sends are in flight at every moment."""
    return lambda stack: stack.far.order("always", answer={"delay": seconds})


def kill_worker(cycle: Cycle) -> None:
    """SIGKILL one worker process; its master notices, and ends."""
    os.kill(cycle.stack.workers[0].workers()[-1], signal.SIGKILL)


def kill_master(cycle: Cycle) -> None:
    cycle.stack.workers[0].tell(signal.SIGKILL)


def kill_all(cycle: Cycle) -> None:
    for group in cycle.stack.workers:
        group.tell_all(signal.SIGKILL)


def stop_group(cycle: Cycle) -> None:
    """SIGTERM to the master: a deployment. The supervisor starts the next one."""
    cycle.stack.workers[0].tell(signal.SIGTERM)
    time.sleep(1)


def broker_restart(cycle: Cycle) -> None:
    cycle.stack.rabbitmq.restart()


def broker_wiped(cycle: Cycle) -> None:
    cycle.stack.rabbitmq.wipe()
    cycle.stack.rabbitmq.start()


FAULTS: tuple[Fault, ...] = (
    Fault(
        "worker-killed", "SIGKILL of a worker process in mid-send", kill_worker, before=slow(0.3), lease=True
    ),
    Fault("broker-wiped", "the broker's data wiped under load", broker_wiped),
    Fault(
        "postgres-crash",
        "PostgreSQL stopped in `immediate` mode and started again",
        lambda cycle: cycle.stack.postgres.restart("immediate"),
        lease=True,
    ),
)
